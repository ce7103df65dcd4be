"""Bad weather on received frames: the simulator's own network model stands between a real transport and its inbox.

Latency, loss, duplication, reordering, partitions and cuts apply to each received frame by its topic's sender, so that
both engines show the same scenario. The latency of the scenario comes on top of the real broker's, about two
milliseconds on loopback. What a device publishes is never touched: every receiver judges for itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from swarm.lab.processes.pipe import Weather
from swarm.lab.scenario.schema import Network
from swarm.lab.sim.network import SimNetwork
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import INBOX_BYTES_MAX, INBOX_FRAMES_MAX
from swarm.transport.transport import FULL_BYTES, FULL_FRAMES, Frame, Inbox, Outgoing, Transport

_MILLION: Final = 1_000_000


class _Gate(Inbox):
    """The inbox that the real transport fills; it keeps nothing and hands each frame on."""

    def __init__(self, receive: Callable[[Frame], None]) -> None:
        super().__init__()
        self._receive = receive

    def offer(self, frame: Frame) -> bool:
        self._receive(frame)
        return True


class ImpairedTransport:
    """A `Transport` whose received frames reach the inbox late, twice, out of order, or never.

    Built where an event loop runs. Frames on their way are bounded like an inbox; beyond, the newest is dropped and
    counted as it would be there.
    """

    def __init__(
        self, connect: Callable[[Inbox], Transport], inbox: Inbox, *, me: str, network: Network, seed: int
    ) -> None:
        """Make the real transport with `connect`, and draw from a generator of `seed`."""
        self._loop = asyncio.get_running_loop()
        self._me = me
        self._network = SimNetwork(network, seed)
        self._inbox = inbox
        self._flying: dict[asyncio.TimerHandle, None] = {}
        self._flying_bytes = 0
        self._inner = connect(_Gate(self._receive))

    def change_weather(self, weather: Weather) -> None:
        """Replace partition and cuts; frames on their way still arrive."""
        self._network.heal()
        if weather.partition is not None:
            self._network.partition(weather.partition)
        for cut in weather.cuts:
            self._network.cut(cut)

    @property
    def dropped(self) -> int:
        """Frames that the weather swallowed."""
        return self._network.dropped

    # ------------------------------------------------------------------------------ the port

    async def run(self) -> None:
        """Do as the real transport does."""
        await self._inner.run()

    def publish(self, outgoing: Outgoing) -> bool:
        """Publish unimpaired: bad weather is applied where frames arrive."""
        return self._inner.publish(outgoing)

    def listen_to(self, members: Iterable[DeviceId]) -> None:
        """Do as the real transport does."""
        self._inner.listen_to(members)

    async def close(self) -> None:
        """Forget what is on its way, and close."""
        for handle in self._flying:
            handle.cancel()
        self._flying.clear()
        await self._inner.close()

    def counters(self) -> Mapping[str, int]:
        """Return the real transport's counters, with what the real inbox dropped and `impaired_dropped`."""
        return {**self._inner.counters(), **self._inbox.dropped, "impaired_dropped": self._network.dropped}

    # ------------------------------------------------------------------------------ inwards

    def _receive(self, frame: Frame) -> None:
        now_us = int(self._loop.time() * _MILLION)
        for arrival_us in self._network.arrivals_us(frame.topic_sender, self._me, now_us):
            if arrival_us <= now_us:
                self._inbox.offer(frame)
            else:
                self._delay(frame, arrival_us)

    def _delay(self, frame: Frame, arrival_us: int) -> None:
        if len(self._flying) >= INBOX_FRAMES_MAX:
            self._inbox.dropped[FULL_FRAMES] += 1
            return
        if self._flying_bytes + len(frame.payload) > INBOX_BYTES_MAX:
            self._inbox.dropped[FULL_BYTES] += 1
            return

        def arrive() -> None:
            del self._flying[handle]
            self._flying_bytes -= len(frame.payload)
            self._inbox.offer(frame)

        handle = self._loop.call_at(arrival_us / _MILLION, arrive)
        self._flying[handle] = None
        self._flying_bytes += len(frame.payload)
