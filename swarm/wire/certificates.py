"""Whether a certificate or a checkpoint is what it says: distinct voters, enough of them, every signature good.

Pure; the signature check is an argument, so that a simulator can share results between devices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from swarm.primitives.errors import DecodeError
from swarm.primitives.ids import ZERO_DIGEST
from swarm.wire.codec import U16, Bytes64
from swarm.wire.messages import Checkpoint
from swarm.wire.statements import VOTE_KINDS, Certificate, Kind, attest_digest, statement_bytes

Verify = Callable[[bytes, bytes, bytes], bool]
"""`verify(public key, message, signature)`, as `swarm.crypto.signing.verify`."""


def verify_signers(
    signatures: Sequence[tuple[U16, Bytes64]],
    message: bytes,
    *,
    voter_keys: Sequence[bytes],
    threshold: int,
    verify: Verify,
) -> None:
    """Check that at least `threshold` distinct voters signed `message`, and that every signature given is good.

    `voter_keys` are the epoch's public keys (32 bytes) by voter index; `signatures` must ascend strictly by index.
    Raises `DecodeError`: `too-few-signatures`, `voters-not-ascending`, `unknown-voter`, `bad-signature`; the caller
    counts and drops. Everything cheap is checked before the first signature.
    """
    if len(signatures) < threshold:
        raise DecodeError("too-few-signatures", f"{len(signatures)} of {threshold}")
    before = -1
    for voter, _ in signatures:
        if voter <= before:
            raise DecodeError("voters-not-ascending", f"{voter} after {before}")
        before = voter
    if before >= len(voter_keys):
        raise DecodeError("unknown-voter", f"{before} of {len(voter_keys)}")
    for voter, signature in signatures:
        if not verify(voter_keys[voter], message, signature):
            raise DecodeError("bad-signature", f"voter {voter}")


def verify_certificate(
    certificate: Certificate,
    *,
    swarm_id: bytes,
    epoch: int,
    voter_keys: Sequence[bytes],
    q: int,
    verify: Verify,
) -> None:
    """Check that `certificate` is a VC, SC or FC of `epoch`: q distinct voters on one N, K or F (PROTOCOL section 2).

    Raises `DecodeError`: `bad-kind` (also a K with a digest), `wrong-epoch` (fetch the epoch chain first: R13), or a
    reason of `verify_signers`.
    """
    if certificate.kind not in VOTE_KINDS:
        raise DecodeError("bad-kind", f"{certificate.kind} makes no certificate")
    if certificate.kind == Kind.SKIP and certificate.digest != ZERO_DIGEST:
        raise DecodeError("bad-kind", "a skip has no digest")
    if certificate.epoch != epoch:
        raise DecodeError("wrong-epoch", f"{certificate.epoch}, not {epoch}")
    message = statement_bytes(
        swarm_id, certificate.kind, certificate.epoch, certificate.number, certificate.digest
    )
    verify_signers(certificate.signatures, message, voter_keys=voter_keys, threshold=q, verify=verify)


def verify_checkpoint(
    checkpoint: Checkpoint,
    *,
    swarm_id: bytes,
    epoch: int,
    voter_keys: Sequence[bytes],
    r: int,
    verify: Verify,
) -> None:
    """Check that r+1 distinct voters of `epoch` attested the height, size and roots of `checkpoint` (R14).

    One of them is honest, so the log was like that. Raises `DecodeError` as `verify_certificate` does.
    """
    if checkpoint.epoch != epoch:
        raise DecodeError("wrong-epoch", f"{checkpoint.epoch}, not {epoch}")
    digest = attest_digest(checkpoint.log_size, checkpoint.log_root, checkpoint.state_root)
    message = statement_bytes(swarm_id, Kind.ATTEST, checkpoint.epoch, checkpoint.height, digest)
    verify_signers(checkpoint.signatures, message, voter_keys=voter_keys, threshold=r + 1, verify=verify)
