r"""The file of a directory release: a sorted list of files and their contents, one encoding for one release.

    "swdir/1\0" | count u32 | count times (path length u16, path, size u32, SHA-256) | contents in that order

Big-endian. Nothing else can be expressed: no links, owners, modes, dates, empty folders or padding, so no path can
leave the slot, and the file can be made again from the slot byte for byte. The image digest is the root of the list.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from swarm.crypto.digest import sha256
from swarm.install.image import ImageError, ImageReason
from swarm.install.selection import PATH_BYTES_MAX, list_root
from swarm.primitives.errors import ConfigError

MAGIC: Final = b"swdir/1\0"
FILES_MAX: Final = 20_000
"""Files of one release: a Python application with its dependencies has some 3,000."""

_COUNT: Final = struct.Struct(">I")
_ENTRY: Final = struct.Struct(">H")
_FACTS: Final = struct.Struct(">I32s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file: path inside the slot, size, SHA-256."""

    path: str
    size: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A verified bundle: its entries in order, and the bytes they describe."""

    entries: tuple[Entry, ...]
    data: bytes
    contents_at: int

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield (path, content) in order."""
        at = self.contents_at
        for entry in self.entries:
            yield entry.path, self.data[at : at + entry.size]
            at += entry.size

    @property
    def digest(self) -> bytes:
        """The image digest (32 bytes): root of the sorted file list."""
        return list_root((entry.path, entry.size, entry.digest) for entry in self.entries)


def pack_bundle(files: Mapping[str, bytes]) -> bytes:
    """Return the one bundle of `files` (path -> content); raises `ConfigError` for a path no device would take."""
    wrong = next((path for path in files if not _is_path(path)), None)
    if wrong is not None:
        raise ConfigError(f"{wrong!r} cannot be the path of a file in a release", where="release")
    if not files or len(files) > FILES_MAX:
        raise ConfigError(f"a release has 1 to {FILES_MAX} files, {len(files)} given", where="release")
    ordered = sorted(files.items(), key=lambda item: item[0].encode())
    clash = _clash([path for path, _ in ordered])
    if clash:
        raise ConfigError(f"{clash!r} is a file and a folder", where="release")
    entries = [Entry(path=path, size=len(data), digest=sha256(data)) for path, data in ordered]
    return encode_head(entries) + b"".join(content for _, content in ordered)


def encode_head(entries: Sequence[Entry]) -> bytes:
    """Return the bundle's bytes before the contents; `entries` in order."""
    return MAGIC + _COUNT.pack(len(entries)) + b"".join(map(_pack_entry, entries))


def parse_bundle(data: bytes) -> Bundle:
    """Return the bundle in `data` with every digest checked; raises `ImageError` for anything else, whatever it is."""
    if len(data) < len(MAGIC) + _COUNT.size:
        raise ImageError(ImageReason.TRUNCATED, "no whole header")
    if not data.startswith(MAGIC):
        raise ImageError(ImageReason.BAD_MAGIC)
    (count,) = _COUNT.unpack_from(data, len(MAGIC))
    if not 1 <= count <= FILES_MAX:
        raise ImageError(ImageReason.BAD_HEADER, f"{count} files")
    entries: list[Entry] = []
    at = len(MAGIC) + _COUNT.size
    for _ in range(count):
        entry, at = _parse_entry(data, at)
        entries.append(entry)
    _check_paths([entry.path for entry in entries])
    end = at + sum(entry.size for entry in entries)
    if end != len(data):
        reason = ImageReason.TRUNCATED if end > len(data) else ImageReason.TRAILING_BYTES
        raise ImageError(reason, f"{end} bytes announced, {len(data)} there")
    bundle = Bundle(entries=tuple(entries), data=data, contents_at=at)
    for entry, (path, content) in zip(entries, bundle.files(), strict=True):
        if sha256(content) != entry.digest:
            raise ImageError(ImageReason.WRONG_DIGEST, path)
    return bundle


# ----------------------------------------------------------------------------- parts


def _pack_entry(entry: Entry) -> bytes:
    name = entry.path.encode()
    return _ENTRY.pack(len(name)) + name + _FACTS.pack(entry.size, entry.digest)


def _parse_entry(data: bytes, at: int) -> tuple[Entry, int]:
    if at + _ENTRY.size > len(data):
        raise ImageError(ImageReason.TRUNCATED, "the file list is cut off")
    (length,) = _ENTRY.unpack_from(data, at)
    at += _ENTRY.size
    if at + length + _FACTS.size > len(data):
        raise ImageError(ImageReason.TRUNCATED, "the file list is cut off")
    try:
        path = data[at : at + length].decode()
    except UnicodeDecodeError:
        raise ImageError(ImageReason.BAD_HEADER, "a path is not UTF-8") from None
    size, digest = _FACTS.unpack_from(data, at + length)
    return Entry(path=path, size=size, digest=digest), at + length + _FACTS.size


def _check_paths(paths: list[str]) -> None:
    if not all(map(_is_path, paths)):
        raise ImageError(ImageReason.BAD_HEADER, "a path that could leave the slot")
    encoded = [path.encode() for path in paths]
    if any(left >= right for left, right in pairwise(encoded)):
        raise ImageError(ImageReason.BAD_HEADER, "paths out of order")
    if _clash(paths):
        raise ImageError(ImageReason.BAD_HEADER, "a path is a file and a folder")


def _is_path(path: str) -> bool:
    """Answer whether `path` is a plain relative path of printable characters, at most `PATH_BYTES_MAX` bytes."""
    parts = path.split("/")
    # Python writes `__pycache__` beside a module and would believe what it finds there instead of the module.
    if not path.isprintable() or not {"", ".", "..", "__pycache__"}.isdisjoint(parts):
        return False
    return len(path.encode()) <= PATH_BYTES_MAX and all(len(part.encode()) <= 255 for part in parts)


def _clash(paths: list[str]) -> str:
    """Return a path that is also the folder of another, empty when there is none."""
    files = set(paths)
    for path in paths:
        at = path.find("/")
        while at >= 0:
            if path[:at] in files:
                return path[:at]
            at = path.find("/", at + 1)
    return ""
