"""L7: a device that is updated, cut, revoked and rebooted at random never runs what it should not."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from firmware_sim.application import Application
from firmware_sim.bootloader import BootSettings, CounterPolicy
from firmware_sim.bugs import BUGS
from firmware_sim.errors import PowerLoss, Refused
from firmware_sim.flash import Cut
from firmware_sim.image import image_digest, make_image
from firmware_sim.slots import DeviceLayout
from firmware_sim.torn import ERASE_SHAPES, WRITE_SHAPES, Shape
from firmware_sim.world import World

LAYOUT = DeviceLayout(image_sectors=2, sector=512)
SHAPES: list[Shape | None] = [None, *sorted({*WRITE_SHAPES, *ERASE_SHAPES})]
IMAGES = {
    "old": make_image(b"o" * 900, counter=1),
    "new": make_image(b"n" * 200, counter=1),
    "high": make_image(b"h" * 950, counter=2),
}
CUTS = st.one_of(st.none(), st.builds(Cut, op=st.integers(1, 40), shape=st.sampled_from(SHAPES)))


class Life(RuleBasedStateMachine):
    """Each rule is one action of the device, in which the power may go; then it starts again."""

    bug = ""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(
            layout=LAYOUT, images=IMAGES, settings=BootSettings(counter_policy=CounterPolicy.AGENT)
        )
        if self.bug:
            BUGS[self.bug].infect(self.world)
        self.flash = self.world.provisioned()
        self.revoked: set[str] = set()
        self.counter = 1
        self.boot()

    def boot(self) -> None:
        self.flash.cut = None
        board = self.world.make_board(self.flash)
        assert board.power_on().started is not None, "a device always starts something"
        self.app: Application = board.application

    def perform(self, action: str, *arguments: object, cut: Cut | None) -> bool:
        """Return whether the action came to its end."""
        self.flash.ops, self.flash.cut = 0, cut
        try:
            getattr(self.app, action)(*arguments)
        except PowerLoss:
            self.boot()
            return False
        except Refused:
            return False
        finally:
            self.flash.cut = None
        return True

    @rule(name=st.sampled_from(sorted(IMAGES)), chunks=st.integers(0, 2), cut=CUTS)
    def fetch(self, name: str, chunks: int, cut: Cut | None) -> None:
        image = IMAGES[name]
        if self.perform("begin", image_digest(image), len(image), cut=cut):
            for index in range(chunks):
                data = image[index * LAYOUT.sector : (index + 1) * LAYOUT.sector]
                self.perform("write_chunk", index, data, cut=cut)
            self.perform("seal", cut=cut)

    @rule(cut=CUTS)
    def order(self, cut: Cut | None) -> None:
        self.perform("set_pending", cut=cut)

    @rule(name=st.sampled_from(sorted(IMAGES)), cuts=st.lists(CUTS, max_size=2))
    def install(self, name: str, cuts: list[Cut | None]) -> None:
        self.fetch(name, 2, None)
        self.order(None)
        self.restart(cuts)

    @rule(action=st.sampled_from(["confirm", "withdraw", "discard"]), cut=CUTS)
    def act(self, action: str, cut: Cut | None) -> None:
        self.perform(action, cut=cut)

    @rule(cut=CUTS)
    def raise_counter(self, cut: Cut | None) -> None:
        self.perform("raise_counter", self.app.view().running.counter, cut=cut)

    @precondition(lambda self: not self.revoked)
    @rule(name=st.sampled_from(sorted(IMAGES)), cut=CUTS)
    def revoke(self, name: str, cut: Cut | None) -> None:
        if self.perform("revoke", image_digest(IMAGES[name]), cut=cut):
            self.revoked.add(name)

    @rule(cuts=st.lists(CUTS, max_size=3))
    def restart(self, cuts: list[Cut | None]) -> None:
        self.media_are_in_order()
        before = self.world.oracle.look(self.flash)
        for cut in cuts:
            self.flash.ops, self.flash.cut = 0, cut
            with contextlib.suppress(PowerLoss):
                self.world.make_board(self.flash).power_on()
        self.boot()
        after = self.world.oracle.look(self.flash)
        barred = before.previous in after.revoked
        if (
            before.on_trial
            and not barred
            and self.world.oracle.image_counter(before.previous) >= self.counter
        ):
            assert after.primary == before.previous, "nobody confirmed, and there is a way back"
            assert not after.on_trial

    @invariant()
    def media_are_in_order(self) -> None:
        view = self.world.oracle.look(self.flash)
        assert view.primary in IMAGES
        assert view.counter is not None
        assert view.counter >= self.counter
        self.counter = view.counter
        assert self.world.oracle.image_counter(view.primary) >= view.counter
        assert view.revoked >= self.revoked
        assert not self.world.oracle.false_notes(self.flash, view)
        if view.on_trial:
            assert view.previous in IMAGES, "the way back is whole"


TestLife = Life.TestCase
TestLife.settings = settings(deadline=None, max_examples=150, stateful_step_count=25)


def test_a_life_with_a_mistake_ends_badly() -> None:
    class Infected(Life):
        bug = "erase-of-proven"

    few = settings(deadline=None, max_examples=150, derandomize=True, database=None, phases=[Phase.generate])
    with pytest.raises((AssertionError, ExceptionGroup)):
        run_state_machine_as_test(Infected, settings=few)
