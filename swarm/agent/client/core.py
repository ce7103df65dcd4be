"""A light client as one synchronous object: requests and frames in, one `ClientTurn` out, no clock and no network.

It holds genesis and a key, no log, and believes only what r+1 voters signed (PROTOCOL section 6). As in a device, the
turn's signatures are durable in the operator's store before a byte of them leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from swarm.agent.client.belief import Belief, Proved, check_own_leaf, refusals_of
from swarm.agent.client.flights import Flights, Passenger
from swarm.agent.client.inquiry import Inquiry, Questions, Step
from swarm.agent.client.members import Roster
from swarm.agent.client.results import (
    ClientError,
    DecidedOutcome,
    DecisionRejectedError,
    MemberStatus,
    Progress,
    ProvedEntry,
    Receipt,
    SubmissionRejectedError,
    SwarmStatus,
    VerifiedEntries,
)
from swarm.agent.client.shelf import Shelf
from swarm.agent.client.turn import (
    ClientInput,
    ClientTurn,
    Finished,
    Forget,
    Offer,
    Result,
    VerifiedBlocks,
    WantBlocks,
    WantDecision,
    WantEntries,
    WantOutcome,
    WantProof,
    WantStatus,
    WantSubmit,
)
from swarm.apps.decisions.commands import cast_command
from swarm.apps.decisions.rules import Outcome, decision_id
from swarm.apps.router import Refusal
from swarm.apps.verify import read_leaf, submission_entry
from swarm.crypto.keys import KeyPair
from swarm.device.counters import Counter
from swarm.device.delivery.server import ServeCounts
from swarm.device.guard import Guard
from swarm.device.outbox import Outbox
from swarm.device.turn import FrameIn
from swarm.device.verifier import Verifier
from swarm.primitives.errors import ProofError, check
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import CLIENT_ENTRIES_MAX
from swarm.storage.store import Batch, Store
from swarm.wire.certificates import Verify
from swarm.wire.genesis import Genesis
from swarm.wire.messages import (
    Answered,
    AnswerEntries,
    AnswerLeaf,
    AnswerStatus,
    AskAwait,
    AskBlocks,
    AskEntries,
    AskStatus,
    Blocks,
    Command,
    Submission,
)

STUCK_MS: Final = 2_000
"""A request older than this makes the client ask all voters, so that it can say what is missing."""

_DECISIONS: Final = "decisions"

# ------------------------------------------------------------------------------------------ the client


@dataclass(slots=True)
class _Request:
    """One ticket: since when it waits, and its open questions."""

    since_ms: int
    inquiries: list[Inquiry] = field(default_factory=list)


class ClientCore:
    """The light client of one operator. Not thread-safe; one turn at a time, in whatever thread the shell chooses.

    After a `StoreError` it is dead: nothing of the turn has left, and every further turn raises.
    """

    def __init__(
        self, genesis: Genesis, me: DeviceId, keypair: KeyPair, store: Store, verify: Verify, now_ms: int
    ) -> None:
        """Make the new boot number durable and take up what was signed before. Raises `StoreError`."""
        restored = store.load()
        boot = restored.boot + 1
        store.commit(Batch(boot=boot))
        self._genesis = genesis
        self._me = me
        self._store = store
        self._dead = False
        self._belief = Belief(genesis, verify)
        self._outbox = Outbox(genesis.id, me, keypair, Counter(boot))
        self._roster = Roster(genesis, me)
        verifier = Verifier(genesis, verify)
        self._shelf = Shelf(me, verifier, self._outbox)
        self._questions = Questions(me, self._roster, verifier, self._outbox, self._shelf.on_request)
        self._flights = Flights(
            genesis,
            me,
            guard=Guard(
                swarm_id=genesis.id,
                keypair=keypair,
                voter=None,
                records=restored.records,
                sequence=restored.sequence,
            ),
            restored=restored,
            belief=self._belief,
            questions=self._questions,
            outbox=self._outbox,
            now_ms=now_ms,
        )
        self._requests: dict[int, _Request] = {}
        self._finished: list[Finished] = []
        self._progress: list[tuple[int, Progress]] = []
        self._now_ms = now_ms
        self._log_size = 0

    @property
    def dropped(self) -> dict[str, int]:
        """What was refused since the start, by reason; `not-believed` counts answers that did not verify."""
        return self._questions.dropped

    @property
    def served(self) -> ServeCounts:
        """What was served of an offered image since the start."""
        return self._shelf.counts

    @property
    def outstanding(self) -> int:
        """Submissions signed and not proved yet, those of earlier starts included."""
        return self._flights.outstanding

    def missing(self, now_ms: int) -> str:
        """Say in one sentence which voters answer and whether they are a quorum."""
        budget = self._genesis.budget
        up = [voter for voter in self._genesis.voter_ids if self._roster.is_heard(voter, now_ms)]
        silent = [voter for voter in self._genesis.voter_ids if voter not in up]
        said = f"{len(up)} of {budget.n} voters answer, a quorum is {budget.q}"
        if silent:
            more = f" and {len(silent) - 8} more" if len(silent) > 8 else ""
            said += f"; no answer from {', '.join(silent[:8])}{more}"
        return said if len(up) < budget.q else f"{said}, and yet nothing is proved"

    def has_quorum(self, now_ms: int) -> bool:
        """Answer whether as many voters answered lately as make anything final."""
        up = sum(self._roster.is_heard(voter, now_ms) for voter in self._genesis.voter_ids)
        return up >= self._genesis.budget.q

    # ------------------------------------------------------------------------------ the turn

    def turn(self, inputs: Sequence[ClientInput], now_ms: int) -> ClientTurn:
        """Take everything that waits and return what may now leave. Raises `StoreError`; the caller must stop then."""
        check(not self._dead, "a client that failed takes no more turns")
        self._dead = True
        self._now_ms = now_ms
        for message in inputs:
            self._take(message, now_ms)
        stuck = [r.since_ms + STUCK_MS for r in self._requests.values()]
        self._flights.tick(now_ms, is_stuck=min(stuck, default=now_ms + 1) <= now_ms)
        self._questions.tick(now_ms)
        self._shelf.advance(now_ms)
        batch = self._flights.take_batch()
        if not batch.is_empty():
            self._store.commit(batch)
        frames = self._outbox.take()
        finished, self._finished = tuple(self._finished), []
        progress, self._progress = tuple(self._progress), []
        self._dead = False
        return ClientTurn(frames, finished, progress, self._wake_at_ms())

    def _wake_at_ms(self) -> int | None:
        times = [self._flights.next_due_ms(), self._questions.next_due_ms(), self._shelf.wake_at_ms]
        if self._requests:
            oldest = min(request.since_ms for request in self._requests.values())
            times.append(max(oldest + STUCK_MS, self._flights.census_at_ms))
        return min((at for at in times if at is not None), default=None)

    def _take(self, message: ClientInput, now_ms: int) -> None:
        match message:
            case FrameIn():
                self._questions.on_frame(message, now_ms)
            case Forget(ticket=ticket):
                self._close(ticket)
            case Offer():
                self._shelf.offer(message.plan, message.image, message.bytes_per_s, now_ms)
            case WantSubmit():
                self._open(message.ticket, now_ms)
                self._submit(message.ticket, message.command)
            case WantDecision():
                self._open(message.ticket, now_ms)
                self._decide(message)
            case WantOutcome():
                self._open(message.ticket, now_ms)
                self._await_outcome(message.ticket, message.decision, now_ms)
            case WantEntries():
                self._open(message.ticket, now_ms)
                self._entries(message, now_ms)
            case WantProof():
                self._open(message.ticket, now_ms)
                self._prove(message, now_ms)
            case WantBlocks():
                self._open(message.ticket, now_ms)
                self._blocks(message, now_ms)
            case WantStatus():
                self._open(message.ticket, now_ms)
                self._status(message, now_ms)

    # ------------------------------------------------------------------------------ tickets

    def _open(self, ticket: int, now_ms: int) -> None:
        check(ticket not in self._requests, f"ticket {ticket} is in use")
        self._requests[ticket] = _Request(now_ms)

    def _close(self, ticket: int) -> None:
        request = self._requests.pop(ticket, None)
        if request is not None:
            for inquiry in request.inquiries:
                self._questions.withdraw(inquiry)

    def _finish(self, ticket: int, result: Result | ClientError) -> None:
        if ticket in self._requests:
            self._close(ticket)
            self._finished.append(Finished(ticket, result))

    def _ask(self, ticket: int, inquiry: Inquiry) -> None:
        request = self._requests.get(ticket)
        if request is not None:
            request.inquiries.append(self._questions.ask(inquiry))

    def _report(self, ticket: int, step: str, id: bytes, position: int | None = None) -> None:
        if ticket in self._requests:
            self._progress.append((ticket, Progress(step=step, id=id, position=position)))

    # ------------------------------------------------------------------------------ submissions

    def _submit(self, ticket: int, command: Command) -> None:
        self._flights.put(
            Passenger(
                commands=(command,),
                is_wanted=lambda: ticket in self._requests,
                signed=lambda submission: self._report(ticket, "signed", submission.id),
                proved=partial(self._ask_fate, ticket),
                failed=partial(self._finish, ticket),
            )
        )

    def _ask_fate(self, ticket: int, submission: Submission, proved: Proved) -> None:
        """Read the leaf that follows the submission's: a refusal of its one command stands there, or there is none."""
        position = proved.position
        ask = AskEntries(position=position, count=2)

        def judge(_member: DeviceId, answer: Answered) -> Step:
            believed = self._belief.entries(_entries_in(answer), ask)
            if not believed.leaves or (
                len(believed.leaves) == 1 and position + 1 < believed.checkpoint.log_size
            ):
                raise ProofError("fewer entries than there are")
            check_own_leaf(believed.leaves[0], submission)
            for offset, reason in refusals_of(believed.leaves, submission.id):
                self._finish(
                    ticket,
                    SubmissionRejectedError(reason, submission=submission.id, position=position + offset),
                )
                return Step.DONE
            entry = submission_entry(submission, position)
            self._finish(
                ticket, Receipt(position=position, height=proved.height, entry=entry, proof=proved.proof)
            )
            return Step.DONE

        self._ask(ticket, Inquiry(ask, judge, due_ms=self._now_ms))

    # ------------------------------------------------------------------------------ decisions

    def _decide(self, want: WantDecision) -> None:
        ticket = want.ticket

        def opened(submission: Submission, proved: Proved) -> None:
            decision = decision_id(submission.id, 0)
            self._report(ticket, "logged", decision, proved.position)
            self._await_outcome(ticket, decision, self._now_ms, has_ballot=want.ballot is not None)
            if want.ballot is not None:
                self._cast(ticket, decision, want.ballot)

        self._flights.put(
            Passenger(
                commands=(Command(app=_DECISIONS, body=want.opening),),
                is_wanted=lambda: ticket in self._requests,
                signed=lambda submission: self._report(ticket, "signed", decision_id(submission.id, 0)),
                proved=opened,
                failed=partial(self._finish, ticket),
            )
        )

    def _cast(self, ticket: int, decision: bytes, ballot: int) -> None:
        """Cast the own ballot; whether it counted, the outcome's list of ballots will say."""
        self._flights.put(
            Passenger(
                commands=(Command(app=_DECISIONS, body=cast_command(decision, ballot)),),
                is_wanted=lambda: ticket in self._requests,
                signed=lambda _submission: None,
                proved=lambda _submission, _proved: None,
                failed=lambda _error: None,
            )
        )

    def _await_outcome(self, ticket: int, decision: bytes, now_ms: int, *, has_ballot: bool = False) -> None:
        """Wait for the leaf under the decision's id: its closing, or the refusal of its opening."""
        ask = AskAwait(key=decision, origin=self._me, sequence=0, expiry=0)

        def judge(_member: DeviceId, answer: Answered) -> Step:
            if not isinstance(answer, AnswerLeaf):
                raise ProofError("an answer to another question")
            proved = self._belief.leaf(answer)
            match self._belief.outcome_or_refusal(proved.leaf, decision):
                case Refusal(reason=reason):
                    self._finish(
                        ticket,
                        DecisionRejectedError(reason, submission=decision, position=proved.position),
                    )
                case Outcome() as outcome:
                    counted = any(who == self._me for who, _ in outcome.ballots)
                    self._finish(
                        ticket,
                        DecidedOutcome(
                            outcome=outcome,
                            position=proved.position,
                            height=proved.height,
                            proof=proved.proof,
                            ballot_counted=counted if has_ballot else None,
                        ),
                    )
            return Step.DONE

        self._ask(ticket, Inquiry(ask, judge, due_ms=now_ms))

    # ------------------------------------------------------------------------------ reading

    def _entries(self, want: WantEntries, now_ms: int) -> None:
        ask = AskEntries(position=want.position, count=min(want.count, CLIENT_ENTRIES_MAX))

        def judge(_member: DeviceId, answer: Answered) -> Step:
            believed = self._belief.entries(_entries_in(answer), ask)
            if not believed.leaves and ask.count and believed.checkpoint.log_size < self._log_size:
                # True, but of the past: somebody else has shown more.
                return Step.LATER
            self._log_size = max(self._log_size, believed.checkpoint.log_size)
            entries = tuple(
                read_leaf(data, want.position + offset, self._genesis)
                for offset, data in enumerate(believed.leaves)
            )
            self._finish(
                want.ticket,
                VerifiedEntries(
                    position=want.position,
                    entries=entries,
                    log_size=believed.checkpoint.log_size,
                    height=believed.checkpoint.height,
                ),
            )
            return Step.DONE

        self._ask(want.ticket, Inquiry(ask, judge, due_ms=now_ms))

    def _prove(self, want: WantProof, now_ms: int) -> None:
        ask = AskEntries(position=want.position, count=1)

        def judge(_member: DeviceId, answer: Answered) -> Step:
            content = _entries_in(answer)
            if not content.leaves and content.checkpoint.log_size <= want.position:
                return Step.LATER
            proved = self._belief.entry(content, ask)
            self._finish(
                want.ticket,
                ProvedEntry(
                    position=proved.position,
                    height=proved.height,
                    entry=read_leaf(proved.leaf, proved.position, self._genesis),
                    proof=proved.proof,
                ),
            )
            return Step.DONE

        self._ask(want.ticket, Inquiry(ask, judge, due_ms=now_ms))

    def _blocks(self, want: WantBlocks, now_ms: int) -> None:
        def judge(member: DeviceId, _answer: Answered) -> Step:
            raise ProofError(f"{member} answers another question")

        def judge_blocks(_member: DeviceId, answer: Blocks) -> Step:
            believed = self._belief.blocks(answer, height=want.height, parent=want.parent)
            self._finish(want.ticket, VerifiedBlocks(believed))
            return Step.DONE

        self._ask(
            want.ticket,
            Inquiry(
                AskBlocks(height=want.height),
                judge,
                judge_blocks=judge_blocks,
                due_ms=now_ms,
                deadline_ms=now_ms + want.wait_ms,
                at_deadline=lambda: self._finish(want.ticket, VerifiedBlocks(())),
            ),
        )

    def _status(self, want: WantStatus, now_ms: int) -> None:
        claims: dict[DeviceId, AnswerStatus] = {}
        voters = self._genesis.voters

        def done() -> None:
            self._finish(
                want.ticket,
                SwarmStatus(
                    swarm=self._genesis.swarm,
                    budget=self._genesis.budget,
                    members=tuple(
                        MemberStatus(device=voter.id, claim=claims.get(voter.id)) for voter in voters
                    ),
                ),
            )

        def judge(member: DeviceId, answer: Answered) -> Step:
            if not isinstance(answer, AnswerStatus):
                raise ProofError("an answer to another question")
            claims[member] = answer
            if len(claims) < len(voters):
                return Step.OVER
            done()
            return Step.DONE

        self._ask(
            want.ticket,
            Inquiry(
                AskStatus(),
                judge,
                width=max(2, len(voters)),
                deadline_ms=now_ms + want.wait_ms,
                at_deadline=done,
            ),
        )


def _entries_in(answer: Answered) -> AnswerEntries:
    if not isinstance(answer, AnswerEntries):
        raise ProofError("an answer to another question")
    return answer
