"""Who hears what in the simulator: the subscriptions of CONTRACTS."""

from __future__ import annotations

from swarm.device.delivery.ring import chunk_peers
from swarm.lab.sim.routes import PEERS_MAX, Routes
from tests.support.rollouts import make_rollout_genesis

GENESIS = make_rollout_genesis(4, observers=20)
VOTERS = set(GENESIS.voter_ids)
OPERATOR = next(m.id for m in GENESIS.members if m.role == "operator")


def test_a_voter_is_heard_by_everybody() -> None:
    heard = Routes(GENESIS).receivers("dev-0", None)
    assert set(heard) == {member.id for member in GENESIS.members} - {"dev-0"}


def test_an_observer_is_heard_by_voters_and_its_neighbours() -> None:
    heard = Routes(GENESIS).receivers("obs-3", None)
    assert set(heard) == VOTERS | set(chunk_peers(GENESIS, "obs-3"))
    assert len(heard) == 8


def test_an_operator_is_heard_by_voters() -> None:
    assert set(Routes(GENESIS).receivers(OPERATOR, None)) == VOTERS


def test_a_question_is_heard_where_somebody_listens() -> None:
    routes = Routes(GENESIS)
    near = chunk_peers(GENESIS, "obs-3")[0]
    far = next(
        m.id for m in GENESIS.observers if m.id != "obs-3" and m.id not in chunk_peers(GENESIS, "obs-3")
    )
    assert routes.receivers("obs-3", "dev-1") == ("dev-1",)
    assert routes.receivers("dev-1", "obs-3") == ("obs-3",)
    assert routes.receivers("obs-3", near) == (near,)
    assert routes.receivers("obs-3", far) == ()
    assert routes.receivers("obs-3", "obs-3") == ()


def test_whoever_is_asked_is_listened_to_and_few_of_them() -> None:
    routes = Routes(GENESIS)
    assert routes.receivers(OPERATOR, "obs-3") == (), "it was not asked"
    assert routes.receivers("obs-3", OPERATOR) == (OPERATOR,)
    assert routes.receivers(OPERATOR, "obs-3") == ("obs-3",)
    far = [m.id for m in GENESIS.observers if m.id not in (*chunk_peers(GENESIS, "obs-3"), "obs-3")]
    for other in far[: PEERS_MAX + 1]:
        routes.receivers("obs-3", other)
    assert routes.receivers(OPERATOR, "obs-3") == (), "the newest few"
