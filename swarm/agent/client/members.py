"""Whom a light client asks next, and what the voters claim: claims steer questions, they prove nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import SEQUENCE_WINDOW
from swarm.wire.genesis import Genesis
from swarm.wire.messages import AnswerWindow

TROUBLE_MS: Final = 2_000
"""For how long a member that sent something unbelievable is asked last; doubles each time."""

TROUBLE_MS_MAX: Final = 300_000

HEARD_MS: Final = 9_000
"""A member that answered within this time counts as up; while something is stuck all are asked every 3 s."""


class Roster:
    """The voters, who answer light clients: who answered when, and who is in trouble.

    Observers listen to voters only (CONTRACTS, "Topics"), so an operator's questions do not reach them.
    """

    def __init__(self, genesis: Genesis, me: DeviceId) -> None:
        """Start with everybody trusted alike; clients of different names begin with different voters."""
        voters = genesis.voter_ids
        first = sum(me.encode("ascii")) % len(voters)
        self._order = (*voters[first:], *voters[:first])
        self._rank = {member: rank for rank, member in enumerate(self._order)}
        self._heard_ms: dict[DeviceId, int] = {}
        self._trouble: dict[DeviceId, tuple[int, int]] = {}

    @property
    def members(self) -> tuple[DeviceId, ...]:
        """All members that can be asked."""
        return self._order

    def heard(self, member: DeviceId, now_ms: int) -> None:
        """Note a verified word of `member`."""
        self._heard_ms[member] = now_ms

    def blame(self, member: DeviceId, now_ms: int) -> None:
        """Ask `member` last for a while: its answer did not verify."""
        _, interval = self._trouble.get(member, (0, TROUBLE_MS // 2))
        interval = min(2 * interval, TROUBLE_MS_MAX)
        self._trouble[member] = (now_ms + interval, interval)

    def is_heard(self, member: DeviceId, now_ms: int) -> bool:
        """Answer whether `member` answered lately."""
        at = self._heard_ms.get(member)
        return at is not None and now_ms - at <= HEARD_MS

    def best(self, excluded: set[DeviceId], now_ms: int, offset: int) -> DeviceId | None:
        """Return whom to ask next: not in trouble, then heard lately, then in order from `offset`; None without any."""
        candidates = [member for member in self._order if member not in excluded]

        def key(member: DeviceId) -> tuple[bool, bool, int]:
            until = self._trouble.get(member, (0, 0))[0]
            rank = (self._rank[member] - offset) % len(self._order)
            return until > now_ms, not self.is_heard(member, now_ms), rank

        return min(candidates, key=key, default=None)


@dataclass(frozen=True, slots=True)
class Reliable:
    """What at least one honest voter stands for, because r+1 voters claim as much or more."""

    height: int
    high: int


class Claims:
    """The voters' answers to `window(me)`: how far the log is, and which sequence numbers of ours it used."""

    def __init__(self, genesis: Genesis) -> None:
        """Start without claims."""
        self._r = genesis.budget.r
        self._n = genesis.budget.n
        self._of: dict[DeviceId, AnswerWindow] = {}

    def take(self, voter: DeviceId, claim: AnswerWindow) -> None:
        """Keep the newest claim of a voter."""
        self._of[voter] = claim

    def clear(self) -> None:
        """Forget all claims: they are older than a question that just arose."""
        self._of.clear()

    @property
    def is_complete(self) -> bool:
        """Whether every voter has answered."""
        return len(self._of) == self._n

    def reliable(self) -> Reliable | None:
        """Return the height and number that r+1 voters reach, None before as many answered.

        One of them is honest, so the log really is that far; r liars alone cannot raise it beyond what an honest
        voter said.
        """
        if len(self._of) <= self._r:
            return None
        heights = sorted((claim.height for claim in self._of.values()), reverse=True)
        highs = sorted((claim.high for claim in self._of.values()), reverse=True)
        return Reliable(heights[self._r], highs[self._r])

    def agreed_high(self) -> int | None:
        """Return the highest used number that r+1 voters name alike (PROTOCOL section 6), None without such."""
        counts: dict[int, int] = {}
        for claim in self._of.values():
            counts[claim.high] = counts.get(claim.high, 0) + 1
        return max((high for high, count in counts.items() if count > self._r), default=None)


def sequence_after_loss(high: int) -> int:
    """Return up to which number a client that lost its file must count everything as used.

    It kept fewer than 1,024 outstanding, so it signed nothing above high + 1023, and high + 1024 is still in the
    window: the one number that was surely never signed and surely counts.
    """
    return high + SEQUENCE_WINDOW - 1
