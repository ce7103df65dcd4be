"""A strict verifier of MCUboot images: header, both TLV areas, SHA-256, Ed25519, security counter, vendor and class.

MCUboot and `imgtool verify` accept more than one file for one image: bytes after the TLVs, repeated TLVs, TLVs that
nobody reads. Here every byte is either covered by the digest or has exactly one allowed value, so there is one file
for one image. Layout and numbers: MCUboot `image.h` (little endian); what is refused beyond it is said at the rule.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from swarm.crypto.digest import sha256
from swarm.crypto.signing import verify
from swarm.primitives.errors import SwarmError

IMAGE_MAGIC: Final = 0x96F3B83D
PROTECTED_MAGIC: Final = 0x6908
UNPROTECTED_MAGIC: Final = 0x6907

TLV_KEYHASH: Final = 0x01
TLV_SHA256: Final = 0x10
TLV_ED25519: Final = 0x24
TLV_COUNTER: Final = 0x50
TLV_BOOT_RECORD: Final = 0x60
TLV_VENDOR: Final = 0x74
TLV_CLASS: Final = 0x75

FLAG_PIC: Final = 0x001
FLAG_ROM_FIXED: Final = 0x100
FLAGS_ALLOWED: Final = FLAG_PIC | FLAG_ROM_FIXED
"""Nothing encrypted, compressed, non-bootable or loaded into RAM: the digest is over the bytes that run."""

UNPROTECTED_ORDER: Final = (TLV_SHA256, TLV_KEYHASH, TLV_ED25519)
"""The unprotected area is hashed by nobody, so it is exactly this, in the order in which imgtool writes it."""

_HEADER: Final = struct.Struct("<IIHHIIBBHII")
_INFO: Final = struct.Struct("<HH")
_SPKI_ED25519: Final = bytes.fromhex("302a300506032b6570032100")
"""SubjectPublicKeyInfo of an Ed25519 key before its 32 bytes (RFC 8410); MCUboot hashes the whole."""


class ImageReason(StrEnum):
    """Why an image was refused: the reason code of the report, never a sentence."""

    TRUNCATED = "truncated"
    OVERSIZED = "oversized"
    BAD_MAGIC = "bad-magic"
    BAD_HEADER = "bad-header"
    BAD_FLAGS = "bad-flags"
    BAD_TLV_AREA = "bad-tlv-area"
    BAD_TLV = "bad-tlv"
    DUPLICATE_TLV = "duplicate-tlv"
    UNKNOWN_TLV = "unknown-tlv"
    MISSING_TLV = "missing-tlv"
    TRAILING_BYTES = "trailing-bytes"
    WRONG_DIGEST = "wrong-digest"
    UNKNOWN_KEY = "unknown-key"
    BAD_SIGNATURE = "bad-signature"
    WRONG_VENDOR = "wrong-vendor"
    WRONG_CLASS = "wrong-class"
    OLD_COUNTER = "old-counter"


class ImageError(SwarmError):
    """An image that must not be installed or started; `reason` goes into the report."""

    def __init__(self, reason: ImageReason, detail: str = "") -> None:
        """Keep the reason code and an optional detail for people."""
        self.reason = reason
        super().__init__(f"{reason}: {detail}" if detail else str(reason))


class Version(NamedTuple):
    """The version in the header. It orders nothing here: releases are ordered by their number."""

    major: int
    minor: int
    revision: int
    build: int

    def __str__(self) -> str:
        """Write it as imgtool does, `1.2.3+4`."""
        return f"{self.major}.{self.minor}.{self.revision}+{self.build}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRules:
    """What an image has to fit: signing keys (32 bytes each), vendor and class UUID (16 bytes), least counter."""

    keys: tuple[bytes, ...]
    vendor: bytes
    device_class: bytes
    counter_min: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The caller read a whole slot: after the image come erased bytes, at the end `trailer_bytes` of anything."""

    erased: int = 0xFF
    trailer_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo:
    """A verified image: `size` bytes from the start of the header to the end of the last TLV, `digest` 32 bytes."""

    version: Version
    digest: bytes
    counter: int
    vendor: bytes
    device_class: bytes
    key: bytes
    header_size: int
    payload_size: int
    size: int
    custom: tuple[tuple[int, bytes], ...]
    """Protected TLVs of the vendor range (0x..A0 to 0x..FF), in their order."""


