"""Who hears what: the subscriptions of CONTRACTS ("Topics") in the simulator, so that a fleet costs what it would."""

from __future__ import annotations

from typing import Final

from swarm.device.delivery.ring import chunk_peers
from swarm.primitives.ids import DeviceId
from swarm.wire.genesis import Genesis

PEERS_MAX: Final = 8
"""Members beside the voters to which an observer listens, the newest first: its current chunk peers."""


class Routes:
    """A voter hears every member, an observer the voters, its neighbours in the ring and whom it asked last.

    An operator hears the voters, and whoever asks it for a release.
    """

    def __init__(self, genesis: Genesis) -> None:
        """Begin with the subscriptions that everybody has."""
        self._voters = frozenset(genesis.voter_ids)
        self._operators = frozenset(m.id for m in genesis.members if m.role == "operator")
        self._everybody = tuple(member.id for member in genesis.members)
        self._voters_in_order = genesis.voter_ids
        self._neighbours: dict[DeviceId, tuple[DeviceId, ...]] = {}
        if genesis.release is not None:
            self._neighbours = {m.id: chunk_peers(genesis, m.id) for m in genesis.observers}
        self._listens: dict[DeviceId, dict[DeviceId, None]] = {}

    def receivers(self, sender: DeviceId, to: DeviceId | None) -> tuple[DeviceId, ...]:
        """Return who hears a frame: of a voter everybody, of another member the voters and its neighbours.

        A frame to one member makes the sender listen to it, before it is sent.
        """
        if to is not None:
            if to not in self._voters and sender not in self._voters:
                self._listen(sender, to)
            return (to,) if to != sender and self._hears(to, sender) else ()
        if sender in self._voters:
            return tuple(member for member in self._everybody if member != sender)
        everybody = (*self._voters_in_order, *self._neighbours.get(sender, ()))
        return tuple(member for member in everybody if member != sender)

    def _hears(self, receiver: DeviceId, sender: DeviceId) -> bool:
        # Whoever serves a release from an operator's machine listens to every member that may ask.
        if receiver in self._voters or receiver in self._operators or sender in self._voters:
            return True
        return sender in self._neighbours.get(receiver, ()) or sender in self._listens.get(receiver, {})

    def _listen(self, member: DeviceId, peer: DeviceId) -> None:
        peers = self._listens.setdefault(member, {})
        peers.pop(peer, None)
        peers[peer] = None
        while len(peers) > PEERS_MAX:
            del peers[next(iter(peers))]
