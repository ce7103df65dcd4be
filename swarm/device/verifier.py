"""Signature checks of one device: whose key, over which bytes, and never the same one twice."""

from __future__ import annotations

from swarm.primitives.errors import DecodeError
from swarm.primitives.limits import VERIFIED_CACHE_MAX
from swarm.wire.certificates import Verify, verify_certificate
from swarm.wire.genesis import Genesis
from swarm.wire.messages import Envelope, Submission
from swarm.wire.statements import Certificate, Kind, SignedStatement, envelope_bytes, statement_bytes


class Verifier:
    """Checks against the keys of genesis; good results are remembered, so a vote inside a certificate costs nothing.

    Only good ones: a bad signature is counted where it came from, and a cache of them would be the attacker's memory.
    """

    def __init__(self, genesis: Genesis, verify: Verify, *, epoch: int = 0) -> None:
        """Check with `verify(public, message, signature)`."""
        self._genesis = genesis
        self._verify = verify
        self._epoch = epoch
        self._good: dict[tuple[bytes, bytes, bytes], None] = {}

    def check(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """Answer whether the signature is good; the last few thousand good ones are known without a check."""
        key = (public, message, signature)
        if key in self._good:
            return True
        if not self._verify(public, message, signature):
            return False
        if len(self._good) >= VERIFIED_CACHE_MAX:
            del self._good[next(iter(self._good))]
        self._good[key] = None
        return True

    def statement(self, statement: SignedStatement) -> bool:
        """Answer whether a statement is signed by the voter it names; the caller checked that there is one."""
        message = statement_bytes(
            self._genesis.id, statement.kind, statement.epoch, statement.number, statement.digest
        )
        return self.check(self._genesis.voter_keys[statement.voter], message, statement.signature)

    def certificate(self, certificate: Certificate) -> None:
        """Raise `DecodeError` with the reason unless q distinct voters signed."""
        verify_certificate(
            certificate,
            swarm_id=self._genesis.id,
            epoch=self._epoch,
            voter_keys=self._genesis.voter_keys,
            q=self._genesis.budget.q,
            verify=self.check,
        )
        if len(certificate.signatures) != self._genesis.budget.q:
            raise DecodeError("too-many-signatures")

    def submission(self, submission: Submission) -> None:
        """Raise `DecodeError` unless its origin is a member and signed it."""
        member = self._genesis.member(submission.body.origin)
        if member is None:
            raise DecodeError("unknown-origin", submission.body.origin)
        message = envelope_bytes(self._genesis.id, Kind.SUBMISSION, submission.signed)
        if not self.check(member.key, message, submission.signature):
            raise DecodeError("bad-signature", submission.body.origin)

    def envelope(self, envelope: Envelope) -> bool:
        """Answer whether the envelope is signed by the member it names. Not remembered: a counter makes each new."""
        member = self._genesis.member(envelope.sender)
        if member is None:
            return False
        message = envelope_bytes(self._genesis.id, envelope.kind, envelope.body)
        return self._verify(member.key, message, envelope.signature)
