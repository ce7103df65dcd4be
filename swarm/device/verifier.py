"""Signature checks of one device: whose key, over which bytes, and never the same one twice."""

from __future__ import annotations

from typing import TypeVar

from swarm.primitives.errors import DecodeError
from swarm.primitives.limits import VERIFIED_CACHE_MAX
from swarm.wire.certificates import Verify, verify_certificate
from swarm.wire.genesis import Genesis
from swarm.wire.messages import Envelope, Submission
from swarm.wire.statements import Certificate, Kind, SignedStatement, envelope_bytes, statement_bytes

T = TypeVar("T")


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
        self._good_submissions: dict[bytes, None] = {}
        """By id, which covers every byte and the signature: the bytes themselves may be 64 KiB each."""

    def check(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """Answer whether the signature is good; the last few thousand good ones are known without a check."""
        key = (public, message, signature)
        if key in self._good:
            return True
        if not self._verify(public, message, signature):
            return False
        _remember(self._good, key)
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
        if submission.id in self._good_submissions:
            return
        member = self._genesis.member(submission.body.origin)
        if member is None:
            raise DecodeError("unknown-origin", submission.body.origin)
        message = envelope_bytes(self._genesis.id, Kind.SUBMISSION, submission.signed)
        if not self._verify(member.key, message, submission.signature):
            raise DecodeError("bad-signature", submission.body.origin)
        _remember(self._good_submissions, submission.id)

    def envelope(self, envelope: Envelope) -> bool:
        """Answer whether the envelope is signed by the member it names. Not remembered: a counter makes each new."""
        member = self._genesis.member(envelope.sender)
        if member is None:
            return False
        message = envelope_bytes(self._genesis.id, envelope.kind, envelope.body)
        return self._verify(member.key, message, envelope.signature)


def _remember(known: dict[T, None], key: T) -> None:
    """Note a good check; the oldest one is forgotten where there are too many."""
    if len(known) >= VERIFIED_CACHE_MAX:
        del known[next(iter(known))]
    known[key] = None
