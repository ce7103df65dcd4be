"""Both stores, fed the same random turns, restarts and power cuts, never tell different stories."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from swarm.storage.memory import Boundary
from swarm.storage.store import Batch, Restored, Snapshot, StoredBlock
from swarm.wire.statements import Kind
from tests.support.stores import (
    DiskMedium,
    History,
    MemoryMedium,
    Opened,
    StoreMedium,
    certificate,
    checkpoint,
    record,
    submission,
)

VIEWS = st.integers(1, 5)


class Twins(RuleBasedStateMachine):
    """One history, two media."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.media: tuple[StoreMedium, ...] = (DiskMedium(self.folder), MemoryMedium())
        self.stores: list[Opened] = [medium.open() for medium in self.media]
        self.history = History()
        self.kept: list[StoredBlock] = []
        self.view = 0
        self.sequence = 0
        self.boot = 0
        self.signed: list[tuple[int, int]] = []

    def teardown(self) -> None:
        for medium in self.media:
            medium.close()
        shutil.rmtree(self.folder)

    def commit(self, batch: Batch, after: Boundary | None) -> bool:
        """Commit on both, or cut the power of both; returns whether the batch became durable."""
        for medium, store in zip(self.media, self.stores, strict=True):
            if after is None:
                store.commit(batch)
            else:
                medium.cut(batch, after)
        if after is not None:
            self.stores = [medium.open() for medium in self.media]
        return after != "nothing"

    @rule(
        ahead=VIEWS,
        kinds=st.lists(st.sampled_from([Kind.NOTARIZE, Kind.SKIP, Kind.FINALIZE, Kind.ATTEST]), max_size=3),
        certified=st.lists(st.tuples(st.sampled_from([Kind.NOTARIZE, Kind.SKIP]), VIEWS), max_size=3),
        after=st.sampled_from([None, None, None, "nothing", "transaction", "all"]),
    )
    def sign(
        self, ahead: int, kinds: list[Kind], certified: list[tuple[Kind, int]], after: Boundary | None
    ) -> None:
        view = self.view + ahead
        batch = Batch(
            records=[record(kind, view) for kind in kinds],
            certificates=[certificate(kind, self.view + offset) for kind, offset in certified],
        )
        if self.commit(batch, after):
            self.signed += [(r.kind, r.number) for r in batch.records if r.kind != Kind.ATTEST]

    @rule(ahead=VIEWS, count=st.integers(0, 2), after=st.sampled_from([None, None, "nothing", "all"]))
    def keep(self, ahead: int, count: int, after: Boundary | None) -> None:
        bodies = [submission(self.sequence + i + 1) for i in range(count)]
        block = self.history.block(self.view + ahead, *bodies)
        batch = Batch(blocks=[block], own_submissions=bodies, proposals=[self.history.proposal(block)])
        batch.records = [record(Kind.SUBMISSION, s.body.sequence, digest=s.id) for s in bodies]
        if self.commit(batch, after):
            self.kept.append(block)
            self.sequence += count

    @rule(index=st.integers(0, 20), named=st.booleans(), after=st.sampled_from([None, "transaction", "all"]))
    def finalize(self, index: int, named: bool, after: Boundary | None) -> None:
        fitting = [
            b
            for b in self.kept
            if b.header.view > self.view and b.header.height == len(self.history.blocks) + 1
        ]
        if not fitting:
            return
        block = fitting[index % len(fitting)]
        self.commit(self.history.finalized(block, with_certificate=named), after)
        self.view = block.header.view

    @rule(index=st.integers(0, 20))
    def certify_before_or_after(self, index: int) -> None:
        if self.kept:
            block = self.kept[index % len(self.kept)]
            self.commit(Batch(certificates=[certificate(Kind.FINALIZE, block.header.view, block.hash)]), None)

    @rule(height=st.integers(0, 9), size=st.integers(0, 9))
    def attested(self, height: int, size: int) -> None:
        batch = Batch(checkpoints=[checkpoint(height, size)], snapshots=[Snapshot(height, bytes([size]))])
        self.commit(batch, None)

    @rule()
    def restart(self) -> None:
        self.boot += 1
        self.stores = [medium.open() for medium in self.media]
        self.commit(Batch(boot=self.boot), None)

    @invariant()
    def they_agree(self) -> None:
        disk, memory = (store.load() for store in self.stores)
        assert disk == memory
        self.nothing_is_forgotten(memory)
        a, b = self.stores
        assert list(a.blocks_after(0)) == list(b.blocks_after(0))
        for view in range(self.view + 6):
            for kind in (Kind.NOTARIZE, Kind.SKIP, Kind.FINALIZE):
                assert a.certificate(kind, view) == b.certificate(kind, view)
        for position in range(memory.log_size + 1):
            assert a.leaf(position) == b.leaf(position)
        for sequence in range(1, self.sequence + 1):
            digest = submission(sequence).id
            assert a.submission(digest) == b.submission(digest)
            assert a.find(digest) == b.find(digest)
            assert a.find_sequence("dev-0", 0, sequence) == b.find_sequence("dev-0", 0, sequence)
        for size in range(10):
            assert a.checkpoint_covering(size) == b.checkpoint_covering(size)
        for block in self.kept:
            assert a.block_by_hash(block.hash) == b.block_by_hash(block.hash)

    def nothing_is_forgotten(self, restored: Restored) -> None:
        """Every statement of a view above the finalized one is restored, in the order it was signed."""
        finals = [c.number for c in restored.certificates if c.kind == Kind.FINALIZE]
        floor = max(finals, default=0)
        expected = [(kind, number) for kind, number in self.signed if number > floor]
        assert [(r.kind, r.number) for r in restored.records if r.kind != Kind.ATTEST] == expected
        assert restored.sequence == self.sequence


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=40, stateful_step_count=25, deadline=None, derandomize=True)
