"""Gives chunks of what this device runs or holds sealed to whoever asks, within bounds (FIRMWARE section 7).

Pure: questions and read bytes go in, reads and answers come out. What one asker may cause is bounded by its four open
chunks, its frames of a release and its turn in a place; what all together may cause by the places and the pace.
A chunk is checked against the leaf list before it leaves: a rotten disk must not make an honest device a liar.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from swarm.crypto.merkle import leaf_hash
from swarm.device.delivery.allowance import Frames, Pace, Places
from swarm.device.delivery.leaves import LeafTree, root_of
from swarm.device.firmware.operations import ReadChunk, ReadLeaves, Source
from swarm.install.port import InstallPlan
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import (
    CHUNK_READS_MAX,
    CHUNKS_CACHED_MAX,
    CHUNKS_OUTSTANDING_MAX,
    REFUSALS_PER_TURN_MAX,
    SERVED_PATHS_CHUNKS_MAX,
)
from swarm.wire.messages import (
    AnswerBusy,
    AnswerChunk,
    Answered,
    AnswerLeaves,
    AnswerNoRelease,
    AskChunks,
    AskLeaves,
    Request,
)

_FRAME_BYTES: Final = 256
"""Envelope and answer around a chunk, for the pace."""

_FAILED_MAX: Final = 3

Read = ReadChunk | ReadLeaves
_Key = tuple[bytes, int]
"""Release and chunk index, or below 0 the page of leaves from -1 - index on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeStep:
    """What shall be done now: reads to run, and answers to sign and send, each chunk in a frame of its own."""

    reads: tuple[Read, ...] = ()
    answers: tuple[tuple[DeviceId, Request, Answered], ...] = ()
    wake_at_ms: int | None = None


@dataclass(slots=True)
class ServeCounts:
    """What happened since the start, for results and screens."""

    chunks: int = 0
    """Chunks sent."""
    bytes: int = 0
    """Of the chunks sent."""
    leaves: int = 0
    """Pages of leaf lists sent."""
    missing: int = 0
    """Questions for a release that is not here."""
    busy: int = 0
    """Questions refused because all places were taken, or the asker's frames used up."""
    malformed: int = 0
    """Questions for chunks the release does not have."""
    dropped: int = 0
    """Questions beyond an asker's four, and refusals beyond what one turn gives."""
    rotten: int = 0
    """Reads that failed or did not give what the release says."""


@dataclass(slots=True)
class _Offer:
    source: Source
    plan: InstallPlan
    leaves: tuple[bytes, ...] | None = None
    tree: LeafTree | None = None
    failed: int = 0
    """Reads in a row that gave nothing or something else."""
    frames: dict[DeviceId, Frames] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Wish:
    request: Request
    with_path: bool


