"""R0 at the door: size, decode, sender, epoch, window, and only then the signature; a bad frame is a counted reason.

Nothing below sees what did not pass. Unauthenticated fields only ever cause a drop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from swarm.consensus.inputs import (
    BlockIn,
    BlocksIn,
    CertificateIn,
    HeartbeatIn,
    Input,
    ProposalIn,
    ProtocolAsk,
    RequestIn,
    StatementIn,
    SubmissionIn,
)
from swarm.consensus.replica import Replica
from swarm.crypto.digest import sha256
from swarm.device.counters import ReplayWindows
from swarm.device.turn import FrameIn
from swarm.device.verifier import Verifier
from swarm.primitives.errors import DecodeError
from swarm.primitives.ids import DeviceId
from swarm.transport.topics import Scope
from swarm.wire.genesis import Genesis
from swarm.wire.messages import (
    Answer,
    AnswerBusy,
    AnswerChunk,
    AnswerLeaves,
    AnswerNoRelease,
    AskBlock,
    AskBlocks,
    AskCertificates,
    AskChunks,
    AskLeaves,
    AskSubmissions,
    Block,
    Blocks,
    ChunkItem,
    Envelope,
    Item,
    Proposal,
    Request,
    Submission,
    SubmissionItem,
    decode_answer,
    decode_frame,
    decode_heartbeat,
    decode_request,
    decode_submission,
    proposal_statement,
    with_data,
)
from swarm.wire.statements import Certificate, Kind, SignedStatement, header_hash

PROTOCOL_ASKS = (AskCertificates, AskBlock, AskSubmissions, AskBlocks)
DELIVERY_ASKS = (AskLeaves, AskChunks)
DELIVERY_ANSWERS = (AnswerLeaves, AnswerChunk, AnswerNoRelease, AnswerBusy)


class Expected(IntEnum):
    """What this device knows of an answer before its signature is checked."""

    NO = 0
    """It waits for no such answer of that member."""
    SIGNED = 1
    """It does, and believes it of its signer only."""
    PROVED = 2
    """It does, and the answer is right whoever sent it: a chunk under the chunk root on the log."""


Expects = Callable[[DeviceId, Answer], Expected]


@dataclass(frozen=True, slots=True)
class ClientAsk:
    """A light client's question, for `device/answers`."""

    sender: DeviceId
    request: Request


@dataclass(frozen=True, slots=True)
class DeliveryAsk:
    """A member's question for chunks of a release, for `device/delivery/server`."""

    sender: DeviceId
    request: Request


@dataclass(frozen=True, slots=True)
class DeliveryAnswer:
    """An answer to this device's own question for chunks, for `device/delivery/fetcher`.

    `is_signed`: the signature was checked, so this is the sender's word and not only a right chunk.
    """

    sender: DeviceId
    answer: Answer
    is_signed: bool = True


Admitted = Input | ClientAsk | DeliveryAsk | DeliveryAnswer


