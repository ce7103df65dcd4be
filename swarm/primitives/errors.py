"""Errors by whose fault they are: the user's, a peer's, the disk's, or our own."""

from __future__ import annotations

from typing import Any


class SwarmError(Exception):
    """Root of every error that this project raises on purpose."""


class ConfigError(SwarmError):
    """Bad input from a user: a file, a key in it, an option.

    The command line prints `message` on one line and exits with 2. `where` is the file and the path of
    the key (`greenhouse.yaml: faults[2].crash`), `hint` says what to do.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        """Keep the three parts; `str(error)` joins those that are not empty."""
        self.message = message
        self.where = where
        self.hint = hint
        text = f"{where}: {message}" if where else message
        super().__init__(f"{text} ({hint})" if hint else text)


class DecodeError(SwarmError):
    """Bytes of a peer that are not a canonical encoding of anything; expected, counted, never fatal.

    `reason` is one of a small set of words that appear as counter names.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        """Keep `reason` (a counter name) and an optional detail for people."""
        self.reason = reason
        super().__init__(f"{reason}: {detail}" if detail else reason)


class ProofError(SwarmError):
    """A proof does not prove what it claims; the caller must not believe it."""


class StoreError(SwarmError):
    """The store cannot be trusted or written; the agent stops and says how to go on (`hint`)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the message and the way out."""
        self.message = message
        self.hint = hint
        super().__init__(f"{message} ({hint})" if hint else message)


class StoreGoneError(StoreError):
    """The store cannot prove that it holds every statement this device signed (PROTOCOL R10, R12)."""


class StoreHeldError(StoreError):
    """Another process holds the store; only one may sign with it."""


class TransportError(SwarmError):
    """The broker cannot be reached or refuses; the agent keeps trying, a command gives up."""


class InvariantError(SwarmError):
    """Our own bug: a state that the protocol excludes. The device stops; it never continues."""


def check(condition: Any, message: str) -> None:
    """Raise `InvariantError(message)` unless `condition` holds.

    Unlike `assert` it stays on under `python -O`: an invariant that is only checked in tests protects nobody.
    """
    if not condition:
        raise InvariantError(message)
