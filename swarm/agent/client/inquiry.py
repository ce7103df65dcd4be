"""A light client's questions: each goes to one member, then to others, until an answer is believed (PROTOCOL section 6).

A member that keeps an `await` is silent until it has something to say, and so is a dead one. So a question goes to one
more member each time patience runs out, and whoever answers first is heard; nobody's silence holds anything up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Final

from swarm.agent.client.members import Roster
from swarm.device.outbox import Outbox
from swarm.device.turn import FrameIn
from swarm.device.verifier import Verifier
from swarm.primitives.errors import DecodeError, ProofError
from swarm.primitives.ids import DeviceId
from swarm.transport.topics import Scope
from swarm.wire.messages import (
    AnswerBusy,
    Answered,
    Ask,
    AskBlocks,
    Blocks,
    Envelope,
    decode_answer,
    decode_frame,
)
from swarm.wire.statements import Kind

PATIENCE_MS: Final = 1_000
"""How long one member may think before the next is asked too; grows by half each time."""

PATIENCE_MS_MAX: Final = 10_000


class Step(Enum):
    """What an answer means for its question."""

    DONE = "done"
    """It is answered."""
    OVER = "over"
    """This member has said all it can say; others may be needed."""
    LATER = "later"
    """Nothing wrong, and nothing that helps yet."""


Judge = Callable[[DeviceId, Answered], Step]
"""Takes an answer and does what follows from it. Raises `DecodeError` or `ProofError` when it is not to be believed."""


BlocksJudge = Callable[[DeviceId, Blocks], Step]
"""The same for blocks of the log, which no member signs: they carry the quorum's certificate."""


def _no_blocks(_member: DeviceId, _blocks: Blocks) -> Step:
    raise DecodeError("unwanted-item")


@dataclass(slots=True, eq=False)
class Inquiry:
    """One question on its way; `width` members are asked at a time."""

    ask: Ask
    judge: Judge
    width: int = 1
    deadline_ms: int | None = None
    at_deadline: Callable[[], None] = lambda: None
    judge_blocks: BlocksJudge = _no_blocks
    """Judges what answers an `AskBlocks`."""
    due_ms: int = 0
    offset: int = 0
    patience_ms: int = PATIENCE_MS
    counters: dict[DeviceId, tuple[int, int]] = field(default_factory=dict)
    """The newest question to each member; only its answer is heard."""
    asked: set[DeviceId] = field(default_factory=set)
    """Who was asked in this round of all."""
    over: set[DeviceId] = field(default_factory=set)


