"""Who may sign releases: k of n keys, their epoch, and how they are changed (FIRMWARE section 2)."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from swarm.apps.rollout.manifest import Signatures, sign_digest, signers
from swarm.crypto.digest import sha256
from swarm.crypto.keys import KeyPair
from swarm.crypto.signing import is_canonical_key
from swarm.primitives.limits import RELEASE_KEYS_MAX
from swarm.wire.codec import U16, U32, Bytes32, encode
from swarm.wire.genesis import key_id

_KEYS_DOMAIN: Final = b"swarm/fw/1 keys\0"
_REVOKE_DOMAIN: Final = b"swarm/fw/1 revoke\0"

PublicKeys = Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=RELEASE_KEYS_MAX)]


class KeySet(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """`k` of `keys` sign; `epoch` counts the changes since genesis. k = 0: this swarm takes no firmware."""

    epoch: U32
    k: U16
    keys: PublicKeys


class Rotation(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A change of keys that somebody asked for and q voters have not yet approved."""

    keys: KeySet
    signatures: Signatures
    emergency: bool
    """Fewer than k of the old keys signed: people must look, no device approves it by itself."""


def rotation_id(swarm: bytes, keys: KeySet) -> bytes:
    """Return what is signed for a change to `keys` (with their new epoch) in the swarm with id `swarm`."""
    return sha256(swarm, encode(keys))


def sign_rotation(keypair: KeyPair, swarm: bytes, keys: KeySet) -> tuple[bytes, bytes]:
    """Return (key id, signature) of a release key, an old or a new one, for a change to `keys`."""
    return sign_digest(keypair, _KEYS_DOMAIN, rotation_id(swarm, keys))


def sign_revocation(keypair: KeyPair, release: bytes) -> tuple[bytes, bytes]:
    """Return (key id, signature) of a release key that wants this release never to run again."""
    return sign_digest(keypair, _REVOKE_DOMAIN, release)


def revocation_signers(keys: KeySet, release: bytes, signatures: Signatures) -> int:
    """Return how many of the keys in force signed the revocation of `release`."""
    return signers(keys.keys, _REVOKE_DOMAIN, release, signatures)


def judge_rotation(swarm: bytes, old: KeySet, new: KeySet, signatures: Signatures) -> Rotation | None:
    """Return the rotation from `old` to `new`, or None: impossible keys, or not signed by k' of the new ones."""
    if new.epoch != old.epoch + 1 or not 1 <= new.k <= len(new.keys):
        return None
    if list(new.keys) != sorted(set(new.keys)) or len({key_id(key) for key in new.keys}) < len(new.keys):
        return None
    if not all(is_canonical_key(key) for key in new.keys):
        return None
    digest = rotation_id(swarm, new)
    if signers(new.keys, _KEYS_DOMAIN, digest, signatures) < new.k:
        return None
    by_old = signers(old.keys, _KEYS_DOMAIN, digest, signatures)
    return Rotation(new, signatures, emergency=by_old < old.k)
