"""The log and what it means: applies finalized blocks to the applications and grows the Merkle tree.

One place for live blocks and for the replay after a start, so that both give the same leaves; the replay compares
them with those that are stored.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from swarm.apps.application import BlockContext
from swarm.apps.decisions.commands import Closed, Opened, decode_event
from swarm.apps.decisions.rules import Outcome
from swarm.apps.router import Refusal, Router, read_body, state_root
from swarm.consensus.inputs import Applied
from swarm.crypto.merkle import Frontier, leaf_hash
from swarm.primitives.errors import DecodeError, StoreError, check
from swarm.storage.store import Batch, NewLeaf, Restored, Snapshot, Store, StoredBlock
from swarm.wire.genesis import Genesis
from swarm.wire.leaves import EventBody, event_leaf, submission_leaf
from swarm.wire.messages import Checkpoint
from swarm.wire.sequence import Sequences, Verdict

_LOG_SIZE = struct.Struct(">Q")
"""Stored before a snapshot's canonical state: how many leaves the log had there."""


@dataclass(slots=True)
class Happened:
    """What applying blocks brought about, for actions, events and waiting clients."""

    outcomes: list[Outcome] = field(default_factory=list)
    opened: list[bytes] = field(default_factory=list)
    """Ids of the decisions that opened."""
    rejected: list[tuple[bytes, int, str, str]] = field(default_factory=list)
    """(submission id, command index, application, reason)."""
    applied: dict[bytes, int] = field(default_factory=dict)
    """Submission id -> position of its leaf."""


