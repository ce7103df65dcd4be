"""falls-silent: as correct as can be until somebody else holds a permit, then not a word."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from swarm.device.device import Device
from swarm.device.turn import Turn, TurnInput
from swarm.lab.attackers.insider import Insider, rollout_state


class FallsSilent:
    """Helps a canary into its trial and then counts on the canary to be the second failure."""

    name: ClassVar[str] = "falls-silent"
    keeps_firmware: ClassVar[bool] = True

    def __init__(self, insider: Insider) -> None:
        """Be correct for now."""
        self._me = insider.id
        self.is_silent = False

    def change(self, turn: Turn) -> Turn:
        """Swallow everything once the time has come."""
        if not self.is_silent:
            return turn
        return replace(turn, frames=())

    def act(self, device: Device, now_ms: int) -> tuple[tuple[TurnInput, ...], int | None]:
        """Look whether another voter holds a permit."""
        del now_ms
        state = rollout_state(device)
        for record in () if state is None else state.devices.values():
            if record.permit is not None and record.id != self._me:
                self.is_silent = True
        return (), None
