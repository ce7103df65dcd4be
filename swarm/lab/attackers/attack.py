"""What an attacker is to an engine, and which there are; one file each in this room."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

from swarm.device.turn import Turn
from swarm.lab.attackers.silent import Silent


class Attack(Protocol):
    """A wrapper around a device's turns that does what a correct device would not."""

    name: str

    def change(self, turn: Turn) -> Turn:
        """Return what leaves the device instead of `turn`."""


ATTACKS: Final[Mapping[str, Callable[[], Attack]]] = MappingProxyType({Silent.name: Silent})
"""By the name in a scenario's `byzantine` line."""