def key_hash(public: bytes) -> bytes:
    """Return MCUboot's KEYHASH (32 bytes) of an Ed25519 public key (32 bytes)."""
    return sha256(_SPKI_ED25519, public)


def verify_image(data: bytes, rules: ImageRules, *, slot: Slot | None = None, bytes_max: int) -> ImageInfo:
    """Return what the image in `data` is, if it may be installed under `rules`.

    `bytes_max` bounds the image itself. Without `slot` the image must end where `data` ends; with it `data` is
    a slot's content. Raises `ImageError` for everything else, whatever the bytes: the caller refuses the image,
    reports the reason and keeps running what it runs. Format: MCUboot `image.h`.
    """
    header = _parse_header(data, bytes_max)
    covered_end = header.size + header.payload + header.protected
    protected = _parse_area(data[header.size + header.payload : covered_end], PROTECTED_MAGIC)
    end = covered_end + _area_size(data, covered_end, UNPROTECTED_MAGIC)
    if end > bytes_max:
        raise ImageError(ImageReason.OVERSIZED, f"{end} bytes, at most {bytes_max}")
    unprotected = _parse_area(data[covered_end:end], UNPROTECTED_MAGIC)
    _check_rest(data, end, slot)
    facts = _read_protected(protected)
    digest, key = _check_signature(data[:covered_end], unprotected, rules.keys)
    # Only after the signature: what a forger wrote into these fields is nobody's vendor, class or counter.
    if facts.vendor != rules.vendor:
        raise ImageError(ImageReason.WRONG_VENDOR, facts.vendor.hex())
    if facts.device_class != rules.device_class:
        raise ImageError(ImageReason.WRONG_CLASS, facts.device_class.hex())
    if facts.counter < rules.counter_min:
        raise ImageError(ImageReason.OLD_COUNTER, f"{facts.counter}, at least {rules.counter_min}")
    return ImageInfo(
        version=header.version,
        digest=digest,
        counter=facts.counter,
        vendor=facts.vendor,
        device_class=facts.device_class,
        key=key,
        header_size=header.size,
        payload_size=header.payload,
        size=end,
        custom=facts.custom,
    )


# ----------------------------------------------------------------------------- parts


class _Header(NamedTuple):
    size: int
    payload: int
    protected: int
    version: Version


class _Facts(NamedTuple):
    counter: int
    vendor: bytes
    device_class: bytes
    custom: tuple[tuple[int, bytes], ...]


_Tlv = tuple[int, bytes]


def _parse_header(data: bytes, bytes_max: int) -> _Header:
    if len(data) < _HEADER.size:
        raise ImageError(ImageReason.TRUNCATED, "no whole header")
    magic, load, size, protected, payload, flags, major, minor, revision, build, pad = _HEADER.unpack_from(
        data
    )
    if magic != IMAGE_MAGIC:
        raise ImageError(ImageReason.BAD_MAGIC)
    if flags & ~FLAGS_ALLOWED:
        raise ImageError(ImageReason.BAD_FLAGS, f"0x{flags:x}")
    if size < _HEADER.size or payload == 0 or pad != 0 or (load != 0 and not flags & FLAG_ROM_FIXED):
        raise ImageError(ImageReason.BAD_HEADER)
    end = size + payload + protected
    if end > bytes_max:
        raise ImageError(ImageReason.OVERSIZED, f"{end} bytes, at most {bytes_max}")
    if end > len(data):
        raise ImageError(ImageReason.TRUNCATED, f"{end} bytes announced, {len(data)} there")
    return _Header(size, payload, protected, Version(major, minor, revision, build))


def _area_size(data: bytes, at: int, magic: int) -> int:
    """Return the size that the TLV area at `at` announces, its own four bytes included; it lies inside `data`."""
    if at + _INFO.size > len(data):
        raise ImageError(ImageReason.TRUNCATED, "no TLV area")
    found, size = _INFO.unpack_from(data, at)
    if found != magic or size < _INFO.size:
        raise ImageError(ImageReason.BAD_TLV_AREA, f"magic 0x{found:x}, size {size}")
    if at + size > len(data):
        raise ImageError(ImageReason.TRUNCATED, "TLV area is cut off")
    return int(size)


