"""Names of the attacks that a scenario may ask for, by engine; each has its code in `lab/attackers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

INSIDER_ATTACK_NAMES: Final = (
    "bad-chunks",
    "blocking-canary",
    "endless-chunks",
    "equivocate",
    "falls-silent",
    "lying-canary",
    "permit-hoarder",
    "refuses",
    "repeated-reports",
    "slow-chunks",
    "votes-always",
)
"""Attackers that sign with the device's key and read its log."""

SUPPORTED_ATTACKS: Final[Mapping[str, frozenset[str]]] = {
    "sim": frozenset({"silent", *INSIDER_ATTACK_NAMES}),
    "mqtt": frozenset({"silent"}),
}
"""Which attacks of a `byzantine` line work, by engine; one file each in `lab/attackers`."""
