"""A release on its way into a slot directory: chunk files, the bitmap that claims them, and the unpacked slot.

Each chunk is a file of its own. So a chunk is either claimed and synced or it does not count, in whatever order they
come, and nothing has to be written into the middle of a file.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Final

from swarm.crypto.digest import sha256
from swarm.crypto.merkle import Frontier, leaf_hash
from swarm.install.bundle import Bundle
from swarm.install.filesystem import FileSystem
from swarm.install.port import Bitmap, InstallError, InstallPlan, InstallReason
from swarm.install.records import Progress, read_record, write_record
from swarm.install.selection import Seal, encode_seal, seal_path, slot_digest, slot_folder

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def medium() -> Iterator[None]:
    """Turn an `OSError` into an `InstallError`: NO_SPACE where the disk is full, else MEDIUM."""
    try:
        yield
    except OSError as error:
        reason = InstallReason.NO_SPACE if error.errno in _FULL else InstallReason.MEDIUM
        raise InstallError(reason, error.strerror or type(error).__name__) from error


def staging_folder(root: str) -> str:
    """Return where chunks wait."""
    return f"{root}/staging"


def plan_bytes(plan: InstallPlan) -> bytes:
    """Return what says, beside the chunks, whose they are: checksum and JSON; equal for equal plans only."""
    fields = {key: value.hex() if isinstance(value, bytes) else value for key, value in asdict(plan).items()}
    body = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")
    return sha256(body) + body


def seal_of(plan: InstallPlan) -> Seal:
    """Return the seal of a slot that holds what `plan` says."""
    return Seal(
        release=plan.release.hex(),
        digest=plan.image_digest.hex(),
        number=plan.number,
        counter=plan.counter,
        version=plan.version,
        file_size=plan.file_bytes,
    )


class DirectoryStaging:
    """The chunks of one plan below a root; made by `DirectoryBackend.begin`."""

    __slots__ = ("_disk", "_durable", "_folder", "_plan", "_written")

    def __init__(self, disk: FileSystem, root: str, plan: InstallPlan, *, sealed: bool = False) -> None:
        """Take up `plan` where its durable bitmap ends; raises `OSError`. With `sealed` nothing is left to fetch."""
        self._disk = disk
        self._folder = staging_folder(root)
        self._plan = plan
        self._written: set[int] = set()
        if sealed:
            self._durable = set(range(plan.chunk_count))
            return
        if not self._is_ours():
            remove_tree(disk, root, self._folder)
            disk.mkdir(self._folder)
            path = f"{self._folder}/plan"
            disk.write_bytes(path, plan_bytes(plan))
            disk.fsync(path)
            disk.fsync_dir(self._folder)
            disk.fsync_dir(root)
        self._durable = self._claimed()

    @property
    def plan(self) -> InstallPlan:
        """The plan it was begun with."""
        return self._plan

    def have(self) -> Bitmap:
        """Return the chunks that a power cut now would leave."""
        return Bitmap.of(self._plan.chunk_count, self._durable)

    def write_chunk(self, index: int, data: bytes) -> None:
        """Keep a chunk that the caller has checked against the chunk root; durable with the next `checkpoint`."""
        length = self._plan.length_of(index)
        if length == 0 or len(data) != length:
            raise InstallError(InstallReason.WRONG_CHUNK, f"chunk {index}, {len(data)} bytes")
        if index in self._durable:
            return
        with medium():
            try:
                self._disk.write_bytes(self._path(index), data)
            except OSError:
                # Half a chunk would hold the very space that is missing.
                with suppress(OSError):
                    self._disk.unlink(self._path(index))
                raise
        self._written.add(index)

    def checkpoint(self) -> None:
        """Make all written chunks durable, contents, then names, then the bitmap that claims them."""
        if not self._written:
            return
        with medium():
            for index in sorted(self._written):
                self._disk.fsync(self._path(index))
            self._disk.fsync_dir(self._folder)
            durable = self._durable | self._written
            bits = Bitmap.of(self._plan.chunk_count, durable).bits.hex()
            write_record(self._disk, self._folder, Progress(release=self._plan.release.hex(), bits=bits))
        self._durable = durable
        self._written = set()

    def read_file(self) -> bytes:
        """Return the whole file, its chunks checked against the chunk root and the file against its digest.

        Raises `InstallError` (INCOMPLETE, WRONG_CHUNK_ROOT, WRONG_FILE, MEDIUM).
        """
        if not self.have().is_full:
            raise InstallError(InstallReason.INCOMPLETE, f"{len(self.have().missing())} chunks are missing")
        with medium():
            chunks = [self._disk.read_bytes(self._path(index)) for index in range(self._plan.chunk_count)]
        tree = Frontier()
        for chunk in chunks:
            tree.append(leaf_hash(chunk))
        if tree.root() != self._plan.chunk_root:
            raise InstallError(InstallReason.WRONG_CHUNK_ROOT)
        data = b"".join(chunks)
        if len(data) != self._plan.file_bytes or sha256(data) != self._plan.file_digest:
            raise InstallError(InstallReason.WRONG_FILE)
        return data

    def _path(self, index: int) -> str:
        return f"{self._folder}/{index:06d}"

    def _is_ours(self) -> bool:
        try:
            return self._disk.read_bytes(f"{self._folder}/plan") == plan_bytes(self._plan)
        except OSError:
            return False

    def _claimed(self) -> set[int]:
        progress = read_record(self._disk, self._folder, Progress)
        if progress is None or progress.release != self._plan.release.hex():
            return set()
        count = self._plan.chunk_count
        try:
            bitmap = Bitmap(count=count, bits=bytes.fromhex(progress.bits))
        except ValueError:
            return set()
        if len(bitmap.bits) != (count + 7) // 8:
            return set()
        return {index for index in range(count) if index in bitmap and self._is_there(index)}

    def _is_there(self, index: int) -> bool:
        try:
            return self._disk.size(self._path(index)) == self._plan.length_of(index)
        except OSError:
            return False


def remove_tree(disk: FileSystem, parent: str, path: str) -> None:
    """Remove a folder of `parent` if it is there, durably; raises `OSError`."""
    if disk.exists(path):
        disk.rmtree(path)
        disk.fsync_dir(parent)


def wipe_slot(disk: FileSystem, root: str, slot: str) -> None:
    """Empty a slot: its seal first, durably, so that it is never sealed and half gone; raises `OSError`."""
    seal = seal_path(root, slot)
    if disk.exists(seal):
        disk.unlink(seal)
        disk.fsync_dir(f"{root}/slots")
    remove_tree(disk, f"{root}/slots", slot_folder(root, slot))


def fill_slot(disk: FileSystem, root: str, slot: str, bundle: Bundle) -> None:
    """Unpack a bundle into an empty slot, every file and name durable; raises `OSError`."""
    folder = slot_folder(root, slot)
    disk.mkdir(folder)
    made = {""}
    for path, content in bundle.files():
        _make_parents(disk, folder, path, made)
        disk.write_bytes(f"{folder}/{path}", content)
        disk.fsync(f"{folder}/{path}")
    for inside in sorted(made, key=lambda path: (-path.count("/"), path)):
        disk.fsync_dir(f"{folder}/{inside}" if inside else folder)
    disk.fsync_dir(f"{root}/slots")


def seal_slot(disk: FileSystem, root: str, slot: str, seal: Seal) -> None:
    """Read a filled slot back and seal it, durably.

    Raises `InstallError` (WRONG_DIGEST) when the medium holds something else, and `OSError`.
    """
    if slot_digest(disk, root, slot).hex() != seal.digest:
        raise InstallError(InstallReason.WRONG_DIGEST, "the slot reads back differently")
    path = seal_path(root, slot)
    disk.write_bytes(path, encode_seal(seal))
    disk.fsync(path)
    disk.fsync_dir(f"{root}/slots")


def _make_parents(disk: FileSystem, folder: str, path: str, made: set[str]) -> None:
    at = path.find("/")
    while at >= 0:
        if path[:at] not in made:
            disk.mkdir(f"{folder}/{path[:at]}")
            made.add(path[:at])
        at = path.find("/", at + 1)
