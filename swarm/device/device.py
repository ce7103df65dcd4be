"""One device as one synchronous object: all waiting inputs in, one `Turn` out, and nothing leaves before it is durable.

The order of one turn (ARCHITECTURE, "One message"): admit, absorb, advance, sign in memory, apply, repeat; then one
transaction and the mark; only then frames, actions and answers. The shell around it does I/O and reads the clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.apps.decisions.commands import cast_command, deadline_command
from swarm.apps.rollout.app import Rollout
from swarm.apps.router import Router
from swarm.consensus.inputs import (
    Applied,
    HeartbeatIn,
    Input,
    ProposalIn,
    RequestIn,
    StatementIn,
    Tick,
)
from swarm.consensus.output import Output, Priority, Wanted
from swarm.consensus.replica import Replica
from swarm.consensus.state import Config
from swarm.crypto.keys import KeyPair
from swarm.device import events
from swarm.device.admission import Admission, Admitted, ClientAsk, DeliveryAnswer, DeliveryAsk
from swarm.device.answers import Answers
from swarm.device.counters import Counter
from swarm.device.deadlines import Deadlines
from swarm.device.firmware.keeper import Keeper
from swarm.device.firmware.policy import Firmware
from swarm.device.firmware.view import View, view_of
from swarm.device.guard import Guard
from swarm.device.ledger import Happened, Ledger
from swarm.device.outbox import Outbox
from swarm.device.own import OwnCommands
from swarm.device.pulse import Pulse
from swarm.device.recovery import finalized_view, recovered_core
from swarm.device.turn import (
    Action,
    AskBallot,
    BallotReady,
    FrameIn,
    InstallDone,
    SelfTested,
    Submit,
    TellOutcome,
    Turn,
    TurnInput,
)
from swarm.device.verifier import Verifier
from swarm.device.work import Work, report_note, told_tags
from swarm.install.port import BootNonce
from swarm.primitives.errors import InvariantError, check
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import (
    HEARTBEAT_MS,
    OUTCOMES_TOLD_AGAIN,
    QUESTIONS_PER_MEMBER_MAX,
    TURN_ROUNDS_MAX,
)
from swarm.storage.store import Batch, Finality, Store, StoredBlock
from swarm.wire.certificates import Verify
from swarm.wire.genesis import Genesis
from swarm.wire.messages import Proposal
from swarm.wire.statements import Kind

_DECISIONS = "decisions"
_OVER_SHARE = "question-over-share"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConfig:
    """Everything a device is told once."""

    genesis: Genesis
    me: DeviceId
    keypair: KeyPair
    delta_floor_ms: int = 50
    delta_cap_ms: int = 10_000
    heartbeat_ms: int = HEARTBEAT_MS
    jitter_seed: bytes = b""
    version: str = ""


class Device:
    """A voter or an observer. Not thread-safe: one turn at a time, in whatever thread the shell chooses.

    After `StoreError` or `InvariantError` the device is dead: the turn is discarded, nothing of it has left, and
    every further turn raises.
    """

    def __init__(
        self,
        config: DeviceConfig,
        store: Store,
        router: Router,
        verify: Verify,
        now_ms: int,
        *,
        firmware: Firmware | None = None,
    ) -> None:
        """Rebuild everything from the store and make the new boot number durable.

        With `firmware` it updates itself and votes on rollouts, where genesis has release keys; the shell then runs
        its `Install` actions. Raises `StoreError` when the store cannot be read or makes another log, `ConfigError`
        when `config.me` is no member that runs a device.
        """
        genesis = config.genesis
        voter = genesis.voter_index(config.me)
        self._config = config
        self._store = store
        self._dead = False
        restored = store.load()
        boot = restored.boot + 1
        store.commit(Batch(boot=boot))
        self.ledger = Ledger(genesis, router)
        replayed = self.ledger.restore(store, restored)
        core = Config(
            swarm_id=genesis.id,
            epoch=0,
            voters=genesis.voter_ids,
            me=config.me,
            budget=genesis.budget,
            snapshot_every=genesis.snapshot_every,
            delta_floor_ms=config.delta_floor_ms,
            delta_cap_ms=config.delta_cap_ms,
            jitter_seed=config.jitter_seed or config.keypair.public,
            observers=len(genesis.observers),
        )
        self.replica = Replica(core, recovered_core(restored, self.ledger.sequences, voter), now_ms)
        # The tip's own result: its attestation may have been lost with the power (R14).
        self.replica.absorb(self.ledger.result(notable=False), now_ms)
        self._guard = Guard(
            swarm_id=genesis.id,
            keypair=config.keypair,
            voter=voter,
            records=restored.records,
            finalized_view=finalized_view(restored),
            sequence=max(restored.sequence, self.ledger.sequences.high(config.me)[1]),
        )
        self.keeper = self._make_keeper(firmware, boot, now_ms)
        self._admission = Admission(
            genesis,
            config.me,
            self.replica,
            Verifier(genesis, verify),
            expects=None if self.keeper is None else self.keeper.expects,
            wants_attest=None if self.keeper is None else self.keeper.wants_attest,
        )
        self._outbox = Outbox(genesis.id, config.me, config.keypair, Counter(boot))
        self._answers = Answers(store, self.ledger, self.replica, self._outbox, version=config.version)
        self._answers.newest = restored.checkpoint
        self._deadlines = Deadlines()
        self._own = OwnCommands(config.me, self._guard, restored.own_submissions, now_ms)
        self._asked: dict[bytes, None] = {}
        self._pulse = Pulse(self.replica, config.me, config.heartbeat_ms, now_ms)
        self._first_actions: list[Action] = [TellOutcome(o) for o in replayed.outcomes[-OUTCOMES_TOLD_AGAIN:]]
        self._is_voter = voter is not None
        self._first = True
        self._has_voted = False

    def _make_keeper(self, firmware: Firmware | None, boot: int, now_ms: int) -> Keeper | None:
        rollout = self.ledger.router.rollout
        if firmware is None or rollout is None or self._config.genesis.release is None:
            return None
        head = BootNonce(height=self.ledger.height, root=self.ledger.frontier.root())
        seed = self._config.keypair.public
        me, genesis = self._config.me, self._config.genesis
        return Keeper(firmware, genesis, me, rollout, boot=boot, nonce=head, seed=seed, now_ms=now_ms)

    @property
    def dropped(self) -> dict[str, int]:
        """Items refused at the door since the start, by reason."""
        over = self._answers.over_budget
        return {**self._admission.dropped, **({"answer-over-budget": over} if over else {})}

    @property
    def outstanding(self) -> int:
        """Own submissions signed and not yet in the log."""
        return self._own.outstanding

    @property
    def boot(self) -> int:
        """The boot number of this start; durable."""
        return self._outbox.counter.boot

    def beat_soon(self) -> None:
        """Send a heartbeat with the next turn: nobody heard those of the time without a connection (R11)."""
        self._pulse.due_ms = 0

    # ------------------------------------------------------------------------------ the turn

    def turn(self, inputs: Sequence[TurnInput], now_ms: int) -> Turn:
        """Take all waiting inputs at one instant (monotonic ms) and return everything that may now leave.

        Raises `StoreError` when the disk failed and `InvariantError` for a bug; nothing of the turn has left then,
        and the caller must stop.
        """
        check(not self._dead, "a device that failed takes no more turns")
        try:
            return self._turn(inputs, now_ms)
        except BaseException:
            self._dead = True
            self._outbox.discard()
            raise

    def _turn(self, inputs: Sequence[TurnInput], now_ms: int) -> Turn:
        work = Work(now_ms)
        if self._first:
            self._start(work)
        if self.keeper is not None:
            self.replica.be_mute(mute=self.keeper.is_mute)
        # The core's clock comes first: admission counts "one per sender and Δ" on it (R0).
        self.replica.absorb(Tick(), now_ms)
        for message in inputs:
            self._take(message, work)
        self._time(work)
        self._run(work)
        if work.applied:
            self._look_at_decisions(work)
        if self.keeper is not None:
            self._keep(self.keeper, work)
        if self._own.waiting:
            self._run(work)
        synced = not work.batch.is_empty()
        if synced:
            self._store.commit(work.batch)
        self._after_commit(work)
        frames = self._outbox.take()
        return Turn(frames, tuple(work.actions), work.wake_at_ms, tuple(work.events), synced)

    def _start(self, work: Work) -> None:
        self._first = False
        work.actions.extend(self._first_actions)
        self._first_actions = []
        self._look_at_decisions(work)
        work.event(
            events.STARTED,
            view=self.replica.state.final_view + 1,
            height=self.ledger.height,
            log_size=self.ledger.frontier.size,
            boot=self._outbox.counter.boot,
        )

    def _take(self, message: TurnInput, work: Work) -> None:
        match message:
            case FrameIn():
                if message.sender == self._config.me:
                    return
                for admitted in self._admission.admit(message):
                    self._hear(admitted, work)
                    match admitted:
                        case ClientAsk():
                            if not work.questions.put(admitted):
                                self._admission.drop(_OVER_SHARE)
                        case DeliveryAsk() | DeliveryAnswer():
                            if self.keeper is None:
                                self._admission.drop("unwanted-delivery")
                            else:
                                self.keeper.hear(admitted, work.now_ms)
                        case _:
                            self.replica.absorb(admitted, work.now_ms)
            case Submit(app=app, command=command, tag=tag):
                refused = self._own.why_refused(app, command)
                if refused is not None:
                    work.event(events.REFUSED, tag=tag, reason=refused)
                elif not self._own.put(app, command, tag):
                    work.event(events.BUSY, tag=tag)
            case InstallDone() | SelfTested():
                if self.keeper is not None:
                    self.keeper.take(message, work.now_ms)
            case BallotReady(decision=decision, ballot=ballot):
                if not self._own.put(_DECISIONS, cast_command(decision, ballot), 0, reserved=True):
                    self._asked.pop(decision, None)

    def _hear(self, admitted: Admitted, work: Work) -> None:
        """Note whose own, verified word this was; a topic's sender, a relayed certificate or a body says nothing."""
        match admitted:
            case StatementIn(statement=statement):
                peer = self._config.genesis.voter_ids[statement.voter]
                if self.keeper is not None and statement.kind == Kind.ATTEST:
                    self.keeper.hear_attest(statement.voter, statement.number, statement.digest)
                if statement.kind == Kind.ATTEST or statement.number < self.replica.state.cur:
                    # An old one may be a replay, as often as somebody likes: it says nothing about now.
                    return
            case HeartbeatIn(sender=peer) | RequestIn(sender=peer) | ClientAsk(sender=peer):
                pass
            case DeliveryAsk(sender=peer) | DeliveryAnswer(sender=peer, is_signed=True):
                pass
            case _:
                return
        if peer not in self._answers.peers_heard:
            work.event(events.HEARD, device=peer)
        self._answers.peers_heard[peer] = work.now_ms

    def _time(self, work: Work) -> None:
        if self._is_voter:
            for decision in self._deadlines.take_due(work.now_ms):
                if not self._own.put(_DECISIONS, deadline_command(decision), 0, reserved=True):
                    self._deadlines.say_again(decision, work.now_ms)

    def _keep(self, keeper: Keeper, work: Work) -> None:
        """Let the firmware side see this turn; its entries are signed in it, the rest follows the transaction."""
        if not keeper.is_due(work.now_ms, self.ledger.height):
            work.firmware.wake(keeper.wake_at_ms)
            return
        step = work.firmware = keeper.advance(self._view(keeper, work.now_ms))
        for command, tag in step.entries:
            if not self._own.put(Rollout.name, command, tag, reserved=True):
                keeper.take_settled((tag,), work.now_ms, None)
        work.actions.extend(step.actions)
        for data in step.events:
            work.event(events.FIRMWARE, **data)

    def _view(self, keeper: Keeper, now_ms: int) -> View:
        return view_of(
            self._config.genesis,
            self._config.me,
            keeper.rollout,
            self.ledger,
            self.replica.state,
            self._store,
            keeper.attests,
            peers_heard=self._answers.peers_heard,
            has_voted=self._has_voted,
            now_ms=now_ms,
        )

    def _run(self, work: Work) -> None:
        """Absorb, sign and apply until the core wants nothing more."""
        for _ in range(TURN_ROUNDS_MAX):
            for submission in self._own.sign_waiting(work.batch, work.now_ms):
                self.replica.absorb(submission, work.now_ms)
                body = submission.submission.body
                work.event(
                    events.SUBMITTED,
                    id=submission.submission.id,
                    sequence=body.sequence,
                    commands=len(body.commands),
                    tags=told_tags(self._own.tags_of(submission.submission.id)),
                )
            output = self.replica.advance(work.now_ms)
            work.outputs.append(output)
            self._collect(output, work)
            for wanted in output.wanted:
                self.replica.absorb(self._sign(wanted, work.batch), work.now_ms)
            for certificate in output.keep_certificates:
                if certificate.kind == Kind.FINALIZE:
                    self._guard.on_finalized(certificate.number)
            for block in output.finalized:
                stored = StoredBlock(block.hash, block.header, block.submissions, block.counts)
                work.batch.finalized.append(Finality(stored, block.finality))
                self.replica.absorb(self._apply(stored, work), work.now_ms)
            if output.is_quiet() and not self._own.can_sign():
                work.wake_at_ms = output.wake_at_ms
                return
        raise InvariantError("a turn does not come to rest")

    def _collect(self, output: Output, work: Work) -> None:
        batch = work.batch
        batch.certificates.extend(output.keep_certificates)
        batch.blocks.extend(StoredBlock(b.hash, b.header, b.submissions) for b in output.keep_blocks)
        batch.checkpoints.extend(output.checkpoints)
        batch.evidence.extend((e.first, e.second) for e in output.evidence)
        for checkpoint in output.checkpoints:
            self._answers.newest = checkpoint
            work.event(events.CHECKPOINT, height=checkpoint.height, log_size=checkpoint.log_size)
        for evidence in output.evidence:
            kinds = chr(evidence.first.kind) + chr(evidence.second.kind)
            voter = self._config.genesis.voter_ids[evidence.first.voter]
            work.event(events.EVIDENCE, voter=voter, kinds=kinds, view=evidence.first.number)
        for name, number in output.notes:
            report_note(work, name, number)

    def _sign(self, wanted: Wanted, batch: Batch) -> Input:
        statement = self._guard.sign(wanted.kind, wanted.epoch, wanted.number, wanted.digest, batch)
        self._has_voted = True
        if wanted.proposal is None:
            self._outbox.put(statement)
            return StatementIn(statement, own=True)
        unsigned = wanted.proposal
        proposal = Proposal(
            header=unsigned.header,
            parent=unsigned.parent,
            skips=unsigned.skips,
            signature=statement.signature,
        )
        batch.proposals.append(proposal)
        self._outbox.put(proposal)
        return ProposalIn(proposal, wanted.digest, own=True)

    def _apply(self, block: StoredBlock, work: Work) -> Applied:
        applied, happened = self.ledger.apply(block, work.batch)
        work.applied = True
        header = block.header
        counted = [s for s, counts in zip(block.submissions, block.counts, strict=True) if counts]
        work.event(
            events.FINALIZED,
            height=header.height,
            view=header.view,
            hash=block.hash,
            submissions=len(counted),
            commands=sum(len(s.body.commands) for s in counted),
            log_size=applied.log_size,
        )
        self._report(happened, header.height, work)
        for submission in block.submissions:
            self._settle(submission.id, happened.applied.get(submission.id), header.height, work)
        return applied

    def _settle(self, submission: bytes, position: int | None, height: int, work: Work) -> None:
        own = self._own.settle(submission)
        if own is None:
            return
        if self.keeper is not None and not own.is_restored:
            self.keeper.take_settled(own.tags, own.signed_at_ms, None if position is None else height)
        if position is None:
            work.event(events.LOST, id=submission, reason="no-op", tags=told_tags(own.tags))
            return
        work.event(
            events.COMMITTED,
            id=submission,
            height=height,
            position=position,
            latency_ms=work.now_ms - own.signed_at_ms,
            tags=told_tags(own.tags),
        )

    def _report(self, happened: Happened, height: int, work: Work) -> None:
        for submission, _, app, reason in happened.rejected:
            work.event(events.REJECTED, app=app, reason=reason, own=self._own.is_own(submission))
        if happened.opened:
            work.event(events.OPENED, decisions=tuple(happened.opened), height=height)
        for outcome in happened.outcomes:
            work.event(events.CLOSED, outcome=outcome, height=height)
            work.actions.append(TellOutcome(outcome))

    def _look_at_decisions(self, work: Work) -> None:
        """Start timers for what is open, and ask the behaviours once per start for each ballot still missing."""
        decisions = self.ledger.router.decisions
        if decisions is None:
            return
        views = decisions.open_decisions()
        self._deadlines.watch(views, work.now_ms)
        open_now = {view.id for view in views}
        for id in [d for d in self._asked if d not in open_now]:
            del self._asked[id]
        for view in views:
            if view.id not in self._asked and view.is_open_for(self._config.me):
                self._asked[view.id] = None
                if not self._own.has_cast(view.id):
                    work.actions.append(AskBallot(view))

    def _after_commit(self, work: Work) -> None:
        """Everything below may leave now: the turn is durable."""
        served: dict[DeviceId, int] = {}
        for output in work.outputs:
            for send in output.sends:
                if send.to is not None and send.priority is Priority.ANSWER:
                    self._answers.give(send.item, send.to, work.now_ms)
                else:
                    self._outbox.put(send.item, send.to)
            for ask in output.asks:
                self._outbox.ask(ask.to, ask.ask)
            for serve in output.serves:
                served[serve.to] = served.get(serve.to, 0) + 1
                if served[serve.to] > QUESTIONS_PER_MEMBER_MAX:
                    self._admission.drop(_OVER_SHARE)
                else:
                    self._answers.serve(serve, work.now_ms)
        for peer, wanted in work.firmware.asks:
            boot, n = self._outbox.ask(peer, wanted)
            if self.keeper is not None:
                self.keeper.take_asked(peer, wanted, boot, n)
        for peer, request, content in work.firmware.answers:
            self._outbox.answer(peer, request, content)
        questions, left_out = work.questions.chosen()
        for question in questions:
            self._answers.ask(question, work.now_ms)
        for _ in range(left_out):
            self._admission.drop(_OVER_SHARE)
        if work.applied or work.batch.checkpoints:
            self._answers.wake(work.now_ms)
        if self._pulse.is_due(work.now_ms):
            self._outbox.beat(self._pulse.beat(self._outbox.counter, self.ledger, work.now_ms))
            self._pulse.report(work, self.dropped, self._answers.peers_heard)
        due = self._deadlines.next_due_ms() if self._is_voter else None
        times = [work.wake_at_ms, due, self._pulse.due_ms, work.firmware.wake_at_ms]
        if self.keeper is not None and not self.keeper.has_seen(self.ledger.height):
            # A block was applied by what the firmware side itself had signed in this turn.
            times.append(work.now_ms)
        work.wake_at_ms = min(t for t in times if t is not None)
