"""Identifiers: short names that are safe in topics and file names, and digests."""

from __future__ import annotations

import re
from typing import Final

from swarm.primitives.errors import ConfigError

DeviceId = str
"""`[a-z0-9-]{1,32}`: one level of an MQTT topic on every broker, and a file name on every system."""

Digest = bytes
"""A SHA-256 digest, 32 bytes."""

ZERO_DIGEST: Final[Digest] = bytes(32)

NAME_PATTERN: Final = r"^[a-z0-9-]{1,32}$"
_NAME = re.compile(r"[a-z0-9-]{1,32}")


def is_name(text: str) -> bool:
    """Answer whether `text` may name a device, a swarm or a subject."""
    return _NAME.fullmatch(text) is not None


def checked_name(text: str, *, where: str, what: str = "name") -> str:
    """Return `text` if it is a legal name, else raise `ConfigError` naming `where`."""
    if not is_name(text):
        raise ConfigError(f"{what} {text!r} is not 1 to 32 of a-z, 0-9 and '-'", where=where)
    return text


def short_apart(first: bytes, second: bytes) -> tuple[str, str]:
    """Return two different digests for people: `short`, or longer where they begin alike."""
    size = 4
    while first[:size] == second[:size] and size < max(len(first), len(second)):
        size += 4
    return first[:size].hex(), second[:size].hex()


def short(digest: bytes) -> str:
    """Return the first eight hex digits of `digest`, for people."""
    return digest[:4].hex()
