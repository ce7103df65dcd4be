"""A device in fifty lines of duties: the order rule of `consensus/output`, a disk that survives, a guard that raises.

Everything of a turn goes to the disk in one step (`Disk.commit`), and only then do its messages leave. A crash before
that step loses the whole turn, a crash after it loses only what would have left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from swarm.consensus.inputs import (
    Applied,
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
    Tick,
)
from swarm.consensus.output import FinalizedBlock, Output, Serve, Wanted
from swarm.consensus.recover import Recovered
from swarm.consensus.replica import Replica
from swarm.consensus.state import Config
from swarm.crypto.digest import sha256
from swarm.primitives.errors import DecodeError
from swarm.primitives.ids import ZERO_DIGEST, DeviceId
from swarm.primitives.limits import ANSWER_BLOCKS_MAX, TURN_ROUNDS_MAX
from swarm.wire.certificates import verify_certificate
from swarm.wire.messages import (
    AskBlock,
    AskBlocks,
    AskSubmissions,
    Block,
    Blocks,
    Checkpoint,
    ChunkItem,
    Envelope,
    Item,
    Proposal,
    Submission,
    SubmissionItem,
    decode_submission,
)
from swarm.wire.sequence import Sequences
from swarm.wire.statements import Certificate, Header, Kind, SignedStatement, header_hash, statement_bytes
from tests.support.fake_signatures import SWARM_ID, fake_verify, make_statement


class GuardError(AssertionError):
    """The core wanted a signature that contradicts what this device signed before."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat: what its sender has, and its last attestation."""

    finalized_view: int
    height: int
    attest: SignedStatement | None


