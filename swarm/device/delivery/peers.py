"""Whom to ask next: who answers quickest first, who fell silent or was slow later, who lied last and soon not at all.

No clock and no random number: times are given, and where peers are equal a seed orders them, so that a fleet does
not ask one peer as one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from swarm.crypto.digest import sha256
from swarm.primitives.ids import DeviceId

ASK_AGAIN_MS: Final = 3_000
"""Silence after a first question before it is put again, to somebody else where there is one."""

ASK_AGAIN_SOON_MS: Final = 1_000
"""The same for a peer that has answered before and quickly; else eight times what it took for one."""

SILENCE_MS_MAX: Final = 30_000
"""The longest such silence: it doubles for a peer with each one and follows the times the peer takes."""

SLOW_WINDOW_MS: Final = 30_000
SLOW_BYTES: Final = 30 * 1024
"""A peer that gave less in such a time with open questions is left for another: 1 KiB/s."""

_QUICK_MS: Final = 10
"""A peer that takes no longer for a chunk is asked for the next four when it has sent the last ones."""

_QUICK_WAIT_MS: Final = 20
"""But its open answers are not waited for longer than this before others are asked for beside them."""

_UNHEARD_MS: Final = 250
"""What a peer never heard is thought to take: it is tried where those that are known take longer."""

_PASSED_MAX: Final = 4
"""Answers to later questions after which an earlier one is lost: one topic keeps its order, nearly always."""

_BACK_OFF_MS: Final = 1_000
_BACK_OFF_MS_MAX: Final = 32_000


class Peer:
    """What this device knows of one peer by its answers for one release."""

    __slots__ = (
        "bad",
        "busy_from_ms",
        "busy_ms",
        "flights",
        "frames",
        "heard_ms",
        "id",
        "not_before_ms",
        "order",
        "refusals",
        "service_ms",
        "silent",
        "slow",
        "window_bytes",
    )

    def __init__(self, id: DeviceId, order: bytes) -> None:
        """Start without a word of it; `order` breaks ties."""
        self.id = id
        self.order = order
        self.flights: dict[int, Flight] = {}
        """What it was asked and did not yet answer, by chunk index or first leaf."""
        self.frames = 0
        """Signed answers taken of it."""
        self.bad = 0
        """Those of them that were wrong."""
        self.slow = 0
        self.silent = 0
        """Questions in a row without an answer."""
        self.refusals = 0
        self.not_before_ms = 0
        self.service_ms = -1
        """Smoothed time for one answer, -1 as long as there was none."""
        self.heard_ms = 0
        self.busy_from_ms = 0
        self.busy_ms = 0
        """Time with open questions in this window, up to the last change; the sum of all pieces is judged."""
        self.window_bytes = 0

    def patience_ms(self) -> int:
        """Return the silence after which an open question counts as lost."""
        base = ASK_AGAIN_MS if self.service_ms < 0 else max(ASK_AGAIN_SOON_MS, 8 * self.service_ms)
        return min(SILENCE_MS_MAX, base << min(self.silent, 4))

    def ask(self, key: int, now_ms: int) -> None:
        """Note a question."""
        self._pass_time(now_ms)
        self.flights[key] = Flight(now_ms)

    def forget(self, key: int, now_ms: int) -> None:
        """Wait for this answer no more."""
        self._pass_time(now_ms)
        self.flights.pop(key, None)

    def answer(self, key: int, size: int, now_ms: int) -> None:
        """Note an answer of `size` bytes that was wanted; one that comes late is no word against its silence."""
        self._pass_time(now_ms)
        self.frames += 1
        self.refusals = 0
        self.window_bytes += size
        flight = self.flights.pop(key, None)
        if flight is not None:
            self.silent = 0
            took = now_ms - max(flight.asked_ms, self.heard_ms)
            self.service_ms = took if self.service_ms < 0 else (7 * self.service_ms + took) // 8
            for older in self.flights.values():
                if older.asked_ms <= flight.asked_ms:
                    older.passed += 1
        self.heard_ms = now_ms

    def refuse(self, now_ms: int, jitter: int) -> None:
        """It does not have the release, or has too much to do: leave it alone for a while that doubles."""
        pause = min(_BACK_OFF_MS_MAX, _BACK_OFF_MS << min(self.refusals, 5))
        self.not_before_ms = now_ms + pause // 2 + jitter % (pause // 2)
        self.refusals += 1

    def will_answer_at_once(self, now_ms: int) -> bool:
        """Answer whether what is open will come before another question would be worth its signature and frame."""
        return 0 <= self.service_ms <= _QUICK_MS and now_ms < self._quick_until_ms()

    def _quick_until_ms(self) -> int:
        """Return until when what is open is waited for; -1 when nothing is."""
        last_ms = self.heard_ms
        for flight in self.flights.values():
            last_ms = max(last_ms, flight.asked_ms)
        return last_ms + _QUICK_WAIT_MS if self.flights else -1

    def is_in_order(self, now_ms: int) -> bool:
        """Answer whether `lost`, `is_silent` and `is_slow` have nothing to say; asked after every frame."""
        if not self.flights:
            return self.busy_ms < SLOW_WINDOW_MS
        if self.busy_ms + now_ms - self.busy_from_ms >= SLOW_WINDOW_MS:
            return False
        due = now_ms - self.patience_ms()
        has_spoken = self.heard_ms > due
        for flight in self.flights.values():
            if flight.passed >= _PASSED_MAX or not (has_spoken or flight.asked_ms > due):
                return False
        return True

    def lost(self, now_ms: int) -> list[int]:
        """Return the open questions that must count as lost: silence, or four later answers came first."""
        due = now_ms - self.patience_ms()
        return [
            key
            for key, flight in self.flights.items()
            if flight.passed >= _PASSED_MAX or max(flight.asked_ms, self.heard_ms) <= due
        ]

    def is_silent(self, now_ms: int) -> bool:
        """Answer whether it let its whole patience pass without a word to an open question."""
        due = now_ms - self.patience_ms()
        return any(max(flight.asked_ms, self.heard_ms) <= due for flight in self.flights.values())

    def is_slow(self, now_ms: int) -> bool:
        """Answer whether a window has passed with too few bytes; begins a new one whenever one has passed."""
        self._pass_time(now_ms)
        if self.busy_ms < SLOW_WINDOW_MS:
            return False
        given = self.window_bytes
        self.busy_ms = self.window_bytes = 0
        return given < SLOW_BYTES

    def wake_at_ms(self, now_ms: int) -> int | None:
        """Return when silence or slowness must be judged, None without open questions."""
        if not self.flights:
            return None
        if 0 <= self.service_ms <= _QUICK_MS:
            until_ms = self._quick_until_ms()
            if now_ms < until_ms:
                return until_ms
        patience = self.patience_ms()
        oldest = min(max(flight.asked_ms, self.heard_ms) for flight in self.flights.values())
        return min(oldest + patience, self.busy_from_ms + SLOW_WINDOW_MS - self.busy_ms)

    def _pass_time(self, now_ms: int) -> None:
        if self.flights:
            self.busy_ms += now_ms - self.busy_from_ms
        self.busy_from_ms = now_ms


class Flight:
    """One open question."""

    __slots__ = ("asked_ms", "passed")

    def __init__(self, asked_ms: int) -> None:
        """Asked at `asked_ms`."""
        self.asked_ms = asked_ms
        self.passed = 0
        """Answers to questions of that time or later which came first."""


class Peers:
    """The peers of one fetch, those that left included: what they did is not forgotten when they come back."""

    def __init__(self, seed: bytes, *, frames_max: int, bad_max: int) -> None:
        """Take of each peer at most `frames_max` answers and `bad_max` wrong ones."""
        self._seed = seed
        self.frames_max = frames_max
        self._bad_max = bad_max
        self._known: dict[DeviceId, Peer] = {}
        self._current: tuple[Peer, ...] = ()

    def set(self, ids: Sequence[DeviceId]) -> None:
        """Ask only these from now on."""
        self._current = tuple(self._peer(id) for id in dict.fromkeys(ids))

    def get(self, id: DeviceId) -> Peer | None:
        """Return a peer that was ever set."""
        return self._known.get(id)

    def __iter__(self) -> Iterator[Peer]:
        """Iterate over all peers that were ever set, in the order in which they came."""
        return iter(tuple(self._known.values()))

    def is_current(self, peer: Peer) -> bool:
        """Answer whether `peer` may be asked at all."""
        return peer in self._current

    def open(self) -> int:
        """Return how many questions are open in all."""
        count = 0
        for peer in self._known.values():
            count += len(peer.flights)
        return count

    def is_asked(self, key: int) -> bool:
        """Answer whether a question for `key` is open."""
        return any(key in peer.flights for peer in self._known.values())

    def forget(self, key: int, now_ms: int) -> None:
        """Wait for this answer no more, whoever was asked."""
        for peer in self._known.values():
            if key in peer.flights:
                peer.forget(key, now_ms)

    def choose(self, now_ms: int, *, flights_max: int) -> Peer | None:
        """Return whom to ask now, None when there is nobody.

        Honest ones before liars, then those that answer, then who will probably answer first. Of peers never heard
        one at a time is tried beside a known one.
        """
        usable: list[Peer] = []
        is_trying = has_known = False
        for peer in self._current:
            is_known = peer.service_ms >= 0
            is_trying |= not is_known and bool(peer.flights)
            if peer.not_before_ms > now_ms or len(peer.flights) >= flights_max or self.is_used_up(peer):
                continue
            usable.append(peer)
            has_known |= is_known and not (peer.bad or peer.slow or peer.silent)
        if is_trying and has_known:
            usable = [peer for peer in usable if peer.service_ms >= 0]
        if len(usable) == 1:
            return usable[0]
        return min(usable, key=_rank, default=None)

    def has_other(self, than: Peer, now_ms: int) -> bool:
        """Answer whether somebody else could be asked now who is not known as a liar."""
        return any(
            peer is not than and peer.not_before_ms <= now_ms and not peer.bad and not self.is_used_up(peer)
            for peer in self._current
        )

    def wake_at_ms(self, now_ms: int) -> int | None:
        """Return when somebody becomes usable again or must be judged."""
        first_ms: int | None = None
        for peer in self._known.values():
            at_ms = peer.wake_at_ms(now_ms)
            if at_ms is not None and (first_ms is None or at_ms < first_ms):
                first_ms = at_ms
        for peer in self._current:
            at_ms = peer.not_before_ms
            if at_ms > now_ms and (first_ms is None or at_ms < first_ms):
                first_ms = at_ms
        return first_ms

    def jitter(self, peer: Peer) -> int:
        """Return a number that differs from device to device and from refusal to refusal."""
        return int.from_bytes(sha256(self._seed, peer.order, peer.refusals.to_bytes(4, "big"))[:4], "big")

    def is_used_up(self, peer: Peer) -> bool:
        """Answer whether `peer` is never asked again."""
        return peer.bad >= self._bad_max or peer.frames >= self.frames_max

    def _peer(self, id: DeviceId) -> Peer:
        peer = self._known.get(id)
        if peer is None:
            peer = self._known[id] = Peer(id, sha256(self._seed, id.encode()))
        return peer


def _rank(peer: Peer) -> tuple[int, int, int, int, bytes]:
    service_ms = _UNHEARD_MS if peer.service_ms < 0 else peer.service_ms
    expected_ms = service_ms * (len(peer.flights) + 1)
    return peer.bad, peer.slow, peer.silent, expected_ms, peer.order
