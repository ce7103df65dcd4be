"""The device of a sweep: its images, its media before a transaction, and the code that drives it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from firmware_sim.application import Application
from firmware_sim.board import Board, provision
from firmware_sim.bootloader import Bootloader, BootSettings
from firmware_sim.flash import Failing, NorFlash
from firmware_sim.image import OVERHEAD, image_digest, make_image, verifier
from firmware_sim.nv import BootRecords, RecordStore
from firmware_sim.oracle import Oracle
from firmware_sim.slots import COPY_DONE, IMAGE_OK, SWAP_INFO, DeviceLayout, Swap, Trailer

SECRET = b"a device secret that only the bootloader reads"


def sweep_images(layout: DeviceLayout) -> dict[str, bytes]:
    """Return the images of a sweep: they fill the slot, so that every sector is copied."""

    def image(name: str, counter: int, behaves: str = "healthy", shorter: int = 0) -> bytes:
        payload = random.Random(name).randbytes(layout.image_max - OVERHEAD - shorter)
        return make_image(payload, counter=counter, behaves=behaves)

    return {
        "old": image("old", 1),
        "new": image("new", 2),
        "crash": image("crash", 2, behaves="crash"),
        "low": image("low", 0, shorter=layout.align),
    }


@dataclass(slots=True)
class World:
    """One device kind: layout, settings, and the classes under test. `sent` is what left the device."""

    layout: DeviceLayout = field(default_factory=DeviceLayout)
    settings: BootSettings = field(default_factory=BootSettings)
    bootloader: type[Bootloader] = Bootloader
    application: type[Application] = Application
    failing: tuple[Failing, ...] = ()
    images: dict[str, bytes] = field(default_factory=dict)
    sent: tuple[tuple[int, bytes], ...] = ()
    oracle: Oracle = field(init=False)
    board: Board = field(init=False)

    def __post_init__(self) -> None:
        self.images = self.images or sweep_images(self.layout)
        self.oracle = Oracle(self.layout, self.images)

    def with_settings(self, settings: BootSettings) -> World:
        """Return the same world with other settings."""
        return replace(self, settings=settings)

    def make_board(self, flash: NorFlash) -> Board:
        """Return a board that is off and knows nothing but its media."""
        board = Board(flash, self.layout, verifier(), secret=SECRET, settings=self.settings)
        board.bootloader_class = self.bootloader
        board.application_class = self.application
        self.board = board
        return board

    def outbox(self, height: int) -> Callable[[bytes], None]:
        """Return what sends a statement for this height: it leaves the device, whatever the media say later."""

        def send(value: bytes) -> None:
            self.sent += ((height, value),)

        return send

    # ---------------------------------------------------------------------------- media to begin with

    def provisioned(self) -> NorFlash:
        """Return a device that came from an update long ago: `old` runs, confirmed, with a used trailer."""
        flash = self.layout.make_flash()
        provision(flash, self.layout, self.images["old"], image_digest(self.images["old"]), counter=1)
        trailer = Trailer(flash, self.layout.primary, self.layout)
        trailer.write_flag(SWAP_INFO, Swap.TEST)
        trailer.write_swap_size(len(self.images["old"]))
        trailer.write_magic()
        for record in range(trailer.records_max):
            trailer.mark(trailer.status_cell(record))
        trailer.write_flag(COPY_DONE)
        trailer.write_flag(IMAGE_OK)
        return flash

    def with_update(self, name: str, *, seal: bool = True, pending: bool = False) -> NorFlash:
        """Return a provisioned device with an image in the spare slot, sealed and ordered as told."""
        flash = self.provisioned()
        self.plant(flash, self.layout.secondary.at(1), self.images[name])
        if seal:
            store = RecordStore(flash, self.layout.records)
            records = store.read() or BootRecords()
            store.write(records.with_sealed(image_digest(self.images[name])))
        if pending:
            trailer = Trailer(flash, self.layout.secondary, self.layout)
            trailer.write_flag(SWAP_INFO, Swap.TEST)
            trailer.write_magic()
        return flash

    def on_trial(self, name: str = "new", *, confirmed: bool = False) -> NorFlash:
        """Return a device that has just swapped an image in, and perhaps confirmed it; `old` is in the spare."""
        flash = self.with_update(name, pending=True)
        Bootloader(flash, self.layout, verifier(), settings=self.settings).boot()
        if confirmed:
            Application(flash, self.layout, verifier()).confirm()
        return flash

    def plant(self, flash: NorFlash, offset: int, image: bytes) -> None:
        """Program an image somewhere."""
        flash.program(offset, image + bytes([flash.erased]) * (-len(image) % flash.align))