Payload = Item | ProtocolAsk | Beat
"""What a message of the harness carries; a question stands for its signed envelope."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """Something that leaves a device after its transaction: to everybody, or to one."""

    to: DeviceId | None
    payload: Payload


@dataclass(slots=True)
class Disk:
    """What survives a crash. Every list is in the order of writing."""

    statements: list[SignedStatement] = field(default_factory=list)
    proposals: dict[int, Proposal] = field(default_factory=dict)
    certificates: list[Certificate] = field(default_factory=list)
    blocks: dict[bytes, tuple[Header, tuple[Submission, ...]]] = field(default_factory=dict)
    log: list[FinalizedBlock] = field(default_factory=list)
    results: list[Applied] = field(default_factory=list)
    own_submissions: list[Submission] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)

    def commit(self, turn: Disk) -> None:
        """Take everything of a turn in one step."""
        self.statements += turn.statements
        self.proposals.update(turn.proposals)
        self.certificates += turn.certificates
        self.blocks.update(turn.blocks)
        self.log += turn.log
        self.results += turn.results
        self.own_submissions += turn.own_submissions
        self.checkpoints += turn.checkpoints

    def final_view(self) -> int:
        """Return the highest view with a stored FC."""
        return max((c.number for c in self.certificates if c.kind == Kind.FINALIZE), default=0)

    def finality(self, digest: bytes) -> Certificate | None:
        """Return the stored FC on this block."""
        found = (c for c in self.certificates if c.kind == Kind.FINALIZE and c.digest == digest)
        return next(found, None)

    def applied_ids(self) -> list[bytes]:
        """Return the ids of all submissions that count, in the order of the log."""
        return [
            s.id
            for block in self.log
            for s, counts in zip(block.submissions, block.counts, strict=True)
            if counts
        ]


class Guard:
    """One P, N, K, F a view; N never after K, F never after K, K never after F; nothing at or below a stored FC."""

    def __init__(self, disk: Disk) -> None:
        self._signed: dict[int, dict[int, bytes]] = {}
        self._attested: dict[int, bytes] = {}
        self._final_view = disk.final_view()
        for statement in disk.statements:
            self._remember(statement.kind, statement.number, statement.digest)

    def check(self, kind: int, number: int, digest: bytes) -> None:
        """Raise `GuardError` for a contradiction, else remember the statement."""
        if kind == Kind.ATTEST:
            if self._attested.get(number, digest) != digest:
                raise GuardError(f"A {number} with two digests")
        else:
            held = self._signed.get(number, {})
            forbidden = {
                Kind.PROPOSE: (Kind.PROPOSE, Kind.NOTARIZE, Kind.SKIP),
                Kind.NOTARIZE: (Kind.NOTARIZE, Kind.SKIP),
                Kind.SKIP: (Kind.SKIP, Kind.FINALIZE),
                Kind.FINALIZE: (Kind.FINALIZE, Kind.SKIP),
            }[Kind(kind)]
            for before in forbidden:
                if before in held:
                    raise GuardError(f"{chr(kind)} after {chr(before)} in view {number}")
            if number <= self._final_view:
                raise GuardError(f"{chr(kind)} in view {number}, finalized is {self._final_view}")
        self._remember(kind, number, digest)

    def on_certificates(self, certificates: Iterable[Certificate]) -> None:
        """Raise the stored finalized view by the FCs of this turn."""
        for certificate in certificates:
            if certificate.kind == Kind.FINALIZE:
                self._final_view = max(self._final_view, certificate.number)

    def _remember(self, kind: int, number: int, digest: bytes) -> None:
        if kind == Kind.ATTEST:
            self._attested[number] = digest
        else:
            self._signed.setdefault(number, {})[kind] = digest


class MiniDevice:
    """One replica with the duties of a device around it; `replica` is None while it is down."""

    def __init__(self, config: Config, now_ms: int) -> None:
        self.config = config
        self.name = config.me
        self.disk = Disk()
        self.notes: list[tuple[str, int]] = []
        self.evidence: list[tuple[SignedStatement, SignedStatement]] = []
        self.dropped: dict[str, int] = {}
        self.wake_at_ms: int | None = None
        self.last: Output = Output()
        self.replica: Replica | None = None
        self._broadcast = True
        self._keys = [v.encode() for v in config.voters]
        self.start(now_ms)

    @property
    def up(self) -> Replica:
        """Return the running replica; a test that asks a device that is down is wrong."""
        assert self.replica is not None, f"{self.name} is down"
        return self.replica

    # ------------------------------------------------------------------------------ start and stop

    def start(self, now_ms: int) -> list[Leaving]:
        """Start from the disk, as R10 says; returns what the first turn publishes."""
        self.guard = Guard(self.disk)
        self.replica = Replica(self.config, self.recovered(), now_ms)
        tip = self.disk.results[-1:]
        self.wake_at_ms = None
        return self.turn(list(tip) or [Tick()], now_ms)

    def stop(self) -> None:
        """Lose everything that is not on the disk."""
        self.replica = None
        self.wake_at_ms = None

    def recovered(self) -> Recovered:
        """Return what a store gives back: the tip, own statements above it, certificates, bodies, own submissions."""
        disk = self.disk
        final = disk.final_view()
        tip = disk.log[-1] if disk.log else None
        tip_view = tip.header.view if tip else 0
        sequences = Sequences()
        for block in disk.log:
            for submission in block.submissions:
                sequences.apply(submission.body, block.header.height)
        attests = [s for s in disk.statements if s.kind == Kind.ATTEST]
        applied = set(disk.applied_ids())
        return Recovered(
            tip_hash=tip.hash if tip else None,
            tip_header=tip.header if tip else None,
            sequences=sequences,
            statements=tuple(s for s in disk.statements if s.kind != Kind.ATTEST and s.number > final)
            + tuple(attests[-1:]),
            proposals=tuple(p for view, p in sorted(disk.proposals.items()) if view > final),
            certificates=tuple(
                c
                for c in disk.certificates
                if c.number > final or (c.kind == Kind.FINALIZE and c.number >= tip_view)
            ),
            blocks=tuple(
                (h, header, bodies) for h, (header, bodies) in disk.blocks.items() if header.view > tip_view
            ),
            own_submissions=tuple(s for s in disk.own_submissions if s.id not in applied),
            checkpoint_height=max((c.height for c in disk.checkpoints), default=0),
        )

    # ------------------------------------------------------------------------------ one turn

    def turn(self, inputs: list[Input], now_ms: int) -> list[Leaving]:
        """Absorb, then sign, apply and advance until quiet; make it durable; return what leaves."""
        replica = self.up
        for message in inputs:
            replica.absorb(message, now_ms)
        batch = Disk(own_submissions=[m.submission for m in inputs if isinstance(m, SubmissionIn) and m.own])
        leaving: list[Leaving] = []
        serves: list[Serve] = []
        for _ in range(TURN_ROUNDS_MAX):
            output = replica.advance(now_ms)
            self._collect(output, batch, leaving, serves)
            leaving += [Leaving(None, self._sign(wanted, batch, now_ms)) for wanted in output.wanted]
            for block in output.finalized:
                self._apply(block, batch, now_ms)
            if output.is_quiet():
                break
        else:
            raise AssertionError(f"{self.name}: a turn without an end")
        self.last = output
        self.wake_at_ms = output.wake_at_ms
        self.disk.commit(batch)
        for serve in serves:
            leaving += [Leaving(serve.to, item) for item in self._serve(serve.ask)]
        return leaving

    def _collect(self, output: Output, batch: Disk, leaving: list[Leaving], serves: list[Serve]) -> None:
        batch.certificates += output.keep_certificates
        self.guard.on_certificates(output.keep_certificates)
        for kept in output.keep_blocks:
            batch.blocks[kept.hash] = (kept.header, kept.submissions)
        batch.checkpoints += output.checkpoints
        self.evidence += [(e.first, e.second) for e in output.evidence]
        self.notes += output.notes
        leaving += [Leaving(s.to, s.item) for s in output.sends]
        leaving += [Leaving(a.to, a.ask) for a in output.asks]
        serves += output.serves

    def _sign(self, wanted: Wanted, batch: Disk, now_ms: int) -> Proposal | SignedStatement:
        me = self.config.my_index
        assert me is not None, "an observer was asked to sign"
        self.guard.check(wanted.kind, wanted.number, wanted.digest)
        statement = make_statement(
            wanted.kind, wanted.number, wanted.digest, me, self.name, epoch=wanted.epoch
        )
        batch.statements.append(statement)
        if wanted.proposal is None:
            self.up.absorb(StatementIn(statement, own=True), now_ms)
            return statement
        unsigned = wanted.proposal
        proposal = Proposal(
            header=unsigned.header,
            parent=unsigned.parent,
            skips=unsigned.skips,
            signature=statement.signature,
        )
        batch.proposals[wanted.number] = proposal
        self.up.absorb(ProposalIn(proposal, wanted.digest, own=True), now_ms)
        return proposal

    def _apply(self, block: FinalizedBlock, batch: Disk, now_ms: int) -> None:
        """The fake log: a hash chain over the ids that count; operators' submissions are notable (R14)."""
        results = batch.results or self.disk.results
        size, root = (results[-1].log_size, results[-1].log_root) if results else (0, ZERO_DIGEST)
        notable = False
        for submission, counts in zip(block.submissions, block.counts, strict=True):
            if counts:
                size, root = size + 1, sha256(root, submission.id)
                notable |= submission.body.origin not in self.config.voters
        result = Applied(block.header.height, size, root, ZERO_DIGEST, notable)
        batch.log.append(block)
        batch.results.append(result)
        self.up.absorb(result, now_ms)

    # ------------------------------------------------------------------------------ what comes in

    def receive(
        self, sender: DeviceId, payload: Payload, now_ms: int, *, broadcast: bool = True
    ) -> list[Leaving]:
        """Take one message through admission's questions into one turn; `broadcast` = it came to everybody."""
        self._broadcast = broadcast
        # Admission asks the core, so the core must know the time first: "one per sender and Δ" is counted on it.
        self.up.absorb(Tick(), now_ms)
        return self.turn(self._admit(sender, payload), now_ms)

    def _drop(self, reason: str) -> list[Input]:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        return []

    def _admit(self, sender: DeviceId, payload: Payload) -> list[Input]:
        match payload:
            case SignedStatement():
                return self._admit_statement(payload)
            case Certificate():
                return self._admit_certificate(payload)
            case Proposal():
                return self._admit_proposal(payload)
            case SubmissionItem():
                submission = decode_submission(payload.raw)
                return [SubmissionIn(submission)] if self.up.wants_submission(submission.id) else []
            case Block():
                return [_block_in(payload)]
            case Blocks():
                return [BlocksIn(tuple(_block_in(b) for b in payload.blocks), payload.finality)]
            case Beat():
                inputs: list[Input] = [HeartbeatIn(sender, payload.finalized_view, payload.height)]
                return inputs + (self._admit_statement(payload.attest) if payload.attest else [])
            case _:
                assert not isinstance(payload, Envelope | ChunkItem), "envelopes do not travel here"
                return [RequestIn(sender, payload)]

    def _admit_statement(self, statement: SignedStatement) -> list[Input]:
        reason = self.up.why_drop_statement(
            statement.kind, statement.epoch, statement.number, statement.voter, statement.digest
        )
        if reason is not None:
            return self._drop(reason)
        message = statement_bytes(
            SWARM_ID, statement.kind, statement.epoch, statement.number, statement.digest
        )
        if not fake_verify(self._keys[statement.voter], message, statement.signature):
            return self._drop("bad-signature")
        return [StatementIn(statement)]

    def _admit_certificate(self, certificate: Certificate) -> list[Input]:
        if not self.up.wants_certificate(certificate):
            if self._broadcast:
                self.up.hears_certificate(certificate)
            return self._drop("known-certificate")
        try:
            verify_certificate(
                certificate,
                swarm_id=SWARM_ID,
                epoch=self.config.epoch,
                voter_keys=self._keys,
                q=self.config.budget.q,
                verify=fake_verify,
            )
        except DecodeError as error:
            return self._drop(error.reason)
        return [CertificateIn(certificate, broadcast=self._broadcast)]

    def _admit_proposal(self, proposal: Proposal) -> list[Input]:
        header = proposal.header
        inputs: list[Input] = []
        for certificate in (proposal.parent, *proposal.skips):
            if certificate is not None:
                inputs += self._admit_certificate(certificate)
        statement = SignedStatement(
            kind=int(Kind.PROPOSE),
            epoch=header.epoch,
            number=header.view,
            digest=header_hash(header),
            voter=header.proposer,
            signature=proposal.signature,
        )
        if self._admit_statement(statement) and header.proposer == header.view % len(self.config.voters):
            inputs.append(ProposalIn(proposal, statement.digest))
        return inputs

    # ------------------------------------------------------------------------------ answers from the disk

    def _serve(self, ask: ProtocolAsk) -> list[Item]:
        disk = self.disk
        match ask:
            case AskBlock(hash=digest):
                return self._serve_block(digest)
            case AskSubmissions(ids=ids):
                held = {s.id: s for _, bodies in disk.blocks.values() for s in bodies}
                held.update({s.id: s for block in disk.log for s in block.submissions})
                return [SubmissionItem(raw=held[i].raw) for i in ids if i in held]
            case AskBlocks(height=height):
                return self._serve_blocks(height)
            case _:
                return []

    def _serve_block(self, digest: bytes) -> list[Item]:
        held = self.disk.blocks.get(digest) or next(
            ((b.header, b.submissions) for b in self.disk.log if b.hash == digest), None
        )
        if held is None:
            return []
        header, bodies = held
        certificates = [c for c in self.disk.certificates if c.digest == digest]
        return [_block(header, bodies), *certificates[:1]]

    def _serve_blocks(self, height: int) -> list[Item]:
        """Consecutive blocks from `height` up to the last with a stored FC that one answer holds, and that FC."""
        held = self.disk.log[height - 1 : height - 1 + ANSWER_BLOCKS_MAX]
        while held and (finality := self.disk.finality(held[-1].hash)) is None:
            held = held[:-1]
        blocks = tuple(_block(stored.header, stored.submissions) for stored in held)
        return [Blocks(blocks=blocks, finality=finality)] if blocks else []


def _block(header: Header, bodies: tuple[Submission, ...]) -> Block:
    return Block(header=header, submissions=tuple(s.raw for s in bodies))


def _block_in(block: Block) -> BlockIn:
    bodies = tuple(decode_submission(raw) for raw in block.submissions)
    assert tuple(s.id for s in bodies) == block.header.submissions, "a block that does not hash to its header"
    return BlockIn(block.header, header_hash(block.header), bodies)
