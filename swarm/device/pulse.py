"""The heartbeat of a device (R11), and what it says of itself at each: what was refused, who has fallen silent."""

from __future__ import annotations

from swarm.consensus.replica import Replica
from swarm.device import events
from swarm.device.counters import Counter
from swarm.device.ledger import Ledger
from swarm.device.work import Work
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import SILENT_BEATS
from swarm.wire.messages import Heartbeat


class Pulse:
    """When to beat, and with what."""

    def __init__(self, replica: Replica, me: DeviceId, interval_ms: int, now_ms: int) -> None:
        """Beat every `interval_ms`, the first time at once."""
        self._replica = replica
        self._me = me
        self._interval_ms = interval_ms
        self._told_drops: dict[str, int] = {}
        self.due_ms = now_ms

    def is_due(self, now_ms: int) -> bool:
        """Answer whether it is time."""
        return now_ms >= self.due_ms

    def beat(self, counter: Counter, ledger: Ledger, now_ms: int) -> Heartbeat:
        """Return the heartbeat of now, and plan the next."""
        state = self._replica.state
        # The first beat comes at once, the later ones spread over the interval, so that a fleet does not beat as one.
        index = now_ms // self._interval_ms
        offset = state.jitter_ms(b"heartbeat", index, 0, self._interval_ms // 10)
        self.due_ms = now_ms + self._interval_ms - offset
        boot, n = counter.next()
        return Heartbeat(
            boot=boot,
            n=n,
            epoch=state.config.epoch,
            finalized_view=state.final_view,
            height=ledger.height,
            incarnation=ledger.sequences.high(self._me)[0],
            attest=state.own_attest,
            pending=len(state.pool.pending),
            oldest=next(iter(state.pool.pending), None),
        )

    def report(self, work: Work, counts: dict[str, int], heard: dict[DeviceId, int]) -> None:
        """Say what was refused since the last beat, so that a counter is seen without a debugger, and who is silent.

        A silent one is forgotten in `heard`, so that its next word is told as a first one.
        """
        fresh = tuple(
            (reason, count - self._told_drops.get(reason, 0))
            for reason, count in sorted(counts.items())
            if count > self._told_drops.get(reason, 0)
        )
        self._told_drops = dict(counts)
        if fresh:
            work.event(events.DROPPED, counts=fresh)
        since_ms = work.now_ms - SILENT_BEATS * self._interval_ms
        silent = tuple(sorted(device for device, at_ms in heard.items() if at_ms <= since_ms))
        for device in silent:
            del heard[device]
        if silent:
            work.event(events.SILENT, devices=silent)
