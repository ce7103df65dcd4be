"""A plain image format for sweeps and tests, with a strict verifier; real devices pass another one in.

magic (8) | payload length u32 | security counter u32 | behaviour (24, padded with zeros) | payload | SHA-256 of
all before it. The digest of an image is that hash. `trusted` in `verifier` stands for the signature check.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection

from firmware_sim.bootloader import Verdict, Verifier

_HEAD = struct.Struct("<8sII24s")
_MAGIC = b"fwsimim1"
OVERHEAD = _HEAD.size + 32


def make_image(payload: bytes, *, counter: int = 0, behaves: str = "healthy") -> bytes:
    """Return an image; `behaves` is what the application stub of the board does when it runs it."""
    body = _HEAD.pack(_MAGIC, len(payload), counter, behaves.encode()) + payload
    return body + hashlib.sha256(body).digest()


def image_digest(image: bytes) -> bytes:
    """Return the digest by which an image is sealed, approved and revoked."""
    return image[-32:]


def verifier(*, trusted: Collection[bytes] | None = None) -> Verifier:
    """Return a verifier that accepts whole images; with `trusted`, only those of these digests."""

    def verify(slot: bytes) -> Verdict:
        magic, length, counter, behaves = _HEAD.unpack_from(slot)
        end = _HEAD.size + length
        if magic != _MAGIC:
            return Verdict(ok=False, reason="magic")
        if end + 32 > len(slot):
            return Verdict(ok=False, reason="length")
        digest = slot[end : end + 32]
        if hashlib.sha256(slot[:end]).digest() != digest:
            return Verdict(ok=False, reason="hash")
        if trusted is not None and digest not in trusted:
            return Verdict(ok=False, reason="signature")
        name = behaves.rstrip(b"\0").decode("ascii", "replace")
        return Verdict(ok=True, digest=digest, size=end + 32, counter=counter, behaves=name)

    return verify
