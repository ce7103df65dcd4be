"""The board under a simulated device: when it starts which image, what an operation on its media costs, when power goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from firmware_sim.board import Start, bomb_delay_ms
from firmware_sim.errors import PowerLoss
from swarm.device.firmware.installer import Installer
from swarm.device.firmware.operations import ArmBoot, Confirm, Install, InstallDone, WriteChunks
from swarm.install.port import DeviceStatus, InstallBackend, InstallError, Outcome, SlotState
from swarm.lab.checkers.rollout import Phase
from swarm.lab.install_simulated.medium import SimulatedMedium
from swarm.lab.scenario.firmware import During
from swarm.lab.scenario.firmware_record import DeviceTruth
from swarm.lab.sim.scheduler import Scheduler

BOOT_US: Final = 400_000
"""From reset to the first turn of the device, beside what the bootloader writes."""

OPERATION_US: Final = 100
"""One operation on the media: a flash page or a small file."""

CUT_OPERATIONS: Final[dict[During, int]] = {"fetch": 6, "arm": 12, "swap": 60, "confirm": 6}
"""A cut during such a step strikes within so many operations; where the step has fewer, right after it."""

DEAD: Final = ("brick", "crash", "hang", "off")
"""Images under which the device never takes a turn: they end, stand still, or feed the watchdog and nothing else."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The power will go in the middle of the next such step, and come back after `off_ms`."""

    during: During
    off_ms: int


