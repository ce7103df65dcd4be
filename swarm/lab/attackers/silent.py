"""silent: follows everything and says nothing, the cheapest way to fail."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from swarm.device.turn import Turn


class Silent:
    """Lets a correct device run and swallows all that it would publish."""

    name: ClassVar[str] = "silent"

    def change(self, turn: Turn) -> Turn:
        """Return the turn without its frames."""
        return replace(turn, frames=())
