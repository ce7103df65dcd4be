"""The one guard: every signature of P, N, K, F, A and of a submission passes here, in every path.

It knows what this device signed before, from the store and in this turn, and signs nothing that contradicts it. A
refusal is a bug of the rules above it, so it raises: the turn is discarded and the device stops.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swarm.crypto.keys import KeyPair
from swarm.crypto.signing import sign
from swarm.primitives.errors import DecodeError, InvariantError, check
from swarm.primitives.ids import ZERO_DIGEST
from swarm.storage.store import Batch, OwnRecord
from swarm.wire.codec import encode
from swarm.wire.messages import Command, Submission, SubmissionBody, decode_submission, seal_submission
from swarm.wire.statements import (
    STATEMENT_KINDS,
    Kind,
    SignedStatement,
    envelope_bytes,
    statement_bytes,
)


@dataclass(slots=True)
class _Signed:
    """What was signed in one view."""

    p: bytes | None = None
    n: bytes | None = None
    k: bool = False
    f: bytes | None = None


class Guard:
    """Checks against what is stored and queued, then signs in memory and puts the record into the turn's batch."""

    def __init__(
        self,
        *,
        swarm_id: bytes,
        keypair: KeyPair,
        voter: int | None,
        epoch: int = 0,
        records: Iterable[OwnRecord] = (),
        finalized_view: int = 0,
        sequence: int = 0,
    ) -> None:
        """Take over what the store says was signed: `records` above `finalized_view`, the highest `sequence`."""
        self._swarm_id = swarm_id
        self._keypair = keypair
        self._voter = voter
        self._epoch = epoch
        self._finalized_view = finalized_view
        self._views: dict[int, _Signed] = {}
        self._attested = 0
        self._sequence = sequence
        for record in records:
            self._remember(record.kind, record.number, record.digest)

    @property
    def sequence(self) -> int:
        """Highest sequence number signed so far."""
        return self._sequence

    def why_refused(self, kind: int, epoch: int, number: int, digest: bytes) -> str | None:
        """Say why a statement must not be signed, None if it may be; changes nothing.

        One P, one N and one F a view; N never with K before it, F never with K, K never with F; nothing at or below
        the stored finalized view; attested heights only rise.
        """
        if self._voter is None:
            return "not a voter"
        if epoch != self._epoch or kind not in STATEMENT_KINDS:
            return "another epoch or kind"
        if (digest == ZERO_DIGEST) != (kind == Kind.SKIP):
            return "digest does not fit the kind"
        if kind == Kind.ATTEST:
            return None if number > self._attested else f"height {number} not above attested {self._attested}"
        if number <= self._finalized_view:
            return f"view {number} is not above the finalized view {self._finalized_view}"
        signed = self._views.get(number)
        if signed is None:
            return None
        return _contradiction(signed, kind)

    def sign(self, kind: int, epoch: int, number: int, digest: bytes, batch: Batch) -> SignedStatement:
        """Return the signed statement and queue its record in `batch`; raises `InvariantError` on a contradiction."""
        reason = self.why_refused(kind, epoch, number, digest)
        if reason is not None or self._voter is None:
            raise InvariantError(f"guard: {chr(kind)} of {number} refused: {reason}")
        signature = sign(self._keypair, statement_bytes(self._swarm_id, kind, epoch, number, digest))
        self._remember(kind, number, digest)
        batch.records.append(OwnRecord(kind, epoch, number, digest, signature))
        return SignedStatement(
            kind=kind,
            epoch=epoch,
            number=number,
            digest=digest,
            voter=self._voter,
            signature=signature,
        )

    def sign_submission(
        self,
        origin: str,
        commands: Sequence[Command],
        batch: Batch,
        *,
        incarnation: int = 0,
        expiry: int = 0,
    ) -> Submission:
        """Return a submission with the next sequence number, signed; its bytes and record are queued in `batch`.

        Raises `InvariantError`, signing nothing, for one that its readers could not decode.
        """
        check(len(commands) > 0, "guard: a submission without commands")
        body = SubmissionBody(
            origin=origin,
            incarnation=incarnation,
            sequence=self._sequence + 1,
            expiry=expiry,
            commands=tuple(commands),
        )
        signed = encode(body)
        try:
            # Before the signature exists: bytes of its length in its place.
            decode_submission(seal_submission(body, signed, bytes(64)).raw)
        except DecodeError as error:
            raise InvariantError(f"guard: a submission that nobody could read: {error}") from None
        signature = sign(self._keypair, envelope_bytes(self._swarm_id, Kind.SUBMISSION, signed))
        submission = seal_submission(body, signed, signature)
        self._sequence = body.sequence
        batch.records.append(
            OwnRecord(Kind.SUBMISSION, self._epoch, body.sequence, submission.id, signature),
        )
        batch.own_submissions.append(submission)
        return submission

    def raise_sequence(self, sequence: int) -> None:
        """Never use a number up to `sequence` again: the log says it was used (a lost operator file)."""
        self._sequence = max(self._sequence, sequence)

    def on_finalized(self, view: int) -> None:
        """Refuse every view up to `view` from now on; call when its FC is queued in the same turn's batch (R10)."""
        if view <= self._finalized_view:
            return
        self._finalized_view = view
        for number in [v for v in self._views if v <= view]:
            del self._views[number]

    def _remember(self, kind: int, number: int, digest: bytes) -> None:
        if kind == Kind.SUBMISSION:
            self._sequence = max(self._sequence, number)
            return
        if kind == Kind.ATTEST:
            self._attested = max(self._attested, number)
            return
        signed = self._views.setdefault(number, _Signed())
        match kind:
            case Kind.PROPOSE:
                signed.p = digest
            case Kind.NOTARIZE:
                signed.n = digest
            case Kind.SKIP:
                signed.k = True
            case _:
                signed.f = digest


def _contradiction(signed: _Signed, kind: int) -> str | None:
    match kind:
        case Kind.PROPOSE:
            refused = signed.p is not None or signed.n is not None or signed.k
        case Kind.NOTARIZE:
            refused = signed.n is not None or signed.k
        case Kind.SKIP:
            refused = signed.k or signed.f is not None
        case _:
            refused = signed.f is not None or signed.k
    return "contradicts what was signed in this view" if refused else None
