"""A whole device: flash, bootloader, one running image, a watchdog, and the power switch, in virtual time.

What the running image does is written in it (`Verdict.behaves`):
`healthy`; `lie`: says that it is healthy and does nothing else; `crash`: ends itself soon after the start;
`hang`: stops feeding the watchdog; `brick`: feeds the watchdog, and nothing more, for ever; `bomb: T`: healthy
until T milliseconds after a start, then as `brick`.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import StrEnum

from firmware_sim.application import Application
from firmware_sim.bootloader import Bootloader, BootResult, BootSettings, Verifier
from firmware_sim.errors import FlashError, PowerLoss, check
from firmware_sim.flash import Cut, NorFlash
from firmware_sim.nv import BootRecords, Counter, RecordStore
from firmware_sim.slots import DeviceLayout

CRASH_AFTER_MS = 200
"""A crashing image lives long enough to look started."""
HANG_AFTER_MS = 200
WATCHDOG_MS = 5_000


class Reset(StrEnum):
    """Why a board started."""

    POWER = "power"
    SOFTWARE = "software"
    WATCHDOG = "watchdog"
    CRASH = "crash"
    TIMER = "timer"
    """What started an image on trial took it back; a plain board has no such timer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start of a board, as its log would show it."""

    number: int
    at_ms: int
    reason: Reset
    boot: BootResult


def bomb_delay_ms(behaves: str) -> int | None:
    """Return the delay of `bomb: T`, None for any other behaviour."""
    name, _, value = behaves.partition(":")
    return int(value) if name == "bomb" and value.strip().isdigit() else None


class Board:
    """A device that exists as long as its flash. `power_on` starts it; memory is lost with each reset."""

    bootloader_class: type[Bootloader] = Bootloader
    application_class: type[Application] = Application

    def __init__(
        self,
        flash: NorFlash,
        layout: DeviceLayout,
        verify: Verifier,
        *,
        secret: bytes = b"",
        settings: BootSettings | None = None,
        watchdog_ms: int = WATCHDOG_MS,
    ) -> None:
        self.flash = flash
        self.layout = layout
        self.verify = verify
        self.settings = settings or BootSettings()
        self.watchdog_ms = watchdog_ms
        self.now_ms = 0
        self.starts: list[Start] = []
        self.in_application = False
        self._secret = secret
        self._application: Application | None = None

    # ---------------------------------------------------------------------------- power

    @property
    def is_on(self) -> bool:
        return self._application is not None

    @property
    def last(self) -> Start:
        """The start that is in force. Raises FlashError before the first one."""
        check(bool(self.starts), "the board was never started")
        return self.starts[-1]

    def power_on(self) -> BootResult:
        """Start after the power came back. Raises PowerLoss if it goes again while the bootloader works."""
        return self.reset(Reset.POWER)

    def adopt(self) -> None:
        """Go on in an application that runs already: the media are those of a device in the middle of its work."""
        self._application = self.application_class(self.flash, self.layout, self.verify)
        self.in_application = True

    def power_off(self) -> None:
        """Take the power away while nothing is being written."""
        self._application = None

    def reset(self, reason: Reset = Reset.SOFTWARE) -> BootResult:
        """Start anew from the media and run the image that the bootloader chooses."""
        self._application = None
        self.in_application = False
        loader = self.bootloader_class(
            self.flash, self.layout, self.verify, secret=self._secret, settings=self.settings
        )
        boot = loader.boot()
        self.starts.append(Start(number=len(self.starts) + 1, at_ms=self.now_ms, reason=reason, boot=boot))
        if boot.started is not None:
            self._application = self.application_class(self.flash, self.layout, self.verify)
            self.in_application = True
        return boot

    def cut_at(self, cut: Cut | None) -> None:
        """Arm a power cut, counted in media operations from now on; None disarms it."""
        self.flash.ops = 0
        self.flash.cut = cut

    def survive(self, action: str, *arguments: object) -> bool:
        """Call a method of the application; return False if the power went in it, leaving the board off."""
        try:
            getattr(self.application, action)(*arguments)
        except PowerLoss:
            self.power_off()
            return False
        return True

    # ---------------------------------------------------------------------------- the image that runs

    @property
    def application(self) -> Application:
        """The update calls of the running image. Raises FlashError while none runs."""
        if self._application is None:
            raise FlashError("no image is running")
        return self._application

    @property
    def behaves(self) -> str:
        """What the running image does at this moment; `off` where none runs."""
        started = self.last.boot.started if self.starts else None
        if started is None or self._application is None:
            return "off"
        since_ms = self.now_ms - self.last.at_ms
        delay_ms = bomb_delay_ms(started.behaves)
        if delay_ms is not None:
            return "brick" if since_ms >= delay_ms else "healthy"
        return started.behaves

    @property
    def is_responsive(self) -> bool:
        """Whether the image does its work: it can take part in the swarm."""
        return self.behaves == "healthy"

    @property
    def says_healthy(self) -> bool:
        """Whether the image would claim to be well; a liar does."""
        return self.behaves in {"healthy", "lie"}

    def next_reset(self) -> tuple[int, Reset] | None:
        """Return when (`now_ms`) and why the board will restart by itself, None if it will not."""
        ends = {
            "crash": (CRASH_AFTER_MS, Reset.CRASH),
            "hang": (HANG_AFTER_MS + self.watchdog_ms, Reset.WATCHDOG),
        }.get(self.behaves)
        return None if ends is None else (self.last.at_ms + ends[0], ends[1])

    def advance(self, duration_ms: int) -> list[Start]:
        """Let virtual time pass; crashes and the watchdog restart the board. Returns the starts it had.

        Raises PowerLoss if a cut is armed and a restart reaches it.
        """
        seen = len(self.starts)
        end_ms = self.now_ms + duration_ms
        while self.is_on:
            ends = self.next_reset()
            if ends is None or ends[0] > end_ms:
                break
            self.now_ms = ends[0]
            self.reset(ends[1])
        self.now_ms = end_ms
        return self.starts[seen:]

    def attest(self, nonce: bytes) -> bytes:
        """Return proof over `nonce` by the key of the image that really runs."""
        return hmac.digest(self.last.boot.key, b"firmware-sim/attest/1\0" + nonce, "sha256")


def provision(flash: NorFlash, layout: DeviceLayout, image: bytes, digest: bytes, counter: int = 0) -> None:
    """Write what a factory writes: the first image, its seal, the counter. No cut is expected here."""
    padding = bytes([flash.erased]) * (-len(image) % flash.align)
    flash.program(layout.primary.start, image + padding)
    RecordStore(flash, layout.records).write(BootRecords(sealed=(digest,)))
    Counter(flash, layout.counter).cell.write(counter.to_bytes(4, "little"))
    flash.ops = 0
