"""A light client's submissions: signed by the one guard, durable before they leave, sent again until they are proved."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from swarm.agent.client.belief import Belief, Proved, check_own_leaf, superseding
from swarm.agent.client.inquiry import Inquiry, Questions, Step
from swarm.agent.client.members import Claims, sequence_after_loss
from swarm.agent.client.results import BusyError, ClientError, ExpiredError, SupersededError
from swarm.device.guard import Guard
from swarm.device.outbox import Outbox
from swarm.primitives.errors import ProofError
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import (
    CLIENT_EXPIRY_HEIGHTS,
    COMMANDS_WAITING_MAX,
    OUTSTANDING_MAX,
    SEQUENCE_WINDOW,
)
from swarm.storage.store import Batch, Restored
from swarm.wire.genesis import Genesis
from swarm.wire.messages import (
    Answered,
    AnswerLeaf,
    AnswerSuperseded,
    AnswerUnknown,
    AnswerWindow,
    AskAwait,
    AskWindow,
    Command,
    Submission,
    SubmissionItem,
)

RESEND_MS: Final = 2_000
"""Pause before a submission is published again; doubles each time."""

RESEND_MS_MAX: Final = 30_000

CENSUS_MS: Final = 3_000
"""How often all voters are asked who they are and how far, while something waits for them."""

WINDOW_GRACE_MS: Final = 300
"""After r+1 equal answers about a lost sequence number: for how long the others may still name a higher one."""


@dataclass(slots=True, kw_only=True)
class Passenger:
    """What waits to be signed, and whom to tell. The callbacks run inside the turn, before its transaction."""

    commands: tuple[Command, ...]
    is_wanted: Callable[[], bool]
    signed: Callable[[Submission], None]
    proved: Callable[[Submission, Proved], None]
    failed: Callable[[ClientError], None]


@dataclass(slots=True)
class _Flight:
    submission: Submission
    passenger: Passenger | None
    inquiry: Inquiry
    resend_at_ms: int
    interval_ms: int = RESEND_MS


class Flights:
    """Signs what waits as soon as it is known which number to use, and follows it until its fate is proved."""

    def __init__(
        self,
        genesis: Genesis,
        me: DeviceId,
        *,
        guard: Guard,
        restored: Restored,
        belief: Belief,
        questions: Questions,
        outbox: Outbox,
        now_ms: int,
    ) -> None:
        """Go on with what the operator's file says was signed and is not proved yet."""
        self._genesis = genesis
        self._me = me
        self._guard = guard
        self._belief = belief
        self._questions = questions
        self._outbox = outbox
        self._claims = Claims(genesis)
        self._census: Inquiry | None = None
        self._census_at_ms = now_ms
        self._waiting: deque[Passenger] = deque()
        self._flying: dict[bytes, _Flight] = {}
        # A file without a single signature is a new one, or the successor of one that was lost: nobody can tell.
        self._needs_window = restored.sequence == 0
        self._agreed_since_ms: int | None = None
        self._high = 0
        self._height = 0
        self.batch = Batch()
        for submission in restored.own_submissions:
            self._launch(submission, None, now_ms)

    @property
    def outstanding(self) -> int:
        """Submissions signed and not proved yet, those of earlier starts included."""
        return len(self._flying)

    def put(self, passenger: Passenger) -> None:
        """Queue commands to be signed as one submission; a full queue fails at once with `BusyError`."""
        if len(self._waiting) >= COMMANDS_WAITING_MAX:
            passenger.failed(BusyError(f"{COMMANDS_WAITING_MAX} submissions wait already"))
            return
        self._waiting.append(passenger)

    def take_batch(self) -> Batch:
        """Return what must be durable before this turn's frames leave, and start a new batch."""
        batch, self.batch = self.batch, Batch()
        return batch

    # ------------------------------------------------------------------------------ time

    def tick(self, now_ms: int, *, is_stuck: bool) -> None:
        """Ask the voters how far they are where that matters, sign what can be signed, repeat what is due."""
        while self._waiting and not self._waiting[0].is_wanted():
            self._waiting.popleft()
        if (self._waiting or is_stuck) and now_ms >= self._census_at_ms:
            self._take_census(now_ms)
        self._read_claims(now_ms)
        while self._waiting and self._can_sign():
            self._sign(self._waiting.popleft(), now_ms)
        for flight in self._flying.values():
            if now_ms >= flight.resend_at_ms:
                self._publish(flight, now_ms)

    def next_due_ms(self) -> int | None:
        """Return when `tick` has something to do again."""
        times = [flight.resend_at_ms for flight in self._flying.values()]
        if self._waiting:
            times.append(self._census_at_ms)
        if self._agreed_since_ms is not None:
            times.append(self._agreed_since_ms + WINDOW_GRACE_MS)
        return min(times, default=None)

    @property
    def census_at_ms(self) -> int:
        """When all voters are asked again, if something is stuck then."""
        return self._census_at_ms

    def _take_census(self, now_ms: int) -> None:
        if self._census is not None:
            self._questions.withdraw(self._census)
        self._census_at_ms = now_ms + CENSUS_MS
        self._census = self._questions.ask(
            Inquiry(AskWindow(origin=self._me), self._judge_window, width=max(2, self._genesis.budget.n))
        )

    def _judge_window(self, member: DeviceId, answer: Answered) -> Step:
        if not isinstance(answer, AnswerWindow) or answer.origin != self._me:
            raise ProofError("no answer about my numbers")
        self._claims.take(member, answer)
        return Step.DONE if self._claims.is_complete else Step.OVER

    def _read_claims(self, now_ms: int) -> None:
        reliable = self._claims.reliable()
        if reliable is None:
            return
        self._height = max(self._height, reliable.height)
        self._high = max(self._high, reliable.high)
        if reliable.high > self._guard.sequence and not self._needs_window:
            # Somebody signed with this key and did not write it down here: an old copy of the file came back.
            self._needs_window = True
        if not self._needs_window:
            return
        agreed = self._claims.agreed_high()
        if agreed is None:
            self._agreed_since_ms = None
            return
        if self._agreed_since_ms is None:
            self._agreed_since_ms = now_ms
        if self._claims.is_complete or now_ms >= self._agreed_since_ms + WINDOW_GRACE_MS:
            self._guard.raise_sequence(sequence_after_loss(agreed))
            self._high = max(self._high, agreed)
            self._needs_window = False
            self._agreed_since_ms = None

    # ------------------------------------------------------------------------------ out

    def _can_sign(self) -> bool:
        """Answer whether the next number is known, in the window of every honest voter, and one of few enough."""
        return (
            not self._needs_window
            and self._claims.reliable() is not None
            and self._guard.sequence < self._high + SEQUENCE_WINDOW
            and len(self._flying) < OUTSTANDING_MAX
        )

    def _sign(self, passenger: Passenger, now_ms: int) -> None:
        if not passenger.is_wanted():
            return
        expiry = self._height + CLIENT_EXPIRY_HEIGHTS
        submission = self._guard.sign_submission(self._me, passenger.commands, self.batch, expiry=expiry)
        self._launch(submission, passenger, now_ms)
        passenger.signed(submission)

    def _launch(self, submission: Submission, passenger: Passenger | None, now_ms: int) -> None:
        body = submission.body
        ask = AskAwait(key=submission.id, origin=self._me, sequence=body.sequence, expiry=body.expiry)
        unknown: dict[DeviceId, int] = {}

        def judge(member: DeviceId, answer: Answered) -> Step:
            return self._judge(submission, unknown, member, answer)

        inquiry = self._questions.ask(Inquiry(ask, judge))
        self._flying[submission.id] = _Flight(submission, passenger, inquiry, now_ms)

    def _publish(self, flight: _Flight, now_ms: int) -> None:
        self._outbox.put(SubmissionItem(raw=flight.submission.raw))
        flight.resend_at_ms = now_ms + flight.interval_ms
        flight.interval_ms = min(2 * flight.interval_ms, RESEND_MS_MAX)

    # ------------------------------------------------------------------------------ fates

    def _judge(
        self, submission: Submission, unknown: dict[DeviceId, int], member: DeviceId, answer: Answered
    ) -> Step:
        match answer:
            case AnswerLeaf():
                proved = self._belief.leaf(answer)
                check_own_leaf(proved.leaf, submission)
                self._high = max(self._high, submission.body.sequence)
                self._height = max(self._height, proved.height)
                passenger = self._settle(submission)
                if passenger is not None:
                    passenger.proved(submission, proved)
                return Step.DONE
            case AnswerSuperseded():
                proved = self._belief.leaf(answer)
                other = superseding(proved.leaf, submission)
                self._needs_window = True
                self._claims.clear()
                self._census_at_ms = 0
                self._fail(
                    submission, SupersededError(submission.id, other=other.id, position=proved.position)
                )
                return Step.DONE
            case AnswerUnknown():
                return self._judge_unknown(submission, unknown, member, answer)
            case _:
                raise ProofError("an answer to another question")

    def _judge_unknown(
        self, submission: Submission, unknown: dict[DeviceId, int], member: DeviceId, answer: AnswerUnknown
    ) -> Step:
        """Believe that it expired when r+1 voters say so: one of them is honest and has looked (PROTOCOL section 6)."""
        expiry = submission.body.expiry
        height = self._belief.unknown(answer, key=submission.id, expiry=expiry)
        if self._genesis.voter_index(member) is not None:
            unknown[member] = height
        if len(unknown) <= self._genesis.budget.r:
            return Step.OVER
        self._fail(submission, ExpiredError(submission.id, expiry=expiry, height=min(unknown.values())))
        return Step.DONE

    def _fail(self, submission: Submission, error: ClientError) -> None:
        passenger = self._settle(submission)
        if passenger is not None:
            passenger.failed(error)

    def _settle(self, submission: Submission) -> Passenger | None:
        """Stop sending it, now and after every later start."""
        flight = self._flying.pop(submission.id, None)
        self.batch.settled_submissions.append(submission.id)
        return None if flight is None else flight.passenger
