"""Small signed MCUboot images for scenarios: the same bytes from the same facts, without any tool.

Written byte for byte as stock `imgtool sign` does (its tests compare them), so `swarm.install.image` takes them and
so would MCUboot. What a simulated board shall do while it runs an image stands in the image, in a TLV of the vendor
range: nobody can change it without changing the digest.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from typing import Final

from swarm.crypto.digest import sha256
from swarm.crypto.keys import KeyPair
from swarm.crypto.merkle import Frontier, leaf_hash
from swarm.crypto.signing import SIGNATURE_BYTES, sign
from swarm.install.image import (
    IMAGE_MAGIC,
    PROTECTED_MAGIC,
    TLV_CLASS,
    TLV_COUNTER,
    TLV_ED25519,
    TLV_KEYHASH,
    TLV_SHA256,
    TLV_VENDOR,
    UNPROTECTED_MAGIC,
    ImageInfo,
    Version,
    key_hash,
)
from swarm.install.port import InstallPlan
from swarm.primitives.errors import ConfigError, check

TLV_BEHAVES: Final = 0x00A0
"""What the board does that runs the image: ASCII, for example `crash` (`firmware_sim.board`)."""

HEADER_BYTES: Final = 32
HEALTHY: Final = "healthy"

_HEADER: Final = struct.Struct("<IIHHIIBBHII")
_PAIR: Final = struct.Struct("<HH")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """What an image is, down to its last byte.

    `size` counts the bytes of the whole file. Its content comes from `seed`; the last `common` bytes of the content
    are those that every image of this seed has at the same place, whatever its version, so that a device can copy
    them instead of fetching them. Vendor and class 16 bytes.
    """

    version: Version
    vendor: bytes
    device_class: bytes
    size: int
    counter: int = 0
    behaves: str = HEALTHY
    seed: int = 0
    common: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What a manifest says of a file: size, SHA-256, chunks and their root (RFC 6962)."""

    file_bytes: int
    file_digest: bytes
    chunk_bytes: int
    chunk_count: int
    chunk_root: bytes


def make_image(spec: ImageSpec, key: KeyPair) -> bytes:
    """Return the signed image. Raises `ConfigError` where `size` leaves no room for content."""
    protected = _area(
        PROTECTED_MAGIC,
        (TLV_COUNTER, spec.counter.to_bytes(4, "little")),
        (TLV_VENDOR, spec.vendor),
        (TLV_CLASS, spec.device_class),
        (TLV_BEHAVES, spec.behaves.encode("ascii")),
    )
    around = HEADER_BYTES + len(protected) + _UNPROTECTED_BYTES
    if spec.size <= around:
        raise ConfigError(f"an image has more than {around} bytes, {spec.size} are asked for", where="size")
    content = _content(spec, spec.size - around)
    header = _HEADER.pack(IMAGE_MAGIC, 0, HEADER_BYTES, len(protected), len(content), 0, *spec.version, 0)
    return _signed(header + content + protected, key)


def image_digest(image: bytes) -> bytes:
    """Return the digest (32 bytes) under which a whole image is sealed, approved and revoked."""
    return sha256(image[: len(image) - _UNPROTECTED_BYTES])


def behaviour_of(image: ImageInfo) -> str:
    """Return what the board does that runs a verified image; one that does not say is healthy."""
    return dict(image.custom).get(TLV_BEHAVES, HEALTHY.encode()).decode("ascii", "replace")


def describe_file(data: bytes, chunk_bytes: int) -> FileFacts:
    """Return what a manifest says of a file that is delivered in chunks of `chunk_bytes`."""
    tree = Frontier()
    for at in range(0, len(data), chunk_bytes):
        tree.append(leaf_hash(data[at : at + chunk_bytes]))
    return FileFacts(
        file_bytes=len(data),
        file_digest=sha256(data),
        chunk_bytes=chunk_bytes,
        chunk_count=-(-len(data) // chunk_bytes),
        chunk_root=tree.root(),
    )


def plan_of(image: bytes, spec: ImageSpec, *, release: bytes, number: int, chunk_bytes: int) -> InstallPlan:
    """Return the plan of a whole image, as an approved manifest with this release id would give it."""
    facts = describe_file(image, chunk_bytes)
    return InstallPlan(
        release=release,
        number=number,
        version=str(spec.version),
        counter=spec.counter,
        vendor=spec.vendor,
        device_class=spec.device_class,
        file_bytes=facts.file_bytes,
        file_digest=facts.file_digest,
        image_digest=image_digest(image),
        chunk_bytes=facts.chunk_bytes,
        chunk_count=facts.chunk_count,
        chunk_root=facts.chunk_root,
    )


# ----------------------------------------------------------------------------- parts


def _tlvs_bytes(*lengths: int) -> int:
    return _PAIR.size * (1 + len(lengths)) + sum(lengths)


_UNPROTECTED_BYTES: Final = _tlvs_bytes(32, 32, SIGNATURE_BYTES)


def _area(magic: int, *tlvs: tuple[int, bytes]) -> bytes:
    body = b"".join(_PAIR.pack(kind, len(value)) + value for kind, value in tlvs)
    return _PAIR.pack(magic, _PAIR.size + len(body)) + body


def _content(spec: ImageSpec, size: int) -> bytes:
    check(spec.common >= 0, "a negative number of common bytes")
    own = size - min(spec.common, size)
    return _stream(f"image/{spec.seed}/{spec.version}", own) + _stream(f"image/{spec.seed}", size)[own:]


def _stream(seed: str, size: int) -> bytes:
    """Return the first bytes of a stream: whole words, so that a longer draw begins with a shorter one."""
    return random.Random(seed).randbytes(-(-size // 4) * 4)[:size]


def _signed(covered: bytes, key: KeyPair) -> bytes:
    digest = sha256(covered)
    return covered + _area(
        UNPROTECTED_MAGIC,
        (TLV_SHA256, digest),
        (TLV_KEYHASH, key_hash(key.public)),
        (TLV_ED25519, sign(key, digest)),
    )
