"""Gets one release, chunk by chunk, from peers of which any may lie, stall or go away (FIRMWARE section 7).

Pure: answers, written bitmaps and times go in, questions and writes come out. Nothing goes out to be written that was
not checked against the chunk root; nothing is asked twice without a reason; what a peer may send is bounded by what
it was asked for. Whoever drives it signs the questions, notes their counters with `asked`, and lets answers in only
as `expects` says.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from swarm.crypto.merkle import leaf_hash
from swarm.device.admission import Expected
from swarm.device.delivery.allowance import frames_max
from swarm.device.delivery.leaves import LeafPages, is_leaf
from swarm.device.delivery.peers import Peer, Peers
from swarm.install.port import Bitmap, InstallPlan
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import (
    ASK_BITMAP_BYTES_MAX,
    CHECKPOINT_CHUNKS,
    CHECKPOINT_MS,
    CHUNKS_AHEAD_IN_ORDER,
    CHUNKS_HELD_MAX,
    CHUNKS_OUTSTANDING_MAX,
    QUESTIONS_REMEMBERED,
)
from swarm.wire.messages import (
    Answer,
    AnswerBusy,
    AnswerChunk,
    AnswerLeaves,
    AnswerNoRelease,
    AskChunks,
    AskLeaves,
    ask_chunks,
)

BAD_CHUNK: Final = "bad-chunk"
BAD_LEAVES: Final = "bad-leaves"
LEFT_SLOW: Final = "left-slow"
LEFT_SILENT: Final = "left-silent"
USED_UP: Final = "used-up"
"""A peer that will not be asked again: it sent as many wrong answers as the frame cap leaves room for."""

_SOURCE_SILENT_MAX: Final = 3
"""Silences in a row after which the leaf list is gathered anew from somebody else; its pages do not mix.

Where there is no page yet the first silence is enough: a voter that is down must not cost a stage its deadline.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchNote:
    """Something to tell people about a peer; `index` is a chunk's, -1 where it is about none."""

    what: str
    peer: DeviceId
    index: int = -1


