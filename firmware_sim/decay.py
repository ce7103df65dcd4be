"""Bits that flip at rest (L6): what a device does with media that nobody cut."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from itertools import islice

from firmware_sim.cuts import FAILURES_KEPT, Failure, Tally
from firmware_sim.errors import FlashError
from firmware_sim.flash import NorFlash
from firmware_sim.slots import NV_SECTOR
from firmware_sim.world import World

BOOTS = 3
STATES: dict[str, Callable[[World], NorFlash]] = {
    "pending": lambda world: world.with_update("new", pending=True),
    "trial": lambda world: world.on_trial(),
    "confirmed": lambda world: world.on_trial(confirmed=True),
}
IMAGE_BITS = 64
"""Random bits of each slot; bits of trailers and records are flipped one by one."""


def rotten_bits(world: World, name: str) -> Iterator[int]:
    """Return the bits to flip, one at a time: all that carry meaning, and a draw from the images."""
    layout = world.layout
    rng = random.Random(f"decay/{name}")
    for slot in (layout.primary, layout.secondary):
        yield from range(8 * (slot.end - 64), 8 * slot.end)
        yield from (rng.randrange(8 * slot.start, 8 * slot.trailer) for _ in range(IMAGE_BITS))
    for sector in (*layout.counter, *layout.records):
        yield from range(8 * sector, 8 * (sector + 24))
        yield rng.randrange(8 * sector, 8 * (sector + NV_SECTOR))


def decay(world: World, *, stride: int = 1) -> Tally:
    """Flip one bit in each state and boot three times: a whole approved image runs, the counter did not fall.

    `stride` takes only every so many of the bits.
    """
    began = time.perf_counter()
    tally = Tally()
    flash = world.layout.make_flash()
    for name, setup in STATES.items():
        start = setup(world).snapshot()
        for bit in islice(rotten_bits(world, name), 0, None, stride):
            flash.restore(start)
            flash.flip(bit)
            tally.cuts += 1
            _judge(world, flash, tally, (name, bit))
    tally.states = tally.cuts
    tally.seconds = time.perf_counter() - began
    return tally


def _judge(world: World, flash: NorFlash, tally: Tally, where: tuple[str, int]) -> None:
    before = world.oracle.look(flash).counter
    trouble = ""
    try:
        for _ in range(BOOTS):
            started = world.make_board(flash).power_on().started
            if started is None:
                trouble = "I1 nothing was started"
    except FlashError as error:
        trouble = f"I12 {error}"
    view = world.oracle.look(flash)
    if not trouble and view.primary not in {"old", "new"}:
        trouble = f"I1 runs {view.primary or 'something broken'}"
    if not trouble and (view.counter is None or view.counter < (before or 0)):
        trouble = f"I6 the counter went from {before} to {view.counter}"
    if trouble:
        invariant, _, detail = trouble.partition(" ")
        tally.failed += 1
        if len(tally.failures) < FAILURES_KEPT:
            name, bit = where
            tally.failures.append(
                Failure(scenario=f"decay-{name}", invariant=invariant, detail=f"{detail}, bit {bit}", path=())
            )
