"""Power cuts at every operation of an update on the file-system model; what is found is judged from the disk.

The agent and the log are those of `tests.support.interrupted_update`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from firmware_sim.errors import PowerLoss
from firmware_sim.posixfs import PosixFs
from swarm.install import selection
from swarm.install.bundle import Bundle
from swarm.install.filesystem import FileSystem
from swarm.install.port import Bitmap, InstallError
from swarm.install.records import (
    AnyRecord,
    Confirmed,
    Floor,
    Progress,
    RecordPair,
    Trial,
    encode_copy,
    read_record,
    write_record,
)
from swarm.install.selection import (
    SLOTS,
    Records,
    boot_folder,
    read_seal,
    slot_fault,
    slot_folder,
)
from swarm.install.staging import DirectoryStaging, fill_slot, remove_tree
from tests.support import interrupted_update
from tests.support.install import DirectoryRig, directory_release, fork, model_rig
from tests.support.interrupted_update import FATES, BrokenPromiseError, World, promise

FIXED = ("none", "all", "names", "data")
SHAPES = [(shape, 0) for shape in FIXED] + [
    (shape, seed) for seed in range(8) for shape in ("random", "reorder")
]

GOOD = directory_release(2, size=9000)


def world_of(fate: str) -> World:
    return World(fate, GOOD)


def live(rig: DirectoryRig, world: World) -> None:
    interrupted_update.live(rig, world, lambda: judge(rig, world))


def run(rig: DirectoryRig, world: World) -> int:
    return interrupted_update.run(rig, world, lambda: judge(rig, world))


def judge(rig: DirectoryRig, world: World) -> None:
    """Look at the disk and at what was started, without asking the agent."""
    choice = rig.choices[-1]
    disk, folder = rig.disk, boot_folder(rig.root)
    confirmed = read_record(disk, folder, Confirmed)
    trial = read_record(disk, folder, Trial)
    promise(confirmed is not None and trial is not None, "a record is broken after a cut")
    assert confirmed is not None
    assert trial is not None
    floor = read_record(disk, folder, Floor)
    assert floor is not None
    promise(not slot_fault(disk, rig.root, confirmed.slot, floor), "the confirmed slot cannot be started")
    for slot in SLOTS:
        if read_seal(disk, rig.root, slot) is not None:
            promise(not slot_fault(disk, rig.root, slot, floor), f"slot {slot} is sealed and not whole")
    if choice.trial:
        promise(trial.phase == "trial" and trial.permit == choice.permit, "a trial without an intent")
        promise(1 <= choice.attempts <= 2, "attempts beyond the intent's")
        promise(not world.confirmed, "a confirmed image is on trial again")
    else:
        promise(choice.slot == confirmed.slot, "an unconfirmed slot without a trial")
    if world.confirmed:
        promise(choice.slot == "b" and confirmed.slot == "b", "a confirmed image was left")


BASE = model_rig()


def operations(fate: str) -> int:
    fs, rig = fork(BASE)
    run(rig, world_of(fate))
    return fs.ops


def cut_at(fate: str, operation: int, shape: str, seed: int) -> tuple[PosixFs, DirectoryRig, World]:
    fs, rig = fork(BASE)
    fs.cut = (operation, shape, seed)
    return fs, rig, world_of(fate)


def sweep(fates: tuple[str, ...], shapes: list[tuple[str, int]]) -> Iterator[tuple[str, int, str, int]]:
    for fate in fates:
        for operation in range(1, operations(fate) + 1):
            for shape, seed in shapes:
                yield fate, operation, shape, seed


@pytest.mark.parametrize("fate", FATES)
def test_uninterrupted(fate: str) -> None:
    _, rig = fork(BASE)
    world = world_of(fate)
    assert run(rig, world) == 0
    number = rig.start().status().running.number
    assert number == (2 if world.fate == "good" else 1)


@pytest.mark.parametrize("fate", FATES)
def test_a_cut_at_every_operation(fate: str) -> None:
    for case in sweep((fate,), SHAPES[:6]):
        _, rig, world = cut_at(*case)
        try:
            assert run(rig, world) == 1
            assert rig.start().status().running.number == (2 if world.fate == "good" else 1)
        except Exception as error:
            raise AssertionError(f"cut_at{case}") from error


@pytest.mark.slow
@pytest.mark.parametrize("fate", FATES)
def test_every_operation_in_twenty_shapes(fate: str) -> None:
    for case in sweep((fate,), SHAPES[6:]):
        _, rig, world = cut_at(*case)
        try:
            run(rig, world)
        except Exception as error:
            raise AssertionError(f"cut_at{case}") from error


def test_cuts_during_recovery() -> None:
    """Several cuts in one update, at places that a seed draws."""
    generator = random.Random(2024)
    most = 2 * operations("good")
    for number in range(400):
        fate = FATES[number % len(FATES)]
        fs, rig = fork(BASE)
        world = world_of(fate)
        cuts = [(generator.randrange(1, most), *generator.choice(SHAPES)) for _ in range(4)]
        try:
            for at, shape, seed in cuts:
                fs.cut = (fs.ops + at % 60 + 1, shape, seed + number)
                try:
                    live(rig, world)
                except PowerLoss:
                    continue
            fs.cut = None
            run(rig, world)
        except Exception as error:
            raise AssertionError(f"number {number}: {cuts}") from error


# ----------------------------------------------------------------------------- the sweep can fail


def planted_failures(fates: tuple[str, ...] = ("good",)) -> int:
    failures = 0
    for case in sweep(fates, SHAPES[:8]):
        _, rig, world = cut_at(*case)
        try:
            run(rig, world)
        except (BrokenPromiseError, InstallError, OSError):
            failures += 1
    return failures


def no_sync(*_: object) -> None:
    """What a forgotten fsync does."""


def unsynced_record(self: RecordPair, record: AnyRecord) -> None:
    path = self.path(0)
    self._disk.write_bytes(path, encode_copy(record, 1 + self._sequence(0)))


def test_a_bitmap_before_its_chunks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def checkpoint(self: DirectoryStaging) -> None:
        durable = self._durable | self._written
        bits = Bitmap.of(self._plan.chunk_count, durable).bits.hex()
        progress = Progress(release=self._plan.release.hex(), bits=bits)
        write_record(self._disk, self._folder, progress)
        self._durable, self._written = durable, set()

    monkeypatch.setattr(DirectoryStaging, "checkpoint", checkpoint)
    assert planted_failures() > 0


def test_a_record_with_one_copy_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordPair, "write", unsynced_record)
    assert planted_failures() > 0


def test_a_seal_that_goes_after_its_slot_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The spare slot holds a sealed image already: wiping it must take the seal first."""

    def wipe(disk: FileSystem, root: str, slot: str) -> None:
        remove_tree(disk, f"{root}/slots", slot_folder(root, slot))

    monkeypatch.setattr("swarm.install.directory.wipe_slot", wipe)
    old = directory_release(3)
    failures = 0
    _, base = fork(BASE)
    backend = base.start()
    staging = backend.begin(old.plan)
    for index, chunk in enumerate(old.chunks):
        staging.write_chunk(index, chunk)
    backend.seal(staging)
    for operation in range(1, 60):
        for shape, seed in SHAPES[:6]:
            fs, rig = fork(base)
            fs.cut = (operation, shape, seed)
            try:
                run(rig, world_of("good"))
            except (BrokenPromiseError, InstallError, OSError):
                failures += 1
    assert failures > 0


def test_a_seal_before_its_files_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fill = fill_slot

    def lazy(disk: FileSystem, root: str, slot: str, bundle: Bundle) -> None:
        class Lazy:
            def __getattr__(self, name: str) -> object:
                return no_sync if name == "fsync" else getattr(disk, name)

        fill(Lazy(), root, slot, bundle)  # type: ignore[arg-type]

    monkeypatch.setattr("swarm.install.directory.fill_slot", lazy)
    assert planted_failures() > 0


def test_an_attempt_counted_after_the_start_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts that a crash gives back never end."""
    start: Callable[..., object] = selection._start_trial

    def forgetful(disk: FileSystem, root: str, records: Records) -> object:
        choice = start(disk, root, records)
        trial = replace(records.trial, phase="trial", attempts=0)
        write_record(disk, boot_folder(root), trial)
        return choice

    monkeypatch.setattr("swarm.install.selection._start_trial", forgetful)
    _, rig = fork(BASE)
    with pytest.raises(BrokenPromiseError, match="never ends"):
        run(rig, world_of("crash"))
