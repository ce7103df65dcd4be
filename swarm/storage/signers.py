"""Whether what a store holds of others is signed: with genesis by whose keys, without it at least in what form."""

from __future__ import annotations

from pathlib import Path

from swarm.crypto import signing
from swarm.primitives.errors import DecodeError
from swarm.primitives.ids import ZERO_DIGEST
from swarm.primitives.limits import VOTERS_MAX
from swarm.storage.damage import damaged
from swarm.storage.store import Restored
from swarm.wire.certificates import Verify, verify_certificate, verify_checkpoint, verify_signers
from swarm.wire.genesis import Genesis
from swarm.wire.messages import Checkpoint
from swarm.wire.statements import (
    STATEMENT_KINDS,
    VOTE_KINDS,
    Certificate,
    Kind,
    SignedStatement,
    statement_bytes,
)


class Signers:
    """The voters of `genesis`; for None every voter index is taken and no signature is checked."""

    def __init__(self, genesis: Genesis | None, verify: Verify = signing.verify) -> None:
        """Check with `verify(public, message, signature)`."""
        self.genesis = genesis
        self._verify = verify

    def certificate(self, certificate: Certificate) -> None:
        """Raise `DecodeError` unless it is a VC, SC or FC, signed by a quorum as far as genesis is known."""
        genesis = self.genesis
        if genesis is None:
            is_skip = certificate.kind == Kind.SKIP
            if certificate.kind not in VOTE_KINDS or (is_skip and certificate.digest != ZERO_DIGEST):
                raise DecodeError("bad-kind", f"{certificate.kind} makes no such certificate")
            _check_form(certificate.signatures)
            return
        verify_certificate(
            certificate,
            swarm_id=genesis.id,
            epoch=0,
            voter_keys=genesis.voter_keys,
            q=genesis.budget.q,
            verify=self._verify,
        )

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Raise `DecodeError` unless r+1 voters attested it, as far as genesis is known."""
        genesis = self.genesis
        if genesis is None:
            _check_form(checkpoint.signatures)
            return
        verify_checkpoint(
            checkpoint,
            swarm_id=genesis.id,
            epoch=0,
            voter_keys=genesis.voter_keys,
            r=genesis.budget.r,
            verify=self._verify,
        )

    def statement(self, statement: SignedStatement) -> None:
        """Raise `DecodeError` unless the voter that it names signed it, as far as genesis is known."""
        if statement.kind not in STATEMENT_KINDS:
            raise DecodeError("bad-kind", f"{statement.kind} is no statement")
        genesis = self.genesis
        if genesis is None:
            return
        message = statement_bytes(
            genesis.id, statement.kind, statement.epoch, statement.number, statement.digest
        )
        signature = (statement.voter, statement.signature)
        verify_signers((signature,), message, voter_keys=genesis.voter_keys, threshold=1, verify=self._verify)


def check_restored(path: Path, restored: Restored, genesis: Genesis, verify: Verify = signing.verify) -> None:
    """Refuse, with `StoreError`, a store that would start its device on certificates that nobody signed.

    Only what a start takes up, a handful however long the log is: certificates above the finalized view, the highest
    FC, the newest checkpoint. Older ones are served from the store as they are, and judged by whoever asked for them.
    """
    signers = Signers(genesis, verify)
    for certificate in restored.certificates:
        try:
            signers.certificate(certificate)
        except DecodeError as error:
            name = f"the certificate of kind {certificate.kind} of view {certificate.number}"
            raise damaged(path, f"{name} does not hold ({error})") from None
    if restored.checkpoint is not None:
        try:
            signers.checkpoint(restored.checkpoint)
        except DecodeError as error:
            height = restored.checkpoint.height
            raise damaged(path, f"the checkpoint of height {height} does not hold ({error})") from None


def _check_form(signatures: tuple[tuple[int, bytes], ...]) -> None:
    verify_signers(signatures, b"", voter_keys=(b"",) * VOTERS_MAX, threshold=1, verify=lambda *_: True)
