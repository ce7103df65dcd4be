"""Power cuts at every media operation of an update on a simulated board; judged from the bytes of its media.

The agent and the log are those of `tests.support.interrupted_update`, as for the directory back end.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from firmware_sim.errors import PowerLoss
from swarm.install.records import Confirmed
from swarm.install.selection import Records
from swarm.lab.install_simulated import start as start_module
from swarm.lab.install_simulated.backend import SimulatedBackend
from swarm.lab.install_simulated.chips import PRIMARY, Chips, SealedImage
from swarm.lab.install_simulated.medium import TORN_SHAPES
from swarm.lab.install_simulated.staging import SimulatedStaging
from tests.support import interrupted_update
from tests.support.install import Release, install
from tests.support.interrupted_update import FATES, BrokenPromiseError, World, promise
from tests.support.simulated_devices import SimulatedRig, release_of, simulated_rig

SIZE = 9000
OLD, NEW = release_of(1, size=SIZE), release_of(2, size=SIZE)
ATTEMPTS = 2


@dataclass
class Judge:
    """Looks at a device after each start, without asking its agent."""

    rig: SimulatedRig
    world: World
    old: Release
    trials: Counter[int] = field(default_factory=Counter)

    def __call__(self) -> None:
        chips, boot, world = self.rig.medium.chips, self.rig.boots[-1], self.world
        promise(boot.is_bootable, "nothing could be started")
        running = {1: OLD, 2: NEW}[boot.number].data
        promise(chips.flash.data.startswith(running, chips.layout.primary.start), "a broken image runs")
        trial, confirmed, floor, _ = chips.read_records()
        promise(trial and confirmed and floor, "a record is broken after a cut")
        assert trial is not None
        assert confirmed is not None
        if boot.trial:
            self.trials[trial.permit] += 1
            promise(trial.phase == "trial" and trial.permit in world.armed, "a trial that nobody armed")
            promise(self.trials[trial.permit] <= world.attempts, "starts beyond the intent's attempts")
            promise(not world.confirmed, "a confirmed image is on trial again")
            back = chips.flash.data.startswith(self.old.data, chips.layout.secondary.start)
            promise(back, "a trial without a way back")
        else:
            promise(boot.digest.hex() == confirmed.digest, "an unconfirmed image without a trial")
        if world.confirmed:
            promise(boot.number == world.release.plan.number, "a confirmed image was left")
        for seal in chips.seals():
            spare = chips.spare()
            is_running = seal.digest == boot.digest.hex()
            promise(is_running or (spare and spare.seal == seal), "a sealed image is not whole")


@dataclass(frozen=True)
class Case:
    """A device to begin with, and what its agent wants."""

    base: SimulatedRig
    fate: str
    release: Release
    permit: int = 100

    def world(self) -> World:
        return World(self.fate, self.release, permit=self.permit, attempts=self.base.attempts)

    def live(self, *, cut: int | None = None, seed: int = 0) -> tuple[SimulatedRig, World, int]:
        """Run to the end with at most one cut; return how many there were."""
        rig, world = fork(self.base), self.world()
        rig.medium.cut_after(cut, seed=seed)
        cuts = interrupted_update.run(rig, world, Judge(rig, world, self.old))
        return rig, world, cuts

    @property
    def old(self) -> Release:
        return OLD if self.release is NEW else NEW

    def operations(self) -> int:
        return self.live()[0].medium.operations


def fork(rig: SimulatedRig) -> SimulatedRig:
    return SimulatedRig(rig.medium.fork(), rig.size, rig.attempts)


def update(fate: str, attempts: int = ATTEMPTS) -> Case:
    return Case(simulated_rig(attempts=attempts, size=SIZE, image_max=12_288), fate, NEW)


def rollback(fate: str) -> Case:
    rig = simulated_rig(attempts=ATTEMPTS, size=SIZE, image_max=12_288)
    install(rig, NEW)
    return Case(rig, fate, OLD, permit=200)


CASES = {f"update-{fate}": update(fate) for fate in FATES}
CASES |= {f"rollback-{fate}": rollback(fate) for fate in FATES}
CASES |= {f"one-attempt-{fate}": update(fate, 1) for fate in ("good", "bad", "crash")}


def sweep(case: Case, seeds: int, first: int = 0) -> Iterator[tuple[int, int]]:
    """Yield (operation, seed): a clean cut first, then shapes that change from operation to operation."""
    for operation in range(case.operations()):
        for number in range(first, first + seeds):
            torn = 1 + (operation * seeds + number) % TORN_SHAPES
            yield operation, torn if number else 0


def cut(case: Case, operation: int, seed: int) -> None:
    try:
        rig, world, cuts = case.live(cut=operation, seed=seed)
        wanted = case.release if world.fate == "good" else case.old
        promise(rig.start().status().running.number == wanted.plan.number, "it ends with the wrong image")
        promise(cuts == 1, "the cut never came")
    except Exception as error:
        raise AssertionError(f"operation {operation}, seed {seed}") from error


@pytest.mark.parametrize("name", CASES)
def test_uninterrupted(name: str) -> None:
    rig, world, cuts = CASES[name].live()
    assert cuts == 0
    wanted = CASES[name].release if world.fate == "good" else CASES[name].old
    assert rig.start().status().running.number == wanted.plan.number


@pytest.mark.parametrize("name", CASES)
def test_a_cut_at_every_operation(name: str) -> None:
    for case in sweep(CASES[name], 2):
        cut(CASES[name], *case)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_operation_in_every_shape(name: str) -> None:
    for case in sweep(CASES[name], TORN_SHAPES, 1):
        cut(CASES[name], *case)


@pytest.mark.parametrize("name", CASES)
def test_cuts_during_recovery(name: str) -> None:
    """Several cuts in one life, at places that a seed draws; some starts are resets without a loss of power."""
    generator = random.Random(name)
    for number in range(30):
        case = CASES[name]
        rig, world = fork(case.base), case.world()
        judge = Judge(rig, world, case.old)
        cuts = [(generator.randrange(70), generator.randrange(10_000)) for _ in range(4)]
        rig.soft = bool(number % 2)
        try:
            for after, seed in cuts:
                rig.medium.cut_after(after, seed=seed)
                try:
                    interrupted_update.live(rig, world, judge)
                except PowerLoss:
                    continue
            rig.medium.cut_after(None)
            interrupted_update.run(rig, world, judge)
        except Exception as error:
            raise AssertionError(f"number {number}: {cuts}") from error


# ----------------------------------------------------------------------------- the sweep can fail


def failures(name: str, seeds: int = 3) -> int:
    """Count the cuts that a device with a mistake does not survive; without a cut it must do."""
    CASES[name].live()
    found = 0
    for operation, seed in sweep(CASES[name], seeds):
        try:
            cut(CASES[name], operation, seed)
        except AssertionError:
            found += 1
    return found


def test_an_intent_without_a_trace_on_the_flash_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nobody knows whether the bootloader took the order, or none was given."""

    def settle(_chips: Chips, records: Records) -> Records:
        return records

    monkeypatch.setattr(start_module, "_settle_ended", settle)
    with pytest.raises(BrokenPromiseError):
        CASES["one-attempt-crash"].live()


def test_a_bitmap_before_its_chunks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    write = SimulatedStaging.write_chunk

    def early(self: SimulatedStaging, index: int, data: bytes) -> None:
        self._claim(self._durable | {index})
        write(self, index, data)

    monkeypatch.setattr(SimulatedStaging, "write_chunk", early)
    assert failures("update-good") > 0


def test_a_move_without_a_copy_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def move(self: Chips, image: SealedImage) -> None:
        start = self.layout.secondary.at(image.place)
        data = self.flash.read(start, image.verdict.size)
        self.program(self.layout.secondary.at(1), data)

    monkeypatch.setattr(Chips, "move_up", move)
    assert failures("rollback-good") > 0


def test_a_confirmation_whose_record_comes_first_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def confirm(self: SimulatedBackend) -> None:
        trial, old = self._records().trial, self._records().confirmed
        self._chips.write(
            Confirmed(slot=PRIMARY, digest=trial.digest, permit=trial.permit, previous=old.digest)
        )
        self._chips.app.confirm()

    monkeypatch.setattr(SimulatedBackend, "confirm", confirm)
    assert failures("update-good") > 0
