"""What only a disk can do: flipped bits, torn writes, foreign files, a second process, a full disk."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import swarm.storage.sqlite as sqlite_module
from swarm.crypto.digest import sha256
from swarm.primitives.errors import StoreError, StoreGoneError
from swarm.storage.chain import seal_digest
from swarm.storage.mark import SLOT_OFFSETS, mark_path, read_slots
from swarm.storage.migration import known_version
from swarm.storage.sqlite import SqliteStore, create_store
from swarm.storage.store import Batch, Snapshot
from swarm.wire.statements import Kind
from tests.support.stores import DEVICE, KEY, SWARM, DiskMedium, History, certificate, record, submission

WAL_HEADER_BYTES = 32
FRAME_BYTES = 24 + 2048


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskMedium]:
    medium = DiskMedium(tmp_path)
    yield medium
    medium.close()


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def flip(path: Path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def signed(disk: DiskMedium, count: int) -> list[int]:
    """Sign `count` skips, one commit each; returns the length of the WAL after each, and before the first."""
    store = disk.open()
    lengths = [beside(disk.path, "-wal").stat().st_size]
    for view in range(1, count + 1):
        store.commit(Batch(records=[record(Kind.SKIP, view)], certificates=[certificate(Kind.SKIP, view)]))
        lengths.append(beside(disk.path, "-wal").stat().st_size)
    return lengths


# ------------------------------------------------------------------------------------------ flipped and torn


@pytest.mark.parametrize("commit", [0, 3, 9])
def test_a_flipped_bit_in_the_wal_is_noticed_by_the_mark(disk: DiskMedium, commit: int) -> None:
    lengths = signed(disk, 10)
    path = disk.move_copy()
    wal = beside(path, "-wal")
    flip(wal, lengths[commit] + 100)
    damaged = wal.read_bytes()
    with pytest.raises(StoreGoneError, match=f"ends after {commit + 1} own statements, its mark says 11"):
        disk.open()
    # What lies behind the flipped bit is evidence: a refused start leaves it where it is.
    assert wal.read_bytes() == damaged
    # SQLite itself has no objection.
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("SELECT COUNT(*) FROM records").fetchone() == (commit + 1,)
    connection.close()


def test_a_lost_wal_is_noticed_by_the_mark(disk: DiskMedium) -> None:
    signed(disk, 2)
    beside(disk.move_copy(), "-wal").unlink()
    with pytest.raises(StoreGoneError):
        disk.open()


def test_a_power_cut_inside_the_transaction_leaves_the_turn_before(disk: DiskMedium) -> None:
    lengths = signed(disk, 3)
    before_mark = mark_path(disk.path).read_bytes()
    store = disk.open()
    store.commit(Batch(boot=1))
    start = beside(disk.path, "-wal").stat().st_size
    store.commit(Batch(records=[record(Kind.SKIP, 4)], certificates=[certificate(Kind.SKIP, 4)]))
    end = beside(disk.path, "-wal").stat().st_size
    assert end > start >= WAL_HEADER_BYTES
    assert lengths == sorted(lengths)
    path = disk.move_copy()
    kept = {suffix: beside(path, suffix).read_bytes() for suffix in ("", "-wal")}
    for length in sorted({start, start + 1, start + 24, *range(start, end, 511), end - 1, end}):
        path.write_bytes(kept[""])
        beside(path, "-wal").write_bytes(kept["-wal"][:length])
        mark_path(path).write_bytes(before_mark)
        count = len(disk.open().load().records)
        assert count == (4 if length == end else 3)
        disk.close()


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("at", [0, 8, 45, 80, 100, 119])
def test_a_damaged_mark_slot_falls_back_to_the_other_and_is_repaired(
    disk: DiskMedium, slot: int, at: int
) -> None:
    signed(disk, 3)
    path = disk.move_copy()
    flip(mark_path(path), SLOT_OFFSETS[slot] + at, bit=3)
    assert len(disk.open().load().records) == 3
    disk.close()
    slots = read_slots(mark_path(path), seal_digest(SWARM, DEVICE, KEY))
    assert slots.torn == ()
    assert slots.newest is not None
    assert slots.newest.count == 4


def test_both_mark_slots_damaged_is_gone(disk: DiskMedium) -> None:
    signed(disk, 3)
    path = disk.move_copy()
    for offset in SLOT_OFFSETS:
        flip(mark_path(path), offset + 50)
    with pytest.raises(StoreGoneError, match="missing or unreadable"):
        disk.open()


def test_a_missing_mark_is_gone(disk: DiskMedium) -> None:
    signed(disk, 1)
    mark_path(disk.move_copy()).unlink()
    with pytest.raises(StoreGoneError, match="mark beside the store") as caught:
        disk.open()
    assert "rejoining comes later" in caught.value.hint


def test_the_mark_of_another_store_is_gone(disk: DiskMedium, tmp_path: Path) -> None:
    signed(disk, 2)
    path = disk.move_copy()
    other = DiskMedium(tmp_path / "other")
    signed(other, 2)
    other.close()
    # Same swarm, device and key: only the chain's hash tells the two apart.
    theirs = other.open()
    theirs.commit(Batch(records=[record(Kind.SKIP, 9)]))
    ours = disk.open()
    ours.commit(Batch(records=[record(Kind.SKIP, 3)]))
    other.close()
    disk.close()
    shutil.copy(mark_path(other.path), mark_path(path))
    with pytest.raises(StoreGoneError, match="different chains"):
        disk.open()


def test_an_older_copy_of_the_database_is_gone(disk: DiskMedium) -> None:
    signed(disk, 2)
    disk.close()
    shutil.copy(disk.path, beside(disk.path, ".backup"))
    store = disk.open()
    store.commit(Batch(records=[record(Kind.SKIP, 3)]))
    disk.close()
    shutil.copy(beside(disk.path, ".backup"), disk.path)
    with pytest.raises(StoreGoneError, match="its mark says 4"):
        disk.open()


def test_the_sealed_store_restored_after_a_start_is_gone(disk: DiskMedium) -> None:
    shutil.copy(disk.path, beside(disk.path, ".sealed"))
    disk.open()
    disk.close()
    shutil.copy(beside(disk.path, ".sealed"), disk.path)
    with pytest.raises(StoreGoneError):
        disk.open()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DELETE FROM records WHERE n = 2", "statement 2 is missing"),
        ("DELETE FROM records WHERE n = 3", "ends after 3"),
        ("UPDATE records SET number = 7 WHERE n = 2", "statement 2 breaks the chain"),
        ("DELETE FROM records", "neither a seal nor a first statement"),
        ("DELETE FROM state", "neither a seal nor a chain"),
        ("UPDATE state SET seal = base_hash", "unbroken or foreign seal"),
    ],
)
def test_a_broken_chain_is_gone(disk: DiskMedium, change: str, message: str) -> None:
    signed(disk, 3)
    disk.close()
    connection = sqlite3.connect(disk.path)
    connection.execute(change)
    connection.commit()
    connection.close()
    with pytest.raises(StoreGoneError, match=message):
        disk.open()


# ------------------------------------------------------------------------------------------ files that are no store


def test_a_missing_store_names_init(tmp_path: Path) -> None:
    for path in (tmp_path / "no.sqlite", tmp_path / "nowhere" / "no.sqlite"):
        with pytest.raises(StoreError) as caught:
            SqliteStore(path, swarm_id=SWARM, device=DEVICE)
        assert "swarm init" in caught.value.hint
        assert not isinstance(caught.value, StoreGoneError)
    assert list(tmp_path.iterdir()) == []


def test_a_vanished_store_is_gone(disk: DiskMedium) -> None:
    signed(disk, 1)
    disk.close()
    disk.path.unlink()
    with pytest.raises(StoreGoneError, match="vanished"):
        disk.open()
    with pytest.raises(StoreGoneError, match="earlier store"):
        create_store(disk.path, SWARM, DEVICE, KEY)


def test_an_interrupted_init_may_be_repeated(disk: DiskMedium) -> None:
    disk.path.unlink()
    beside(disk.path, ".new").write_bytes(b"half a draft")
    create_store(disk.path, SWARM, DEVICE, KEY)
    assert disk.open().load().sequence == 0


def test_init_never_replaces_a_store(disk: DiskMedium) -> None:
    with pytest.raises(StoreError, match="exists already"):
        create_store(disk.path, SWARM, DEVICE, KEY)


def test_init_into_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot create"):
        create_store(tmp_path / "nowhere" / "a.sqlite", SWARM, DEVICE, KEY)


@pytest.mark.parametrize("content", [b"", b"garbage " * 1000, b"SQLite format 3\0" + bytes(84)])
def test_a_file_that_is_no_database(disk: DiskMedium, content: bytes) -> None:
    disk.path.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        disk.open()
    assert not isinstance(caught.value, StoreGoneError)
    assert caught.value.hint
    assert disk.path.read_bytes() == content


def test_a_folder_where_the_store_should_be(tmp_path: Path) -> None:
    (tmp_path / "dev.sqlite").mkdir()
    with pytest.raises(StoreError, match="not a file"):
        SqliteStore(tmp_path / "dev.sqlite", swarm_id=SWARM, device=DEVICE)


def test_another_database_is_no_store(disk: DiskMedium) -> None:
    disk.path.unlink()
    connection = sqlite3.connect(disk.path)
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="not a swarm store"):
        disk.open()


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_a_truncated_database_names_the_repair(disk: DiskMedium, keep: float) -> None:
    signed(disk, 5)
    disk.close()
    data = disk.path.read_bytes()
    disk.path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(StoreError) as caught:
        disk.open()
    assert caught.value.hint == f"swarm store repair {disk.path}"


def test_a_damaged_page_names_the_repair(disk: DiskMedium) -> None:
    history = History()
    store = disk.open()
    for view in range(1, 30):
        store.commit(history.finalized(history.block(view, submission(view, body=bytes(200)))))
    disk.close()
    for at in range(2048, disk.path.stat().st_size, 2048):
        flip(disk.path, at, bit=6)
    with pytest.raises(StoreError, match="is damaged") as caught:
        disk.open()
    assert "swarm store repair" in caught.value.hint


def test_a_newer_schema_is_refused(disk: DiskMedium) -> None:
    connection = sqlite3.connect(disk.path)
    connection.execute(f"PRAGMA user_version = {known_version() + 1}")
    connection.close()
    with pytest.raises(StoreError, match=f"schema version {known_version() + 1}") as caught:
        disk.open()
    assert "newer swarm" in caught.value.hint


@pytest.mark.parametrize(
    ("swarm_id", "device", "key", "message"),
    [
        (sha256(b"other"), DEVICE, KEY, "another swarm"),
        (SWARM, "dev-1", KEY, "device dev-0, not of dev-1"),
        (SWARM, DEVICE, sha256(b"other"), "another key"),
    ],
)
def test_the_store_of_somebody_else(
    disk: DiskMedium, swarm_id: bytes, device: str, key: bytes, message: str
) -> None:
    before = disk.path.read_bytes()
    with pytest.raises(StoreError, match=message) as caught:
        SqliteStore(disk.path, swarm_id=swarm_id, device=device, key_public=key)
    assert caught.value.hint
    # Not even the seal is broken by a refused start.
    assert disk.path.read_bytes() == before
    assert disk.open().load().boot == 0


# ------------------------------------------------------------------------------------------ one process


def test_a_second_open_in_this_process_is_refused_until_the_first_is_closed(disk: DiskMedium) -> None:
    store = disk.open()
    with pytest.raises(StoreError, match=f"pid {os.getpid()}"):
        SqliteStore(disk.path, swarm_id=SWARM, device=DEVICE)
    store.commit(Batch(boot=1))
    store.close()
    assert disk.open().load().boot == 1


def test_a_second_process_is_refused_and_told_who_holds_the_store(disk: DiskMedium) -> None:
    program = (
        "import sys; from swarm.storage.sqlite import SqliteStore; from swarm.primitives.errors import StoreError\n"
        "try: SqliteStore(sys.argv[1], swarm_id=bytes.fromhex(sys.argv[2]), device=sys.argv[3])\n"
        "except StoreError as error: print(error)\n"
    )
    disk.open()
    arguments = [sys.executable, "-c", program, str(disk.path), SWARM.hex(), DEVICE]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        arguments, capture_output=True, text=True, timeout=60, check=True, env=environment, cwd=Path.cwd()
    )
    assert f"another process (pid {os.getpid()}) holds {disk.path}" in done.stdout
    disk.close()
    done = subprocess.run(
        arguments, capture_output=True, text=True, timeout=60, check=True, env=environment, cwd=Path.cwd()
    )
    assert done.stdout == ""


# ------------------------------------------------------------------------------------------ failing media


def test_a_mark_that_cannot_be_synced_ends_the_store(
    disk: DiskMedium, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = disk.open()
    vote = record(Kind.SKIP, 1)

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", broken)
        with pytest.raises(StoreError, match="Input/output error"):
            store.commit(Batch(records=[vote]))
    with pytest.raises(StoreError, match="any more"):
        store.commit(Batch(boot=2))
    assert disk.open().load().records == (vote,)


def test_a_failed_transaction_is_rolled_back_at_once(disk: DiskMedium) -> None:
    store = disk.open()
    disk.fail()
    with pytest.raises(StoreError, match="full"):
        store.commit(Batch(snapshots=[Snapshot(1, bytes(1_000_000))]))
    assert not store._connection.in_transaction


def test_every_commit_is_synced_and_the_lock_is_exclusive(disk: DiskMedium) -> None:
    ask = disk.open()._connection.execute
    assert ask("PRAGMA synchronous").fetchone() == (2,)
    assert ask("PRAGMA journal_mode").fetchone() == ("wal",)
    assert ask("PRAGMA locking_mode").fetchone() == ("exclusive",)


def test_a_new_store_appears_complete_and_its_name_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new.sqlite"
    seen: list[tuple[bool, bool]] = []
    monkeypatch.setattr(
        sqlite_module, "sync_folder", lambda _: seen.append((mark_path(path).exists(), path.exists()))
    )
    create_store(path, SWARM, DEVICE, KEY)
    assert seen == [(True, False), (True, True)]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["new.sqlite", "new.sqlite.mark"]


def test_only_what_was_signed_moves_the_mark(disk: DiskMedium) -> None:
    store = disk.open()
    before = mark_path(disk.path).read_bytes()
    store.commit(Batch(certificates=[certificate(Kind.SKIP, 1)]))
    assert mark_path(disk.path).read_bytes() == before
    store.commit(Batch(records=[record(Kind.SKIP, 2)]))
    assert mark_path(disk.path).read_bytes() != before


def test_the_mark_is_written_after_the_transaction(disk: DiskMedium, monkeypatch: pytest.MonkeyPatch) -> None:
    store = disk.open()
    seen: list[bool] = []
    real = os.fdatasync

    def watched(fd: int) -> None:
        seen.append(store._connection.in_transaction)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", watched)
    store.commit(Batch(records=[record(Kind.SKIP, 1)]))
    assert seen == [False]


def test_submission_bytes_are_stored_once(disk: DiskMedium) -> None:
    history = History()
    store = disk.open()
    payload = sha256(b"a rare sequence of bytes")
    block = history.block(1, submission(1, body=payload))
    store.commit(history.vote(1, block))
    store.commit(history.finalized(block))
    store.close()
    assert disk.path.read_bytes().count(payload) == 1


def test_a_log_that_grew_through_many_checkpoints_of_the_wal(disk: DiskMedium) -> None:
    history = History()
    store = disk.open()
    store._connection.execute("PRAGMA wal_autocheckpoint = 20")
    for view in range(1, 120):
        block = history.block(view, submission(view))
        store.commit(history.vote(view, block))
        store.commit(history.finalized(block))
    path = disk.move_copy()
    assert beside(path, "-wal").stat().st_size < 200 * FRAME_BYTES
    assert list(disk.open().blocks_after(0)) == history.blocks