class SimBoard:
    """One board with its media and its switch. `on_start` is told what the image does, `on_stop` that it ended."""

    def __init__(
        self,
        medium: SimulatedMedium,
        make_backend: Callable[[SimulatedMedium], InstallBackend],
        scheduler: Scheduler,
        *,
        seed: int,
        on_start: Callable[[str], None],
        on_stop: Callable[[], None],
        on_truth: Callable[[SimBoard], None],
        on_result: Callable[[InstallDone], None],
    ) -> None:
        """Take a medium that was set up; the board is off."""
        self._on_result = on_result
        self.medium = medium
        self._make_backend = make_backend
        self._installer: Installer | None = None
        self._scheduler = scheduler
        self._random = Random(f"board/{seed}")
        self._on_start = on_start
        self._on_stop = on_stop
        self._on_truth = on_truth
        self._life = 0
        """Counts starts and stops, so that what was planned in an earlier life does not happen in a later one."""
        self._free_us = 0
        self._is_dead = False
        """The image that runs does nothing any more, and nobody but the power switch can change that."""
        self.is_powered = False
        self.cut: Cut | None = None

    @property
    def _now_ms(self) -> int:
        return self._scheduler.now_us // 1000

    # ------------------------------------------------------------------------------ power

    def power_on(self) -> None:
        """Let the power come; nothing if it is there."""
        if self.is_powered:
            return
        self.is_powered = True
        self.medium.advance_to(self._now_ms)
        self._start(self.medium.power_on)

    def power_off(self) -> None:
        """Take the power at once."""
        self.is_powered = False
        self._stop()
        self.medium.power_off(seed=self._random.randrange(1 << 16))

    def cut_power(self, off_ms: int) -> None:
        """Take the power for `off_ms`."""
        self.power_off()
        self._scheduler.after(off_ms * 1000, self.power_on)

    def reset(self) -> None:
        """Restart as the image asked for."""
        starts = self._advance()
        if starts is None or starts:
            # The board was quicker, or the power went.
            return
        self._start(self.medium.reset, is_swap=True)

    def healthy(self) -> None:
        """Take the image's word that this start went well."""
        self._guarded(self.medium.healthy)

    # ------------------------------------------------------------------------------ operations

    def run(self, order: Install, done: Callable[[InstallDone], None]) -> None:
        """Carry out an operation now and hand its result over when the media would have been done with it."""
        life = self._life
        if self._installer is None:
            return
        during = _during(order)
        cut = self.cut if during is not None and self.cut is not None and self.cut.during == during else None
        before = self.medium.operations
        if cut is not None:
            self._arm_cut(cut)
        try:
            result = self._installer.run(order.operation, order.tag)
        except PowerLoss:
            self._lost(cut)
            return
        if cut is not None:
            self.medium.cut_after(None)
            self.cut_power(cut.off_ms)
            return
        self._on_truth(self)
        self._on_result(result)
        cost_us = (self.medium.operations - before) * OPERATION_US
        self._free_us = max(self._free_us, self._scheduler.now_us) + cost_us
        self._scheduler.at(self._free_us, lambda: done(result) if life == self._life else None)

    def _arm_cut(self, cut: Cut) -> None:
        self.cut = None
        within = CUT_OPERATIONS[cut.during]
        self.medium.cut_after(self._random.randrange(within), seed=self._random.randrange(25))

    def _guarded(self, action: Callable[[], object]) -> bool:
        try:
            action()
        except PowerLoss:
            self._lost(None)
            return False
        return True

    def _lost(self, cut: Cut | None) -> None:
        """Note that the power went in an operation; it comes back after a while."""
        self.is_powered = False
        self._stop()
        self._scheduler.after((1_000 if cut is None else cut.off_ms) * 1000, self.power_on)

    # ------------------------------------------------------------------------------ starts

    def _stop(self) -> None:
        self._life += 1
        self._is_dead = False
        self._on_stop()

    def _start(self, how: Callable[[], object], *, is_swap: bool = False) -> None:
        self._stop()
        cut = self.cut if self.cut is not None and self.cut.during == "swap" else None
        # A cut that waits for a swap lets starts pass that swap nothing.
        if cut is not None and is_swap:
            self._arm_cut(cut)
        else:
            cut = None
        before = self.medium.operations
        if not self._try_start(how, cut):
            return
        if cut is not None:
            self.medium.cut_after(None)
            self.cut_power(cut.off_ms)
            return
        self._started(before)

    def _try_start(self, how: Callable[[], object], cut: Cut | None) -> bool:
        try:
            how()
        except PowerLoss:
            self._lost(cut)
            return False
        return True

    def _started(self, before: int) -> None:
        """The bootloader has chosen: the device takes its first turn after a while, if the image lets it."""
        self._installer = Installer(self._make_backend(self.medium)) if self.medium.is_on else None
        life = self._life
        behaves = self._behaves()
        self._is_dead = behaves == "brick"
        self._on_truth(self)
        self._plan_own_reset(life)
        delay_ms = bomb_delay_ms(behaves)
        if delay_ms is not None:
            self._scheduler.after(delay_ms * 1000, lambda: self._explode(life))
        if behaves not in DEAD:
            cost_us = BOOT_US + (self.medium.operations - before) * OPERATION_US
            self._free_us = self._scheduler.now_us + cost_us
            word = behaves if delay_ms is None else "healthy"
            self._scheduler.after(cost_us, lambda: self._on_start(word) if life == self._life else None)

    def _behaves(self) -> str:
        """Return what the started image does as it stands in it, a bomb's delay included."""
        if not self.medium.is_on:
            return "off"
        started = self.medium.board.last.boot.started
        return "off" if started is None else started.behaves

    def _explode(self, life: int) -> None:
        if life == self._life:
            self._advance()
        if life == self._life:
            self._is_dead = True
            self._on_stop()
            self._on_truth(self)

    def _plan_own_reset(self, life: int) -> None:
        """Look again when the image, the watchdog or the trial timer would restart the board."""
        at_ms = self.medium.next_reset_ms()
        if at_ms is not None:
            self._scheduler.at(max(self._scheduler.now_us, at_ms * 1000), lambda: self._look(life))

    def _look(self, life: int) -> None:
        if life == self._life and self._advance() == () and life == self._life:
            self._plan_own_reset(life)

    def _advance(self) -> Sequence[Start] | None:
        """Let the board's time pass; a start that it made by itself is carried out. None when the power went."""
        before = self.medium.operations
        try:
            starts = tuple(self.medium.advance_to(self._now_ms))
        except PowerLoss:
            self._lost(None)
            return None
        if starts:
            self._stop()
            self._started(before)
        return starts

    # ------------------------------------------------------------------------------ what is true

    def truth(self, version_of: Callable[[bytes], str]) -> DeviceTruth | None:
        """Return what the media say, None where no image could be started or the media cannot be read."""
        if self._installer is None:
            return None
        try:
            backend = self._installer.backend
            status, outcome = backend.status(), backend.outcome()
        except InstallError:
            return None
        running = status.running
        phase: Phase = "idle"
        if outcome.outcome is Outcome.ARMED:
            phase = "armed"
        elif running.state is SlotState.TRIAL:
            phase = "bricked" if self._is_dead else "trial"
        return DeviceTruth(
            phase=phase,
            slot=status.booted,
            digest=running.digest,
            version=version_of(running.digest),
            number=running.number,
            counter=status.counter,
            confirmed=running.state is SlotState.CONFIRMED,
        )

    def status(self) -> DeviceStatus | None:
        """Return what the back end says of both slots, None where it cannot."""
        try:
            return None if self._installer is None else self._installer.backend.status()
        except InstallError:
            return None


def _during(order: Install) -> During | None:
    match order.operation:
        case WriteChunks():
            return "fetch"
        case ArmBoot():
            return "arm"
        case Confirm():
            return "confirm"
        case _:
            return None
