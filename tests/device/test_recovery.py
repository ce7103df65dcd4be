"""R10: crash at every boundary, at every turn, and the device is as if it had only paused (no vote twice, no fork)."""

from __future__ import annotations

import pytest

from swarm.apps.decisions.commands import open_command
from swarm.device import events
from swarm.device.turn import Submit
from swarm.primitives.errors import StoreError, StoreGoneError
from swarm.primitives.limits import HEARTBEAT_MS
from swarm.storage.memory import Boundary
from swarm.storage.store import Batch
from swarm.wire.messages import decode_frame
from swarm.wire.statements import Kind, SignedStatement
from tests.support.fleet import Fleet, Member

BOUNDARIES: tuple[Boundary, ...] = ("nothing", "transaction", "all")


def work(fleet: Fleet) -> None:
    for id in fleet.members:
        fleet[id].ballot = 3
    fleet.put("dev-0", Submit("decisions", open_command(subject="a", rule="median", deadline_ms=5000), 1))
    fleet.note("dev-1", b"one")


def convicting(fleet: Fleet) -> list[str]:
    """Return every pair of statements in all published frames that no correct device makes."""
    said: dict[tuple[int, int, int], bytes] = {}
    found = []
    for _, frame in fleet.published:
        for item in decode_frame(frame.payload):
            if not isinstance(item, SignedStatement) or item.kind == Kind.ATTEST:
                continue
            key = (item.voter, item.number, item.kind)
            if said.setdefault(key, item.digest) != item.digest:
                found.append(f"voter {item.voter} view {item.number} two {chr(item.kind)}")
    for voter, view, kind in said:
        if kind == Kind.SKIP and (voter, view, Kind.FINALIZE) in said:
            found.append(f"voter {voter} view {view} F and K")
    return found


def cut_at(victim: Member, nth: int, boundary: Boundary) -> None:
    """Let the power go in the victim's n-th commit from now."""
    commits = 0
    store = victim.store
    original = store.commit

    def cutting(batch: Batch) -> None:
        nonlocal commits
        commits += 1
        if commits == nth:
            store.power_cut(after=boundary)
        original(batch)

    store.commit = cutting  # type: ignore[method-assign]


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("budget", ["balanced", "majority"])
def test_power_cut_at_every_turn_and_boundary(boundary: Boundary, budget: str) -> None:
    """The victim's n-th commit is cut, for every n: it comes back, everything is final everywhere, nobody lied."""
    cuts = 0
    for nth in range(1, 16):
        fleet = Fleet(budget=budget)
        fleet.settle()
        work(fleet)
        victim = fleet["dev-0"]
        cut_at(victim, nth, boundary)
        fleet.advance(150)
        if victim.device is None:
            cuts += 1
            fleet.start("dev-0")
        fleet.advance(1500)
        # A device that lost everything in an idle swarm is healed by the next heartbeat (R11).
        fleet.advance(HEARTBEAT_MS + 1000, step_ms=250)

        assert convicting(fleet) == [], (nth, boundary)
        assert len(set(fleet.heights().values())) == 1, (nth, boundary, fleet.heights())
        assert len(fleet.roots()) == 1
        if boundary != "nothing":
            noted = {
                (e["height"], e["hash"]) for m in fleet.members.values() for e in m.happened(events.FINALIZED)
            }
            assert len({h for h, _ in noted}) == len(noted)
    assert cuts >= 5, "the power did go in the turns of a commit"


def test_all_four_lose_power_at_once_and_nothing_is_lost() -> None:
    """Exactly a quorum and more crash after voting; own votes must re-enter the own tally (commonware #4275)."""
    for after_ms in (0, 5, 10, 15, 20, 25, 30, 40):
        fleet = Fleet()
        work(fleet)
        fleet.advance(after_ms)
        for id in fleet.members:
            fleet.crash(id)
        for id in fleet.members:
            fleet.start(id)
        fleet.advance(4000)
        assert convicting(fleet) == []
        assert len(set(fleet.heights().values())) == 1, after_ms
        assert len(fleet.roots()) == 1
        if after_ms >= 5:
            assert min(fleet.heights().values()) >= 1


