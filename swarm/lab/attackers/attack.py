"""What an attacker is to an engine, and which there are; one file each in this room."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from swarm.lab.attackers.canary import BlockingCanary, LyingCanary, PermitHoarder, RepeatedReports
from swarm.lab.attackers.chunks import BadChunks, EndlessChunks, SlowChunks
from swarm.lab.attackers.equivocate import Equivocate
from swarm.lab.attackers.falls_silent import FallsSilent
from swarm.lab.attackers.insider import Attack, Insider, InsiderAttack
from swarm.lab.attackers.refuses import Refuses
from swarm.lab.attackers.silent import Silent
from swarm.lab.attackers.votes_always import VotesAlways

__all__ = ["ATTACKS", "INSIDER_ATTACKS", "Attack", "Insider", "InsiderAttack"]

ATTACKS: Final[Mapping[str, Callable[[], Attack]]] = MappingProxyType({Silent.name: Silent})
"""By the name in a scenario's `byzantine` line; these need nothing but the turns."""

_INSIDERS: Final[tuple[tuple[str, Callable[[Insider], InsiderAttack]], ...]] = (
    (BadChunks.name, BadChunks),
    (BlockingCanary.name, BlockingCanary),
    (EndlessChunks.name, EndlessChunks),
    (Equivocate.name, Equivocate),
    (FallsSilent.name, FallsSilent),
    (LyingCanary.name, LyingCanary),
    (PermitHoarder.name, PermitHoarder),
    (Refuses.name, Refuses),
    (RepeatedReports.name, RepeatedReports),
    (SlowChunks.name, SlowChunks),
    (VotesAlways.name, VotesAlways),
)

INSIDER_ATTACKS: Final[Mapping[str, Callable[[Insider], InsiderAttack]]] = MappingProxyType(dict(_INSIDERS))
"""Those that sign with the device's key and read its log; the simulator alone performs them."""
