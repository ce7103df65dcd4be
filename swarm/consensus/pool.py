"""Submissions in memory: what is pending, what proposed blocks need, and what this device itself submitted."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.primitives.limits import (
    BLOCK_BYTES_MAX,
    BLOCK_SUBMISSIONS_MAX,
    POOL_BYTES_MAX,
    POOL_BYTES_PER_ORIGIN_MAX,
    POOL_PER_ORIGIN_MAX,
    POOL_SUBMISSIONS_MAX,
)
from swarm.wire.messages import Submission
from swarm.wire.sequence import Sequences, Verdict

Slot = tuple[str, int, int]


@dataclass(slots=True)
class Resend:
    """When an own submission is published next, and how often it was (R8)."""

    due_ms: int
    attempt: int


class Pool:
    """Submissions by id, in order of arrival. One pending entry per (origin, incarnation, sequence): the first.

    Bytes fetched for a certified or proposed block bypass that slot (R9), else two contents under one number would
    split the voters; they are held until the block is delivered or its view is finalized past.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.entries: dict[bytes, Submission] = {}
        self.pending: dict[bytes, None] = {}
        self.own: dict[bytes, Resend] = {}
        self._slots: dict[Slot, bytes] = {}
        self._per_origin: dict[str, tuple[int, int]] = {}
        """(count, bytes) of what is pending."""
        self._bytes = 0
        self.refused = 0

    def __len__(self) -> int:
        """Return how many submissions are held."""
        return len(self.entries)

    def admits(self, submission: Submission, *, held: bool = False) -> bool:
        """Answer whether a submission would be made pending: its slot is free and no cap is reached.

        `held` says that its bytes are here already, for a block.
        """
        body = submission.body
        if (not held and submission.id in self.entries) or (
            body.origin,
            body.incarnation,
            body.sequence,
        ) in self._slots:
            return False
        count, size = self._per_origin.get(body.origin, (0, 0))
        return (
            len(self.pending) < POOL_SUBMISSIONS_MAX
            and count < POOL_PER_ORIGIN_MAX
            and size + len(submission.raw) <= POOL_BYTES_PER_ORIGIN_MAX
            and self._bytes + len(submission.raw) <= POOL_BYTES_MAX
        )

    def add(self, submission: Submission, sequences: Sequences, height: int, *, own: bool = False) -> bool:
        """Keep a fresh submission if it is pending on the state at `height`; answers whether it was kept.

        Own submissions pass the caps: the device signs fewer than 1,024 outstanding ones, and what it signed it keeps.
        """
        if submission.id in self.entries:
            return False
        if not own and not self.admits(submission):
            self.refused += 1
            return False
        if sequences.judge(submission.body, height + 1) is not Verdict.COUNTS:
            return False
        self.entries[submission.id] = submission
        self._await(submission)
        return True

    def pin(
        self, submission: Submission, sequences: Sequences, height: int, *, is_final: bool = False
    ) -> None:
        """Keep the bytes that a proposed or certified block needs, whatever stands in the slot.

        Those of a final block (`is_final`) wait for delivery only; they are not pending, else who catches up on an
        idle swarm would have work and skip views.
        """
        if submission.id in self.entries:
            return
        self.entries[submission.id] = submission
        body = submission.body
        slot = (body.origin, body.incarnation, body.sequence)
        if is_final or slot in self._slots or not self.admits(submission, held=True):
            return
        if sequences.judge(body, height + 1) is Verdict.COUNTS:
            self._await(submission)

    def remove(self, digest: bytes) -> None:
        """Forget a submission: it was delivered, or nothing needs it any more."""
        submission = self.entries.pop(digest, None)
        if submission is None:
            return
        self._settle(submission)

    def judge_again(self, sequences: Sequences, height: int, needed: set[bytes]) -> None:
        """Re-judge what is pending after a block; drop what became a no-op unless a block in flight needs it."""
        for digest in list(self.pending):
            if sequences.judge(self.entries[digest].body, height + 1) is not Verdict.COUNTS:
                self._settle(self.entries[digest])
                self.own.pop(digest, None)
                if digest not in needed:
                    self.remove(digest)

    def drop_unneeded(self, needed: set[bytes]) -> None:
        """Forget pinned bytes that no block in flight needs and that are not pending."""
        for digest in [d for d in self.entries if d not in self.pending and d not in needed]:
            self.remove(digest)

    def select(self, sequences: Sequences, height: int) -> tuple[Submission, ...]:
        """Return what a block of `height` after the state `sequences` would apply, oldest first, within the caps.

        `sequences` is a copy that this call uses up.
        """
        chosen: list[Submission] = []
        size = 0
        for digest in self.pending:
            submission = self.entries[digest]
            if size + len(submission.raw) > BLOCK_BYTES_MAX:
                continue
            if sequences.judge(submission.body, height) is not Verdict.COUNTS:
                continue
            sequences.apply(submission.body, height)
            chosen.append(submission)
            size += len(submission.raw)
            if len(chosen) == BLOCK_SUBMISSIONS_MAX:
                break
        return tuple(chosen)

    def _await(self, submission: Submission) -> None:
        """Make it pending. Caps count what is pending: bytes of blocks in flight are bounded by those blocks."""
        body = submission.body
        count, size = self._per_origin.get(body.origin, (0, 0))
        self._per_origin[body.origin] = (count + 1, size + len(submission.raw))
        self._bytes += len(submission.raw)
        self._slots[body.origin, body.incarnation, body.sequence] = submission.id
        self.pending[submission.id] = None

    def _settle(self, submission: Submission) -> None:
        """End its being pending, if it was."""
        if submission.id not in self.pending:
            return
        del self.pending[submission.id]
        body = submission.body
        count, size = self._per_origin.pop(body.origin)
        if count > 1:
            self._per_origin[body.origin] = (count - 1, size - len(submission.raw))
        self._bytes -= len(submission.raw)
        del self._slots[body.origin, body.incarnation, body.sequence]
