"""One flipped bit anywhere in a stopped store: found by the check, or harmless for a reason that has a name."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from swarm.apps.router import Router
from swarm.crypto.signing import verify
from swarm.device.device import Device, DeviceConfig
from swarm.primitives.errors import StoreError
from swarm.storage.check import check_store, repair_store
from swarm.storage.damage import SQLITE_ERRORS
from swarm.storage.mark import mark_path
from swarm.storage.signers import check_restored
from swarm.storage.sqlite import SqliteStore
from tests.support.signed_stores import GENESIS, ME, write_signed_store
from tests.support.swarms import keypair, make_genesis

FLIPS = 400
SEEDS = (1, 2)

HARMLESS = {
    (
        "state",
        "attest_hash",
    ): "the chain hash of a pruned record: nothing follows from it and nobody reads it",
    ("state", "boot"): "the boot number only has to grow, and the mark keeps it too",
    (
        "state",
        "sequence",
    ): "a higher one skips numbers; below one that chain or log still tell of it is passed over",
    ("state", "attest_n"): "only the order of what was signed long ago",
}
"""Values that may change without a finding."""

UNSIGNED = {
    ("finality", "body"): "signatures of other voters",
    ("certificates", "body"): "signatures of other voters",
    ("checkpoints", "body"): "signatures of other voters, and roots that only those cover",
    ("evidence", "first"): "the signature of another voter",
    ("evidence", "second"): "the signature of another voter",
    ("proposals", "body"): "signatures of other voters in the parent's certificate",
    ("snapshots", "state"): "between checkpoints nobody knows, without genesis, which one attested it",
}
"""What only genesis can judge."""

Tables = dict[str, tuple[tuple[str, ...], tuple[tuple[object, ...], ...]]]


def read_tables(path: Path) -> Tables | None:
    """Return columns and rows of every table as SQLite reads them, None where it cannot."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        try:
            names = [
                row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            ]
            tables: Tables = {}
            for name in names:
                found = connection.execute(f"SELECT * FROM {name}")
                tables[name] = tuple(column[0] for column in found.description), tuple(found)
        except SQLITE_ERRORS:
            return None
        return tables


def changed_values(before: Tables, after: Tables) -> set[tuple[str, str]]:
    """Return (table, column) of every value that differs, `*` for rows that came or went."""
    changed: set[tuple[str, str]] = set()
    for name, (columns, rows) in before.items():
        _, others = after.get(name, ((), ()))
        if len(rows) != len(others):
            changed.add((name, "*"))
            continue
        for row, other in zip(rows, others, strict=True):
            pairs = zip(columns, row, other, strict=True)
            changed |= {(name, column) for column, value, now in pairs if value != now}
    return changed


@dataclass(frozen=True)
class Original:
    """The store as it was, and a place for spoilt copies."""

    path: Path
    data: bytes
    tables: Tables

    def spoilt(self, offset: int, bit: int) -> Path:
        """Return a copy in which one bit is flipped."""
        data = bytearray(self.data)
        data[offset] ^= 1 << bit
        copy = self.path.parent / "copy" / self.path.name
        shutil.rmtree(copy.parent, ignore_errors=True)
        copy.parent.mkdir()
        copy.write_bytes(data)
        shutil.copy(mark_path(self.path), mark_path(copy))
        return copy

    def flips(self, seed: int) -> Iterator[tuple[int, int]]:
        """Yield seeded offsets, most of them where something stands, and a bit of each."""
        draw = random.Random(seed)
        filled = [offset for offset, byte in enumerate(self.data) if byte]
        for number in range(FLIPS):
            yield (
                draw.randrange(len(self.data)) if number % 8 == 0 else draw.choice(filled),
                draw.randrange(8),
            )


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    path = tmp_path_factory.mktemp("flips") / "dev-0.sqlite"
    write_signed_store(path)
    tables = read_tables(path)
    assert tables is not None
    return Original(path, path.read_bytes(), tables)


