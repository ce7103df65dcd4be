"""Who of the observers exchanges chunks with whom: neighbours in one ring, so that each listens to whoever asks it.

An observer hears the voters and nobody else (CONTRACTS, "Topics"). A question to another observer is heard only where
that one listens to the asker; neighbours of a ring that everybody computes alike listen to each other, and what it
costs does not grow with the fleet.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from swarm.crypto.digest import sha256
from swarm.primitives.ids import DeviceId
from swarm.wire.genesis import Genesis

NEIGHBOURS: Final = 2
"""On each side of the ring."""

_GENESES_KEPT: Final = 4


def chunk_peers(genesis: Genesis, me: DeviceId) -> tuple[DeviceId, ...]:
    """Return the observers that listen to the observer `me`, and it to them; none for any other member."""
    ring, places = _ring(genesis.id, tuple(member.id for member in genesis.observers))
    place = places.get(me)
    if place is None:
        return ()
    steps = [step for distance in range(1, NEIGHBOURS + 1) for step in (distance, -distance)]
    found = dict.fromkeys(ring[(place + step) % len(ring)] for step in steps)
    found.pop(me, None)
    return tuple(found)


@lru_cache(maxsize=_GENESES_KEPT)
def _ring(swarm: bytes, observers: tuple[DeviceId, ...]) -> tuple[tuple[DeviceId, ...], dict[DeviceId, int]]:
    ring = tuple(sorted(observers, key=lambda name: sha256(swarm, name.encode())))
    return ring, {name: place for place, name in enumerate(ring)}