class Admission:
    """The door of one device. `admit` returns what passed; `dropped` counts the rest by reason."""

    def __init__(
        self,
        genesis: Genesis,
        me: DeviceId,
        replica: Replica,
        verifier: Verifier,
        expects: Expects | None = None,
        wants_attest: Callable[[int], bool] | None = None,
    ) -> None:
        """Guard the door of `me`; the replica says what it wants before anything is verified, as `expects` does.

        `wants_attest` answers for an A at a height that is below the newest checkpoint (FIRMWARE W5).
        """
        self._expects = expects
        self._wants_attest = wants_attest
        self._genesis = genesis
        self._me = me
        self._replica = replica
        self._verifier = verifier
        self._windows = ReplayWindows()
        self.dropped: dict[str, int] = {}

    def admit(self, frame: FrameIn) -> list[Admitted]:
        """Return the verified inputs of a frame, in order; everything else is counted and forgotten."""
        if self._genesis.member(frame.sender) is None:
            self.drop("unknown-sender")
            return []
        try:
            items = decode_frame(frame.payload)
        except DecodeError as error:
            self.drop(error.reason)
            return []
        admitted: list[Admitted] = []
        for item in items:
            try:
                admitted.extend(self._item(frame, item))
            except DecodeError as error:
                self.drop(error.reason)
        return admitted

    def drop(self, reason: str) -> None:
        """Count something refused, under its reason."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def _item(self, frame: FrameIn, item: Item) -> list[Admitted]:
        match item:
            case SignedStatement():
                return self._statement(item)
            case Certificate():
                return self._certificate(item, frame.scope)
            case Proposal():
                return self._proposal(item, frame.scope)
            case SubmissionItem():
                return self._submission(item.raw)
            case Envelope():
                return self._envelope(frame, item)
            case Block():
                return self._block(item)
            case Blocks():
                return self._blocks(item)
            case ChunkItem():
                return self._chunk(frame, item)

    def _statement(self, statement: SignedStatement) -> list[Admitted]:
        if not _is_wellformed(statement):
            raise DecodeError("malformed-statement")
        reason = self._replica.why_drop_statement(
            statement.kind, statement.epoch, statement.number, statement.voter, statement.digest
        )
        if reason is not None and not self._is_wanted_attest(statement, reason):
            raise DecodeError(reason)
        self._replica.spend_check(statement.number, statement.voter)
        if not self._verifier.statement(statement):
            raise DecodeError("bad-signature")
        return [StatementIn(statement)]

    def _is_wanted_attest(self, statement: SignedStatement, reason: str) -> bool:
        if statement.kind != Kind.ATTEST or reason != "stale" or self._wants_attest is None:
            return False
        return self._wants_attest(statement.number)

    def _certificate(self, certificate: Certificate, scope: Scope) -> list[Admitted]:
        if certificate.epoch != self._replica.state.config.epoch:
            raise DecodeError("wrong-epoch")
        if not self._replica.wants_certificate(certificate):
            self._hear(certificate, scope)
            raise DecodeError("duplicate")
        self._verifier.certificate(certificate)
        return [CertificateIn(certificate, broadcast=scope is Scope.ALL)]

    def _hear(self, certificate: Certificate, scope: Scope) -> None:
        """Spare us a repetition only for a copy that is true: a forged one must not silence the only holder."""
        if scope is not Scope.ALL or not self._replica.waits_to_hear(certificate):
            return
        try:
            self._verifier.certificate(certificate)
        except DecodeError as error:
            self.drop(error.reason)
            return
        self._replica.hears_certificate(certificate)

    def _proposal(self, proposal: Proposal, scope: Scope) -> list[Admitted]:
        header = proposal.header
        admitted: list[Admitted] = []
        # Certificates inside are accepted whatever becomes of the proposal itself (R0).
        for certificate in (proposal.parent, *proposal.skips):
            if certificate is not None and self._replica.wants_certificate(certificate):
                try:
                    self._verifier.certificate(certificate)
                except DecodeError as error:
                    self.drop(error.reason)
                else:
                    admitted.append(CertificateIn(certificate, broadcast=scope is Scope.ALL))
            elif certificate is not None:
                self._hear(certificate, scope)
        digest = header_hash(header)
        statement = proposal_statement(proposal, digest)
        reason = self._replica.why_drop_proposal(header.epoch, header.view, header.proposer, digest)
        if reason is None and header.proposer != header.view % len(self._genesis.voters):
            reason = "not-the-leader"
        if reason is None:
            self._replica.spend_check(header.view, header.proposer)
            if not self._verifier.statement(statement):
                reason = "bad-signature"
        if reason is not None:
            self.drop(reason)
        else:
            admitted.append(ProposalIn(proposal, digest))
        return admitted

    def _submission(self, raw: bytes) -> list[Admitted]:
        if not self._replica.wants_submission(sha256(raw)):
            raise DecodeError("duplicate")
        submission = decode_submission(raw)
        self._verifier.submission(submission)
        return [SubmissionIn(submission)]

    def _bodies(self, block: Block, *, signatures: bool) -> tuple[Submission, ...]:
        if len(block.submissions) != len(block.header.submissions):
            raise DecodeError("block-mismatch")
        bodies: list[Submission] = []
        for digest, raw in zip(block.header.submissions, block.submissions, strict=True):
            submission = decode_submission(raw)
            if submission.id != digest:
                raise DecodeError("block-mismatch")
            if signatures:
                self._verifier.submission(submission)
            bodies.append(submission)
        return tuple(bodies)

    def _block(self, block: Block) -> list[Admitted]:
        digest = header_hash(block.header)
        if not self._replica.wants_block(digest):
            raise DecodeError("unwanted-block")
        return [BlockIn(block.header, digest, self._bodies(block, signatures=True))]

    def _blocks(self, answer: Blocks) -> list[Admitted]:
        state = self._replica.state
        finality = answer.finality
        last = answer.blocks[-1].header
        if finality is None or last.height <= state.delivered_height:
            raise DecodeError("unwanted-block")
        if finality.kind != Kind.FINALIZE or finality.digest != header_hash(last):
            raise DecodeError("block-mismatch")
        self._verifier.certificate(finality)
        # The FC holds an honest voter's F, who verified every submission below it: hashes suffice from here.
        blocks = tuple(
            BlockIn(block.header, header_hash(block.header), self._bodies(block, signatures=False))
            for block in answer.blocks
        )
        return [BlocksIn(blocks, finality)]

    def _envelope(self, frame: FrameIn, envelope: Envelope) -> list[Admitted]:
        if envelope.sender != frame.sender:
            raise DecodeError("topic-sender-mismatch")
        match envelope.kind:
            case Kind.HEARTBEAT:
                return self._heartbeat(frame, envelope)
            case Kind.REQUEST:
                return self._request(envelope)
            case Kind.ANSWER:
                answer = decode_answer(envelope.body)
                if isinstance(answer.content, AnswerChunk):
                    raise DecodeError("chunk-mismatch")
                return self._answer(frame, envelope, answer)
            case _:
                raise DecodeError("unwanted-envelope")

    def _heartbeat(self, frame: FrameIn, envelope: Envelope) -> list[Admitted]:
        if frame.scope is not Scope.BEAT:
            raise DecodeError("unwanted-envelope")
        beat = decode_heartbeat(envelope.body)
        self._fresh(envelope, beat.boot, beat.n)
        admitted: list[Admitted] = [HeartbeatIn(envelope.sender, beat.finalized_view, beat.height)]
        if beat.attest is not None:
            try:
                admitted.extend(self._statement(beat.attest))
            except DecodeError as error:
                self.drop(error.reason)
        return admitted

    def _request(self, envelope: Envelope) -> list[Admitted]:
        request = decode_request(envelope.body)
        if request.to != self._me:
            raise DecodeError("not-for-me")
        self._fresh(envelope, request.boot, request.n)
        if isinstance(request.ask, PROTOCOL_ASKS):
            ask: ProtocolAsk = request.ask
            return [RequestIn(envelope.sender, ask)]
        if isinstance(request.ask, DELIVERY_ASKS):
            return [DeliveryAsk(envelope.sender, request)]
        return [ClientAsk(envelope.sender, request)]

    def _chunk(self, frame: FrameIn, item: ChunkItem) -> list[Admitted]:
        """Let in a chunk that answers a question of ours; a right one is its own proof and costs no signature."""
        envelope = item.envelope
        if envelope.sender != frame.sender:
            raise DecodeError("topic-sender-mismatch")
        if envelope.kind != Kind.ANSWER:
            raise DecodeError("unwanted-envelope")
        return self._answer(frame, envelope, with_data(decode_answer(envelope.body), item.data))

    def _answer(self, frame: FrameIn, envelope: Envelope, answer: Answer) -> list[Admitted]:
        """Let in what answers an open question of ours, once: that names our own counter, so no window is needed.

        A window would even refuse chunks, which leave after everything else and so fall behind their counters.
        """
        if self._expects is None or frame.scope is not Scope.TO:
            raise DecodeError("unwanted-envelope")
        if answer.to != self._me:
            raise DecodeError("not-for-me")
        if not isinstance(answer.content, DELIVERY_ANSWERS):
            raise DecodeError("unasked")
        expected = self._expects(envelope.sender, answer)
        if expected is Expected.NO:
            raise DecodeError("unasked")
        is_signed = expected is Expected.SIGNED
        if is_signed and not self._verifier.envelope(envelope):
            raise DecodeError("bad-signature")
        return [DeliveryAnswer(envelope.sender, answer, is_signed)]

    def _fresh(self, envelope: Envelope, boot: int, n: int) -> None:
        """Refuse a replay before and a forgery after the counter check; only a good signature moves the window."""
        if not self._windows.is_fresh(envelope.sender, envelope.kind, boot, n):
            raise DecodeError("replayed")
        if not self._verifier.envelope(envelope):
            raise DecodeError("bad-signature")
        self._windows.use(envelope.sender, envelope.kind, boot, n)


def _is_wellformed(statement: SignedStatement) -> bool:
    if statement.kind == Kind.SKIP:
        return not any(statement.digest)
    return statement.kind in (Kind.PROPOSE, Kind.NOTARIZE, Kind.FINALIZE, Kind.ATTEST) and any(
        statement.digest
    )
