"""Firmware chunks through an agent's own connection: the two sides of delivery as they ship, on an image in memory.

It stands between the agent's inbox and its transport, so chunks and votes share a socket, an event loop and a core as
they do in a device whose rollout runs; only the rollout itself, which says who fetches when, is left out. The measuring
stick is the same transport with frames of the same size, unsigned and unread.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Final

from swarm.agent.agent import Agent
from swarm.agent.build import WrapTransport
from swarm.crypto.keys import KeyPair
from swarm.crypto.merkle import leaf_hash
from swarm.crypto.signing import verify
from swarm.device.admission import DELIVERY_ASKS, Admission, DeliveryAnswer, DeliveryAsk, Expected
from swarm.device.counters import Counter
from swarm.device.delivery.fetcher import Fetcher
from swarm.device.delivery.leaves import root_of
from swarm.device.delivery.server import ChunkServer, Read
from swarm.device.firmware.operations import ReadLeaves
from swarm.device.outbox import Outbox
from swarm.device.turn import FrameIn
from swarm.device.verifier import Verifier
from swarm.install.port import Bitmap, InstallPlan
from swarm.primitives.errors import DecodeError, InvariantError
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import CHUNK_BYTES_MAX, OUTBOX_BULK_FRAMES_MAX
from swarm.transport.topics import Scope
from swarm.transport.transport import Frame, Inbox, Outgoing, Transport
from swarm.wire.messages import Answer, ChunkItem, Envelope, decode_frame, decode_request, encode_frame
from swarm.wire.statements import Kind

CHUNK_BYTES: Final = CHUNK_BYTES_MAX

_STICK: Final = b"\xc1"
"""Begins a frame of the measuring stick; no message of the protocol begins so."""

_CHUNK_FRAME: Final = encode_frame(
    (ChunkItem(Envelope(kind=Kind.ANSWER, sender="x", body=b"", signature=bytes(64)), b""),)
)[:3]
"""Begins a frame of one chunk: a list of one, the item's list, its tag."""

_STICK_AHEAD: Final = OUTBOX_BULK_FRAMES_MAX - 4
"""Frames of the stick on their way: the outbox never runs empty, and drops nothing."""


@cache
def image_of(size: int) -> bytes:
    """Return the image that all processes of a measurement know."""
    return hashlib.shake_128(b"swarm bench").digest(size)


@cache
def leaves_of(size: int) -> tuple[bytes, ...]:
    """Return its leaves."""
    image = image_of(size)
    return tuple(leaf_hash(image[at : at + CHUNK_BYTES]) for at in range(0, size, CHUNK_BYTES))


@cache
def plan_of(size: int) -> InstallPlan:
    """Return what the log would say of it; each fetch makes a release of its own of that."""
    leaves = leaves_of(size)
    digest = hashlib.sha256(image_of(size)).digest()
    return InstallPlan(
        release=digest,
        number=1,
        version="1",
        counter=0,
        vendor=bytes(16),
        device_class=bytes(16),
        file_bytes=size,
        file_digest=digest,
        image_digest=digest,
        chunk_bytes=CHUNK_BYTES,
        chunk_count=len(leaves),
        chunk_root=root_of(leaves),
    )


def release_of(size: int, number: int) -> InstallPlan:
    """Return release `number` of the image."""
    return replace(plan_of(size), release=hashlib.sha256(b"%d" % number).digest())


class _Sorter(Inbox):
    """Passes on to the agent what is not the station's."""

    def __init__(self, into: Inbox, take: Callable[[Frame], bool]) -> None:
        super().__init__()
        self._into = into
        self._take = take
        # One counter for both: what the agent's own inbox drops is what its transport reports.
        self.dropped = into.dropped

    def offer(self, frame: Frame) -> bool:
        return self._take(frame) or self._into.offer(frame)


