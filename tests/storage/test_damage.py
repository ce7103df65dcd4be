"""What a spoilt file makes SQLite and Python say: always a `StoreError` of one line, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.primitives.errors import StoreError
from swarm.storage.check import check_store, repair_store
from swarm.storage.store import Batch
from swarm.wire.statements import Kind
from tests.support.stores import DiskMedium, record, spoil_schema


@pytest.fixture
def spoilt(tmp_path: Path) -> DiskMedium:
    """A stopped store whose schema holds a word that is neither SQL nor UTF-8: SQLite's message quotes it."""
    disk = DiskMedium(tmp_path)
    disk.open().commit(Batch(records=[record(Kind.SKIP, 1)]))
    disk.close()
    spoil_schema(disk.path)
    return disk


def test_a_schema_that_is_no_text_is_refused_at_a_start(spoilt: DiskMedium) -> None:
    with pytest.raises(StoreError, match="is damaged: its schema or a text in it is no UTF-8") as caught:
        spoilt.open()
    assert caught.value.hint == f"swarm store repair {spoilt.path}"


def test_a_schema_that_is_no_text_is_a_finding_and_beyond_repair(spoilt: DiskMedium) -> None:
    assert [finding.part for finding in check_store(spoilt.path).findings] == ["file"]
    with pytest.raises(StoreError, match=r"cannot be repaired: file: .* is damaged"):
        repair_store(spoilt.path)