def test_the_store_holds_something_of_everything_and_checks(original: Original) -> None:
    assert {name for name, (_, rows) in original.tables.items() if not rows} == set()
    report = check_store(original.path, GENESIS)
    assert (report.findings, report.has_genesis) == ((), True)
    assert check_store(original.path).ok


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("has_genesis", [True, False], ids=["genesis", "alone"])
def test_every_flip_is_found_or_harmless(original: Original, seed: int, has_genesis: bool) -> None:
    allowed = set(HARMLESS) | (set() if has_genesis else set(UNSIGNED))
    found = 0
    for offset, bit in original.flips(seed):
        path = original.spoilt(offset, bit)
        try:
            is_found = not check_store(path, GENESIS if has_genesis else None).ok
        except StoreError:
            is_found = True
        found += is_found
        if not is_found:
            tables = read_tables(path)
            assert tables is not None, (offset, bit)
            assert changed_values(original.tables, tables) <= allowed, (offset, bit)
    assert found > FLIPS // 2


@pytest.mark.parametrize("table", ["finality", "checkpoints", "certificates", "evidence"])
def test_every_byte_of_what_others_signed_is_checked(original: Original, table: str) -> None:
    columns, rows = original.tables[table]
    for column, value in zip(columns, rows[0], strict=True):
        if not isinstance(value, bytes):
            continue
        assert column in {"body", "first", "second"}
        start = original.data.index(value[:48])
        for offset in range(start, start + len(value), 7):
            if original.data[start : start + len(value)] == value:  # else it continues on another page
                assert not check_store(original.spoilt(offset, offset % 8), GENESIS).ok, (column, offset)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_start_refuses_or_goes_well(original: Original, seed: int) -> None:
    started = 0
    refusals = []
    for offset, bit in original.flips(seed):
        path = original.spoilt(offset, bit)
        try:
            with opened(path) as store:
                check_restored(path, store.load(), GENESIS)
                config = DeviceConfig(genesis=GENESIS, me=ME, keypair=keypair(ME))
                Device(config, store, Router(GENESIS.apps), verify, 0)
                started += 1
        except StoreError as error:
            refusals.append(str(error))
    assert started > 0
    assert refusals
    assert not [words for words in refusals if "\n" in words]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_repair_mends_or_refuses(original: Original, seed: int) -> None:
    for offset, bit in list(original.flips(seed))[: FLIPS // 4]:
        path = original.spoilt(offset, bit)
        before = read_tables(path)
        try:
            done = repair_store(path, GENESIS)
        except StoreError:
            continue
        assert done.after.ok
        after = read_tables(path)
        assert after is not None
        changed = changed_values(original.tables, after)
        assert changed <= set(HARMLESS), (offset, bit, before is None)


def test_an_event_that_nobody_attested_is_never_the_witness_of_its_own_hash(tmp_path: Path) -> None:
    path = tmp_path / "dev-0.sqlite"
    write_signed_store(path)
    with closing(sqlite3.connect(path)) as connection:
        ((position, data),) = connection.execute(
            "SELECT position, data FROM leaves WHERE data IS NOT NULL ORDER BY position DESC LIMIT 1"
        )
        # The index of a note, its last byte: still a leaf in every other respect.
        connection.execute(
            "UPDATE leaves SET data = ? WHERE position = ?", (data[:-1] + bytes([data[-1] ^ 1]), position)
        )
        connection.commit()
    findings = check_store(path, GENESIS).findings
    assert any(f.part == "leaf" and not f.is_repairable for f in findings), findings
    with pytest.raises(StoreError, match="cannot be repaired"):
        repair_store(path, GENESIS)


def test_a_genesis_of_another_swarm_is_passed_over(original: Original) -> None:
    report = check_store(original.path, make_genesis(7))
    assert (report.ok, report.has_genesis) == (True, False)


@contextmanager
def opened(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path, swarm_id=GENESIS.id, device=ME, key_public=keypair(ME).public)
    try:
        yield store
    finally:
        store.close()
