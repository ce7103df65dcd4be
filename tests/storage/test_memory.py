"""What only the store in memory can do: cut its own power, fail on demand, be a disk that lies."""

from __future__ import annotations

import pytest

from swarm.primitives.errors import InvariantError, StoreError, StoreGoneError
from swarm.storage.memory import MemoryStore, PowerCut
from swarm.storage.store import Batch
from swarm.wire.statements import Kind
from tests.support.stores import History, certificate, record, submission


def test_a_power_cut_hits_the_next_commit_only_once() -> None:
    store = MemoryStore()
    store.power_cut(after="transaction")
    store.commit(Batch())
    with pytest.raises(PowerCut):
        store.commit(Batch(records=[record(Kind.SKIP, 1)]))
    with pytest.raises(StoreError, match="power is off"):
        store.commit(Batch(records=[record(Kind.SKIP, 2)]))
    again = store.reopen()
    again.commit(Batch(records=[record(Kind.SKIP, 2)]))
    assert again.reopen().load().records == (record(Kind.SKIP, 1), record(Kind.SKIP, 2))


def test_no_handler_of_failures_takes_a_power_cut_for_one() -> None:
    assert not issubclass(PowerCut, Exception)


def test_a_disk_that_lied_loses_what_it_did_not_sync() -> None:
    history = History()
    store = MemoryStore()
    store.commit(Batch(records=[record(Kind.SKIP, 1)]))
    store.commit(history.finalized(history.block(2, submission(1))))
    before = store.load()
    store.hold_syncs()
    store.commit(Batch(records=[record(Kind.SKIP, 3)], certificates=[certificate(Kind.SKIP, 3)], boot=2))
    store.commit(history.finalized(history.block(4, submission(2))))
    store.lose_unsynced()
    with pytest.raises(StoreError, match="power is off"):
        store.load()
    assert store.reopen().load() == before


def test_the_mark_notices_what_the_disk_lost() -> None:
    store = MemoryStore()
    store.hold_syncs()
    store.commit(Batch(records=[record(Kind.SKIP, 3)]))
    store.lose_unsynced(keep_mark=True)
    with pytest.raises(StoreGoneError, match="ends after 1 own statements, its mark says 2"):
        store.reopen()


def test_a_lost_certificate_is_no_lost_statement() -> None:
    store = MemoryStore()
    store.hold_syncs()
    store.commit(Batch(certificates=[certificate(Kind.SKIP, 3)]))
    store.lose_unsynced(keep_mark=True)
    assert store.reopen().load().certificates == ()


def test_nothing_is_unsynced_by_default() -> None:
    with pytest.raises(InvariantError):
        MemoryStore().lose_unsynced()


def test_a_medium_without_its_mark_or_its_chain_is_gone() -> None:
    store = MemoryStore()
    store.commit(Batch(records=[record(Kind.SKIP, 1), record(Kind.SKIP, 2)]))
    store.medium.mark = None
    with pytest.raises(StoreGoneError, match="missing"):
        store.reopen()


def test_a_chain_that_was_altered_is_gone() -> None:
    store = MemoryStore()
    store.commit(Batch(records=[record(Kind.SKIP, 1), record(Kind.SKIP, 2)]))
    entries = store.medium.chain.entries
    entries[1] = entries[1]._replace(record=record(Kind.SKIP, 9))
    with pytest.raises(StoreGoneError, match="breaks the chain"):
        store.reopen()
