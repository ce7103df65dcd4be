"""refuses: takes part in everything but the rollout: no approval, no go, no late, no halt, no report."""

from __future__ import annotations

from typing import ClassVar

from swarm.device.device import Device
from swarm.device.turn import Turn, TurnInput
from swarm.lab.attackers.insider import Insider


class Refuses:
    """Keeps the log alive and never lifts a hand for a step or a brake."""

    name: ClassVar[str] = "refuses"
    keeps_firmware: ClassVar[bool] = False

    def __init__(self, insider: Insider) -> None:
        """Need nothing."""
        del insider

    def change(self, turn: Turn) -> Turn:
        """Change nothing: the refusal is in what is never said."""
        return turn

    def act(self, device: Device, now_ms: int) -> tuple[tuple[TurnInput, ...], int | None]:
        """Say nothing."""
        del device, now_ms
        return (), None
