"""What of a simulated device survives a power cut, and the switch that cuts it.

The flash holds the two slots, the security counter and what the bootloader must know, all of it as MCUboot has it
(`firmware_sim`); a small data partition holds what only the agent needs. Both are on one power supply: a cut in an
operation of one takes what the other had not made durable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from firmware_sim.board import WATCHDOG_MS, Reset, Start, provision
from firmware_sim.bootloader import BootSettings, CounterPolicy
from firmware_sim.errors import FlashError, PowerLoss
from firmware_sim.flash import NorFlash, Operation
from firmware_sim.posixfs import CRASH_SHAPES, PosixFs
from firmware_sim.slots import DeviceLayout
from firmware_sim.torn import shapes
from swarm.install.image import ImageRules
from swarm.install.port import InstallError, InstallPlan, InstallReason
from swarm.install.selection import STARTS_WITHOUT_HEALTH_MAX
from swarm.install.staging import seal_of
from swarm.lab.install_simulated.board import SimulatedBoard
from swarm.lab.install_simulated.chips import PRIMARY, Chips
from swarm.lab.install_simulated.verifier import slot_verifier
from swarm.primitives.errors import check

IMAGE_BYTES_MAX: Final = 64 * 1024
PARTITION_BYTES: Final = 1 << 20
"""Room beside one image: two copies of the longest list of revoked releases, and change."""

SETTINGS: Final = BootSettings(counter_policy=CounterPolicy.AGENT, fallback_after=STARTS_WITHOUT_HEALTH_MAX)
"""The agent raises the counter, and only after `completed` (W13); a confirmed image that is never well is left."""

TORN_SHAPES: Final = 24
"""Shapes of a cut in a flash operation that `cut_after` draws from."""

_SECTORS: Final = (4096, 8192, 16_384, 32_768)


def layout_for(bytes_max: int) -> DeviceLayout:
    """Return the finest flash for images of up to `bytes_max`; its sector is the least chunk that it takes.

    Raises `InstallError` (OVERSIZED) above some 30 MB.
    """
    for sector, align in [*((sector, 8) for sector in _SECTORS), (_SECTORS[-1], 1)]:
        try:
            return DeviceLayout(image_sectors=-(-bytes_max // sector), sector=sector, align=align)
        except FlashError:
            continue
    raise InstallError(InstallReason.OVERSIZED, f"no flash for images of {bytes_max} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """A start, as it went. `slot` is empty where nothing could be started, and then all else is too.

    `behaves` is what the started image does (`firmware_sim.board`), `digest` its 32 bytes; `release` and `number`
    are those of its seal. `attempts` counts the starts of a trial.
    """

    slot: str = ""
    digest: bytes = b""
    release: bytes = b""
    number: int = 0
    trial: bool = False
    attempts: int = 0
    behaves: str = "off"

    @property
    def is_bootable(self) -> bool:
        """Whether an image was started."""
        return bool(self.slot)


class SimulatedMedium:
    """A device that exists as long as this; `power_on` starts it, and with each cut all memory goes.

    `rules` are those of its verifier: keys, vendor and class. `secret` is what the board's keys are derived from;
    without one it cannot prove what it runs. Media operations (one flash write or erase, one file operation) are
    counted in `operations`; any of them raises `PowerLoss`, a `BaseException`, where `cut_after` has put a cut. Then
    the device is off, and whoever drives it calls `power_on` when the power is back.
    """

    def __init__(
        self,
        rules: ImageRules,
        *,
        image_bytes_max: int = IMAGE_BYTES_MAX,
        secret: bytes = b"",
        settings: BootSettings = SETTINGS,
        watchdog_ms: int = WATCHDOG_MS,
    ) -> None:
        """Make a blank device; `set_up` brings its first image. Raises `InstallError` (OVERSIZED)."""
        layout = layout_for(image_bytes_max)
        fs = PosixFs(space=PARTITION_BYTES + layout.image_max)
        flash = layout.make_flash(program_max=layout.sector)
        self._own(rules, Chips(flash, layout, fs, slot_verifier(rules)), secret, settings, watchdog_ms)

    def _own(
        self, rules: ImageRules, chips: Chips, secret: bytes, settings: BootSettings, watchdog_ms: int
    ) -> None:
        self.rules = rules
        self.chips = chips
        self.secret = secret
        self.settings = settings
        self.board = SimulatedBoard(chips, secret=secret, settings=settings, watchdog_ms=watchdog_ms)
        self.operations = 0
        self._cut: tuple[int, int] | None = None
        chips.flash.observer = self._on_flash
        chips.fs.observer = self._on_file

    def fork(self) -> SimulatedMedium:
        """Return an independent device, switched off, with what is on these media now, made durable or not."""
        chips, board = self.chips, self.board
        flash = NorFlash(
            chips.flash.sectors,
            align=chips.flash.align,
            erased=chips.flash.erased,
            program_max=chips.flash.program_max,
        )
        flash.restore(chips.flash.snapshot())
        copy = SimulatedMedium.__new__(SimulatedMedium)
        parts = Chips(flash, chips.layout, chips.fs.fork(), chips.verify)
        copy._own(self.rules, parts, self.secret, self.settings, board.watchdog_ms)
        copy.board.now_ms = board.now_ms
        return copy

    def set_up(self, plan: InstallPlan, image: bytes) -> None:
        """Bring the first image, as a factory does: whole, sealed, confirmed.

        Raises `InstallError` (IMAGE_REFUSED, WRONG_DIGEST, OVERSIZED) when it could never be started.
        """
        if len(image) > self.chips.layout.image_max:
            raise InstallError(InstallReason.OVERSIZED, f"{len(image)} bytes")
        verdict = self.chips.verify(image)
        if not verdict.ok:
            raise InstallError(InstallReason.IMAGE_REFUSED, verdict.reason)
        if verdict.digest != plan.image_digest or len(image) != plan.file_bytes:
            raise InstallError(InstallReason.WRONG_DIGEST)
        provision(self.chips.flash, self.chips.layout, image, plan.image_digest, counter=plan.counter)
        self.chips.create(seal_of(plan))
        self.operations = 0

    # ------------------------------------------------------------------------- power

    @property
    def is_on(self) -> bool:
        """Whether an image runs."""
        return self.board.is_on

    def power_on(self) -> Boot:
        """Let the bootloader start what it chooses. Raises `PowerLoss` at a cut in it; then call again."""
        self.board.power_on()
        return self.boot

    def reset(self) -> Boot:
        """Restart as the image asked for (`Restart`). Raises `PowerLoss`."""
        self.board.reset(Reset.SOFTWARE)
        return self.boot

    def power_off(self, *, seed: int = 0) -> None:
        """Take the power while no operation is under way; `seed` draws what un-synced data survives (0: nothing)."""
        self.chips.fs.crash(CRASH_SHAPES[seed % len(CRASH_SHAPES)], seed)
        self.board.power_off()

    def cut_after(self, operations: int | None, *, seed: int = 0) -> None:
        """Let the power go in the operation after `operations` more; None takes the cut back.

        `seed` draws how torn it is: 0 is clean and loses all that was not synced, 1 to 24 are as many shapes of a torn
        write or erase, with the shapes of lost file operations in turn.
        """
        if operations is None:
            self._cut = None
            return
        check(operations >= 0, "a cut lies ahead")
        self._cut = (self.operations + operations + 1, seed)

    # ------------------------------------------------------------------------- the image that runs

    @property
    def boot(self) -> Boot:
        """The start that is in force."""
        if not self.board.is_on:
            return Boot()
        running = self.chips.running()
        seal = self.chips.seal(running.digest)
        is_trial = not self.chips.app.is_settled()
        return Boot(
            slot=PRIMARY,
            digest=running.digest,
            release=bytes.fromhex(seal.release) if seal else b"",
            number=seal.number if seal else 0,
            trial=is_trial,
            attempts=1 + self.chips.app.primary.attempts_used() if is_trial else 0,
            behaves=self.board.behaves,
        )

    @property
    def behaves(self) -> str:
        """What the image does now: `healthy`, `lie`, `crash`, `hang`, `brick`, a word of a scenario; `off`."""
        return self.board.behaves

    def healthy(self) -> None:
        """Say that this start of a confirmed image went well, as `Lifeline.healthy` does. May raise `PowerLoss`."""
        if self.chips.app.is_settled():
            self.chips.app.note_well()

    def advance_to(self, now_ms: int) -> Sequence[Start]:
        """Let virtual time pass; return the starts that crashes, watchdog and trial timer made. Raises `PowerLoss`."""
        return self.board.advance(max(0, now_ms - self.board.now_ms))

    def next_reset_ms(self) -> int | None:
        """Return when the board will restart by itself, if nothing else happens."""
        ends = self.board.next_reset() if self.board.is_on else None
        return None if ends is None else ends[0]

    # ------------------------------------------------------------------------- cuts

    def _on_flash(self, operation: Operation) -> None:
        if self._is_due():
            shape = None
            if self._seed:
                drawn = shapes(operation.kind, TORN_SHAPES, (self._seed - 1) // TORN_SHAPES)
                shape = drawn[(self._seed - 1) % TORN_SHAPES]
            self.chips.flash.cut_power(operation, shape)
            self._lose()

    def _on_file(self) -> None:
        if self._is_due():
            self._lose()

    def _is_due(self) -> bool:
        self.operations += 1
        return self._cut is not None and self._cut[0] <= self.operations

    @property
    def _seed(self) -> int:
        return self._cut[1] if self._cut else 0

    def _lose(self) -> None:
        self.power_off(seed=self._seed)
        self._cut = None
        raise PowerLoss(self.operations)