class Ledger:
    """Applications, sequence windows and the Merkle frontier at one applied height."""

    def __init__(self, genesis: Genesis, router: Router, *, epoch: int = 0) -> None:
        """Start at the genesis block; `restore` moves to where a store ends."""
        self._genesis = genesis
        self._epoch = epoch
        self._observers = tuple(member.id for member in genesis.observers)
        self.router = router
        self.sequences = Sequences()
        self.frontier = Frontier()
        self.height = 0
        router.begin_swarm(genesis)
        self.state_root = state_root(router.snapshot(self.sequences))

    def apply(self, block: StoredBlock, batch: Batch) -> tuple[Applied, Happened]:
        """Apply one block of the log in height order; queues leaves, nodes and a snapshot in `batch`.

        Returns the input for the core and what happened. Raises `InvariantError` when the block is not the next
        one or when the core and this ledger disagree about what counts.
        """
        header = block.header
        check(header.height == self.height + 1, f"block {header.height} applied after {self.height}")
        happened = Happened()
        notable = False
        voters = self._genesis.voter_ids
        observers = self._observers
        r = self._genesis.budget.r
        self.router.begin_block(
            BlockContext(
                height=header.height,
                hash=block.hash,
                epoch=self._epoch,
                voters=voters,
                observers=observers,
                r=r,
            )
        )
        for submission, counts in zip(block.submissions, block.counts, strict=True):
            verdict = self.sequences.apply(submission.body, header.height)
            check((verdict is Verdict.COUNTS) == counts, "core and ledger disagree on a submission")
            if not counts:
                continue
            role = self._role(submission.body.origin)
            notable |= role == "operator"
            happened.applied[submission.id] = self.frontier.size
            self._append(header.height, submission_leaf(submission.raw), (submission.id,), batch)
            events = self.router.apply_submission(
                submission,
                height=header.height,
                epoch=self._epoch,
                role=role,
                voters=voters,
                observers=observers,
                r=r,
                position=self.frontier.size,
            )
            for command, app, event in events:
                notable = True
                leaf = event_leaf(EventBody(header.height, submission.id, command, app, event.body))
                keys = () if event.key is None else (event.key,)
                self._append(header.height, leaf, keys, batch)
                _note_event(happened, submission.id, command, app, event.body)
        self.height = header.height
        if self.height % self._genesis.snapshot_every == 0:
            state = self.router.snapshot(self.sequences)
            self.state_root = state_root(state)
            batch.snapshots.append(Snapshot(self.height, _LOG_SIZE.pack(self.frontier.size) + state))
        return self.result(notable=notable), happened

    def result(self, *, notable: bool) -> Applied:
        """Return what the log and the state are at the applied height, as the core wants to hear it."""
        return Applied(self.height, self.frontier.size, self.frontier.root(), self.state_root, notable)

    def restore(self, store: Store, restored: Restored) -> Happened:
        """Move to the end of the store: its snapshot, then the blocks after it, compared leaf by leaf.

        Returns what happened in the replayed blocks, so that actions lost in a crash are done again. Raises
        `StoreError` when the applications make another log than the one stored: another version, or a bug.
        """
        happened = Happened()
        start = 0
        if restored.snapshot is not None:
            self._restore_snapshot(store, restored.snapshot, restored.checkpoint)
            start = self.height
        for block in store.blocks_after(start):
            self._check_replayable(block)
            batch = Batch()
            _, more = self.apply(block, batch)
            happened.outcomes.extend(more.outcomes)
            for leaf in batch.leaves:
                if store.node(0, leaf.position) != leaf_hash(leaf.data):
                    raise StoreError(
                        f"the applications of this program make another log than the stored one at {leaf.position}",
                        hint="run the program version that wrote this store",
                    )
        if self.frontier.size != restored.log_size:
            raise StoreError(f"the log has {restored.log_size} leaves, its blocks make {self.frontier.size}")
        return happened

    def _restore_snapshot(self, store: Store, snapshot: Snapshot, checkpoint: Checkpoint | None) -> None:
        """Move to a snapshot; raises `StoreError` for one that is damaged, as far as it shows or voters attested it."""
        state = snapshot.state[_LOG_SIZE.size :]
        root = state_root(state)
        every = self._genesis.snapshot_every
        if checkpoint is not None and checkpoint.height // every == snapshot.height // every:
            if checkpoint.state_root != root:
                raise _damaged(
                    f"the snapshot of height {snapshot.height} has not the root that voters attested"
                )
        try:
            (size,) = _LOG_SIZE.unpack_from(snapshot.state)
            self.sequences = self.router.restore(state)
        except (DecodeError, struct.error) as error:
            raise _damaged(f"the snapshot of height {snapshot.height} cannot be read: {error}") from error
        self.state_root = root
        self.height = snapshot.height
        self.frontier = Frontier.read(size, store.node)

    def _check_replayable(self, block: StoredBlock) -> None:
        """Raise `StoreError` for a stored block that cannot be the next one: a damaged store, and no bug of ours."""
        header = block.header
        sequences = self.sequences.copy()
        verdicts = [sequences.apply(s.body, header.height) is Verdict.COUNTS for s in block.submissions]
        if header.height != self.height + 1 or list(block.counts) != verdicts:
            raise _damaged(f"the block of height {self.height + 1} or what it counts is another")

    def _append(self, height: int, data: bytes, keys: tuple[bytes, ...], batch: Batch) -> None:
        position = self.frontier.size
        batch.nodes.extend(self.frontier.append(leaf_hash(data)))
        batch.leaves.append(NewLeaf(position, height, data, keys))

    def _role(self, origin: str) -> str:
        member = self._genesis.member(origin)
        check(member is not None, f"a submission of {origin}, who is no member, was finalized")
        return "" if member is None else member.role


def _damaged(what: str) -> StoreError:
    return StoreError(f"the store is damaged: {what}", hint="run `swarm store check` on it")


def _note_event(happened: Happened, submission: bytes, command: int, app: str, body: bytes) -> None:
    content = read_body(body)
    if isinstance(content, Refusal):
        happened.rejected.append((submission, command, app, content.reason))
    elif app == "decisions":
        match decode_event(content):
            case Opened(decision=view):
                happened.opened.append(view.id)
            case Closed(outcome=outcome):
                happened.outcomes.append(outcome)
