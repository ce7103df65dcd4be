"""The store's contract, kept by the store on a disk and the one in memory alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.crypto.digest import sha256
from swarm.primitives.errors import InvariantError, StoreError
from swarm.storage.memory import Boundary
from swarm.storage.store import Batch, Finality, NewLeaf, OwnRecord, Restored, Snapshot, StoredBlock
from swarm.wire.leaves import submission_leaf
from swarm.wire.statements import Kind
from tests.support.stores import (
    History,
    Opened,
    StoreMedium,
    certificate,
    checkpoint,
    medium_of,
    record,
    statement,
    submission,
)

BOUNDARIES: tuple[Boundary, ...] = ("nothing", "transaction", "all")


@pytest.fixture(params=["disk", "memory"])
def medium(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreMedium]:
    with medium_of(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
def history() -> History:
    return History()


def before_and_after_a_restart(store: Opened, medium: StoreMedium) -> Iterator[Opened]:
    yield store
    yield medium.open()


def test_a_new_store_holds_nothing(medium: StoreMedium) -> None:
    for _ in range(2):
        assert medium.open().load() == Restored(
            boot=0,
            records=(),
            sequence=0,
            proposals=(),
            certificates=(),
            blocks=(),
            own_submissions=(),
            tip=None,
            snapshot=None,
            log_size=0,
            checkpoint=None,
        )


def test_a_turn_comes_back_whole_after_a_restart(medium: StoreMedium, history: History) -> None:
    own = submission(1)
    block = history.block(1, own)
    turn = Batch(
        records=[
            record(Kind.SUBMISSION, 1, digest=own.id),
            record(Kind.PROPOSE, 1),
            record(Kind.NOTARIZE, 1),
        ],
        proposals=[history.proposal(block)],
        certificates=[certificate(Kind.SKIP, 2), certificate(Kind.NOTARIZE, 1, block.hash)],
        blocks=[block],
        own_submissions=[own],
        snapshots=[Snapshot(0, b"state")],
        checkpoints=[checkpoint(0, 0)],
        boot=3,
    )
    medium.open().commit(turn)
    store = medium.open()
    restored = store.load()
    assert restored.boot == 3
    assert restored.records == tuple(turn.records[1:])
    assert restored.sequence == 1
    assert restored.proposals == tuple(turn.proposals)
    assert restored.certificates == (turn.certificates[1], turn.certificates[0])
    assert restored.blocks == (block,)
    assert restored.own_submissions == (own,)
    assert restored.snapshot == Snapshot(0, b"state")
    assert restored.checkpoint == checkpoint(0, 0)
    assert store.block_by_hash(block.hash) == block
    assert store.block_at(1) is None
    assert store.submission(own.id) == own
    assert store.certificate(Kind.SKIP, 2) == turn.certificates[0]
    assert store.certificate(Kind.FINALIZE, 2) is None


def test_the_log_is_read_back(medium: StoreMedium, history: History) -> None:
    store = medium.open()
    first, second = submission(1), submission(7, origin="ops")
    blocks = [history.block(1, first)]
    blocks.append(history.block(3, second, on=blocks[0]))
    batch = history.finalized(*blocks)
    store.commit(batch)
    for opened in before_and_after_a_restart(store, medium):
        logged = [f.block for f in batch.finalized]
        assert list(opened.blocks_after(0)) == logged
        assert list(opened.blocks_after(1)) == logged[1:]
        assert opened.block_at(2) == opened.block_by_hash(blocks[1].hash) == logged[1]
        assert opened.block_at(0) is None
        assert opened.block_at(3) is None
        assert opened.finality_of(1) is None
        assert opened.finality_of(2) == certificate(Kind.FINALIZE, 3, blocks[1].hash)
        assert opened.certificate(Kind.FINALIZE, 3) == opened.finality_of(2)
        assert [opened.leaf(i) for i in range(5)] == [*(leaf.data for leaf in batch.leaves), None]
        assert opened.find(second.id) == 2
        assert opened.find(sha256(second.id)) == 3
        assert opened.find(b"x" * 32) is None
        assert opened.find_sequence("ops", 0, 7) == 2
        assert opened.find_sequence("ops", 1, 7) is None
        assert opened.find_sequence("ops", 0, 8) is None
        assert opened.node(2, 0) == history.tree.root()
        with pytest.raises(StoreError, match="no Merkle node"):
            opened.node(3, 0)
        restored = opened.load()
        assert restored.tip == logged[1]
        assert restored.log_size == 4
        assert restored.certificates == (opened.finality_of(2),)


def test_a_leaf_may_come_without_its_block(medium: StoreMedium) -> None:
    store = medium.open()
    late = submission(4)
    store.commit(Batch(leaves=[NewLeaf(0, 1, submission_leaf(late.raw), (late.id,))]))
    assert store.leaf(0) == submission_leaf(late.raw)
    assert store.find_sequence(late.body.origin, 0, 4) == 0


def test_the_last_leaf_with_a_key_is_found(medium: StoreMedium) -> None:
    store = medium.open()
    key = bytes(32)
    store.commit(Batch(leaves=[NewLeaf(0, 1, b"\x02a", (key,)), NewLeaf(1, 1, b"\x02b", (key,))]))
    assert store.find(key) == 1


def test_records_up_to_the_finalized_view_are_pruned(medium: StoreMedium, history: History) -> None:
    store = medium.open()
    block = history.block(1)
    later = record(Kind.NOTARIZE, 2, digest=sha256(b"other"))
    store.commit(history.vote(1, block))
    store.commit(history.lock(1, block))
    store.commit(Batch(records=[record(Kind.ATTEST, 5), record(Kind.SUBMISSION, 9), record(Kind.ATTEST, 4)]))
    store.commit(Batch(records=[later]))
    store.commit(history.finalized(block))
    for opened in before_and_after_a_restart(store, medium):
        assert opened.load().records == (record(Kind.ATTEST, 5), later)
        assert opened.load().sequence == 9
    again = medium.open()
    again.commit(Batch(records=[record(Kind.FINALIZE, 3)], certificates=[certificate(Kind.FINALIZE, 2)]))
    assert medium.open().load().records == (record(Kind.ATTEST, 5), record(Kind.FINALIZE, 3))
    assert medium.open().load().sequence == 9


def test_pruning_keeps_the_chain_short(medium: StoreMedium, history: History) -> None:
    store = medium.open()
    for view in range(1, 40):
        block = history.block(view)
        store.commit(history.vote(view, block))
        store.commit(history.lock(view, block))
        store.commit(history.finalized(block))
    chain = store.medium.chain if hasattr(store, "medium") else store._chain
    assert chain.head.count == 1 + 2 * 39
    assert len(chain.entries) <= 2
    assert medium.open().load().tip == history.blocks[-1]


def test_submissions_alone_do_not_let_the_chain_grow(medium: StoreMedium) -> None:
    store = medium.open()
    for start in range(0, 600, 50):
        store.commit(Batch(records=[record(Kind.SUBMISSION, n) for n in range(start + 1, start + 51)]))
    chain = store.medium.chain if hasattr(store, "medium") else store._chain
    assert len(chain.entries) < 350
    assert medium.open().load().sequence == 600


def test_certificates_of_finalized_views_go_and_the_log_keeps_its_own(
    medium: StoreMedium, history: History
) -> None:
    store = medium.open()
    first = history.block(1)
    second = history.block(3, on=first)
    third = history.block(4, on=second)
    store.commit(
        Batch(
            certificates=[
                certificate(Kind.NOTARIZE, 1, first.hash),
                certificate(Kind.SKIP, 2),
                certificate(Kind.NOTARIZE, 3, second.hash),
                certificate(Kind.NOTARIZE, 4, third.hash),
            ]
        )
    )
    store.commit(history.finalized(first))
    store.commit(history.finalized(second))
    store.commit(Batch(certificates=[certificate(Kind.SKIP, 2)]))
    for opened in before_and_after_a_restart(store, medium):
        assert opened.certificate(Kind.NOTARIZE, 1) is None
        assert opened.certificate(Kind.SKIP, 2) is None
        assert opened.certificate(Kind.FINALIZE, 1) == opened.finality_of(1) is not None
        assert opened.certificate(Kind.NOTARIZE, 4) is not None
        assert opened.load().certificates == (
            certificate(Kind.FINALIZE, 3, second.hash),
            certificate(Kind.NOTARIZE, 4, third.hash),
        )


def test_a_certificate_may_come_before_its_block_and_after_it(medium: StoreMedium, history: History) -> None:
    store = medium.open()
    first = history.block(1)
    second = history.block(2, on=first)
    final = certificate(Kind.FINALIZE, 2, second.hash)
    store.commit(Batch(records=[record(Kind.NOTARIZE, 1)], certificates=[final]))
    assert medium.open().load().certificates == (final,)
    assert medium.open().load().records == ()
    store = medium.open()
    store.commit(history.finalized(first, second, with_certificate=False))
    assert store.finality_of(2) == store.certificate(Kind.FINALIZE, 2) == final
    late = certificate(Kind.FINALIZE, 1, first.hash)
    store.commit(Batch(certificates=[late, certificate(Kind.FINALIZE, 1, b"y" * 32)]))
    for opened in before_and_after_a_restart(store, medium):
        assert opened.finality_of(1) == late
        assert opened.load().certificates == (final,)


def test_a_certificate_that_names_no_block_of_the_log_is_dropped(
    medium: StoreMedium, history: History
) -> None:
    store = medium.open()
    store.commit(Batch(certificates=[certificate(Kind.FINALIZE, 1, b"z" * 32)]))
    store.commit(history.finalized(history.block(2)))
    assert store.certificate(Kind.FINALIZE, 1) is None


def test_the_first_certificate_of_a_view_is_kept(medium: StoreMedium) -> None:
    store = medium.open()
    kept = certificate(Kind.NOTARIZE, 1, b"a" * 32)
    store.commit(Batch(certificates=[kept, certificate(Kind.NOTARIZE, 1, b"b" * 32)]))
    assert store.certificate(Kind.NOTARIZE, 1) == kept


def test_the_newest_epoch_answers_for_a_view(medium: StoreMedium) -> None:
    store = medium.open()
    newest = certificate(Kind.SKIP, 1, epoch=2)
    store.commit(Batch(certificates=[certificate(Kind.SKIP, 1, epoch=1), newest]))
    assert store.certificate(Kind.SKIP, 1) == newest
    assert medium.open().certificate(Kind.SKIP, 1) == newest


def test_blocks_that_lost_are_dropped_with_their_bytes(medium: StoreMedium, history: History) -> None:
    store = medium.open()
    lost, shared, own, kept = (submission(n, body=bytes([n])) for n in range(1, 5))
    loser = history.block(1, lost, shared, own, kept)
    winner = history.block(2, shared)
    open_block = history.block(3, kept, on=winner)
    store.commit(Batch(blocks=[loser, winner, open_block], own_submissions=[own]))
    store.commit(history.finalized(winner))
    store.commit(Batch(blocks=[loser]))
    for opened in before_and_after_a_restart(store, medium):
        assert opened.block_by_hash(loser.hash) is None
        assert opened.load().blocks == (open_block,)
        assert opened.submission(lost.id) is None
        assert opened.submission(shared.id) == shared
        assert opened.submission(own.id) == own
        assert opened.submission(kept.id) == kept


def test_own_submissions_are_kept_until_the_log_has_them(medium: StoreMedium, history: History) -> None:
    store = medium.open()
    first, second, third = (submission(n) for n in (1, 2, 3))
    store.commit(Batch(own_submissions=[third, first]))
    store.commit(Batch(own_submissions=[second]))
    assert medium.open().load().own_submissions == (first, second, third)
    store = medium.open()
    store.commit(history.finalized(history.block(1, second)))
    store.commit(Batch(own_submissions=[second], settled_submissions=[third.id]))
    assert medium.open().load().own_submissions == (first,)


def test_a_block_may_be_kept_and_finalized_in_one_turn(medium: StoreMedium, history: History) -> None:
    store = medium.open()
    block = history.block(1, submission(1))
    batch = history.finalized(block)
    batch.blocks.append(block)
    batch.own_submissions.append(block.submissions[0])
    store.commit(batch)
    assert store.load().blocks == ()
    assert store.load().own_submissions == ()
    assert store.block_at(1) == history.blocks[0]


def test_the_two_newest_snapshots_are_kept(medium: StoreMedium) -> None:
    store = medium.open()
    for height in (0, 256, 512):
        store.commit(Batch(snapshots=[Snapshot(height, str(height).encode())]))
    assert medium.open().load().snapshot == Snapshot(512, b"512")


def test_the_oldest_checkpoint_that_covers_is_found(medium: StoreMedium) -> None:
    store = medium.open()
    store.commit(Batch(checkpoints=[checkpoint(9, 20), checkpoint(4, 10)]))
    store.commit(Batch(checkpoints=[checkpoint(5, 10), checkpoint(9, 99)]))
    for opened in before_and_after_a_restart(store, medium):
        assert opened.checkpoint_covering(0) == checkpoint(4, 10)
        assert opened.checkpoint_covering(10) == checkpoint(4, 10)
        assert opened.checkpoint_covering(11) == checkpoint(9, 20)
        assert opened.checkpoint_covering(21) is None
        assert opened.load().checkpoint == checkpoint(9, 20)


def test_one_pair_of_evidence_of_each_sort_is_kept(medium: StoreMedium) -> None:
    store = medium.open()
    pair = (statement(Kind.NOTARIZE, 1), statement(Kind.NOTARIZE, 1, digest=b"b" * 32))
    other = (statement(Kind.FINALIZE, 2, voter=1), statement(Kind.SKIP, 2, voter=1))
    store.commit(Batch(evidence=[other]))
    store.commit(Batch(evidence=[pair, (statement(Kind.NOTARIZE, 5), statement(Kind.NOTARIZE, 5))]))
    assert medium.open().evidence() == (pair, other)


def test_the_boot_number_never_falls(medium: StoreMedium) -> None:
    medium.open().commit(Batch(boot=5))
    medium.open().commit(Batch(boot=2))
    assert medium.open().load().boot == 5


def test_an_empty_batch_is_no_transaction(medium: StoreMedium) -> None:
    store = medium.open()
    medium.fail()
    store.commit(Batch())
    assert store.load().records == ()


# ------------------------------------------------------------------------------------------ failures


def _grown(history: History) -> list[Batch]:
    """Return a few turns of every sort, in order."""
    own = submission(1)
    block = history.block(1, own)
    turns = [
        Batch(boot=1),
        Batch(records=[record(Kind.SUBMISSION, 1, digest=own.id)], own_submissions=[own]),
        history.vote(1, block),
        history.lock(1, block),
        history.finalized(block),
        Batch(records=[record(Kind.SKIP, 2)]),
        Batch(records=[record(Kind.ATTEST, 1)], checkpoints=[checkpoint(1, 2)]),
    ]
    following = history.block(3)
    final = history.finalized(following)
    final.records.append(record(Kind.ATTEST, 2))
    return [*turns, history.vote(3, following), final]


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("turn", range(9))
def test_a_power_cut_at_every_boundary_leaves_a_whole_turn_or_none(
    medium: StoreMedium, history: History, boundary: Boundary, turn: int
) -> None:
    turns = _grown(history)
    store = medium.open()
    for batch in turns[:turn]:
        store.commit(batch)
    before = store.load()
    medium.cut(turns[turn], boundary)
    store = medium.open()
    if boundary == "nothing":
        assert store.load() == before
        store.commit(turns[turn])
    else:
        assert store.load() != before
    for batch in turns[turn + 1 :]:
        store.commit(batch)
    restored = medium.open().load()
    assert restored.tip == history.blocks[-1]
    assert restored.sequence == 1
    assert restored.boot == 1
    assert restored.records == (record(Kind.ATTEST, 2),)


def test_cuts_in_a_row_are_survived(medium: StoreMedium) -> None:
    signed: list[OwnRecord] = []
    for view, boundary in enumerate(BOUNDARIES * 4, start=1):
        medium.open()
        vote = record(Kind.SKIP, view)
        medium.cut(Batch(records=[vote]), boundary)
        signed += [] if boundary == "nothing" else [vote]
    assert medium.open().load().records == tuple(signed)


def test_a_failed_commit_leaves_nothing_and_ends_the_store(medium: StoreMedium, history: History) -> None:
    store = medium.open()
    store.commit(Batch(records=[record(Kind.SKIP, 1)]))
    before = store.load()
    medium.fail()
    big = Batch(records=[record(Kind.SKIP, 2)], snapshots=[Snapshot(1, bytes(1_000_000))])
    with pytest.raises(StoreError, match="full") as caught:
        store.commit(big)
    assert caught.value.hint
    with pytest.raises(StoreError, match="any more"):
        store.commit(Batch(records=[record(Kind.SKIP, 3)]))
    with pytest.raises(StoreError, match="any more"):
        store.load()
    assert medium.open().load() == before


def test_a_closed_store_answers_nothing(medium: StoreMedium, history: History) -> None:
    store = medium.open()
    store.close()
    store.close()
    for ask in (
        store.load,
        lambda: store.block_at(1),
        lambda: store.leaf(0),
        lambda: store.commit(Batch(boot=9)),
    ):
        with pytest.raises(StoreError):
            ask()


def test_gaps_in_the_log_are_bugs(medium: StoreMedium, history: History) -> None:
    first = history.block(1)
    second = history.block(2, on=first)
    with pytest.raises(InvariantError, match="height 2"):
        medium.open().commit(Batch(finalized=[Finality(second, None)]))
    with pytest.raises(InvariantError, match="leaf 1"):
        medium.open().commit(Batch(leaves=[NewLeaf(1, 1, b"\x02", ())]))
    assert medium.open().load().tip is None


def test_a_bug_in_the_batch_is_rolled_back(medium: StoreMedium) -> None:
    store = medium.open()
    with pytest.raises(InvariantError, match="signature of 64"):
        store.commit(Batch(records=[OwnRecord(int(Kind.SKIP), 0, 1, bytes(32), b"short")]))
    with pytest.raises(StoreError, match="any more"):
        store.commit(Batch(boot=1))
    assert medium.open().load().records == ()


def test_blocks_may_be_read_while_the_log_grows(medium: StoreMedium, history: History) -> None:
    store = medium.open()
    store.commit(history.finalized(history.block(1)))
    seen: list[StoredBlock] = []
    for block in store.blocks_after(0):
        seen.append(block)
        if len(seen) < 4:
            store.commit(history.finalized(history.block(len(seen) + 1)))
    assert seen == history.blocks
