"""A proof: one leaf of the log, where it stands, and r+1 voters' word for it; believed offline with genesis alone.

The log's root is not in the proof. It is computed from the leaf and its path, and the signatures are checked over
it: so no byte of a proof is decoration, and a change of any one byte makes it fail (PROTOCOL section 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from swarm.crypto import signing
from swarm.crypto.merkle import leaf_hash, root_from_inclusion
from swarm.primitives.errors import DecodeError, ProofError
from swarm.primitives.ids import DeviceId, short_apart
from swarm.primitives.limits import PROOF_BYTES_MAX, VOTERS_MAX
from swarm.wire.certificates import Verify, verify_checkpoint
from swarm.wire.codec import U32, U63, Bytes32, Codec, encode
from swarm.wire.genesis import Genesis
from swarm.wire.messages import Checkpoint, LeafBytes, Path
from swarm.wire.statements import Signature

MAGIC: Final = b"swarm/1 proof\0"


class Proof(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What a proof file holds after its magic; `signatures` are exactly r+1, ascending by voter index."""

    swarm: Bytes32
    epoch: U32
    height: U63
    log_size: U63
    state_root: Bytes32
    signatures: Annotated[tuple[Signature, ...], msgspec.Meta(min_length=1, max_length=VOTERS_MAX)]
    position: U63
    leaf: LeafBytes
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedLeaf:
    """A leaf that r+1 voters attested, and the checkpoint they attested it with."""

    position: int
    leaf: bytes
    """Leaf data: kind byte and content (`leaves.decode_leaf`)."""
    height: int
    """Height of the checkpoint; the leaf itself stands at this height or below."""
    log_size: int
    log_root: bytes
    state_root: bytes
    signers: tuple[DeviceId, ...]


_PROOF: Final[Codec[Proof]] = Codec(Proof, bytes_max=PROOF_BYTES_MAX)


def proof_from(
    genesis: Genesis, checkpoint: Checkpoint, *, position: int, leaf: bytes, path: tuple[bytes, ...]
) -> Proof:
    """Return the proof of `leaf` at `position`, from a checkpoint that covers it and its inclusion path.

    Of a checkpoint with more signatures the first r+1 are taken. Whether it proves anything, `verify` says.
    """
    return Proof(
        swarm=genesis.id,
        epoch=checkpoint.epoch,
        height=checkpoint.height,
        log_size=checkpoint.log_size,
        state_root=checkpoint.state_root,
        signatures=checkpoint.signatures[: genesis.budget.r + 1],
        position=position,
        leaf=leaf,
        path=path,
    )


def encode_proof(proof: Proof) -> bytes:
    """Return the content of a proof file."""
    return MAGIC + encode(proof)


def decode_proof(data: bytes) -> Proof:
    """Return the proof in `data`, still unverified; raises `ProofError` for anything but its canonical encoding."""
    if not data.startswith(MAGIC):
        raise ProofError("this is not a proof of swarm/1: it does not begin like one")
    try:
        return _PROOF.decode(data[len(MAGIC) :])
    except DecodeError as error:
        raise ProofError(f"this is not a proof: {error}") from None


def verify(data: bytes, genesis: Genesis, verify_signature: Verify = signing.verify) -> VerifiedLeaf:
    """Return the leaf that proof `data` proves for the swarm of `genesis`.

    Raises `ProofError` with the reason in words; the caller must then believe nothing of it. Believing the result
    assumes that at most r voters lied: r+1 signers include an honest one.
    """
    proof = decode_proof(data)
    if proof.swarm != genesis.id:
        theirs, ours = short_apart(proof.swarm, genesis.id)
        raise ProofError(f"the proof is of swarm {theirs}, the genesis file is of {ours} ({genesis.swarm})")
    if proof.epoch != 0:
        raise ProofError(
            f"the proof is of epoch {proof.epoch}; proofs across changes of membership do not work yet"
        )
    needed = genesis.budget.r + 1
    if len(proof.signatures) != needed:
        raise ProofError(f"the proof has {len(proof.signatures)} signatures, exactly {needed} are needed")
    checkpoint = Checkpoint(
        epoch=proof.epoch,
        height=proof.height,
        log_size=proof.log_size,
        log_root=root_from_inclusion(leaf_hash(proof.leaf), proof.position, proof.log_size, proof.path),
        state_root=proof.state_root,
        signatures=proof.signatures,
    )
    try:
        verify_checkpoint(
            checkpoint,
            swarm_id=genesis.id,
            epoch=0,
            voter_keys=genesis.voter_keys,
            r=genesis.budget.r,
            verify=verify_signature,
        )
    except DecodeError as error:
        raise ProofError(_in_words(error, proof, genesis)) from None
    return VerifiedLeaf(
        position=proof.position,
        leaf=proof.leaf,
        height=proof.height,
        log_size=proof.log_size,
        log_root=checkpoint.log_root,
        state_root=proof.state_root,
        signers=tuple(genesis.voter_ids[voter] for voter, _ in proof.signatures),
    )


def _in_words(error: DecodeError, proof: Proof, genesis: Genesis) -> str:
    what = f"leaf {proof.position} of the log of {proof.log_size} leaves at height {proof.height}"
    match error.reason:
        case "bad-signature":
            return f"a signature does not fit {what} ({error}): the proof was changed, or never was one"
        case "unknown-voter":
            return f"a signer is none of the {len(genesis.voters)} voters of {genesis.swarm} ({error})"
        case "voters-not-ascending":
            return f"the signers are not distinct voters in ascending order ({error})"
        case _:
            return f"the signatures do not prove {what} ({error})"