class ChunkStation:
    """Serves or fetches for one agent under measurement. `wrap` goes into `build_agent`, `join` comes after it."""

    def __init__(self) -> None:
        """Do nothing before the first order."""
        self.wrap: WrapTransport = self._wrap
        self._transport: Transport | None = None
        self._frames: deque[Frame] = deque()
        self._wake = asyncio.Event()
        self._server: ChunkServer | None = None
        self._fetcher: Fetcher | None = None
        self._disk = bytearray()
        """Written before by `prepare`: no page of it is new to the kernel while a fetch is timed."""
        self._present: set[int] = set()
        self._done = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at_ms = 0
        self._due_ms: int | None = None
        self._stick_bytes = 0
        self._stick_began = 0.0
        self._leaves: tuple[bytes, ...] = ()
        self._image = b""

    def join(self, agent: Agent, keypair: KeyPair) -> None:
        """Take part in the traffic of the agent; counters of its own do, for only other stations hear them."""
        replica, genesis = agent.device.replica, agent.genesis
        self._me = agent.me
        self._outbox = Outbox(genesis.id, agent.me, keypair, Counter(agent.device.boot))
        self._admission = Admission(genesis, agent.me, replica, Verifier(genesis, verify), self._expects)

    # ------------------------------------------------------------------------------ orders

    async def run(self) -> None:
        """Work until cancelled, as an agent takes its turns: all that waits, what follows from it, and one timer."""
        while True:
            self._wake_at(self._turn())
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(0)

    def _wake_at(self, at_ms: int | None) -> None:
        """Arm the timer; one that rings too early is left alone, as in an agent."""
        self._due_ms = at_ms
        if at_ms is None or (self._timer is not None and self._rings_at_ms <= at_ms):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at_ms = at_ms
        pause_s = max(0, at_ms - _now_ms()) / 1000
        self._timer = asyncio.get_running_loop().call_later(pause_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._due_ms is not None and self._due_ms > _now_ms():
            self._wake_at(self._due_ms)
        else:
            self._wake.set()

    def prepare(self, size: int) -> None:
        """Make the image, and room for a fetched one, before anything is timed."""
        plan_of(size)
        self._disk = bytearray(b"\xff") * size

    def check(self, size: int) -> None:
        """Compare what was fetched with the image, when nothing is timed any more; `InvariantError` when it differs."""
        if self._disk != image_of(size):
            raise InvariantError("a wrong image was fetched")
        # What is there again after the next fetch was fetched again.
        self._disk[:] = bytes(size)

    def offer(self, size: int, number: int, bytes_per_s: int | None) -> None:
        """Serve a release from now on."""
        plan = release_of(size, number)
        self._image, self._leaves = image_of(size), leaves_of(size)
        self._server = ChunkServer(bytes_per_s=bytes_per_s, now_ms=_now_ms())
        self._server.offer(plan.release, "booted", plan)

    async def fetch(self, size: int, number: int, peer: DeviceId, seconds: float) -> tuple[int, float]:
        """Fetch a release from `peer` for `seconds` at most; returns the bytes and the time it took."""
        plan = release_of(size, number)
        self._present = set()
        self._done.clear()
        seed = self._me.encode()
        self._fetcher = Fetcher(plan, Bitmap.of(plan.chunk_count, set()), now_ms=_now_ms(), seed=seed)
        self._fetcher.set_peers((peer,))
        began = time.monotonic()
        self._wake.set()
        try:
            async with asyncio.timeout(seconds):
                await self._done.wait()
        except TimeoutError:
            pass
        took_s = time.monotonic() - began
        self._fetcher = None
        return sum(map(plan.length_of, self._present)), took_s

    async def send_stick(self, size: int, peers: tuple[DeviceId, ...]) -> None:
        """Send frames as large as a chunk's, `size` bytes to each of `peers`, as fast as the transport takes them."""
        transport = self._connected()
        payload = _STICK + bytes(CHUNK_BYTES - 1)
        base = transport.counters()["published"]
        sent = 0
        for _ in range(0, size, CHUNK_BYTES):
            for peer in peers:
                while sent - (transport.counters()["published"] - base) >= _STICK_AHEAD:  # noqa: ASYNC110  -- the port has no event for it
                    await asyncio.sleep(0.001)
                transport.publish(Outgoing(Scope.TO, peer, payload, bulk=True))
                sent += 1

    async def take_stick(self, size: int) -> float:
        """Wait until `size` bytes of the stick have come, some perhaps before this order; returns the seconds.

        Counted from the first frame, which favours the stick by one frame.
        """
        while self._stick_bytes < size:
            self._done.clear()
            await self._done.wait()
        self._stick_bytes -= size
        return time.monotonic() - self._stick_began

    # ------------------------------------------------------------------------------ parts

    def _wrap(self, connect: Callable[[Inbox], Transport], inbox: Inbox) -> Transport:
        self._transport = connect(_Sorter(inbox, self._take))
        return self._transport

    def _connected(self) -> Transport:
        if self._transport is None:
            raise InvariantError("the agent was built without `wrap`")
        return self._transport

    def _take(self, frame: Frame) -> bool:
        if frame.scope is not Scope.TO:
            return False
        if not frame.payload.startswith(_STICK) and not _is_delivery(frame.payload):
            return False
        self._frames.append(frame)
        self._wake.set()
        return True

    def _expects(self, sender: DeviceId, answer: Answer) -> Expected:
        return Expected.NO if self._fetcher is None else self._fetcher.expects(sender, answer)

    def _turn(self) -> int | None:
        now_ms = _now_ms()
        while self._frames:
            frame = self._frames.popleft()
            if frame.payload.startswith(_STICK):
                self._count_stick(frame)
                continue
            for admitted in self._admission.admit(FrameIn(frame.topic_sender, frame.scope, frame.payload)):
                match admitted:
                    case DeliveryAsk(sender=sender, request=request) if self._server is not None:
                        self._server.ask(sender, request, now_ms)
                    case DeliveryAnswer(sender=sender, answer=answer) if self._fetcher is not None:
                        self._fetcher.on_answer(sender, answer, now_ms)
                    case _:
                        pass
        times = [self._serve(now_ms), self._go_on(now_ms)]
        for frame_out in self._outbox.take():
            to, payload = frame_out.to, frame_out.payload
            out = Outgoing(frame_out.scope, to, payload, frame_out.bulk, frame_out.repeated)
            self._connected().publish(out)
        return min((at_ms for at_ms in times if at_ms is not None), default=None)

    def _count_stick(self, frame: Frame) -> None:
        if not self._stick_bytes:
            self._stick_began = time.monotonic()
        self._stick_bytes += len(frame.payload)
        self._done.set()

    def _serve(self, now_ms: int) -> int | None:
        server = self._server
        if server is None:
            return None
        while True:
            step = server.advance(now_ms)
            for to, request, content in step.answers:
                self._outbox.answer(to, request, content)
            for read in step.reads:
                server.on_read(read, self._read(read), now_ms)
            if not step.reads:
                return step.wake_at_ms

    def _read(self, read: Read) -> bytes | tuple[bytes, ...]:
        if isinstance(read, ReadLeaves):
            return self._leaves
        return self._image[read.offset : read.offset + read.count]

    def _go_on(self, now_ms: int) -> int | None:
        fetcher = self._fetcher
        while fetcher is not None:
            step = fetcher.advance(now_ms)
            for peer, ask in step.asks:
                fetcher.asked(peer, ask, *self._outbox.ask(peer, ask))
            if step.done:
                self._done.set()
            if not step.has_write:
                return step.wake_at_ms
            for index, data in step.writes:
                self._disk[index * CHUNK_BYTES : index * CHUNK_BYTES + len(data)] = data
                self._present.add(index)
            fetcher.on_written(Bitmap.of(fetcher.plan.chunk_count, self._present))
        return None


def _is_delivery(payload: bytes) -> bool:
    # A device decodes a frame once, at the door.
    if payload.startswith(_CHUNK_FRAME):
        return True
    try:
        (item,) = decode_frame(payload)
        if not isinstance(item, Envelope):
            return False
        if item.kind == Kind.ANSWER:
            return True
        return item.kind == Kind.REQUEST and isinstance(decode_request(item.body).ask, DELIVERY_ASKS)
    except (DecodeError, ValueError):
        return False


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