class Questions:
    """All open questions of one client: sends them, and lets only verified answers to them in."""

    def __init__(
        self,
        me: DeviceId,
        roster: Roster,
        verifier: Verifier,
        outbox: Outbox,
        on_request: Callable[[Envelope, int], None],
    ) -> None:
        """Ask in the name of `me` through `outbox`; `on_request` gets members' own questions, or raises `DecodeError`."""
        self._me = me
        self._roster = roster
        self._verifier = verifier
        self._outbox = outbox
        self._on_request = on_request
        self._open: dict[Inquiry, None] = {}
        self._count = 0
        self.dropped: dict[str, int] = {}

    def ask(self, inquiry: Inquiry) -> Inquiry:
        """Open a question; it is sent with this turn. Each begins with another member, so that none can stall all."""
        inquiry.offset = self._count
        self._count += 1
        self._open[inquiry] = None
        return inquiry

    def withdraw(self, inquiry: Inquiry) -> None:
        """Close a question; answers to it are dropped from now on."""
        self._open.pop(inquiry, None)

    def is_open(self, inquiry: Inquiry | None) -> bool:
        """Answer whether a question still waits."""
        return inquiry in self._open

    # ------------------------------------------------------------------------------ time

    def tick(self, now_ms: int) -> None:
        """Send what is due, and end what is past its deadline."""
        for inquiry in list(self._open):
            if inquiry.deadline_ms is not None and now_ms >= inquiry.deadline_ms:
                self.withdraw(inquiry)
                inquiry.at_deadline()
            elif now_ms >= inquiry.due_ms:
                self._send(inquiry, now_ms)

    def next_due_ms(self) -> int | None:
        """Return when `tick` has something to do again."""
        times = [inquiry.due_ms for inquiry in self._open]
        times += [inquiry.deadline_ms for inquiry in self._open if inquiry.deadline_ms is not None]
        return min(times, default=None)

    def _send(self, inquiry: Inquiry, now_ms: int) -> None:
        if inquiry.width > 1:
            inquiry.asked.clear()
        for _ in range(inquiry.width):
            member = self._next(inquiry, now_ms)
            if member is None:
                break
            inquiry.asked.add(member)
            inquiry.counters[member] = self._outbox.ask(member, inquiry.ask)
        inquiry.due_ms = now_ms + inquiry.patience_ms
        inquiry.patience_ms = min(inquiry.patience_ms * 3 // 2, PATIENCE_MS_MAX)

    def _next(self, inquiry: Inquiry, now_ms: int) -> DeviceId | None:
        """Return whom to ask; after a round of all, the round begins anew when the question is next due."""
        chosen = self._roster.best(inquiry.over | inquiry.asked, now_ms, inquiry.offset)
        if chosen is None and inquiry.width == 1:
            inquiry.asked.clear()
            chosen = self._roster.best(inquiry.over, now_ms, inquiry.offset)
        return chosen

    # ------------------------------------------------------------------------------ answers

    def on_frame(self, frame: FrameIn, now_ms: int) -> None:
        """Hear the answers in a frame; everything else is counted and dropped."""
        if frame.scope is not Scope.TO:
            return
        try:
            items = decode_frame(frame.payload)
        except DecodeError as error:
            self._drop(error.reason)
            return
        for item in items:
            try:
                if isinstance(item, Blocks):
                    self._on_blocks(frame.sender, item, now_ms)
                    continue
                if not isinstance(item, Envelope) or item.kind not in (Kind.ANSWER, Kind.REQUEST):
                    raise DecodeError("unwanted-item")
                if item.sender != frame.sender:
                    raise DecodeError("topic-sender-mismatch")
                if item.kind == Kind.REQUEST:
                    self._on_request(item, now_ms)
                else:
                    self._on_answer(item, now_ms)
            except DecodeError as error:
                self._drop(error.reason)

    def _on_answer(self, envelope: Envelope, now_ms: int) -> None:
        answer = decode_answer(envelope.body)
        member = envelope.sender
        counter = (answer.re_boot, answer.re_n)
        inquiry = next((i for i in self._open if i.counters.get(member) == counter), None)
        if answer.to != self._me or inquiry is None:
            raise DecodeError("no-such-question")
        if not self._verifier.envelope(envelope):
            raise DecodeError("bad-signature")
        del inquiry.counters[member]
        self._roster.heard(member, now_ms)
        if isinstance(answer.content, AnswerBusy):
            self._ask_next(inquiry, now_ms)
            return
        self._follow(inquiry, member, partial(inquiry.judge, member, answer.content), now_ms)

    def _on_blocks(self, member: DeviceId, blocks: Blocks, now_ms: int) -> None:
        """Hear blocks that this member was asked for. Whoever else sends them cannot be told from it; they verify."""
        ask = AskBlocks(height=blocks.blocks[0].header.height)
        inquiry = next((i for i in self._open if i.ask == ask and member in i.counters), None)
        if inquiry is None:
            raise DecodeError("no-such-question")
        # Not "heard": anybody may have sent it in the member's name.
        self._follow(inquiry, member, partial(inquiry.judge_blocks, member, blocks), now_ms)

    def _follow(self, inquiry: Inquiry, member: DeviceId, judge: Callable[[], Step], now_ms: int) -> None:
        """Do what follows from an answer; an unbelievable one costs its sender trust."""
        try:
            step = judge()
        except (DecodeError, ProofError) as error:
            self._roster.blame(member, now_ms)
            self._ask_next(inquiry, now_ms)
            raise DecodeError("not-believed", f"{member}: {error}") from None
        if step is Step.DONE:
            self.withdraw(inquiry)
            return
        if step is Step.OVER:
            inquiry.over.add(member)
        self._ask_next(inquiry, now_ms)

    def _ask_next(self, inquiry: Inquiry, now_ms: int) -> None:
        """Ask somebody else at once, unless all were asked already: then patience goes on."""
        left = [m for m in self._roster.members if m not in inquiry.asked | inquiry.over]
        if inquiry.width == 1 and left:
            inquiry.due_ms = now_ms

    def _drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
