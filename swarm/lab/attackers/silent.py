"""silent: follows everything and says nothing, the cheapest way to fail."""

from __future__ import annotations

from swarm.device.turn import Turn


class Silent:
    """Lets a correct device run and swallows all that it would publish."""

    name = "silent"

    def change(self, turn: Turn) -> Turn:
        """Return the turn without its frames."""
        return Turn((), turn.actions, turn.wake_at_ms, turn.events, turn.synced)
