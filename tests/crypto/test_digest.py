"""Digests: the published vector, and that a tagged digest can be read in one way only."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.crypto.digest import sha256, tagged_sha256
from swarm.primitives.errors import InvariantError

ABC = bytes.fromhex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
"""SHA-256 of "abc" (FIPS 180-4, example)."""

PARTS = st.lists(st.binary(max_size=8), max_size=4)


def test_sha256_hashes_the_concatenation_of_its_parts() -> None:
    assert sha256(b"abc") == sha256(b"a", b"", b"bc") == ABC


def test_tagged_layout_is_fixed() -> None:
    assert tagged_sha256("ab", b"xyz", b"") == sha256(
        b"\x02ab" + b"\x00\x00\x00\x03xyz" + b"\x00\x00\x00\x00"
    )


@settings(deadline=None)
@given(st.sampled_from(["a", "ab", "b"]), PARTS, st.sampled_from(["a", "ab", "b"]), PARTS)
def test_tagged_digests_are_equal_only_for_equal_tag_and_parts(
    tag: str, parts: list[bytes], other_tag: str, other_parts: list[bytes]
) -> None:
    same = tagged_sha256(tag, *parts) == tagged_sha256(other_tag, *other_parts)
    assert same == ((tag, parts) == (other_tag, other_parts))


@pytest.mark.parametrize(("one", "other"), [([b"ab"], [b"a", b"b"]), ([], [b""]), ([b"", b"a"], [b"a", b""])])
def test_tagged_digest_keeps_the_borders_between_parts(one: list[bytes], other: list[bytes]) -> None:
    assert tagged_sha256("t", *one) != tagged_sha256("t", *other)


@pytest.mark.parametrize("tag", ["", "é", "x" * 256])
def test_a_tag_that_has_no_one_byte_length_is_our_own_bug(tag: str) -> None:
    with pytest.raises(InvariantError, match="hash tag"):
        tagged_sha256(tag, b"x")
