"""The port between a device and whatever carries its frames, with the two bounded queues every adapter needs.

A transport moves bytes and promises nothing: frames may be lost, late, doubled, out of order, or forged. What is
promised is here: nothing grows without bound, and everything that is thrown away is counted under a reason.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from swarm.primitives import limits
from swarm.primitives.ids import DeviceId
from swarm.transport.topics import Scope


@dataclass(frozen=True, slots=True)
class Frame:
    """One payload as received. `topic_sender` is what the topic claims, to be compared with the signer."""

    topic_sender: DeviceId
    scope: Scope
    payload: bytes


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One payload to send; `dest` is given exactly for `Scope.TO`. `bulk` leaves only while nothing else waits.

    `repeated` is sent anew by whoever sends it when nothing comes of it: no acknowledgement is asked of the broker.
    """

    scope: Scope
    dest: DeviceId | None
    payload: bytes
    bulk: bool = False
    repeated: bool = False


class Link(StrEnum):
    """What can be said about the connection to the broker."""

    CONNECTED = "connected"
    UNREACHABLE = "unreachable"
    LOST = "lost"
    REFUSED = "refused"
    SUBSCRIPTION_REFUSED = "subscription_refused"


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """A change worth telling: the kind, and the reason in words for people."""

    link: Link
    reason: str = ""


class Transport(Protocol):
    """What the agent needs from a carrier of frames. All methods are called from one event loop."""

    async def run(self) -> None:
        """Keep the connection up until `close` or cancellation; never returns because of the broker."""
        ...

    def publish(self, outgoing: Outgoing) -> bool:
        """Queue one frame and return at once; False if it can never be sent (too large) and was counted.

        True means nothing but "queued": no answer of a broker is ever taken for a delivery.
        """
        ...

    def listen_to(self, members: Iterable[DeviceId]) -> None:
        """Replace the members to listen to, as soon as there is a connection."""
        ...

    async def close(self) -> None:
        """Say goodbye if connected, and make `run` return."""
        ...

    def counters(self) -> Mapping[str, int]:
        """Return how many frames were sent, received and thrown away, by reason, since the start."""
        ...


FULL_FRAMES: Final = "inbox_full_frames"
FULL_BYTES: Final = "inbox_full_bytes"


class Inbox:
    """Frames waiting for the next turn, bounded by number and by bytes.

    A full inbox drops the newest: what is already waiting came first and will be looked at first, and a flood
    cannot push an honest frame out. Dropped frames are counted in `dropped` by reason.
    """

    def __init__(
        self,
        *,
        frames_max: int = limits.INBOX_FRAMES_MAX,
        bytes_max: int = limits.INBOX_BYTES_MAX,
        wake: Callable[[], None] | None = None,
    ) -> None:
        """Start empty. `wake` is called whenever a frame arrives in an empty inbox (it must not raise)."""
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self._wake = wake
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._waiting = asyncio.Event()
        self.dropped: dict[str, int] = {FULL_FRAMES: 0, FULL_BYTES: 0}

    def __len__(self) -> int:
        """Return how many frames wait."""
        return len(self._frames)

    def offer(self, frame: Frame) -> bool:
        """Take `frame` in, or drop and count it and return False."""
        if len(self._frames) >= self._frames_max:
            self.dropped[FULL_FRAMES] += 1
            return False
        if self._bytes + len(frame.payload) > self._bytes_max:
            self.dropped[FULL_BYTES] += 1
            return False
        self._bytes += len(frame.payload)
        self._frames.append(frame)
        if len(self._frames) == 1:
            self._waiting.set()
            if self._wake is not None:
                self._wake()
        return True

    def take_all(self, frames_max: int) -> list[Frame]:
        """Remove and return the oldest frames, at most `frames_max` of them, without waiting."""
        taken = [self._frames.popleft() for _ in range(min(frames_max, len(self._frames)))]
        self._bytes -= sum(len(frame.payload) for frame in taken)
        if not self._frames:
            self._waiting.clear()
        return taken

    async def wait(self) -> None:
        """Return when at least one frame waits."""
        await self._waiting.wait()


class Outbox:
    """Frames waiting for the broker, bounded by number and by bytes; the oldest is dropped and counted.

    The opposite choice to `Inbox`: what a device said last makes what it said before less useful, and whatever is
    still needed is sent again by the protocol (PROTOCOL R8). Bulk waits apart, with bounds of its own: it can neither
    push a vote out nor be in front of one.
    """

    def __init__(
        self, *, frames_max: int = limits.OUTBOX_FRAMES_MAX, bytes_max: int = limits.OUTBOX_BYTES_MAX
    ) -> None:
        """Start empty."""
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self._queue: asyncio.Queue[Outgoing] = asyncio.Queue()
        self._bytes = 0
        self._bulk: deque[Outgoing] = deque()
        self._bulk_may_leave = asyncio.Event()
        self.dropped = 0
        self.bulk_dropped = 0

    def __len__(self) -> int:
        """Return how many frames wait."""
        return self._queue.qsize() + len(self._bulk)

    @property
    def holds_bulk_only(self) -> bool:
        """Whether a frame that is no bulk would be the next to leave."""
        return not self._queue.qsize()

    def put(self, outgoing: Outgoing) -> None:
        """Queue `outgoing`, at the cost of the oldest ones of its kind where it does not fit."""
        if outgoing.bulk:
            if len(self._bulk) >= limits.OUTBOX_BULK_FRAMES_MAX:
                self._bulk.popleft()
                self.bulk_dropped += 1
            self._bulk.append(outgoing)
        else:
            size = len(outgoing.payload)
            while self._queue.qsize() >= self._frames_max or (
                self._bytes + size > self._bytes_max and self._bytes
            ):
                self._bytes -= len(self._queue.get_nowait().payload)
                self.dropped += 1
            self._bytes += size
            self._queue.put_nowait(outgoing)
        self._look()

    async def get(self) -> Outgoing:
        """Remove and return the oldest frame that is no bulk, waiting for one if need be."""
        outgoing = await self._queue.get()
        self._bytes -= len(outgoing.payload)
        self._look()
        return outgoing

    async def get_bulk(self) -> Outgoing:
        """Remove and return the oldest bulk frame, waiting until there is one and nothing else waits."""
        while True:
            await self._bulk_may_leave.wait()
            # Of several who waited, the first may have taken the last one, or a vote may have come since.
            if self._bulk and not self._queue.qsize():
                outgoing = self._bulk.popleft()
                self._look()
                return outgoing

    def drop_bulk(self) -> None:
        """Forget all bulk, and count it: whoever asked for it asks again."""
        self.bulk_dropped += len(self._bulk)
        self._bulk.clear()
        self._look()

    def _look(self) -> None:
        if self._bulk and not self._queue.qsize():
            self._bulk_may_leave.set()
        else:
            self._bulk_may_leave.clear()
