"""Releases for install tests, the directory back end on two disks, and an agent that can be cut off anywhere."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Protocol

from firmware_sim.posixfs import PosixFs
from swarm.crypto.digest import sha256
from swarm.crypto.merkle import Frontier, leaf_hash
from swarm.install.bundle import pack_bundle, parse_bundle
from swarm.install.directory import DirectoryBackend
from swarm.install.filesystem import FileSystem
from swarm.install.port import (
    BootNonce,
    DeviceStatus,
    InstallBackend,
    InstallPlan,
    Intent,
    Staging,
)
from swarm.install.selection import Choice, choose_slot
from swarm.install.setup import set_up

VENDOR = b"\x0a" * 16
CLASS = b"\x0b" * 16
CHUNK = 4096
NONCE = BootNonce(height=41, root=b"\x41" * 32)


@dataclass(frozen=True, kw_only=True)
class Release:
    """A plan and the file it speaks of."""

    plan: InstallPlan
    data: bytes

    @property
    def chunks(self) -> list[bytes]:
        size = self.plan.chunk_bytes
        return [self.data[at : at + size] for at in range(0, len(self.data), size)]

    def with_plan(self, **changes: object) -> Release:
        return Release(plan=replace(self.plan, **changes), data=self.data)  # type: ignore[arg-type]


def chunk_root(data: bytes, size: int = CHUNK) -> bytes:
    tree = Frontier()
    for at in range(0, len(data), size):
        tree.append(leaf_hash(data[at : at + size]))
    return tree.root()


def plan_of(data: bytes, digest: bytes, number: int, counter: int) -> InstallPlan:
    """Return the plan of a file, as a manifest would give it."""
    return InstallPlan(
        release=sha256(b"release", digest, bytes([number])),
        number=number,
        version=f"{number}.0.0",
        counter=counter,
        vendor=VENDOR,
        device_class=CLASS,
        file_bytes=len(data),
        file_digest=sha256(data),
        image_digest=digest,
        chunk_bytes=CHUNK,
        chunk_count=-(-len(data) // CHUNK),
        chunk_root=chunk_root(data),
    )


def directory_release(
    number: int, *, counter: int = 1, main: bytes = b"", size: int = 6000, seed: int | None = None
) -> Release:
    """Return a release of three files, one of them in a folder of a folder; equal seeds give equal large files."""
    generator = random.Random(number if seed is None else seed)
    data = pack_bundle(
        {
            "__main__.py": main or b"VERSION = %d\n" % number,
            "lib/deep/data.bin": generator.randbytes(size),
            "lib/empty.txt": b"",
        }
    )
    return Release(plan=plan_of(data, parse_bundle(data).digest, number, counter), data=data)


class Rig(Protocol):
    """A device for the conformance suite: media, a bootloader, and a way to make releases for it."""

    attempts: int

    def start(self) -> InstallBackend:
        """Let the bootloader start what it chooses, and return the back end of a fresh agent in it."""

    def release(self, number: int, *, counter: int = 1) -> Release:
        """Return a good release."""

    def damage_image(self, release: Release) -> Release:
        """Return a release whose image its verifier refuses, with file and chunk digests that fit."""

    def damage_sealed(self) -> None:
        """Change a byte of the sealed spare image on the medium."""


class ModelDisk:
    """`PosixFs` as the port wants it: links are names of their own."""

    def __init__(self, fs: PosixFs) -> None:
        self.fs = fs
        self.read_bytes = fs.read_bytes
        self.write_bytes = fs.write_bytes
        self.fsync = fs.fsync
        self.fsync_dir = fs.fsync_dir
        self.replace = fs.replace
        self.symlink = fs.symlink
        self.readlink = fs.readlink
        self.unlink = fs.unlink
        self.rmtree = fs.rmtree
        self.mkdir = fs.mkdir
        self.listdir = fs.listdir
        self.size = fs.file_size

    def exists(self, path: str) -> bool:
        return self.fs.is_symlink(path) or self.fs.exists(path)

    def is_dir(self, path: str) -> bool:
        return self.fs.is_dir(path) and not self.fs.is_symlink(path)

    def free_bytes(self, path: str) -> int:
        return self.fs.space - self.fs.used()


@dataclass
class DirectoryRig:
    """The directory back end on any disk, with `selection` for a launcher."""

    disk: FileSystem
    root: str
    attempts: int = 3
    choices: list[Choice] = field(default_factory=list)

    def set_up(self, size: int = 6000) -> DirectoryRig:
        release = directory_release(1, size=size)
        set_up(self.disk, self.root, release.plan, release.data)
        return self

    def start(self) -> DirectoryBackend:
        choice = choose_slot(self.disk, self.root)
        self.choices.append(choice)
        return DirectoryBackend(self.disk, self.root, booted=choice.slot, vendor=VENDOR, device_class=CLASS)

    def release(self, number: int, *, counter: int = 1) -> Release:
        return directory_release(number, counter=counter)

    def damage_image(self, release: Release) -> Release:
        data = release.data[:-1] + bytes([release.data[-1] ^ 1])
        plan = plan_of(data, release.plan.image_digest, release.plan.number, release.plan.counter)
        return Release(plan=plan, data=data)

    def damage_sealed(self) -> None:
        spare = "b" if self.choices[-1].slot == "a" else "a"
        path = f"{self.root}/slots/{spare}/__main__.py"
        self.disk.write_bytes(path, self.disk.read_bytes(path) + b"#")

    def damage_sealed_of(self, slot: str) -> None:
        """Change the image in a slot, as a rotten disk would."""
        path = f"{self.root}/slots/{slot}/__main__.py"
        self.disk.write_bytes(path, self.disk.read_bytes(path) + b"#")

    def wipe_slot(self, slot: str) -> None:
        """Lose a slot with its seal."""
        self.disk.unlink(f"{self.root}/slots/{slot}.sealed")
        self.disk.rmtree(f"{self.root}/slots/{slot}")


def model_rig() -> DirectoryRig:
    """Return a device whose first release is durable on a file-system model."""
    fs = PosixFs()
    fs.mkdir("/d")
    fs.fsync_dir("/")
    rig = DirectoryRig(ModelDisk(fs), "/d").set_up()
    fs.crash("none")
    fs.ops = 0
    return rig


def fork(rig: DirectoryRig) -> tuple[PosixFs, DirectoryRig]:
    """Return an independent copy of a model device."""
    assert isinstance(rig.disk, ModelDisk)
    fs = rig.disk.fs.fork()
    return fs, DirectoryRig(ModelDisk(fs), rig.root, rig.attempts)


def fetch(backend: InstallBackend, release: Release, *, every: int = 1) -> Staging:
    """Fetch what is missing, with a checkpoint every so many chunks and one at the end."""
    staging = backend.begin(release.plan)
    for count, index in enumerate(staging.have().missing(), start=1):
        staging.write_chunk(index, release.chunks[index])
        if count % every == 0:
            staging.checkpoint()
    staging.checkpoint()
    return staging


def stage(backend: InstallBackend, release: Release) -> Intent:
    """Fetch and seal; return an intent for it under permit 100 + number."""
    backend.seal(fetch(backend, release))
    return intent_for(release)


def intent_for(release: Release, *, permit: int = 0, attempts: int = 1) -> Intent:
    return Intent(
        release=release.plan.release,
        permit=permit or 100 + release.plan.number,
        nonce=NONCE,
        attempts=attempts,
        trial_ms=60_000,
    )


def into_trial(rig: Rig, release: Release, *, attempts: int = 1) -> InstallBackend:
    """Stage, arm, restart; return the back end of the agent under trial."""
    backend = rig.start()
    intent = replace(stage(backend, release), attempts=attempts)
    backend.arm(intent)
    backend.activate()
    return rig.start()


def install(rig: Rig, release: Release) -> InstallBackend:
    """Bring a release all the way; return the back end of the agent that confirmed it."""
    backend = into_trial(rig, release)
    backend.confirm()
    return backend


def running(status: DeviceStatus) -> int:
    """Return the number of the release that runs."""
    return status.running.number
