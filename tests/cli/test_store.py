"""`swarm store check` and `repair`: words and exit codes over what `swarm.storage.check` finds."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from swarm.cli.store import describe_report
from swarm.storage.check import StoreReport
from swarm.storage.finding import Finding
from swarm.storage.lock import StoreLock
from swarm.storage.mark import SLOT_OFFSETS, mark_path
from swarm.storage.sqlite import create_store
from tests.support.commands import swarm
from tests.support.signed_stores import GENESIS, write_signed_store
from tests.support.stores import spoil_schema
from tests.support.swarms import keypair, make_genesis


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "dev-0.sqlite"
    create_store(path, make_genesis().id, "dev-0", keypair("dev-0").public)
    return path


def tear_a_slot(store: Path) -> None:
    """Spoil the mark's first slot, as a power cut in the middle of its write does; the second stays good."""
    with mark_path(store).open("r+b") as file:
        file.seek(SLOT_OFFSETS[0] + 20)
        file.write(b"torn")


def test_a_good_store(store: Path) -> None:
    done = swarm("store", "check", store)
    assert (done.code, done.err) == (0, "")
    assert (
        done.out == f"{store}: store of dev-0: height 0, 0 log entries, 0 own statements\n  nothing is wrong"
        "; signatures of other voters were not checked: name the swarm's file with --genesis\n"
    )


def test_a_good_store_as_json(store: Path) -> None:
    done = swarm("store", "check", store, "--json", "-")
    assert "nothing is wrong" in done.err
    assert json.loads(done.out) == {
        "path": str(store),
        "ok": True,
        "device": "dev-0",
        "statements": 0,
        "height": 0,
        "log_size": 0,
        "is_gone": False,
        "has_genesis": False,
        "findings": [],
    }


def test_what_can_be_repaired_is_named_with_the_command_and_then_is(store: Path) -> None:
    tear_a_slot(store)
    done = swarm("store", "check", store)
    assert (done.code, done.err) == (1, "")
    assert "(can be repaired)" in done.out
    assert f"swarm store repair {store}" in done.out

    done = swarm("store", "repair", store, "--json", store.with_name("out.json"))
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("wrote the mark anew")
    report = json.loads(store.with_name("out.json").read_text())
    assert report["done"]
    assert report["after"]["ok"] is True
    assert swarm("store", "check", store).code == 0
    assert swarm("store", "repair", store).out.startswith("nothing to repair\n")


def test_a_store_that_is_gone_is_refused_with_the_reason(store: Path) -> None:
    mark_path(store).unlink()
    done = swarm("store", "check", store)
    assert done.code == 1
    assert "must not vote" in done.out
    done = swarm("store", "repair", store)
    assert (done.code, done.out) == (2, "")
    assert "cannot be repaired" in done.error_line


@pytest.mark.parametrize("command", ["check", "repair"])
def test_no_store_and_a_held_store_are_bad_input(command: str, store: Path) -> None:
    done = swarm("store", command, store.with_name("nix"))
    assert (done.code, done.out) == (2, "")
    assert "there is no store at" in done.error_line

    lock = StoreLock(store)
    done = swarm("store", command, store)
    lock.close()
    assert (done.code, done.out) == (2, "")
    assert f"(pid {os.getpid()}) holds {store}" in done.error_line
    assert done.error_line.endswith("(stop it, do this again, and start it anew)")


def test_a_schema_that_is_no_text_is_told_in_one_line(store: Path) -> None:
    spoil_schema(store)
    done = swarm("store", "check", store)
    assert (done.code, done.err) == (1, "")
    assert f"file: {store} is damaged: its schema or a text in it is no UTF-8" in done.out
    done = swarm("store", "repair", store)
    assert (done.code, done.out) == (2, "")
    assert "is damaged: its schema" in done.error_line


def test_what_sqlite_says_of_a_spoilt_file_moves_no_cursor(store: Path) -> None:
    report = StoreReport(
        path=store,
        device="",
        statements=0,
        height=0,
        log_size=0,
        findings=(Finding("file", "malformed schema (x\x07\x1b[31m)"),),
        is_gone=False,
    )
    first, second, *_ = describe_report(report)
    assert first == f"{store}: this store cannot be read"
    assert second == "  file: malformed schema (x\\x07\\x1b[31m)"


def test_damage_that_nothing_repairs_points_at_the_disk() -> None:
    report = StoreReport(
        path=Path("dev-0.sqlite"),
        device="",
        statements=0,
        height=0,
        log_size=0,
        findings=(
            Finding("file", "page 7 is damaged"),
            Finding("index", "row 1 missing", is_repairable=True),
        ),
        is_gone=False,
    )
    assert describe_report(report) == [
        "dev-0.sqlite: this store cannot be read",
        "  file: page 7 is damaged",
        "  index: row 1 missing (can be repaired)",
        "  Not all of it can be repaired: check the disk; never bring back an older copy of the store.",
    ]


def test_signatures_of_others_are_checked_with_the_genesis_beside_the_store_or_named(tmp_path: Path) -> None:
    path = tmp_path / "dev-0.sqlite"
    write_signed_store(path)
    with closing(sqlite3.connect(path)) as connection:
        ((body,),) = connection.execute("SELECT body FROM finality WHERE view = 2")
        connection.execute(
            "UPDATE finality SET body = ? WHERE view = 2", (body[:-1] + bytes([body[-1] ^ 1]),)
        )
        connection.commit()
    assert "signatures of other voters were not checked" in swarm("store", "check", path).out
    named = tmp_path / "named.json"
    named.write_text(GENESIS.to_json(), encoding="utf-8")
    finding = "  finality: the FC of view 2 does not hold (bad-signature: voter 2)"
    done = swarm("store", "check", path, "--genesis", named)
    assert (done.code, finding in done.out) == (1, True)
    named.rename(tmp_path / "genesis.json")
    assert finding in swarm("store", "check", path).out
    assert "cannot be repaired: finality" in swarm("store", "repair", path).error_line
    done = swarm("store", "check", path, "--genesis", tmp_path / "nix.json")
    assert (done.code, "nix.json: cannot be read" in done.error_line) == (2, True)
