"""What a release is: a canonical manifest of at most 4 KiB, its id, and signatures by k of n release keys.

FIRMWARE section 2. A manifest is a msgpack array in the order of the fields below; there is one encoding of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Final

import msgspec

from swarm.crypto.digest import sha256
from swarm.crypto.keys import KeyPair
from swarm.crypto.signing import sign, verify
from swarm.primitives.errors import DecodeError
from swarm.primitives.limits import (
    CHUNK_BYTES_MAX,
    CHUNK_BYTES_MIN,
    MANIFEST_BYTES_MAX,
    MANIFEST_NEEDS_MAX,
    MANIFEST_NOTES_MAX,
    NUMBER_MAX,
    RELEASE_KEYS_MAX,
)
from swarm.wire.codec import U16, U32, U63, Bytes32, Bytes64, Codec, encode
from swarm.wire.genesis import KEY_ID_BYTES, key_id

FORMAT: Final = 1

_DOMAIN: Final = b"swarm/fw/1\0"

Uuid = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
ClassId = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
"""Vendor UUID and class UUID of a device, one after the other."""
Number = Annotated[int, msgspec.Meta(ge=1, le=NUMBER_MAX)]
"""Orders the releases of one class. 0 = an image of which no release is known."""
KeyId = Annotated[bytes, msgspec.Meta(min_length=KEY_ID_BYTES, max_length=KEY_ID_BYTES)]
Signatures = Annotated[tuple[tuple[KeyId, Bytes64], ...], msgspec.Meta(max_length=RELEASE_KEYS_MAX)]
"""(key id, signature), strictly ascending by key id."""


class Need(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Another class of the swarm whose newest completed release must have at least this number."""

    vendor: Uuid
    class_uuid: Uuid
    number: Number


class Manifest(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Everything that is signed about an image. `number` orders, `counter` forbids older images: never mixed up."""

    format: U16
    swarm: Bytes32
    vendor: Uuid
    class_uuid: Uuid
    number: Number
    version: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    counter: U32
    """Security counter; raised on a device only after the rollout completed."""
    oldest: U63
    """Lowest number that this release may follow."""
    file_bytes: U32
    file_hash: Bytes32
    image_digest: Bytes32
    """What a bootloader measures: the MCUboot hash, or the root of the sorted file list."""
    chunk_bytes: U32
    chunk_count: U32
    chunk_root: Bytes32
    use_before: U63
    """No permit above this height; 0 = never ends."""
    protocols: tuple[U16, U16]
    """Lowest and highest protocol version that the image speaks."""
    stores: tuple[U16, U16]
    """Lowest and highest store format that it reads."""
    needs: Annotated[tuple[Need, ...], msgspec.Meta(max_length=MANIFEST_NEEDS_MAX)]
    """Sorted by vendor and class, each class once."""
    notes: Annotated[bytes, msgspec.Meta(max_length=MANIFEST_NOTES_MAX)]

    @property
    def class_id(self) -> bytes:
        """Vendor and class in one (32 bytes)."""
        return self.vendor + self.class_uuid

    @property
    def release(self) -> bytes:
        """The release id (32 bytes)."""
        return release_id(encode(self))


_MANIFEST: Final[Codec[Manifest]] = Codec(Manifest, bytes_max=MANIFEST_BYTES_MAX)


def release_id(manifest: bytes) -> bytes:
    """Return the id (32 bytes) of the release with these manifest bytes."""
    return sha256(_DOMAIN, manifest)


def decode_manifest(data: bytes, swarm: bytes) -> Manifest:
    """Return the manifest in `data`, made for the swarm with id `swarm` (32 bytes).

    Raises `DecodeError` with one of the reasons `oversized`, `malformed`, `not-canonical`, `format`, `other-swarm`,
    `version`, `size`, `chunk-size`, `chunk-count`, `oldest`, `protocols`, `stores`, `needs`; whoever proposed it
    is told that word.
    """
    manifest = _MANIFEST.decode(data)
    for fits, reason in (
        (manifest.format == FORMAT, "format"),
        (manifest.swarm == swarm, "other-swarm"),
        (manifest.version.isascii() and manifest.version.isprintable(), "version"),
        (manifest.file_bytes > 0, "size"),
        (_is_chunk_size(manifest.chunk_bytes), "chunk-size"),
        (manifest.chunk_count == _chunks(manifest.file_bytes, manifest.chunk_bytes), "chunk-count"),
        (manifest.oldest < manifest.number, "oldest"),
        (manifest.protocols[0] <= manifest.protocols[1], "protocols"),
        (manifest.stores[0] <= manifest.stores[1], "stores"),
        (_are_ascending([need.vendor + need.class_uuid for need in manifest.needs]), "needs"),
    ):
        if not fits:
            raise DecodeError(reason)
    return manifest


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the canonical bytes of `manifest`; raises `DecodeError` as `decode_manifest` does when they would be bad."""
    data = encode(manifest)
    decode_manifest(data, manifest.swarm)
    return data


def sign_release(keypair: KeyPair, release: bytes) -> tuple[bytes, bytes]:
    """Return (key id, signature) of one release key over a release id (32 bytes)."""
    return sign_digest(keypair, _DOMAIN, release)


def sign_digest(keypair: KeyPair, domain: bytes, digest: bytes) -> tuple[bytes, bytes]:
    """Return (key id, signature) over `domain | digest`."""
    return key_id(keypair.public), sign(keypair, domain + digest)


def sorted_signatures(signatures: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    """Return signatures in the order that the wire asks for."""
    return tuple(sorted(signatures))


def release_signers(keys: Sequence[bytes], release: bytes, signatures: Signatures) -> int:
    """Return how many of `keys` validly signed this release."""
    return signers(keys, _DOMAIN, release, signatures)


def signers(keys: Sequence[bytes], domain: bytes, digest: bytes, signatures: Signatures) -> int:
    """Return how many distinct `keys` signed `domain | digest`; 0 for a list that is not strictly ascending."""
    if not _are_ascending([name for name, _ in signatures]):
        return 0
    by_id = {key_id(key): key for key in keys}
    return sum(
        name in by_id and verify(by_id[name], domain + digest, signature) for name, signature in signatures
    )


def _is_chunk_size(size: int) -> bool:
    return CHUNK_BYTES_MIN <= size <= CHUNK_BYTES_MAX and size & (size - 1) == 0


def _chunks(size: int, chunk: int) -> int:
    return (size + chunk - 1) // chunk


def _are_ascending(names: list[bytes]) -> bool:
    return all(a < b for a, b in pairwise(names))
