"""Images, plans, and a small world of one fetcher and its peers in virtual time: no signatures, no network."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from random import Random

from swarm.crypto.merkle import leaf_hash
from swarm.device.admission import Expected
from swarm.device.delivery.fetcher import Fetcher, FetchNote, FetchStep
from swarm.device.delivery.leaves import root_of
from swarm.device.delivery.server import ChunkServer, Read
from swarm.device.firmware.operations import ReadLeaves
from swarm.install.port import Bitmap, InstallPlan
from swarm.primitives.limits import CHUNK_BYTES_MIN
from swarm.wire.codec import encode
from swarm.wire.messages import (
    Answer,
    AnswerChunk,
    Answered,
    AnswerLeaves,
    AskChunks,
    AskLeaves,
    Request,
    decode_answer,
    decode_request,
    with_data,
    without_data,
)

ME = "dev-9"
RELEASE = b"R" * 32


@cache
def image_of(size: int, seed: str = "image") -> bytes:
    """Return the bytes of an image."""
    return hashlib.shake_128(seed.encode()).digest(size)


@cache
def leaves_of(image: bytes, chunk_bytes: int = CHUNK_BYTES_MIN) -> tuple[bytes, ...]:
    """Return the leaf hashes of an image."""
    return tuple(leaf_hash(image[at : at + chunk_bytes]) for at in range(0, len(image), chunk_bytes))


@cache
def plan_of(image: bytes, *, chunk_bytes: int = CHUNK_BYTES_MIN, release: bytes = RELEASE) -> InstallPlan:
    """Return what the log says of an image."""
    leaves = leaves_of(image, chunk_bytes)
    return InstallPlan(
        release=release,
        number=2,
        version="2",
        counter=0,
        vendor=bytes(16),
        device_class=bytes(16),
        file_bytes=len(image),
        file_digest=hashlib.sha256(image).digest(),
        image_digest=hashlib.sha256(image).digest(),
        chunk_bytes=chunk_bytes,
        chunk_count=len(leaves),
        chunk_root=root_of(leaves),
    )


def chunk(release: bytes, index: int, data: bytes, path: tuple[bytes, ...] = ()) -> AnswerChunk:
    """Return an answer with a chunk whose signer means these bytes."""
    return AnswerChunk(release=release, index=index, leaf=leaf_hash(data), path=path, data=data)


def chunk_of(image: bytes, plan: InstallPlan, index: int) -> bytes:
    """Return one chunk of an image."""
    at = index * plan.chunk_bytes
    return image[at : at + plan.length_of(index)]


def read(image: bytes, wanted: Read) -> bytes | tuple[bytes, ...]:
    """Return what a sound medium gives."""
    if isinstance(wanted, ReadLeaves):
        return leaves_of(image, wanted.chunk_bytes)
    return image[wanted.offset : wanted.offset + wanted.count]


@dataclass
class Medium:
    """What the fetcher writes to; a crash keeps it."""

    plan: InstallPlan
    durable: dict[int, bytes] = field(default_factory=dict)
    checkpoints: list[tuple[int, int]] = field(default_factory=list)
    """(time, chunks made durable)."""
    in_order: bool = False

    def have(self) -> Bitmap:
        return Bitmap.of(self.plan.chunk_count, set(self.durable))

    def write(self, step: FetchStep, now_ms: int) -> Bitmap:
        """Carry one step out; every chunk must be right, new, and in order where that is demanded."""
        assert step.checkpoint, "nothing is written and left unsynced"
        for index, data in step.writes:
            assert index not in self.durable
            if self.in_order:
                assert index == len(self.durable)
            self.durable[index] = data
        self.checkpoints.append((now_ms, len(step.writes)))
        return self.have()

    def image(self) -> bytes:
        return b"".join(self.durable[index] for index in sorted(self.durable))


Lie = Callable[[Answer], list[Answer]]
"""What a peer sends in place of an honest answer."""


@dataclass
class World:
    """One fetcher, its peers as real servers, and a network that loses, doubles and delays as it is told.

    Answers pass the wire's codec both ways. `lies` replaces a peer's answers. `delay` gives the times at which copies of one message arrive
    (none = lost), for each message anew.
    """

    image: bytes
    peers: tuple[str, ...]
    plan: InstallPlan
    lies: dict[str, Lie] = field(default_factory=dict)
    delay: Callable[[str], list[int]] = lambda _peer: [1]
    in_order: bool = False
    paths: bool = False
    now_ms: int = 0
    seed: bytes = b"seed"

    def __post_init__(self) -> None:
        self.medium = Medium(self.plan, in_order=self.in_order)
        self.servers = {peer: ChunkServer(bytes_per_s=None, now_ms=self.now_ms) for peer in self.peers}
        for server in self.servers.values():
            server.offer(self.plan.release, "sealed", self.plan)
        self.notes: list[FetchNote] = []
        self.asked: dict[str, list[AskLeaves | AskChunks]] = {peer: [] for peer in self.peers}
        self.accepted: dict[str, int] = dict.fromkeys(self.peers, 0)
        """Chunks and leaf lists of each peer that passed the door."""
        self.down: set[str] = set()
        self.boot = 0
        self._n = count(1)
        self._queue: list[tuple[int, int, str, Request | Answer]] = []
        self._tie = count()
        self._heard: set[tuple[int, int]] = set()
        self.start()

    def start(self) -> None:
        """Begin, or begin again after a crash: only the medium is left."""
        self.boot += 1
        self._queue = sorted(entry for entry in self._queue if isinstance(entry[3], Request))
        self.accepted = dict.fromkeys(self.peers, 0)
        self.fetcher = Fetcher(
            self.plan,
            self.medium.have(),
            now_ms=self.now_ms,
            seed=self.seed,
            in_order=self.in_order,
            paths=self.paths,
        )
        self.fetcher.set_peers(self.peers)

    def run(self, until_ms: int) -> bool:
        """Let time pass until all is durable or `until_ms`; answers whether all is."""
        while True:
            step = self.step()
            if step.done:
                return True
            times = [entry[0] for entry in self._queue[:1]]
            if step.wake_at_ms is not None:
                times.append(max(step.wake_at_ms, self.now_ms + 1))
            at_ms = min(times, default=until_ms)
            if at_ms >= until_ms:
                self.now_ms = until_ms
                return False
            self.now_ms = max(self.now_ms, at_ms)
            self._arrive()

    def step(self) -> FetchStep:
        """Do what the fetcher wants now."""
        step = self.fetcher.advance(self.now_ms)
        for _ in range(3):
            self.notes.extend(step.notes)
            for peer, ask in step.asks:
                self._ask(peer, ask)
            assert sum(len(peer.flights) for peer in self.fetcher._peers) <= 4
            if not step.has_write:
                break
            for index, data in step.writes:
                assert data == chunk_of(self.image, self.plan, index), "a wrong chunk was to be written"
            self.fetcher.on_written(self.medium.write(step, self.now_ms))
            step = self.fetcher.advance(self.now_ms)
        return step

    def _ask(self, peer: str, ask: AskLeaves | AskChunks) -> None:
        self.asked[peer].append(ask)
        n = next(self._n)
        self.fetcher.asked(peer, ask, self.boot, n)
        self._send(peer, decode_request(encode(Request(self.boot, n, peer, ask))))

    def _send(self, peer: str, message: Request | Answer) -> None:
        for delay in self.delay(peer):
            heapq.heappush(self._queue, (self.now_ms + delay, next(self._tie), peer, message))

    def _arrive(self) -> None:
        while self._queue and self._queue[0][0] <= self.now_ms:
            _, _, peer, message = heapq.heappop(self._queue)
            if isinstance(message, Answer):
                self.give(peer, message)
            elif peer not in self.down and (message.boot, message.n) not in self._heard:
                # The door of a device lets no question in twice (`ReplayWindows`).
                self._heard.add((message.boot, message.n))
                self._serve(peer, message)

    def give(self, peer: str, answer: Answer) -> bool:
        """Let an answer come in; answers whether it passed the door."""
        expected = self.fetcher.expects(peer, answer) is not Expected.NO
        if expected and isinstance(answer.content, AnswerChunk | AnswerLeaves):
            self.accepted[peer] += 1
        self.fetcher.on_answer(peer, answer, self.now_ms)
        return expected

    def _serve(self, peer: str, request: Request) -> None:
        server = self.servers[peer]
        server.ask(ME, request, self.now_ms)
        while True:
            step = server.advance(self.now_ms)
            for wanted in step.reads:
                server.on_read(wanted, read(self.image, wanted), self.now_ms)
            for _, asked, content in step.answers:
                for answer in self.lies.get(peer, _honest)(_answer(asked, content)):
                    self._send(peer, answer)
            if not step.reads:
                return


def _answer(asked: Request, content: Answered) -> Answer:
    answer = Answer(1, 1, ME, asked.boot, asked.n, content)
    if isinstance(content, AnswerChunk):
        signed, data = without_data(answer)
        assert with_data(decode_answer(encode(signed)), data) == answer
    else:
        assert decode_answer(encode(answer)) == answer
    return answer


def _honest(answer: Answer) -> list[Answer]:
    return [answer]


def with_content(answer: Answer, content: Answered) -> Answer:
    """Return the answer with other content."""
    return Answer(answer.boot, answer.n, answer.to, answer.re_boot, answer.re_n, content)


def spoil(answer: Answer) -> list[Answer]:
    """A lie: each chunk with one bit changed."""
    content = answer.content
    if not isinstance(content, AnswerChunk):
        return [answer]
    data = bytes((content.data[0] ^ 1,)) + content.data[1:]
    return [with_content(answer, chunk(content.release, content.index, data, content.path))]


def world(chunks: int = 40, peers: tuple[str, ...] = ("a", "b"), tail: int = 100, **options: object) -> World:
    """Return a world with an image of so many chunks, the last one of `tail` bytes."""
    image = image_of((chunks - 1) * CHUNK_BYTES_MIN + tail)
    return World(image, peers, plan_of(image), **options)  # type: ignore[arg-type]


def lossy(seed: int, loss: float, delay_max_ms: int) -> Callable[[str], list[int]]:
    """Return a network that loses, doubles and reorders at random."""
    random = Random(seed)

    def delay(_peer: str) -> list[int]:
        copies = 0 if random.random() < loss else 1 + (random.random() < 0.1)
        return [random.randint(1, delay_max_ms) for _ in range(copies)]

    return delay
