"""Directed scenarios of the protocol's study that need a real store and the order of a turn, each by its name.

What broke earlier texts of the protocol: votes counted before they were durable (tally), a mark of the turn before
(late mark), a mark ahead of the transaction (early mark), a flipped bit that SQLite swallows, replayed requests.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from swarm.apps.router import Router
from swarm.crypto.signing import sign, verify
from swarm.device import events
from swarm.device.device import Device, DeviceConfig
from swarm.device.turn import FrameIn, OutFrame, Submit
from swarm.primitives.errors import StoreGoneError
from swarm.storage.memory import PowerCut
from swarm.storage.sqlite import SqliteStore, create_store
from swarm.transport.topics import Scope
from swarm.wire.codec import encode
from swarm.wire.messages import AskBlocks, Block, Blocks, Envelope, Request, decode_frame, encode_frame
from swarm.wire.statements import Kind, SignedStatement, envelope_bytes
from tests.support.fleet import DELTA_MS, START_MS, Fleet
from tests.support.swarms import keypair, make_genesis


def signed_by(fleet: Fleet, voter: int, kind: Kind) -> dict[int, set[bytes]]:
    """Return view -> digests of one kind that a voter published."""
    found: dict[int, set[bytes]] = {}
    for _, frame in fleet.published:
        for item in decode_frame(frame.payload):
            if isinstance(item, SignedStatement) and (item.voter, item.kind) == (voter, kind):
                found.setdefault(item.number, set()).add(item.digest)
    return found


def test_directed_tally() -> None:
    """Own N and F complete both certificates in one turn, the power goes before the transaction: nothing was counted.

    With three of four voters every vote of the victim decides. Whatever it counted in memory, no frame, no delivery
    and no answer of that turn has left, so after the restart it may vote anew without contradicting itself.
    """
    cuts = 0
    for cut_turn in range(1, 8):
        fleet = Fleet()
        fleet.crash("dev-3")
        fleet.settle()
        fleet.note("dev-0")
        turns = 0
        for _ in range(40):
            if fleet["dev-1"].device is not None and (fleet["dev-1"].inbox or turns == 0):
                turns += 1
                if turns == cut_turn:
                    fleet["dev-1"].store.power_cut(after="nothing")
            fleet.round()
            fleet.now_ms += 1
        before = len(fleet["dev-1"].happened(events.FINALIZED))
        if fleet["dev-1"].device is None:
            cuts += 1
            height = fleet["dev-1"].store.medium.log
            assert len(height) == before, "delivered before it was durable"
            fleet.start("dev-1")
        fleet.start("dev-3")
        fleet.advance(12_000, step_ms=50)
        assert len(fleet.roots()) == 1
        for kind in (Kind.NOTARIZE, Kind.FINALIZE):
            assert all(len(digests) == 1 for digests in signed_by(fleet, 1, kind).values())
        for view in signed_by(fleet, 1, Kind.SKIP):
            assert view not in signed_by(fleet, 1, Kind.FINALIZE)
    assert cuts >= 4, "the power did go in the turns that vote and count"


def test_directed_late_mark() -> None:
    """A mark of the turn before would let one lost transaction pass; the mark of this turn does not."""
    fleet = Fleet()
    fleet.settle()
    store = fleet["dev-1"].store
    store.hold_syncs()
    fleet.note("dev-0")
    fleet.turn("dev-0")
    fleet.deliver("dev-0", [f for s, f in fleet.published if s == "dev-0"])
    fleet.turn("dev-1")
    assert signed_by(fleet, 1, Kind.NOTARIZE), "the victim has published a vote"
    store.lose_unsynced(keep_mark=True)
    fleet.crash("dev-1")
    with pytest.raises(StoreGoneError, match="ends after"):
        fleet.start("dev-1")


def test_directed_early_mark() -> None:
    """The mark follows the transaction: a cut between them leaves F with its VC, and the view can be cleared."""
    fleet = Fleet()
    fleet.crash("dev-3")
    fleet.settle()
    fleet.note("dev-0")
    seen_f = False
    for _ in range(60):
        victim = fleet["dev-1"]
        if victim.device is not None and victim.inbox:
            victim.store.power_cut(after="transaction")
            fleet.turn("dev-1")
            restored = victim.store.reopen()
            fleet["dev-1"].store = restored
            stored = restored.load()
            finals = [r for r in stored.records if r.kind == Kind.FINALIZE]
            seen_f |= bool(finals)
            for record in finals:
                held = [c for c in stored.certificates if c.number == record.number and c.kind != Kind.SKIP]
                assert held, "an F without its VC: nobody could ever clear that view"
            fleet._first_start.discard("dev-1")
            fleet.start("dev-1")
        fleet.round()
        fleet.now_ms += 2
    assert seen_f
    fleet.start("dev-3")
    fleet.advance(12_000, step_ms=50)
    assert len(fleet.roots()) == 1


def test_directed_flipped_bit(tmp_path: Path) -> None:
    """One bit flipped in SQLite's write-ahead log silently drops later commits; the device refuses to vote on that."""
    genesis = make_genesis(1)
    key = keypair("dev-0")
    path = tmp_path / "dev-0.sqlite"
    create_store(path, genesis.id, "dev-0", key.public)

    def start() -> Device:
        store = SqliteStore(path, swarm_id=genesis.id, device="dev-0", key_public=key.public)
        config = DeviceConfig(genesis=genesis, me="dev-0", keypair=key, delta_floor_ms=DELTA_MS)
        return Device(config, store, Router(genesis.apps), verify, START_MS)

    device = start()
    for number in range(10):
        device.turn([Submit("notes", bytes([number]))], START_MS + number)
    assert device.ledger.height == 10

    # What a power cut leaves: the files as they are now, the log not yet moved into the database, one bit flipped.
    after = tmp_path / "after"
    after.mkdir()
    for suffix in ("", "-wal", ".mark"):
        shutil.copy(path.with_name(path.name + suffix), after / (path.name + suffix))
    device._store.close()
    wal = after / (path.name + "-wal")
    data = bytearray(wal.read_bytes())
    data[len(data) // 2] ^= 1
    wal.write_bytes(data)
    with pytest.raises(StoreGoneError, match="ends after"):
        SqliteStore(after / path.name, swarm_id=genesis.id, device="dev-0", key_public=key.public)


def test_directed_stale_requests() -> None:
    """Old requests replayed by a broker re-send nothing: their counter was used."""
    fleet = Fleet()
    fleet.note("dev-0")
    fleet.advance(200)
    body = encode(Request(3, 1, "dev-0", AskBlocks(1)))
    envelope = Envelope(
        Kind.REQUEST,
        "dev-1",
        body,
        sign(keypair("dev-1"), envelope_bytes(fleet.genesis.id, Kind.REQUEST, body)),
    )
    frame = FrameIn("dev-1", Scope.TO, encode_frame((envelope,)))

    def answered(frames: tuple[OutFrame, ...]) -> int:
        items = [i for f in frames if f.to == "dev-1" for i in decode_frame(f.payload)]
        return sum(isinstance(item, Block | Blocks) for item in items)

    fleet.put("dev-0", frame)
    assert answered(fleet.turn("dev-0")) == 1
    for _ in range(50):
        fleet.put("dev-0", frame)
    assert answered(fleet.turn("dev-0")) == 0
    assert fleet["dev-0"].running.dropped["replayed"] == 50


def test_nothing_of_a_cut_turn_has_left() -> None:
    """Whatever the boundary, a turn whose commit did not return published nothing."""
    for boundary in ("nothing", "transaction", "all"):
        fleet = Fleet()
        fleet.settle()
        fleet.note("dev-0")
        fleet["dev-0"].store.power_cut(after=boundary)
        before = len(fleet.published)
        with pytest.raises(PowerCut):
            fleet["dev-0"].running.turn(fleet["dev-0"].inbox, fleet.now_ms)
        assert len(fleet.published) == before
