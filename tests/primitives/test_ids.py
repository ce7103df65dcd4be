"""Names: what may stand in a topic and a file name, and nothing else."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.primitives.errors import ConfigError
from swarm.primitives.ids import NAME_PATTERN, ZERO_DIGEST, checked_name, is_name, short, short_apart

LEGAL = string.ascii_lowercase + string.digits + "-"


@pytest.mark.parametrize("name", ["a", "0", "-", "dev-0", "greenhouse", "x" * 32])
def test_names(name: str) -> None:
    assert is_name(name)
    assert checked_name(name, where="here") == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x" * 33,
        "Dev",
        "dev_0",
        "dev 0",
        "dev/0",
        "+",
        "#",
        "$sys",
        "..",
        "dev.0",
        "dev-0\n",
        "\x00",
        "é",
        "\u0661",
    ],
)
def test_everything_that_a_broker_or_a_file_system_reads_otherwise_is_no_name(text: str) -> None:
    assert not is_name(text)
    with pytest.raises(ConfigError, match="is not 1 to 32 of a-z") as caught:
        checked_name(text, where="genesis.json: members[0].id", what="device id")
    assert str(caught.value).startswith("genesis.json: members[0].id: device id ")
    assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from(LEGAL + "_A/+#\n"), max_size=40))
def test_a_name_is_exactly_1_to_32_legal_characters(text: str) -> None:
    assert is_name(text) == (1 <= len(text) <= 32 and all(letter in LEGAL for letter in text))


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from(LEGAL + "_A/+#"), max_size=40))
def test_the_pattern_for_decoders_says_the_same(text: str) -> None:
    assert (re.match(NAME_PATTERN, text) is not None) == is_name(text)


def test_digests_in_short() -> None:
    assert ZERO_DIGEST == b"\x00" * 32
    assert short(bytes(range(32))) == "00010203"


def test_two_digests_for_people_differ() -> None:
    first = bytes(range(32))
    assert short_apart(first, bytes(32)) == (first[:4].hex(), "00000000")
    assert short_apart(first, first[:31] + b"x") == (first.hex(), (first[:31] + b"x").hex())
    assert short_apart(first, first) == (first.hex(), first.hex())
