"""Answers from the store: old blocks for members that lag behind, proved leaves for light clients."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.consensus.output import Serve
from swarm.consensus.replica import Replica
from swarm.crypto.merkle import Frontier, consistency_path, inclusion_path
from swarm.device.admission import ClientAsk
from swarm.device.ledger import Ledger
from swarm.device.meter import AnswerMeter
from swarm.device.outbox import Outbox
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import (
    ANSWER_BLOCKS_MAX,
    CLIENT_WAIT_MS,
    CLIENT_WAITERS_MAX,
    CLIENT_WAITERS_PER_MEMBER_MAX,
    FRAME_BYTES_MAX,
    HEARTBEAT_MS,
    SILENT_BEATS,
    VOTERS_MAX,
)
from swarm.storage.store import Store, StoredBlock
from swarm.wire.codec import encode
from swarm.wire.messages import (
    AnswerBusy,
    Answered,
    AnswerEntries,
    AnswerLeaf,
    AnswerStatus,
    AnswerSuperseded,
    AnswerUnknown,
    AnswerWindow,
    AskAwait,
    AskBlock,
    AskBlocks,
    AskEntries,
    AskStatus,
    AskSubmissions,
    AskWindow,
    Block,
    Blocks,
    Checkpoint,
    Item,
    Request,
    SubmissionItem,
)
from swarm.wire.statements import Certificate, Kind

_ROOM_BYTES = FRAME_BYTES_MAX - 48 * 1024
"""What blocks or leaves of one answer may take; the rest is for headers, certificate, path and checkpoint."""


@dataclass(frozen=True, slots=True)
class _Waiter:
    sender: DeviceId
    request: Request
    ask: AskAwait
    until_ms: int


class Answers:
    """Reads the store after the turn's transaction and queues answers; keeps who waits for a leaf, bounded."""

    def __init__(
        self, store: Store, ledger: Ledger, replica: Replica, outbox: Outbox, *, version: str
    ) -> None:
        """Answer from `store` and from the state at its end."""
        self._store = store
        self._ledger = ledger
        self._replica = replica
        self._outbox = outbox
        self._version = version
        self._waiters: dict[tuple[DeviceId, bytes], _Waiter] = {}
        self.newest: Checkpoint | None = None
        self.peers_heard: dict[DeviceId, int] = {}
        self._meter = AnswerMeter()
        self._now_ms = 0
        self.over_budget = 0
        """Answers not given because bytes for that member or for all had run out."""

    # ------------------------------------------------------------------------------ members

    def serve(self, serve: Serve, now_ms: int) -> None:
        """Answer a member's question that the core could not answer from memory."""
        self._now_ms = now_ms
        match serve.ask:
            case AskBlock(hash=digest):
                block = self._store.block_by_hash(digest)
                if block is not None:
                    self.give(_wire_block(block), serve.to, now_ms)
                    certificate = self._certificate_of(block)
                    if certificate is not None:
                        self.give(certificate, serve.to, now_ms)
            case AskSubmissions(ids=ids):
                for digest in ids:
                    submission = self._store.submission(digest)
                    if submission is not None:
                        self.give(SubmissionItem(raw=submission.raw), serve.to, now_ms)
            case AskBlocks(height=height):
                self._serve_blocks(serve.to, height)
            case _:
                pass

    def _certificate_of(self, block: StoredBlock) -> Certificate | None:
        return self._store.certificate(Kind.FINALIZE, block.header.view) or self._store.certificate(
            Kind.NOTARIZE, block.header.view
        )

    def _serve_blocks(self, to: DeviceId, height: int) -> None:
        """Send consecutive blocks up to the last stored FC that fits, and that FC."""
        blocks: list[Block] = []
        best: tuple[int, Certificate] | None = None
        room = self._room(to)
        while room > 0 and len(blocks) < ANSWER_BLOCKS_MAX:
            stored = self._store.block_at(height + len(blocks))
            if stored is None:
                break
            block = _wire_block(stored)
            room -= sum(len(raw) + 40 for raw in block.submissions) + 200
            if room < 0 and blocks:
                break
            blocks.append(block)
            finality = self._store.finality_of(stored.header.height)
            if finality is not None:
                best = (len(blocks), finality)
        if best is None:
            return
        count, finality = best
        self.give(Blocks(blocks=tuple(blocks[:count]), finality=finality), to, self._now_ms)

    def give(self, item: Item, to: DeviceId, now_ms: int) -> None:
        """Queue an item that a member asked for, from the store or the core's memory, as far as its bytes reach."""
        if self._meter.spend(to, len(encode(item)), now_ms):
            self._outbox.put(item, to)
        else:
            self.over_budget += 1

    def _reply(self, to: DeviceId, request: Request, content: Answered) -> bool:
        """Queue a signed answer as far as the bytes for that client reach; False when they do not."""
        if self._meter.spend(to, len(encode(content)) + 256, self._now_ms):
            self._outbox.answer(to, request, content)
            return True
        self.over_budget += 1
        return False

    def _room(self, to: DeviceId) -> int:
        """Return the bytes that blocks or leaves of one answer may take now, 0 (and counted) when there are too few.

        A large answer shrinks to what is left for the member: nothing is read from the store only to be thrown away.
        """
        room = min(_ROOM_BYTES, self._meter.left(to, self._now_ms) - (FRAME_BYTES_MAX - _ROOM_BYTES))
        if room <= 0:
            self.over_budget += 1
        return max(0, room)

    # ------------------------------------------------------------------------------ light clients

    def ask(self, question: ClientAsk, now_ms: int) -> None:
        """Answer a light client, or let it wait for its leaf."""
        self._now_ms = now_ms
        request = question.request
        match request.ask:
            case AskAwait() as ask:
                if not self._try_await(question.sender, request, ask):
                    self._wait(question.sender, request, ask, now_ms)
            case AskEntries() as ask:
                self._entries(question.sender, request, ask)
            case AskWindow(origin=origin):
                incarnation, high = self._ledger.sequences.high(origin)
                content = AnswerWindow(origin, incarnation, high, self._ledger.height)
                self._reply(question.sender, request, content)
            case AskStatus():
                self._reply(question.sender, request, self._status(now_ms))
            case _:
                pass

    def wake(self, now_ms: int) -> None:
        """Ask again for everybody who waits; call when the log or the newest checkpoint grew."""
        self._now_ms = now_ms
        for key, waiter in list(self._waiters.items()):
            if waiter.until_ms < now_ms or self._try_await(waiter.sender, waiter.request, waiter.ask):
                del self._waiters[key]

    def _wait(self, sender: DeviceId, request: Request, ask: AskAwait, now_ms: int) -> None:
        key = (sender, ask.key)
        if key not in self._waiters:
            for old in [k for k, w in self._waiters.items() if w.until_ms < now_ms]:
                del self._waiters[old]
            own = sum(holder == sender for holder, _ in self._waiters)
            if own >= CLIENT_WAITERS_PER_MEMBER_MAX or len(self._waiters) >= CLIENT_WAITERS_MAX:
                self._reply(sender, request, AnswerBusy())
                return
        self._waiters[key] = _Waiter(sender, request, ask, now_ms + CLIENT_WAIT_MS)

    def _try_await(self, sender: DeviceId, request: Request, ask: AskAwait) -> bool:
        """Answer if there is something to say; False when not yet, or when the client's bytes are spent for now."""
        position = self._store.find(ask.key)
        superseded = False
        if position is None and ask.sequence:
            incarnation, _ = self._ledger.sequences.high(ask.origin)
            position = self._store.find_sequence(ask.origin, incarnation, ask.sequence)
            superseded = position is not None
        if position is None:
            newest = self.newest
            if ask.expiry and newest is not None and newest.height > ask.expiry:
                return self._reply(sender, request, AnswerUnknown(ask.key, newest))
            return False
        checkpoint = self._store.checkpoint_covering(position + 1)
        leaf = self._store.leaf(position)
        if checkpoint is None or leaf is None:
            return False
        path = tuple(inclusion_path(position, checkpoint.log_size, self._store.node))
        kind = AnswerSuperseded if superseded else AnswerLeaf
        return self._reply(sender, request, kind(ask.key, position, leaf, path, checkpoint))

    def _entries(self, sender: DeviceId, request: Request, ask: AskEntries) -> None:
        """Send leaves up to the newest checkpoint; `rest` is the consistency path from their end to it."""
        checkpoint = self.newest
        if checkpoint is None or ask.position > checkpoint.log_size:
            self._reply(sender, request, AnswerBusy())
            return
        leaves: list[bytes] = []
        room = self._room(sender)
        if not room:
            return
        position = ask.position
        while len(leaves) < ask.count and position < checkpoint.log_size:
            leaf = self._store.leaf(position)
            if leaf is None or (room := room - len(leaf) - 8) < 0:
                break
            leaves.append(leaf)
            position += 1
        frontier = Frontier.read(ask.position, self._store.node).hashes
        rest: list[bytes] = []
        if position < checkpoint.log_size and position > 0:
            rest = consistency_path(position, checkpoint.log_size, self._store.node)
        content = AnswerEntries(
            position=ask.position,
            leaves=tuple(leaves),
            frontier=frontier,
            rest=tuple(rest),
            checkpoint=checkpoint,
        )
        self._reply(sender, request, content)

    def _status(self, now_ms: int) -> AnswerStatus:
        state = self._replica.state
        alive = sorted(d for d, at in self.peers_heard.items() if now_ms - at < SILENT_BEATS * HEARTBEAT_MS)
        recent = tuple(alive[:VOTERS_MAX])
        return AnswerStatus(
            epoch=state.config.epoch,
            view=max(0, state.cur),
            finalized_view=state.final_view,
            height=self._ledger.height,
            log_size=self._ledger.frontier.size,
            log_root=self._ledger.frontier.root(),
            pending=len(state.pool.pending),
            peers=recent,
            version=self._version,
        )


def _wire_block(block: StoredBlock) -> Block:
    return Block(header=block.header, submissions=tuple(s.raw for s in block.submissions))
