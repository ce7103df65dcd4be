"""What answering others may cost: bytes per member and in all, so that one asker can neither amplify nor starve (R8)."""

from __future__ import annotations

from itertools import zip_longest

from swarm.device.admission import ClientAsk
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import (
    ANSWER_BYTES_BURST,
    ANSWER_BYTES_PER_MEMBER_BURST,
    ANSWER_BYTES_PER_MEMBER_PER_SECOND,
    ANSWER_BYTES_PER_SECOND,
    QUERIES_PER_TURN_MAX,
    QUESTIONS_PER_MEMBER_MAX,
)


class _Bucket:
    """Tokens are bytes; refilled by the time passed."""

    __slots__ = ("_at_ms", "_burst", "_rate", "tokens")

    def __init__(self, burst: int, rate_per_s: int, now_ms: int) -> None:
        self._burst = burst
        self._rate = rate_per_s
        self._at_ms = now_ms
        self.tokens = burst

    def refill(self, now_ms: int) -> None:
        passed = now_ms - self._at_ms
        if passed > 0:
            self.tokens = min(self._burst, self.tokens + passed * self._rate // 1000)
            self._at_ms = now_ms


class AnswerMeter:
    """A bucket per member and one for all; bounded by the members."""

    def __init__(self) -> None:
        """Start with full buckets."""
        self._all: _Bucket | None = None
        self._members: dict[DeviceId, _Bucket] = {}

    def spend(self, member: DeviceId, size: int, now_ms: int) -> bool:
        """Take `size` bytes for an answer to `member`; False, taking nothing, when there are too few."""
        whole, own = self._refilled(member, now_ms)
        if min(whole.tokens, own.tokens) < size:
            return False
        whole.tokens -= size
        own.tokens -= size
        return True

    def left(self, member: DeviceId, now_ms: int) -> int:
        """Return how many bytes an answer to `member` may have now."""
        return min(bucket.tokens for bucket in self._refilled(member, now_ms))

    def _refilled(self, member: DeviceId, now_ms: int) -> tuple[_Bucket, _Bucket]:
        whole = self._all
        if whole is None:
            whole = self._all = _Bucket(ANSWER_BYTES_BURST, ANSWER_BYTES_PER_SECOND, now_ms)
        own = self._members.get(member)
        if own is None:
            burst, rate = ANSWER_BYTES_PER_MEMBER_BURST, ANSWER_BYTES_PER_MEMBER_PER_SECOND
            own = self._members[member] = _Bucket(burst, rate, now_ms)
        whole.refill(now_ms)
        own.refill(now_ms)
        return whole, own


class Questions:
    """The light clients' questions of one turn: so many of each member, and so many in all, taken in turns."""

    def __init__(self) -> None:
        """Start without questions."""
        self._of: dict[DeviceId, list[ClientAsk]] = {}

    def put(self, question: ClientAsk) -> bool:
        """Keep a question; False when its sender has asked enough for one turn."""
        own = self._of.setdefault(question.sender, [])
        if len(own) >= QUESTIONS_PER_MEMBER_MAX:
            return False
        own.append(question)
        return True

    def chosen(self) -> tuple[list[ClientAsk], int]:
        """Return what to answer now, everybody's first question before anybody's second, and how many are left out."""
        rounds = zip_longest(*self._of.values())
        asked = [question for round in rounds for question in round if question is not None]
        return asked[:QUERIES_PER_TURN_MAX], max(0, len(asked) - QUERIES_PER_TURN_MAX)
