"""Invariants I1 to I12, judged from the media before and after, never by asking the code under test.

I1 a whole approved image can always be started; I2 only images at or above the counter run; I3 the right one
runs in the end; I4 an unconfirmed image is left after its attempts; I5 the proven image is safe during a trial;
I6 the counter never falls, and never passes the confirmed image's; I7 a refusal touches nothing; I8 what was
sent is never contradicted; I9 noted progress is true and not fetched again; I10 the device comes to rest;
I11 wear is bounded; I12 the medium is used by its rules (judged where it raises).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from firmware_sim.bootloader import Verdict
from firmware_sim.flash import NorFlash
from firmware_sim.oracle import MediaView
from firmware_sim.scenarios import Scenario
from firmware_sim.world import World

ERASES_MAX = 8
"""Erases of any one sector from one cut to rest (I11): an update up and back, and the records of both."""
NEVER_APPROVED = frozenset({"low"})

Finding = tuple[str, str]
"""(invariant, what was found)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """The media where a run begins: at a cut, or before the transaction."""

    view: MediaView
    wear: tuple[int, ...]
    primary: bytes
    counter: bytes
    false_notes: tuple[int, ...]

    @classmethod
    def of(cls, world: World, flash: NorFlash) -> Began:
        """Look at the media now."""
        view = world.oracle.look(flash)
        layout = world.layout
        return cls(
            view=view,
            wear=tuple(flash.wear),
            primary=bytes(flash.data[: layout.primary.end]),
            counter=bytes(flash.data[layout.counter[0] : layout.records[0]]),
            false_notes=tuple(world.oracle.false_notes(flash, view)),
        )


def cut(began: Began) -> Iterator[Finding]:
    """Judge the media at a cut, before anything is mended."""
    view = began.view
    if not view.primary and not view.swapping:
        yield "I1", "the primary slot is broken and no swap is under way"
    if view.counter is None:
        yield "I6", "both copies of the counter are broken"
    if began.false_notes:
        yield "I9", f"chunks {list(began.false_notes)} are noted and not there"


def boot(world: World, view: MediaView, started: Verdict | None) -> Iterator[Finding]:
    """Judge one start: what the processor executes is what lies in the primary slot."""
    if started is None:
        yield "I1", "no image could be started"
    elif not view.primary:
        yield "I1", "a broken image was started"
    elif view.primary in NEVER_APPROVED:
        yield "I2", f"{view.primary} was started"
    elif view.counter is not None and world.oracle.image_counter(view.primary) < view.counter:
        yield "I2", f"{view.primary} was started below counter {view.counter}"
    if view.counter is not None and view.primary and view.on_trial:
        if view.counter >= world.oracle.image_counter(view.primary) > 1:
            yield "I6", f"counter {view.counter} was raised for an unconfirmed image"


def end(
    world: World, scenario: Scenario, flash: NorFlash, began: Began, ends: frozenset[str], starts: int
) -> Iterator[Finding]:
    """Judge a device at rest."""
    view = world.oracle.look(flash)
    if view.primary not in ends:
        yield (
            "I3" if view.primary else "I1",
            f"runs {view.primary or 'nothing'}, not {' or '.join(sorted(ends))}",
        )
    if view.on_trial:
        yield "I4", "still on trial at rest"
    if starts > scenario.starts_max:
        yield "I4", f"{starts} starts of an unconfirmed image, at most {scenario.starts_max}"
    yield from _counter(world, scenario, began, view)
    yield from _fetched(world, scenario, flash, began, view)
    worn = max(now - then for now, then in zip(flash.wear, began.wear, strict=True))
    if worn > ERASES_MAX:
        yield "I11", f"{worn} erases of one sector, at most {ERASES_MAX}"
    if scenario.untouched:
        counter = bytes(flash.data[world.layout.counter[0] : world.layout.records[0]])
        primary = bytes(flash.data[: world.layout.primary.end])
        if (primary, counter) != (began.primary, began.counter):
            yield "I7", "a refused image changed the primary slot or the counter"
    if len({height for height, _ in set(world.sent)}) != len(set(world.sent)):
        yield "I8", "two statements for one height left the device"


def _counter(world: World, scenario: Scenario, began: Began, view: MediaView) -> Iterator[Finding]:
    if view.counter is None or (began.view.counter or 0) > view.counter:
        yield "I6", f"the counter fell from {began.view.counter} to {view.counter}"
    elif view.primary:
        image = world.oracle.image_counter(view.primary)
        wanted = image if scenario.counter is None else scenario.counter
        if view.counter != wanted:
            yield "I6", f"the counter is {view.counter}, the image's {image}, wanted {wanted}"


def _fetched(
    world: World, scenario: Scenario, flash: NorFlash, began: Began, view: MediaView
) -> Iterator[Finding]:
    if not scenario.sealed:
        return
    for name in sorted(scenario.sealed):
        if name not in view.sealed or view.update != name:
            yield "I9", f"{name} is not sealed, or {view.update or 'something broken'} lies there"
        elif began.view.fetching == name:
            first = flash.sector_at(world.layout.secondary.at(1))
            again = [i for i in sorted(began.view.noted) if flash.wear[first + i] != began.wear[first + i]]
            if again:
                yield "I9", f"chunks {again} were durable and fetched again"
