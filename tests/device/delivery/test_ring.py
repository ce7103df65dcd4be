"""Chunk peers of observers: whoever I ask listens to me, and it costs the same in every fleet."""

from __future__ import annotations

import pytest

from swarm.device.delivery.ring import NEIGHBOURS, chunk_peers
from tests.support.rollouts import make_rollout_genesis


@pytest.mark.parametrize("observers", [1, 2, 3, 4, 5, 6, 50])
def test_neighbours_are_mutual_few_and_all_connected(observers: int) -> None:
    genesis = make_rollout_genesis(4, observers=observers)
    names = [member.id for member in genesis.observers]
    peers = {name: chunk_peers(genesis, name) for name in names}
    assert all(len(found) == min(2 * NEIGHBOURS, observers - 1) for found in peers.values())
    assert all(name in peers[other] for name in names for other in peers[name])
    assert all(name not in peers[name] for name in names)
    reached, edge = {names[0]}, [names[0]]
    while edge:
        edge = [other for name in edge for other in peers[name] if other not in reached]
        reached.update(edge)
    assert reached == set(names)


def test_a_voter_and_an_operator_need_none() -> None:
    genesis = make_rollout_genesis(4, observers=3)
    assert chunk_peers(genesis, "dev-0") == ()
    assert chunk_peers(genesis, "ops") == ()