class FetchStep(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be done now. Run `writes` as one operation and report it with `on_written`."""

    asks: tuple[tuple[DeviceId, AskLeaves | AskChunks], ...] = ()
    writes: tuple[tuple[int, bytes], ...] = ()
    checkpoint: bool = False
    """True with writes: what is written is made durable by the same operation."""
    copy: tuple[int, ...] = ()
    """Once, with `reuse`: chunks to copy from the running image where it has them; report with `on_copied`."""
    notes: tuple[FetchNote, ...] = ()
    wake_at_ms: int | None = None
    done: bool = False
    """All chunks are durable."""

    @property
    def has_write(self) -> bool:
        """Whether there is something for the back end to do."""
        return bool(self.writes)


@dataclass(slots=True)
class FetchCounts:
    """What happened since the start of this fetch, for results and screens."""

    resumed: int = 0
    """Chunks that were durable already."""
    copied: int = 0
    received: int = 0
    """Chunks that were right and new."""
    refused: int = 0
    """Wrong chunks and leaf lists."""
    bytes: int = 0
    """Of the chunks received."""
    asks: int = 0
    unasked: int = 0
    """Answers that nobody had asked for, or whose chunk is there already."""


class Fetcher:
    """One fetch of one release. Give it peers with `set_peers`, then call `advance` after each input and at its time."""

    def __init__(
        self,
        plan: InstallPlan,
        have: Bitmap,
        *,
        now_ms: int,
        seed: bytes,
        in_order: bool = False,
        paths: bool = False,
        reuse: bool = False,
    ) -> None:
        """Go on from `have`, what the medium holds durably.

        `seed` makes this device's choices differ from others'. `in_order` for a back end without RANDOM_WRITE.
        `paths` asks for a Merkle path with each chunk instead of the leaf list first. `reuse` says once which
        chunks to look for in the running image; it needs the leaf list.
        """
        count = plan.chunk_count
        self.plan = plan
        self.counts = FetchCounts(resumed=count - len(have.missing()))
        self.leaves: tuple[bytes, ...] | None = None
        """The leaf list, once it is known to be right."""
        slack = frames_max(count) - count
        self._peers = Peers(seed, frames_max=count + slack, bad_max=slack)
        self._pages = LeafPages(count)
        self._source: Peer | None = None
        """Whose leaf list is being gathered."""
        self._in_order = in_order
        self._paths = paths
        self._reuse = reuse and not paths
        self._copying = False
        self._need = have.missing()
        """Heap of chunks to ask for; those that came meanwhile are skipped."""
        self._wanted = set(self._need)
        """Chunks neither durable, nor written, nor in memory."""
        self._held: dict[int, bytes] = {}
        """Checked chunks that wait to be written; `_held_ms` = since when, at most."""
        self._held_ms = 0
        self._writing: tuple[int, ...] = ()
        """Those of the write that runs."""
        self._durable = count - len(self._need)
        self._questions: dict[tuple[DeviceId, int, int], set[int]] = {}
        self._hashed = (b"", leaf_hash(b""))
        self._notes: list[FetchNote] = []
        self._now_ms = now_ms

    # ------------------------------------------------------------------------------ inputs

    def set_peers(self, ids: Sequence[DeviceId]) -> None:
        """Ask only these members; one that is given again is still known for what it did."""
        self._peers.set(ids)
        for peer in self._peers:
            if not self._peers.is_current(peer) and (peer.flights or peer is self._source):
                self._leave(peer)

    def asked(self, peer: DeviceId, ask: AskLeaves | AskChunks, boot: int, n: int) -> None:
        """Note the counter under which a question of the last step went out; its answers carry it."""
        while len(self._questions) >= QUESTIONS_REMEMBERED:
            del self._questions[next(iter(self._questions))]
        keys = {_page_key(ask.first)} if isinstance(ask, AskLeaves) else set(ask.indexes)
        self._questions[peer, boot, n] = keys

    def expects(self, sender: DeviceId, answer: Answer) -> Expected:
        """Answer whether this answers an open question of ours, and whether it needs a signature to be believed."""
        peer = self._peers.get(sender)
        keys = self._questions.get((sender, answer.re_boot, answer.re_n))
        expected = Expected.NO
        if peer is not None and keys is not None and not self._peers.is_used_up(peer):
            expected = self._judge_answer(keys, answer)
        if expected is Expected.NO:
            self.counts.unasked += 1
        return expected

    def _judge_answer(self, keys: set[int], answer: Answer) -> Expected:
        release = self.plan.release
        match answer.content:
            case AnswerChunk() as chunk:
                if chunk.release != release or chunk.index not in keys or chunk.index not in self._wanted:
                    return Expected.NO
                if self._is_right(chunk):
                    return Expected.PROVED
                # Bytes other than its signer meant were changed on the way: that is nobody's word.
                return Expected.SIGNED if self._leaf_of(chunk.data) == chunk.leaf else Expected.NO
            case AnswerLeaves() as page:
                fits = page.release == release and _page_key(page.first) in keys and self.leaves is None
            case AnswerNoRelease() as missing:
                fits = missing.release == release
            case AnswerBusy():
                fits = True
            case _:
                fits = False
        return Expected.SIGNED if fits else Expected.NO

    def on_answer(self, sender: DeviceId, answer: Answer, now_ms: int) -> None:
        """Take an answer that `expects` let in; anything else is counted and forgotten."""
        self._now_ms = now_ms
        peer = self._peers.get(sender)
        if peer is None or self.expects(sender, answer) is Expected.NO:
            return
        keys = self._questions[sender, answer.re_boot, answer.re_n]
        match answer.content:
            case AnswerChunk() as chunk:
                keys.discard(chunk.index)
                self._take_chunk(peer, chunk, now_ms)
            case AnswerLeaves() as page:
                keys.discard(_page_key(page.first))
                self._take_page(peer, page, now_ms)
            case _:
                keys.clear()
                self._leave(peer)
                peer.refuse(now_ms, self._peers.jitter(peer))
        if not keys:
            del self._questions[sender, answer.re_boot, answer.re_n]

    def on_written(self, bitmap: Bitmap) -> None:
        """Take what is durable after the last write; what should be and is not is fetched anew."""
        gone = [index for index in self._writing if index not in bitmap]
        self._durable += len(self._writing) - len(gone)
        self._writing = ()
        self._want_again(gone)

    def on_write_failed(self) -> None:
        """The last write failed: nothing of it is taken for written."""
        gone, self._writing = self._writing, ()
        self._want_again(gone)

    def on_copied(self, indexes: Sequence[int]) -> None:
        """These chunks were found in the running image, written, and are durable; the rest is fetched."""
        self._copying = False
        copied = self._wanted.intersection(indexes)
        self._wanted -= copied
        self._durable += len(copied)
        self.counts.copied += len(copied)

    # ------------------------------------------------------------------------------ the step

    def advance(self, now_ms: int) -> FetchStep:
        """Return what to ask, write and tell now, and when to call again if nothing comes before."""
        self._now_ms = now_ms
        self._judge(now_ms)
        copy: tuple[int, ...] = ()
        if self._reuse and self.leaves is not None:
            self._reuse, self._copying = False, True
            copy = tuple(sorted(self._wanted))
        asks = self._ask(now_ms)
        writes = self._write(now_ms)
        notes, self._notes = tuple(self._notes), []
        self.counts.asks += len(asks)
        return FetchStep(
            asks=asks,
            writes=writes,
            checkpoint=bool(writes),
            copy=copy,
            notes=notes,
            wake_at_ms=self._wake_at_ms(now_ms),
            done=self._durable == self.plan.chunk_count,
        )

    def _judge(self, now_ms: int) -> None:
        """Leave peers that are slow, and take questions that nobody answers for lost."""
        for peer in self._peers:
            if peer.is_in_order(now_ms):
                continue
            if peer.is_slow(now_ms) and self._peers.has_other(peer, now_ms):
                peer.slow += 1
                self._leave(peer)
                self._note(LEFT_SLOW, peer)
            lost = peer.lost(now_ms)
            if not lost:
                continue
            is_silent = peer.is_silent(now_ms)
            for key in lost:
                peer.forget(key, now_ms)
                if key >= 0:
                    heapq.heappush(self._need, key)
            if is_silent:
                peer.silent += 1
                has_other = self._peers.has_other(peer, now_ms)
                if peer.silent == 1 and has_other:
                    self._note(LEFT_SILENT, peer)
                patience = 1 if self._pages.is_empty else _SOURCE_SILENT_MAX
                if peer is self._source and has_other and peer.silent >= patience:
                    self._drop_source()

    def _ask(self, now_ms: int) -> tuple[tuple[DeviceId, AskLeaves | AskChunks], ...]:
        if not self._wanted:
            return ()
        if self._paths or self.leaves is not None:
            return self._ask_chunks(now_ms)
        if self._source is None:
            self._source = self._peers.choose(now_ms, flights_max=CHUNKS_OUTSTANDING_MAX)
        source = self._source
        if source is None:
            return ()
        asks: list[tuple[DeviceId, AskLeaves | AskChunks]] = []
        for first in self._pages.missing():
            if len(source.flights) >= CHUNKS_OUTSTANDING_MAX:
                break
            if _page_key(first) not in source.flights:
                source.ask(_page_key(first), now_ms)
                length = self._pages.length_of(first)
                asks.append((source.id, AskLeaves(release=self.plan.release, first=first, count=length)))
        return tuple(asks)

    def _ask_chunks(self, now_ms: int) -> tuple[tuple[DeviceId, AskLeaves | AskChunks], ...]:
        """Fill the open places, several at a time where it can be: a question costs a signature and a frame."""
        room = CHUNKS_OUTSTANDING_MAX - self._peers.open()
        in_memory = len(self._held) + len(self._writing)
        if self._copying or room < min(2, len(self._wanted)) or in_memory + room > CHUNKS_HELD_MAX:
            return ()
        chosen: dict[DeviceId, list[int]] = {}
        end = self._first_unwritten() + CHUNKS_AHEAD_IN_ORDER if self._in_order else self.plan.chunk_count
        for _ in range(room):
            index = self._next_needed()
            if index is None or index >= end:
                break
            peer = self._peers.choose(now_ms, flights_max=CHUNKS_OUTSTANDING_MAX)
            if peer is None or (peer.id not in chosen and peer.will_answer_at_once(now_ms)):
                break
            heapq.heappop(self._need)
            peer.ask(index, now_ms)
            chosen.setdefault(peer.id, []).append(index)
        return tuple(
            (id, ask_chunks(self.plan.release, group, paths=self._paths))
            for id, indexes in chosen.items()
            for group in _groups(indexes)
        )

    def _write(self, now_ms: int) -> tuple[tuple[int, bytes], ...]:
        """Return what to write and make durable in one go: sixteen chunks, what came in a second, or the rest."""
        if self._writing or not self._held:
            return ()
        count = len(self._held)
        is_rest = count + self._durable == self.plan.chunk_count
        if count < CHECKPOINT_CHUNKS and not is_rest and now_ms - self._held_ms < CHECKPOINT_MS:
            return ()
        indexes = sorted(self._held)
        if self._in_order:
            first = self._first_unwritten()
            indexes = [index for offset, index in enumerate(indexes) if index == first + offset]
        if not indexes:
            return ()
        is_rest = len(indexes) + self._durable == self.plan.chunk_count
        if len(indexes) < CHECKPOINT_CHUNKS and not is_rest and now_ms - self._held_ms < CHECKPOINT_MS:
            return ()
        self._writing = tuple(indexes[:CHECKPOINT_CHUNKS])
        self._held_ms = now_ms
        return tuple((index, self._held.pop(index)) for index in self._writing)

    # ------------------------------------------------------------------------------ parts

    def _take_page(self, peer: Peer, page: AnswerLeaves, now_ms: int) -> None:
        peer.answer(_page_key(page.first), 32 * len(page.leaves), now_ms)
        is_whole = len(page.leaves) == self.plan.chunk_count
        if peer is not self._source and not is_whole:
            return
        if is_whole:
            self._pages.clear()
        is_good = self._pages.put(page.first, page.leaves)
        if is_good and self._pages.missing():
            return
        self.leaves = self._pages.whole(self.plan.chunk_root) if is_good else None
        self._drop_source()
        if self.leaves is None:
            self._blame(peer, BAD_LEAVES, -1)
            return
        for other in self._peers:
            for key in [key for key in other.flights if key < 0]:
                other.forget(key, now_ms)

    def _take_chunk(self, peer: Peer, chunk: AnswerChunk, now_ms: int) -> None:
        peer.answer(chunk.index, len(chunk.data), now_ms)
        if not self._is_right(chunk):
            heapq.heappush(self._need, chunk.index)
            self._blame(peer, BAD_CHUNK, chunk.index)
            return
        self.counts.received += 1
        self.counts.bytes += len(chunk.data)
        self._wanted.discard(chunk.index)
        if not self._held:
            self._held_ms = now_ms
        self._held[chunk.index] = chunk.data
        self._peers.forget(chunk.index, now_ms)

    def _is_right(self, chunk: AnswerChunk) -> bool:
        """Answer whether these bytes are the chunk, by the leaf list or by the path that came along."""
        leaf = self._leaf_of(chunk.data)
        if self._paths:
            return is_leaf(leaf, chunk.index, self.plan.chunk_count, chunk.path, self.plan.chunk_root)
        return self.leaves is not None and leaf == self.leaves[chunk.index]

    def _leaf_of(self, data: bytes) -> bytes:
        """Return the leaf hash of `data`; the same bytes are asked about at the door and again inside."""
        if self._hashed[0] is not data:
            self._hashed = (data, leaf_hash(data))
        return self._hashed[1]

    def _blame(self, peer: Peer, what: str, index: int) -> None:
        peer.bad += 1
        self.counts.refused += 1
        self._leave(peer)
        self._note(what, peer, index)
        if self._peers.is_used_up(peer):
            self._note(USED_UP, peer)

    def _leave(self, peer: Peer) -> None:
        """Ask others for what this peer has not answered; what it still sends is welcome."""
        for key in tuple(peer.flights):
            peer.forget(key, self._now_ms)
            if key >= 0:
                heapq.heappush(self._need, key)
        if peer is self._source:
            self._drop_source()

    def _drop_source(self) -> None:
        self._source = None
        self._pages.clear()

    def _note(self, what: str, peer: Peer, index: int = -1) -> None:
        self._notes.append(FetchNote(what=what, peer=peer.id, index=index))

    def _next_needed(self) -> int | None:
        """Return the lowest chunk to ask for, without those that came or are asked for meanwhile."""
        while self._need:
            index = self._need[0]
            if index in self._wanted and not self._peers.is_asked(index):
                return index
            heapq.heappop(self._need)
        return None

    def _first_unwritten(self) -> int:
        asked = [key for peer in self._peers for key in peer.flights if key >= 0]
        needed = self._next_needed()
        return min(
            [*self._held, *asked, *([] if needed is None else [needed])], default=self.plan.chunk_count
        )

    def _want_again(self, indexes: Sequence[int]) -> None:
        """Fetch what our own disk lost; no peer's frames are used up by that."""
        self._peers.frames_max += len(indexes)
        for index in indexes:
            self._wanted.add(index)
            heapq.heappush(self._need, index)

    def _wake_at_ms(self, now_ms: int) -> int | None:
        first_ms = self._peers.wake_at_ms(now_ms)
        if self._held and not self._writing:
            at_ms = self._held_ms + CHECKPOINT_MS
            if at_ms > now_ms and (first_ms is None or at_ms < first_ms):
                return at_ms
        return first_ms


def _page_key(first: int) -> int:
    """Return the key of a page of leaves among the open questions; chunks have theirs from 0 up."""
    return -1 - first


def _groups(indexes: Sequence[int]) -> list[tuple[int, ...]]:
    """Cut ascending indexes so that each group fits one question's bitmap."""
    groups: list[list[int]] = []
    for index in sorted(indexes):
        if groups and index - groups[-1][0] < 8 * ASK_BITMAP_BYTES_MAX:
            groups[-1].append(index)
        else:
            groups.append([index])
    return [tuple(group) for group in groups]
