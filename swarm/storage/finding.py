"""One thing that a check of a store has to say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: `part` of the store, what, and whether repair can restore it from the rest."""

    part: str
    text: str
    is_repairable: bool = False
