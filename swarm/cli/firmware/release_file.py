r"""The file of a release, as people hand it around: manifest, the signatures so far, and the image.

    "swfw/1\r\n" | length of the head u32 | head = msgpack array (manifest, signatures) | image

Equal releases with equal signatures give equal bytes. The image is not signed itself; its digests in the manifest are,
so everything here is checked against the manifest before it is used.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from swarm.apps.rollout.manifest import (
    Manifest,
    Signatures,
    decode_manifest,
    release_id,
    release_signers,
    sorted_signatures,
)
from swarm.cli.files import read_file
from swarm.crypto.digest import sha256
from swarm.crypto.merkle import Frontier, leaf_hash
from swarm.device.firmware.checks import install_plan
from swarm.install.bundle import MAGIC as BUNDLE_MAGIC
from swarm.install.bundle import parse_bundle
from swarm.install.image import ImageError
from swarm.install.port import InstallPlan
from swarm.primitives.errors import ConfigError, DecodeError
from swarm.primitives.limits import MANIFEST_BYTES_MAX, RELEASE_KEYS_MAX
from swarm.wire.codec import Codec, encode

MAGIC: Final = b"swfw/1\r\n"
SUFFIX: Final = ".swfw"

IMAGE_BYTES_MAX: Final = 1 << 30
"""An image of a gigabyte is the wrong file: it is held in memory here, and 32,768 chunks of it would be asked for."""

_LENGTH: Final = struct.Struct(">I")
_HEAD_BYTES_MAX: Final = MANIFEST_BYTES_MAX + RELEASE_KEYS_MAX * 80 + 16


class _Head(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    manifest: Annotated[bytes, msgspec.Meta(max_length=MANIFEST_BYTES_MAX)]
    signatures: Signatures


_HEAD: Final[Codec[_Head]] = Codec(_Head, bytes_max=_HEAD_BYTES_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFile:
    """A release whose image is the one that its manifest describes."""

    manifest: Manifest
    signatures: tuple[tuple[bytes, bytes], ...]
    image: bytes

    @property
    def id(self) -> bytes:
        """The release id (32 bytes)."""
        return release_id(self.manifest_bytes)

    @property
    def manifest_bytes(self) -> bytes:
        """What is signed and proposed."""
        return encode(self.manifest)

    @property
    def plan(self) -> InstallPlan:
        """What a device's installer is told."""
        return install_plan(self.manifest)

    def signed_by(self, keys: Iterable[bytes]) -> int:
        """Return how many of `keys` (32 bytes each) signed this release."""
        return release_signers(tuple(keys), self.id, self.signatures)

    def with_signature(self, signature: tuple[bytes, bytes]) -> ReleaseFile:
        """Return the release with one more signature; one of the same key is replaced."""
        kept = {**dict(self.signatures), signature[0]: signature[1]}
        return ReleaseFile(
            manifest=self.manifest, signatures=sorted_signatures(kept.items()), image=self.image
        )

    def encode(self) -> bytes:
        """Return the bytes of the file."""
        head = encode(_Head(self.manifest_bytes, self.signatures))
        return MAGIC + _LENGTH.pack(len(head)) + head + self.image


def chunk_root(image: bytes, chunk_bytes: int) -> bytes:
    """Return the root (RFC 6962) over the chunks of an image in order, all of `chunk_bytes` but the last."""
    tree = Frontier()
    for at in range(0, len(image), chunk_bytes):
        tree.append(leaf_hash(image[at : at + chunk_bytes]))
    return tree.root()


def load_release(path: Path, swarm: bytes | None = None) -> ReleaseFile:
    """Return the release in the file at `path`, with everything of it checked but its signatures.

    `swarm` = id of the swarm that it must be for; None takes the one that it names. Raises `ConfigError` with the
    file's name and a reason.
    """
    data = read_file(path, IMAGE_BYTES_MAX + _HEAD_BYTES_MAX)
    try:
        return parse_release(data, swarm)
    except DecodeError as error:
        raise ConfigError(f"no usable release: {error}", where=str(path)) from None


def parse_release(data: bytes, swarm: bytes | None = None) -> ReleaseFile:
    """Return the release in `data`; raises `DecodeError` with a reason for anything else, whatever the bytes."""
    start = len(MAGIC) + _LENGTH.size
    if not data.startswith(MAGIC):
        raise DecodeError("bad-magic", f"not a {SUFFIX} file")
    if len(data) < start:
        raise DecodeError("truncated", "it ends before its head")
    (length,) = _LENGTH.unpack_from(data, len(MAGIC))
    if length > _HEAD_BYTES_MAX:
        raise DecodeError("oversized", f"a head of {length} bytes")
    if start + length > len(data):
        raise DecodeError("truncated", "it ends inside its head")
    head = _HEAD.decode(data[start : start + length])
    manifest = decode_manifest(head.manifest, _swarm_of(head.manifest) if swarm is None else swarm)
    names = [name for name, _ in head.signatures]
    if names != sorted(set(names)):
        raise DecodeError("signatures", "not sorted, or one key twice")
    image = data[start + length :]
    check_image(manifest, image)
    return ReleaseFile(manifest=manifest, signatures=head.signatures, image=image)


def check_image(manifest: Manifest, image: bytes) -> None:
    """Raise `DecodeError` with a reason unless `image` is the one that the manifest describes."""
    if len(image) != manifest.file_bytes:
        reason = "truncated" if len(image) < manifest.file_bytes else "trailing-bytes"
        raise DecodeError(reason, f"an image of {manifest.file_bytes} bytes announced, {len(image)} there")
    if sha256(image) != manifest.file_hash:
        raise DecodeError("wrong-file", "the image is not the one of the manifest")
    if chunk_root(image, manifest.chunk_bytes) != manifest.chunk_root:
        raise DecodeError("wrong-chunk-root", "its chunks are not those of the manifest")
    if image.startswith(BUNDLE_MAGIC):
        try:
            digest = parse_bundle(image).digest
        except ImageError as error:
            raise DecodeError("image-refused", str(error)) from None
        if digest != manifest.image_digest:
            raise DecodeError("wrong-digest", "the image digest is not the one of the manifest")


def save_release(release: ReleaseFile, path: Path, *, replace: bool = False) -> None:
    """Write a release file whole or not at all; an existing one only with `replace`. Raises `ConfigError`."""
    if path.exists() and not replace:
        raise ConfigError("exists already", where=str(path), hint="choose another name, or remove it first")
    write_whole(path, release.encode())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside `path` and rename it, so that a crash leaves the old one or the new one."""
    draft = path.with_name(f".{path.name}.new")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except (OSError, ValueError) as error:
        draft.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot be written: {reason}", where=str(path)) from None


def _swarm_of(manifest: bytes) -> bytes:
    """Return the swarm that a manifest names, so that somebody without a genesis can look into the file."""
    try:
        decoded = msgspec.msgpack.decode(manifest, type=Manifest)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise DecodeError("malformed", f"manifest: {error}") from None
    return decoded.swarm
