"""SHA-256, plain and with a domain tag."""

from __future__ import annotations

import hashlib
from typing import Final

from swarm.primitives.errors import check

DIGEST_BYTES: Final = 32

_TAG_BYTES_MAX: Final = 255


def sha256(*parts: bytes) -> bytes:
    """Return the SHA-256 digest (32 bytes) of the concatenation of `parts`.

    Concatenation forgets where one part ends: give at most one part of variable length, or use `tagged_sha256`.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def tagged_sha256(tag: str, *parts: bytes) -> bytes:
    """Return a digest (32 bytes) that no other tag and no other division into parts can share.

    Hashed is `len(tag) u8 | tag | for each part: len u32 | part`, big-endian, so the bytes can be read back in
    one way only. `tag` is 1 to 255 ASCII characters of our own source, never of a peer; anything else is
    an `InvariantError`.
    """
    check(
        tag.isascii() and 1 <= len(tag) <= _TAG_BYTES_MAX,
        f"hash tag {tag!r} is not 1 to 255 ASCII characters",
    )
    digest = hashlib.sha256(len(tag).to_bytes(1, "big") + tag.encode("ascii"))
    for part in parts:
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.digest()
