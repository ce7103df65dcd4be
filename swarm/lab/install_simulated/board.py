"""The board of a simulated device: the one of `firmware_sim` with a count of its starts and a trial timer."""

from __future__ import annotations

from firmware_sim.board import Board, Reset
from firmware_sim.bootloader import BootResult, BootSettings
from swarm.install.selection import TRIAL_TIMER
from swarm.lab.install_simulated.chips import Chips
from swarm.lab.install_simulated.start import note_reason, note_start, settle_start


class SimulatedBoard(Board):
    """A board that joins its records before an image runs, and ends a trial that lasts too long.

    The timer ends a trial as the launcher of the directory back end does, and the image cannot extend it. It does not
    help against `brick`, which stands for what nothing on a device catches.
    """

    def __init__(self, chips: Chips, *, secret: bytes, settings: BootSettings, watchdog_ms: int) -> None:
        """Make a board that is off."""
        super().__init__(
            chips.flash, chips.layout, chips.verify, secret=secret, settings=settings, watchdog_ms=watchdog_ms
        )
        self._chips = chips
        self._trial_ms = 0

    def reset(self, reason: Reset = Reset.SOFTWARE) -> BootResult:
        """Start anew; a trial that may not go on is left by a second start, before its image runs."""
        if reason is Reset.TIMER:
            note_reason(self._chips, TRIAL_TIMER)
            self._chips.app.revert()
        boot = self._start(reason)
        if boot.started is not None and settle_start(self._chips, is_last=False):
            boot = self._start(Reset.SOFTWARE)
            if boot.started is not None:
                settle_start(self._chips, is_last=True)
        trial = self._chips.read_records()[0]
        self._trial_ms = trial.trial_ms if trial is not None else 0
        return boot

    def _start(self, reason: Reset) -> BootResult:
        note_start(self._chips)
        return super().reset(reason)

    def next_reset(self) -> tuple[int, Reset] | None:
        """Return the first of what the image does to itself and the trial timer."""
        own = super().next_reset()
        if not self._trial_ms or self.behaves in ("off", "brick") or self._chips.app.is_settled():
            return own
        timer = (self.last.at_ms + self._trial_ms, Reset.TIMER)
        return timer if own is None or timer[0] < own[0] else own