def _parse_area(area: bytes, magic: int) -> list[_Tlv]:
    """Return the TLVs of an area that must be exactly `area`: MCUboot only asks that it be no longer."""
    if len(area) < _INFO.size or _INFO.unpack_from(area) != (magic, len(area)):
        raise ImageError(ImageReason.BAD_TLV_AREA, f"no area 0x{magic:x} of {len(area)} bytes")
    tlvs: list[_Tlv] = []
    seen: set[int] = set()
    at = _INFO.size
    while at < len(area):
        if at + _INFO.size > len(area):
            raise ImageError(ImageReason.BAD_TLV, "cut off in its type and length")
        kind, length = _INFO.unpack_from(area, at)
        at += _INFO.size
        if at + length > len(area):
            raise ImageError(ImageReason.BAD_TLV, f"0x{kind:x} reaches over its area")
        if kind in seen:
            raise ImageError(ImageReason.DUPLICATE_TLV, f"0x{kind:x}")
        seen.add(kind)
        tlvs.append((kind, area[at : at + length]))
        at += length
    return tlvs


def _check_rest(data: bytes, end: int, slot: Slot | None) -> None:
    if slot is None:
        if end != len(data):
            raise ImageError(ImageReason.TRAILING_BYTES, f"{len(data) - end} bytes after the last TLV")
        return
    free = len(data) - slot.trailer_bytes
    if end > free:
        raise ImageError(ImageReason.OVERSIZED, "the image reaches into the trailer")
    if data[end:free].count(slot.erased) != free - end:
        raise ImageError(ImageReason.TRAILING_BYTES, "the rest of the slot is not erased")


def _read_protected(tlvs: Sequence[_Tlv]) -> _Facts:
    fixed = {TLV_COUNTER: 4, TLV_VENDOR: 16, TLV_CLASS: 16}
    found: dict[int, bytes] = {}
    custom: list[_Tlv] = []
    for kind, value in tlvs:
        if kind in fixed:
            if len(value) != fixed[kind]:
                raise ImageError(ImageReason.BAD_TLV, f"0x{kind:x} has {len(value)} bytes")
            found[kind] = value
        elif kind & 0xFF >= 0xA0:
            custom.append((kind, value))
        elif kind != TLV_BOOT_RECORD:
            # An unread TLV is a promise nobody keeps: dependencies, decompression sizes, other digests.
            raise ImageError(ImageReason.UNKNOWN_TLV, f"0x{kind:x} in the protected area")
    for kind in fixed:
        if kind not in found:
            raise ImageError(ImageReason.MISSING_TLV, f"0x{kind:x}")
    counter = int.from_bytes(found[TLV_COUNTER], "little")
    return _Facts(counter, found[TLV_VENDOR], found[TLV_CLASS], tuple(custom))


def _check_signature(covered: bytes, tlvs: Sequence[_Tlv], keys: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return (digest, key) of an image whose hashed part is `covered`."""
    kinds = tuple(kind for kind, _ in tlvs)
    for kind in kinds:
        if kind not in UNPROTECTED_ORDER:
            raise ImageError(ImageReason.UNKNOWN_TLV, f"0x{kind:x} in the unprotected area")
    for kind in UNPROTECTED_ORDER:
        if kind not in kinds:
            raise ImageError(ImageReason.MISSING_TLV, f"0x{kind:x}")
    if kinds != UNPROTECTED_ORDER:
        raise ImageError(ImageReason.BAD_TLV, "unprotected TLVs out of order")
    (_, stated), (_, wanted), (_, signature) = tlvs
    digest = sha256(covered)
    if stated != digest:
        raise ImageError(ImageReason.WRONG_DIGEST)
    key = next((key for key in keys if key_hash(key) == wanted), None)
    if key is None:
        raise ImageError(ImageReason.UNKNOWN_KEY, wanted.hex()[:16])
    if not verify(key, digest, signature):
        raise ImageError(ImageReason.BAD_SIGNATURE)
    return digest, key
