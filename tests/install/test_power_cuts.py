"""Power cuts at every operation of an update on the file-system model; what is found is judged from the disk.

An agent that knows nothing but what its back end tells it works towards a goal over any number of starts. The log is
played by `World`: it hands out permits and remembers what the device has been told and what it has claimed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from firmware_sim.errors import PowerLoss
from firmware_sim.posixfs import PosixFs
from swarm.install import selection
from swarm.install.bundle import Bundle
from swarm.install.directory import DirectoryBackend
from swarm.install.filesystem import FileSystem
from swarm.install.port import Bitmap, InstallError, InstallReason, Outcome
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
from tests.support.install import DirectoryRig, Release, directory_release, fork, intent_for, model_rig

STARTS_MAX = 40
FIXED = ("none", "all", "names", "data")
SHAPES = [(shape, 0) for shape in FIXED] + [
    (shape, seed) for seed in range(8) for shape in ("random", "reorder")
]

GOOD = directory_release(2, size=9000)


class BrokenPromiseError(AssertionError):
    """The disk shows what must never be."""


def promise(condition: object, what: str) -> None:
    if not condition:
        raise BrokenPromiseError(what)


@dataclass
class World:
    """The log and the outside: what was permitted, what ended, what the device said before a cut."""

    fate: str
    release: Release = GOOD
    permit: int = 100
    ended: set[int] = field(default_factory=set)
    armed: set[int] = field(default_factory=set)
    declined: set[int] = field(default_factory=set)
    claimed: set[int] = field(default_factory=set)
    confirmed: bool = False
    done: bool = False


def live(rig: DirectoryRig, world: World) -> None:
    """One start of the device, up to a restart that it asks for or until it has what it wants."""
    backend = rig.start()
    judge(rig, world)
    outcome = backend.outcome()
    promise(
        not (outcome.outcome is Outcome.TRIAL and outcome.permit in world.ended), "a permit was used twice"
    )
    if outcome.outcome is Outcome.TRIAL:
        promise(outcome.permit in world.armed, "a trial that nobody armed")
        if world.fate == "good":
            backend.confirm()
            world.confirmed = True
        elif world.fate == "bad":
            backend.revert("self-test")
        return
    if outcome.outcome in (Outcome.REVERTED, Outcome.NEVER_TRIED):
        world.ended.add(outcome.permit)
    if outcome.outcome is Outcome.ARMED:
        select_or_withdraw(backend, world, outcome.permit)
    elif backend.status().running.number == world.release.plan.number:
        promise(world.fate == "good", "a bad image was kept")
        world.done = True
    elif world.fate != "good" and outcome.outcome is Outcome.REVERTED:
        world.done = True
    else:
        update(backend, world)


def select_or_withdraw(backend: DirectoryBackend, world: World, permit: int) -> None:
    if world.fate == "withdraw":
        backend.withdraw()
        world.ended.add(permit)
        world.fate = "good"
        return
    backend.arm(replace(intent_for(world.release, permit=permit), attempts=2))
    backend.activate()


def update(backend: DirectoryBackend, world: World) -> None:
    staging = backend.begin(world.release.plan)
    have = staging.have()
    promise(all(index in have for index in world.claimed), "a claimed chunk was lost")
    world.claimed = {index for index in range(have.count) if index in have}
    for index in have.missing():
        staging.write_chunk(index, world.release.chunks[index])
        if index % 2:
            staging.checkpoint()
            world.claimed.add(index)
    # A claimed chunk that was never synced would be found here, as a wrong root.
    backend.seal(staging)
    world.claimed = set()
    decide(backend, world)


def decide(backend: DirectoryBackend, world: World) -> None:
    if world.fate == "decline":
        try:
            backend.decline(world.permit)
        except InstallError as error:
            promise(error.reason is InstallReason.INTENT_WRITTEN, error.reason)
            promise(world.permit in world.armed, "declining was refused without an intent")
        else:
            world.declined.add(world.permit)
        with pytest.raises(InstallError):
            backend.arm(replace(intent_for(world.release, permit=world.permit), attempts=2))
        world.permit += 1
        world.fate = "good"
        return
    while True:
        world.armed.add(world.permit)
        try:
            backend.arm(replace(intent_for(world.release, permit=world.permit), attempts=2))
        except InstallError as error:
            promise(error.reason in (InstallReason.PERMIT_USED, InstallReason.PERMIT_DECLINED), error.reason)
            world.permit += 1
            continue
        promise(world.permit not in world.declined, "a declined permit was acted upon")
        break
    if world.fate == "withdraw":
        backend.withdraw()
        world.ended.add(world.permit)
        world.fate = "good"
        return
    backend.activate()


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


def run(rig: DirectoryRig, world: World) -> int:
    """Live until it is done; return the cuts that happened."""
    cuts = 0
    for _ in range(STARTS_MAX):
        try:
            live(rig, world)
        except PowerLoss:
            cuts += 1
        if world.done:
            break
    promise(world.done, "it never ends")
    judge(rig, world)
    return cuts


BASE = model_rig()


def operations(fate: str) -> int:
    fs, rig = fork(BASE)
    run(rig, World(fate))
    return fs.ops


def cut_at(fate: str, operation: int, shape: str, seed: int) -> tuple[PosixFs, DirectoryRig, World]:
    fs, rig = fork(BASE)
    fs.cut = (operation, shape, seed)
    return fs, rig, World(fate)


def sweep(fates: tuple[str, ...], shapes: list[tuple[str, int]]) -> Iterator[tuple[str, int, str, int]]:
    for fate in fates:
        for operation in range(1, operations(fate) + 1):
            for shape, seed in shapes:
                yield fate, operation, shape, seed


FATES = ("good", "bad", "crash", "withdraw", "decline")


@pytest.mark.parametrize("fate", FATES)
def test_uninterrupted(fate: str) -> None:
    _, rig = fork(BASE)
    world = World(fate)
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
        world = World(fate)
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
                run(rig, World("good"))
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
        run(rig, World("crash"))
