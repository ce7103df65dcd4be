"""Making the manifest of an image from what a person says and what the image itself says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from swarm.apps.rollout.manifest import FORMAT, Manifest, Need, encode_manifest
from swarm.cli.firmware.release_file import ReleaseFile, chunk_root
from swarm.crypto.digest import sha256
from swarm.install.identity import class_id, vendor_id
from swarm.primitives.errors import ConfigError, DecodeError
from swarm.primitives.limits import CHUNK_BYTES_MAX, CHUNK_BYTES_MIN

CLASS_DEFAULT: Final = "swarm.example/agent"
PROTOCOLS: Final = (1, 1)
"""Protocol versions that this program speaks."""
STORES: Final = (1, 1)
"""Store formats that this program reads: the numbers of its schema files."""

LARGE_BYTES: Final = 1 << 20
"""From here on chunks are as large as they may be: fewer frames. Below, small ones find more equal to the old image."""

_SIZE: Final = re.compile(r"([0-9]{1,10})(|B|KiB|MiB)")
_UNITS: Final = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024 * 1024}
_RANGE: Final = re.compile(r"([0-9]{1,5})(?:\.\.([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceClass:
    """Vendor and class (16 bytes each) of the devices that a release is for."""

    vendor: bytes
    class_uuid: bytes

    @property
    def id(self) -> bytes:
        """Both in one (32 bytes)."""
        return self.vendor + self.class_uuid


def read_class(text: str, where: str = "--class") -> DeviceClass:
    """Return the class in `VENDOR/CLASS`: each a name or a UUID. Raises `ConfigError`."""
    vendor_text, slash, class_text = text.partition("/")
    if not slash:
        raise ConfigError(f"{text!r} is not VENDOR/CLASS", where=where, hint=f"such as {CLASS_DEFAULT}")
    vendor = vendor_id(vendor_text, where=where)
    return DeviceClass(vendor=vendor, class_uuid=class_id(vendor, class_text, where=where))


def read_size(text: str, where: str) -> int:
    """Return the bytes in `4096`, `32KiB` or `1MiB`; raises `ConfigError`."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is no size", where=where, hint="such as 32KiB")
    return int(match[1]) * _UNITS[match[2]]


def read_chunk_bytes(text: str | None, image_bytes: int, where: str = "--chunk") -> int:
    """Return the chunk size: a power of two from 4 to 32 KiB; without `text` one that fits the image."""
    if text is None:
        return CHUNK_BYTES_MAX if image_bytes >= LARGE_BYTES else CHUNK_BYTES_MIN
    size = read_size(text, where)
    if not CHUNK_BYTES_MIN <= size <= CHUNK_BYTES_MAX or size & (size - 1):
        raise ConfigError(f"{text} is no chunk size", where=where, hint="4KiB, 8KiB, 16KiB or 32KiB")
    return size


def read_range(text: str, where: str) -> tuple[int, int]:
    """Return (lowest, highest) of `1` or `1..2`; raises `ConfigError`."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is no range of versions", where=where, hint="such as 1 or 1..2")
    return int(match[1]), int(match[2] or match[1])


def read_needs(texts: Iterable[str], where: str = "--needs") -> tuple[Need, ...]:
    """Return the needs in `VENDOR/CLASS:NUMBER`, sorted; raises `ConfigError`."""
    needs = []
    for text in texts:
        name, colon, number = text.rpartition(":")
        if not colon or not number.isascii() or not number.isdigit() or len(number) > 18 or int(number) < 1:
            raise ConfigError(f"{text!r} is not VENDOR/CLASS:NUMBER", where=where)
        found = read_class(name, where)
        needs.append(Need(found.vendor, found.class_uuid, int(number)))
    return tuple(sorted(needs, key=lambda need: need.vendor + need.class_uuid))


def make_release(
    image: bytes,
    *,
    swarm: bytes,
    device_class: DeviceClass,
    number: int,
    version: str,
    image_digest: bytes,
    counter: int = 0,
    oldest: int = 0,
    chunk_bytes: int | None = None,
    use_before: int = 0,
    protocols: tuple[int, int] = PROTOCOLS,
    stores: tuple[int, int] = STORES,
    needs: Sequence[Need] = (),
    notes: str = "",
) -> ReleaseFile:
    """Return the unsigned release of `image` for the swarm with id `swarm`; raises `ConfigError` for what cannot be."""
    size = read_chunk_bytes(None, len(image)) if chunk_bytes is None else chunk_bytes
    manifest = Manifest(
        format=FORMAT,
        swarm=swarm,
        vendor=device_class.vendor,
        class_uuid=device_class.class_uuid,
        number=number,
        version=version,
        counter=counter,
        oldest=oldest,
        file_bytes=len(image),
        file_hash=sha256(image),
        image_digest=image_digest,
        chunk_bytes=size,
        chunk_count=-(-len(image) // size),
        chunk_root=chunk_root(image, size),
        use_before=use_before,
        protocols=protocols,
        stores=stores,
        needs=tuple(needs),
        notes=notes.encode("utf-8", "surrogateescape"),
    )
    try:
        encode_manifest(manifest)
    except DecodeError as error:
        raise ConfigError(f"no device would take this manifest: {error}", where="release") from None
    return ReleaseFile(manifest=manifest, signatures=(), image=image)
