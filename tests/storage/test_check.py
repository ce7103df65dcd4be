"""Check finds what is wrong and changes nothing; repair restores what follows from the rest and invents nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from swarm.primitives.errors import StoreError, StoreGoneError
from swarm.storage.check import check_store, repair_store
from swarm.storage.mark import SLOT_OFFSETS, mark_path
from swarm.storage.migration import known_version
from swarm.storage.store import Batch
from swarm.wire.statements import Kind
from tests.support.stores import DiskMedium, History, certificate, checkpoint, record, submission


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskMedium]:
    medium = DiskMedium(tmp_path)
    yield medium
    medium.close()


@pytest.fixture
def grown(disk: DiskMedium) -> DiskMedium:
    """A store with five blocks, an attested root in the middle, and votes on a sixth; closed."""
    history = History()
    store = disk.open()
    for view in range(1, 6):
        block = history.block(view, submission(view))
        store.commit(history.vote(view, block))
        store.commit(history.lock(view, block))
        store.commit(history.finalized(block))
        if view == 3:
            store.commit(Batch(checkpoints=[checkpoint(3, history.tree.size, history.tree.root())]))
    sixth = history.block(6, submission(6))
    store.commit(history.vote(6, sixth))
    store.commit(
        Batch(
            records=[record(Kind.SUBMISSION, 7, digest=submission(7).id)],
            own_submissions=[submission(7)],
            certificates=[certificate(Kind.SKIP, 7)],
        )
    )
    disk.close()
    return disk


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for sql in statements:
        connection.execute(sql)
    connection.commit()
    connection.close()


def everything(path: Path) -> dict[str, bytes]:
    return {
        f.name: f.read_bytes()
        for f in path.parent.iterdir()
        if not f.name.endswith((".lock", "-shm", "-wal"))
    }


def test_a_good_store_checks_and_nothing_is_touched(grown: DiskMedium) -> None:
    before = everything(grown.path)
    report = check_store(grown.path)
    assert report.ok
    assert not report.is_gone
    assert (report.device, report.statements, report.height, report.log_size) == ("dev-0", 13, 5, 10)
    assert everything(grown.path) == before
    assert repair_store(grown.path).done == ()


def test_a_sealed_store_checks(disk: DiskMedium) -> None:
    report = check_store(disk.path)
    assert report.ok
    assert report.statements == 0
    assert repair_store(disk.path).after.ok
    assert disk.open().load().boot == 0


def test_a_store_after_a_power_cut_checks_and_repair_empties_its_wal(disk: DiskMedium) -> None:
    store = disk.open()
    store.commit(Batch(records=[record(Kind.SKIP, 1)]))
    path = disk.move_copy()
    assert check_store(path).ok
    report = repair_store(path)
    assert any("write-ahead log" in text for text in report.done)
    assert report.after.ok
    assert disk.open().load().records == (record(Kind.SKIP, 1),)


def test_a_held_store_is_left_alone(grown: DiskMedium) -> None:
    grown.open()
    for act in (check_store, repair_store):
        with pytest.raises(StoreError, match="holds"):
            act(grown.path)


def test_a_missing_a_foreign_and_a_newer_store_are_refused(grown: DiskMedium, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.sqlite"
    change(foreign, "CREATE TABLE t (x)")
    with pytest.raises(StoreError, match="no store"):
        check_store(tmp_path / "none.sqlite")
    with pytest.raises(StoreError, match="not a swarm store"):
        check_store(foreign)
    change(grown.path, f"PRAGMA user_version = {known_version() + 1}")
    for act in (check_store, repair_store):
        with pytest.raises(StoreError, match="schema version"):
            act(grown.path)


def test_garbage_is_a_finding_and_beyond_repair(grown: DiskMedium) -> None:
    grown.path.write_bytes(b"garbage " * 4096)
    report = check_store(grown.path)
    assert [finding.part for finding in report.findings] == ["file"]
    with pytest.raises(StoreError, match="cannot be repaired: file") as caught:
        repair_store(grown.path)
    assert "never an older copy" in caught.value.hint


def test_a_truncated_database_is_a_finding(grown: DiskMedium) -> None:
    grown.path.write_bytes(grown.path.read_bytes()[:20_000])
    report = check_store(grown.path)
    assert not report.ok
    assert report.findings[0].part == "file"


@pytest.mark.parametrize(
    ("sql", "part"),
    [
        ("UPDATE submissions SET raw = zeroblob(length(raw)) WHERE row = 2", "submission"),
        ("DELETE FROM submissions WHERE id IN (SELECT id FROM own_submissions)", "submission"),
        ("UPDATE log SET hash = zeroblob(32) WHERE height = 2", "block"),
        ("UPDATE log SET header = (SELECT header FROM log WHERE height = 3) WHERE height = 2", "block"),
        ("UPDATE log SET header = zeroblob(9) WHERE height = 2", "block"),
        ("UPDATE log SET counts = zeroblob(2) WHERE height = 2", "block"),
        ("DELETE FROM log WHERE height = 3", "block"),
        ("DELETE FROM submissions WHERE row = 2", "block"),
        ("UPDATE finality SET body = (SELECT body FROM finality WHERE view = 1) WHERE view = 2", "finality"),
        ("UPDATE finality SET body = zeroblob(9) WHERE view = 2", "finality"),
        ("DELETE FROM leaves WHERE position = 4", "leaf"),
        ("UPDATE leaves SET data = zeroblob(9) WHERE position = 5", "leaf"),
        ("UPDATE leaves SET data = (SELECT data FROM leaves WHERE position = 1) WHERE position = 3", "leaf"),
        ("DELETE FROM keys WHERE position = 4", "leaf"),
    ],
)
def test_lost_content_is_found_and_never_invented(grown: DiskMedium, sql: str, part: str) -> None:
    change(grown.path, sql)
    report = check_store(grown.path)
    assert part in {finding.part for finding in report.findings if not finding.is_repairable}
    assert not report.is_gone
    before = everything(grown.path)
    with pytest.raises(StoreError, match="cannot be repaired"):
        repair_store(grown.path)
    assert everything(grown.path) == before


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE nodes SET hash = zeroblob(32) WHERE id = 5",
        "DELETE FROM nodes WHERE id % 3 = 0",
        "DELETE FROM nodes",
        "INSERT INTO nodes VALUES (1000, zeroblob(32))",
    ],
)
def test_merkle_nodes_are_recomputed(grown: DiskMedium, sql: str) -> None:
    good = sqlite3.connect(grown.path)
    nodes = good.execute("SELECT * FROM nodes ORDER BY id").fetchall()
    good.close()
    change(grown.path, sql)
    findings = check_store(grown.path).findings
    assert findings
    assert all(finding.part == "node" and finding.is_repairable for finding in findings)
    report = repair_store(grown.path)
    assert report.done[0].startswith(f"recomputed {len(nodes)} Merkle nodes")
    assert report.after.ok
    again = sqlite3.connect(grown.path)
    assert again.execute("SELECT * FROM nodes ORDER BY id").fetchall() == nodes
    again.close()


def test_a_broken_index_is_rebuilt(grown: DiskMedium) -> None:
    connection = sqlite3.connect(grown.path)
    root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'leaves_sequence'").fetchone()[
        0
    ]
    # An empty leaf of an index b-tree: as if a write of that page had been lost.
    page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    empty = bytes([10, 0, 0, 0, 0]) + page_bytes.to_bytes(2, "big") + b"\0"
    with grown.path.open("r+b") as file:
        file.seek((root - 1) * page_bytes)
        file.write(empty.ljust(page_bytes, b"\0"))
    with pytest.raises(StoreError, match="index leaves_sequence") as caught:
        grown.open()
    assert "swarm store repair" in caught.value.hint
    report = repair_store(grown.path)
    assert report.done[0] == "rebuilt all indexes from their tables"
    assert report.after.ok
    assert grown.open().find_sequence("dev-0", 0, 3) == 4


@pytest.mark.parametrize("slot", [0, 1])
def test_a_torn_mark_slot_is_restored(grown: DiskMedium, slot: int) -> None:
    data = bytearray(mark_path(grown.path).read_bytes())
    data[SLOT_OFFSETS[slot] + 60] ^= 4
    mark_path(grown.path).write_bytes(data)
    findings = check_store(grown.path).findings
    assert {finding.part for finding in findings} == {"mark"}
    report = repair_store(grown.path)
    assert report.done == ("wrote the mark anew: 13 statements",)
    assert report.after.ok
    assert len(grown.open().load().records) == 1


def test_the_original_is_kept_beside_and_is_no_store(grown: DiskMedium) -> None:
    change(grown.path, "DELETE FROM nodes")
    before = everything(grown.path)
    report = repair_store(grown.path)
    copy = grown.path.with_name("dev-0.sqlite.before-repair")
    mark = grown.path.with_name("dev-0.sqlite.mark.before-repair")
    assert report.after.ok
    assert set(report.kept) >= {copy, mark}
    assert mark.read_bytes() == before["dev-0.sqlite.mark"]
    assert check_store(copy).is_gone  # without its mark nobody votes with it
    connection = sqlite3.connect(copy)
    assert connection.execute("SELECT COUNT(*) FROM nodes").fetchone() == (0,)
    connection.close()
    assert repair_store(grown.path).kept == ()


def test_a_second_repair_keeps_the_first_original(grown: DiskMedium) -> None:
    for name in ("dev-0.sqlite.before-repair", "dev-0.sqlite.before-repair-2"):
        change(grown.path, "DELETE FROM nodes")
        assert repair_store(grown.path).kept[0].name == name


def test_nothing_is_repaired_when_the_original_cannot_be_kept(
    grown: DiskMedium, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(grown.path, "DELETE FROM nodes")
    before = everything(grown.path)
    monkeypatch.setattr("shutil.copy2", mock.Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(StoreError, match="No space left"):
        repair_store(grown.path)
    assert everything(grown.path) == before


@pytest.mark.parametrize(
    "sql",
    ["DELETE FROM records", "UPDATE records SET number = 99", "UPDATE state SET base_count = base_count + 1"],
)
def test_a_store_that_lost_statements_stays_gone(grown: DiskMedium, sql: str) -> None:
    change(grown.path, sql)
    report = check_store(grown.path)
    assert report.is_gone
    before = everything(grown.path)
    with pytest.raises(StoreGoneError, match="rejoining comes later"):
        repair_store(grown.path)
    assert everything(grown.path) == before


def test_a_forgotten_number_of_an_own_submission_is_found(grown: DiskMedium) -> None:
    change(grown.path, "UPDATE own_submissions SET sequence = 8")
    findings = {finding.part: finding.text for finding in check_store(grown.path).findings}
    assert findings["state"] == "own submissions were numbered up to 8, it tells of 7"


def test_a_store_without_mark_stays_gone(grown: DiskMedium) -> None:
    mark_path(grown.path).unlink()
    assert check_store(grown.path).is_gone
    with pytest.raises(StoreGoneError):
        repair_store(grown.path)
    assert not mark_path(grown.path).exists()
