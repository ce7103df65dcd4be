"""An image that a light client serves to voters who ask for it: the release server is only one more peer.

The pure `ChunkServer` of the devices answers, from memory. Every chunk is checked by whoever gets it, so nobody has to
trust this end; what it costs is bounded as on a device.
"""

from __future__ import annotations

from swarm.crypto.merkle import leaf_hash
from swarm.device.counters import ReplayWindows
from swarm.device.delivery.server import ChunkServer, Read, ServeCounts
from swarm.device.firmware.operations import ReadChunk
from swarm.device.outbox import Outbox
from swarm.device.verifier import Verifier
from swarm.install.port import InstallPlan
from swarm.primitives.errors import DecodeError
from swarm.primitives.ids import DeviceId
from swarm.wire.messages import AskChunks, AskLeaves, Envelope, decode_request


class Shelf:
    """At most one image, and who asks for it."""

    def __init__(self, me: DeviceId, verifier: Verifier, outbox: Outbox) -> None:
        """Offer nothing yet; answer in the name of `me`."""
        self._me = me
        self._verifier = verifier
        self._outbox = outbox
        self._windows = ReplayWindows()
        self._server: ChunkServer | None = None
        self._image = b""
        self._wake_at_ms: int | None = None

    @property
    def counts(self) -> ServeCounts:
        """What was served since the start."""
        return ServeCounts() if self._server is None else self._server.counts

    @property
    def wake_at_ms(self) -> int | None:
        """When `advance` has something to do again."""
        return self._wake_at_ms

    def offer(self, plan: InstallPlan, image: bytes, bytes_per_s: int | None, now_ms: int) -> None:
        """Serve `image` as the release of `plan`, instead of what was served before."""
        self._server = ChunkServer(bytes_per_s=bytes_per_s, now_ms=now_ms)
        self._server.offer(plan.release, "sealed", plan)
        self._image = image

    def on_request(self, envelope: Envelope, now_ms: int) -> None:
        """Take a member's question. Raises `DecodeError` for one that is no business of ours; the caller counts it."""
        if self._server is None:
            raise DecodeError("unwanted-item")
        request = decode_request(envelope.body)
        if request.to != self._me:
            raise DecodeError("not-for-me")
        if not isinstance(request.ask, AskLeaves | AskChunks):
            raise DecodeError("unwanted-item")
        if not self._windows.is_fresh(envelope.sender, envelope.kind, request.boot, request.n):
            raise DecodeError("replayed")
        if not self._verifier.envelope(envelope):
            raise DecodeError("bad-signature")
        self._windows.use(envelope.sender, envelope.kind, request.boot, request.n)
        self._server.ask(envelope.sender, request, now_ms)

    def advance(self, now_ms: int) -> None:
        """Queue every answer that is due."""
        server = self._server
        while server is not None:
            step = server.advance(now_ms)
            for to, request, content in step.answers:
                self._outbox.answer(to, request, content)
            for read in step.reads:
                server.on_read(read, self._read(read), now_ms)
            self._wake_at_ms = step.wake_at_ms
            if not step.reads:
                return

    def _read(self, read: Read) -> bytes | tuple[bytes, ...]:
        if isinstance(read, ReadChunk):
            return self._image[read.offset : read.offset + read.count]
        starts = range(0, len(self._image), read.chunk_bytes)
        return tuple(leaf_hash(self._image[at : at + read.chunk_bytes]) for at in starts)