def test_a_restart_publishes_own_stored_statements_once() -> None:
    fleet = Fleet()
    fleet.passes = lambda sender, _r, _i: sender == "dev-0"  # nobody answers, so nothing moves
    fleet.note("dev-1")
    fleet.advance(20)
    fleet.note("dev-0")
    fleet.advance(20)
    before = {
        (i.kind, i.number, i.digest)
        for s, f in fleet.published
        if s == "dev-0"
        for i in decode_frame(f.payload)
        if isinstance(i, SignedStatement)
    }
    fleet.crash("dev-0")
    fleet.start("dev-0")
    first = fleet.turn("dev-0")
    again = {
        (i.kind, i.number, i.digest)
        for f in first
        for i in decode_frame(f.payload)
        if isinstance(i, SignedStatement)
    }
    assert before <= again


def test_boot_numbers_rise_and_are_durable_before_use() -> None:
    fleet = Fleet()
    fleet.settle()
    boots = []
    for _ in range(3):
        fleet.crash("dev-2")
        fleet.start("dev-2")
        fleet.settle()
        boots.append(fleet["dev-2"].happened(events.STARTED)[-1]["boot"])
    assert boots == [2, 3, 4]
    assert fleet["dev-2"].store.load().boot == 4


def test_state_after_restart_equals_state_before() -> None:
    fleet = Fleet()
    for index in range(5):
        fleet.note(f"dev-{index % 4}", bytes([index]))
        fleet.advance(100)
    device = fleet["dev-1"].running
    ledger = device.ledger
    snapshot = ledger.router.snapshot(ledger.sequences)
    root, height = ledger.frontier.root(), ledger.height
    fleet.crash("dev-1")
    fleet.start("dev-1")
    again = fleet["dev-1"].running.ledger
    assert again.router.snapshot(again.sequences) == snapshot
    assert (again.frontier.root(), again.height) == (root, height)
    assert fleet["dev-1"].running.replica.state.sequences.snapshot() == ledger.sequences.snapshot()


def test_snapshots_shorten_the_replay_and_change_nothing() -> None:
    from tests.support.swarms import make_genesis

    fleet = Fleet(genesis=make_genesis(4, snapshot_every=3))
    for index in range(8):
        fleet.note("dev-0", bytes([index]))
        fleet.advance(100)
    restored = fleet["dev-1"].store.load()
    assert restored.snapshot is not None
    assert restored.snapshot.height == 6
    before = fleet["dev-1"].running.ledger.state_root
    fleet.crash("dev-1")
    fleet.start("dev-1")
    assert fleet["dev-1"].running.ledger.state_root == before
    fleet.note("dev-0", b"more")
    fleet.advance(200)
    assert len(fleet.roots()) == 1


def test_a_store_that_lost_what_it_said_counts_as_gone() -> None:
    """Directed `late mark`: the medium loses commits but the mark remembers, so the device refuses to vote again."""
    fleet = Fleet()
    fleet.settle()
    fleet["dev-0"].store.hold_syncs()
    fleet.note("dev-0")
    fleet.advance(100)
    fleet["dev-0"].store.lose_unsynced(keep_mark=True)
    fleet.crash("dev-0")
    with pytest.raises(StoreGoneError):
        fleet.start("dev-0")


def test_another_program_that_makes_another_log_is_refused() -> None:
    """The replay is compared with the stored leaves: a device that would leave the log stops with the reason."""
    fleet = Fleet()
    fleet.note("dev-0")
    fleet.advance(200)
    fleet.crash("dev-0")
    medium = fleet["dev-0"].store.medium
    medium.nodes[0, 1] = bytes(32)
    with pytest.raises(StoreError, match="another log"):
        fleet.start("dev-0")
