"""Errors: one root, whose fault, and sentences that carry where and what to do."""

from __future__ import annotations

import subprocess
import sys

import pytest

from swarm.primitives.errors import (
    ConfigError,
    DecodeError,
    InvariantError,
    ProofError,
    StoreError,
    StoreGoneError,
    SwarmError,
    TransportError,
    check,
)


@pytest.mark.parametrize(
    "kind", [ConfigError, DecodeError, ProofError, StoreError, StoreGoneError, TransportError, InvariantError]
)
def test_every_error_has_the_one_root(kind: type[SwarmError]) -> None:
    assert issubclass(kind, SwarmError)
    # None may be taken for a built-in one that some library catches or raises.
    assert kind.__mro__[1:] in ((SwarmError, *SwarmError.__mro__[1:]), (StoreError, *StoreError.__mro__[1:]))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConfigError("no such device"), "no such device"),
        (ConfigError("no such device", where="a.yaml: x"), "a.yaml: x: no such device"),
        (ConfigError("no such device", hint="use dev-0"), "no such device (use dev-0)"),
        (
            ConfigError("no such device", where="a.yaml", hint="use dev-0"),
            "a.yaml: no such device (use dev-0)",
        ),
        (DecodeError("size"), "size"),
        (DecodeError("size", "9 bytes"), "size: 9 bytes"),
        (StoreError("torn"), "torn"),
        (StoreGoneError("torn", hint="swarm store repair"), "torn (swarm store repair)"),
    ],
)
def test_an_error_says_everything_on_one_line(error: SwarmError, text: str) -> None:
    assert str(error) == text
    assert "\n" not in str(error)


def test_the_parts_stay_apart_for_the_program() -> None:
    config = ConfigError("m", where="w", hint="h")
    assert (config.message, config.where, config.hint) == ("m", "w", "h")
    assert DecodeError("size", "9 bytes").reason == "size"
    store = StoreGoneError("m", hint="h")
    assert (store.message, store.hint) == ("m", "h")


@pytest.mark.parametrize("fine", [True, 1, "x", [0]])
def test_check_passes_what_holds(fine: object) -> None:
    check(fine, "never seen")


@pytest.mark.parametrize("broken", [False, 0, "", None, []])
def test_check_raises_what_does_not(broken: object) -> None:
    with pytest.raises(InvariantError, match=r"^two certificates$"):
        check(broken, "two certificates")


def test_check_stays_on_without_asserts() -> None:
    code = "from swarm.primitives.errors import check; check(False, 'still here')"
    done = subprocess.run(
        [sys.executable, "-O", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "InvariantError: still here" in done.stderr