class ChunkServer:
    """The answering side of one device. Call `advance` after each input and at its time."""

    def __init__(self, *, bytes_per_s: int | None, now_ms: int) -> None:
        """Offer nothing yet; send at most `bytes_per_s`, if that is given."""
        self.counts = ServeCounts()
        self._pace = Pace(bytes_per_s, now_ms)
        self._places = Places()
        self._offers: dict[bytes, _Offer] = {}
        self._wishes: OrderedDict[DeviceId, dict[_Key, _Wish]] = OrderedDict()
        """By asker; the first one's turn is next."""
        self._refusals: list[tuple[DeviceId, Request, Answered]] = []
        self._cached: OrderedDict[_Key, bytes] = OrderedDict()
        self._reading: dict[Read, _Key | bytes] = {}

    @property
    def offered(self) -> tuple[bytes, ...]:
        """The releases that are served."""
        return tuple(self._offers)

    def offer(self, release: bytes, source: Source, plan: InstallPlan) -> None:
        """Serve a release that this device runs or holds sealed; the same again changes nothing."""
        held = self._offers.get(release)
        if held is None or held.source != source or held.plan != plan:
            self.withdraw(release)
            self._offers[release] = _Offer(source, plan)

    def withdraw(self, release: bytes) -> None:
        """Serve a release no more: its slot is about to change, or it was revoked."""
        self._offers.pop(release, None)
        for wishes in self._wishes.values():
            for key in [key for key in wishes if key[0] == release]:
                del wishes[key]
        for key in [key for key in self._cached if key[0] == release]:
            del self._cached[key]
        for read in [read for read, of in self._reading.items() if release in (of, of[0])]:
            del self._reading[read]

    def ask(self, sender: DeviceId, request: Request, now_ms: int) -> None:
        """Take a member's signed question for chunks or leaves."""
        ask = request.ask
        if not isinstance(ask, AskLeaves | AskChunks):
            return
        offer = self._offers.get(ask.release)
        if offer is None or (isinstance(ask, AskChunks) and ask.paths and not _has_paths(offer.plan)):
            self.counts.missing += 1
            self._refuse(sender, request, AnswerNoRelease(release=ask.release))
            return
        if isinstance(ask, AskLeaves):
            with_path = False
            keys = [(ask.release, -1 - ask.first)] if ask.first < offer.plan.chunk_count else []
        else:
            with_path = ask.paths
            keys = [(ask.release, index) for index in ask.indexes if index < offer.plan.chunk_count]
        if not keys:
            self.counts.malformed += 1
            return
        has_place, gone = self._places.take(sender, now_ms)
        if gone is not None:
            self._wishes.pop(gone, None)
        if not has_place:
            self.counts.busy += 1
            self._refuse(sender, request, AnswerBusy())
            return
        frames = offer.frames.setdefault(sender, Frames(offer.plan.chunk_count, now_ms))
        wishes = self._wishes.setdefault(sender, {})
        for key in keys:
            if key not in wishes and len(wishes) >= CHUNKS_OUTSTANDING_MAX:
                self.counts.dropped += 1
            elif key in wishes or frames.spend(now_ms):
                # Asked again while it waits: one answer, to the newer question.
                wishes[key] = _Wish(request, with_path)
            else:
                self.counts.busy += 1
                self._refuse(sender, request, AnswerBusy())
                if not wishes:
                    self._places.leave(sender)
                return

    def on_read(self, read: Read, answer: bytes | tuple[bytes, ...] | None, now_ms: int) -> None:
        """Take what a read gave, None when it failed; an image that goes on failing is withdrawn."""
        del now_ms
        of = self._reading.pop(read, None)
        if of is None:
            return
        release = of if isinstance(of, bytes) else of[0]
        offer = self._offers[release]
        if isinstance(of, bytes):
            is_right = isinstance(answer, tuple) and len(answer) == offer.plan.chunk_count
            if is_right and isinstance(answer, tuple) and root_of(answer) == offer.plan.chunk_root:
                offer.leaves = answer
                offer.failed = 0
                return
        elif isinstance(answer, bytes) and offer.leaves and leaf_hash(answer) == offer.leaves[of[1]]:
            offer.failed = 0
            self._cached[of] = answer
            while len(self._cached) > CHUNKS_CACHED_MAX:
                self._cached.popitem(last=False)
            return
        self.counts.rotten += 1
        offer.failed += 1
        # Twice it may be an old read, of what was in the slot before.
        if offer.failed >= _FAILED_MAX:
            self.withdraw(release)

    def advance(self, now_ms: int) -> ServeStep:
        """Return what to read and to send now; askers take turns, frame by frame."""
        answers, self._refusals = self._refusals, []
        reads: list[Read] = []
        wake_at_ms: int | None = None
        waiting: set[DeviceId] = set()
        while len(waiting) < len(self._wishes):
            sender, wishes = next(iter(self._wishes.items()))
            self._wishes.move_to_end(sender)
            key = next((key for key in wishes if self._is_ready(key)), None)
            if key is None:
                for wanted in wishes:
                    self._read(wanted, reads)
                if not wishes:
                    del self._wishes[sender]
                else:
                    waiting.add(sender)
                continue
            if not self._pace.is_open(now_ms):
                # It keeps its turn: first come, first served when the pace allows the next.
                self._wishes.move_to_end(sender, last=False)
                wake_at_ms = self._pace.wake_at_ms(now_ms)
                break
            answers.append((sender, wishes[key].request, self._answer(key, wishes.pop(key))))
        return ServeStep(reads=tuple(reads), answers=tuple(answers), wake_at_ms=wake_at_ms)

    # ------------------------------------------------------------------------------ parts

    def _is_ready(self, key: _Key) -> bool:
        leaves = self._offers[key[0]].leaves
        return leaves is not None and (key[1] < 0 or key in self._cached)

    def _read(self, key: _Key, reads: list[Read]) -> None:
        """Order the read that this wish waits for, once for all who wait, and few at a time."""
        offer = self._offers[key[0]]
        plan = offer.plan
        read: Read
        if offer.leaves is None:
            read = ReadLeaves(offer.source, plan.file_bytes, plan.chunk_bytes)
            of: _Key | bytes = key[0]
        else:
            read = ReadChunk(offer.source, key[1] * plan.chunk_bytes, plan.length_of(key[1]))
            of = key
        if read not in self._reading and len(self._reading) < CHUNK_READS_MAX:
            self._reading[read] = of
            reads.append(read)

    def _answer(self, key: _Key, wish: _Wish) -> Answered:
        release, index = key
        offer = self._offers[release]
        leaves = offer.leaves or ()
        if index < 0:
            first = -1 - index
            ask = wish.request.ask
            self.counts.leaves += 1
            page = leaves[first : first + (ask.count if isinstance(ask, AskLeaves) else 1)]
            self._pace.spend(32 * len(page) + _FRAME_BYTES)
            return AnswerLeaves(release=release, first=first, leaves=page)
        self._cached.move_to_end(key)
        data = self._cached[key]
        path: tuple[bytes, ...] = ()
        if wish.with_path:
            if offer.tree is None:
                offer.tree = LeafTree(leaves)
            path = offer.tree.path(index)
        self.counts.chunks += 1
        self.counts.bytes += len(data)
        self._pace.spend(len(data) + 32 * len(path) + _FRAME_BYTES)
        return AnswerChunk(release=release, index=index, leaf=leaves[index], path=path, data=data)

    def _refuse(self, sender: DeviceId, request: Request, content: Answered) -> None:
        if len(self._refusals) < REFUSALS_PER_TURN_MAX:
            self._refusals.append((sender, request, content))
        else:
            self.counts.dropped += 1


def _has_paths(plan: InstallPlan) -> bool:
    return plan.chunk_count <= SERVED_PATHS_CHUNKS_MAX
