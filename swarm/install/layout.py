"""What lies in a slot directory: its state, and the bytes of the release's file for peers and for reuse of chunks."""

from __future__ import annotations

from bisect import bisect_right

from swarm.crypto.digest import sha256
from swarm.install.bundle import Entry, encode_head
from swarm.install.filesystem import FileSystem
from swarm.install.port import SlotState, SlotStatus
from swarm.install.selection import Records, Seal, list_files, list_root, read_seal
from swarm.install.staging import staging_folder


class BundleLayout:
    """Where each file of a slot lies in the bundle that it came from."""

    __slots__ = ("_disk", "_entries", "_folder", "_head", "_starts", "digest", "size")

    def __init__(self, disk: FileSystem, folder: str) -> None:
        """Read the whole slot once; raises `OSError`. The caller compares `digest` with the seal."""
        self._disk = disk
        self._folder = folder
        self._entries = [self._entry(path) for path in list_files(disk, folder)]
        self._head = encode_head(self._entries)
        self._starts = []
        at = len(self._head)
        for entry in self._entries:
            self._starts.append(at)
            at += entry.size
        self.size = at
        self.digest = list_root((entry.path, entry.size, entry.digest) for entry in self._entries)

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes of the bundle at `offset`, both inside it; raises `OSError`."""
        end = offset + count
        parts = [self._head[offset:end]]
        for index in range(max(0, bisect_right(self._starts, offset) - 1), len(self._entries)):
            start = self._starts[index]
            if start >= end:
                break
            content = self._disk.read_bytes(f"{self._folder}/{self._entries[index].path}")
            parts.append(content[max(0, offset - start) : end - start])
        return b"".join(parts)

    def _entry(self, path: str) -> Entry:
        data = self._disk.read_bytes(f"{self._folder}/{path}")
        return Entry(path=path, size=len(data), digest=sha256(data))


def slot_status(disk: FileSystem, root: str, records: Records, slot: str) -> SlotStatus:
    """Return what a slot holds, as seal, records and staging say; raises `OSError`."""
    seal = read_seal(disk, root, slot)
    state = _slot_state(disk, root, records, slot, seal)
    if seal is None:
        return SlotStatus(state=state)
    return SlotStatus(
        state=state,
        release=bytes.fromhex(seal.release),
        digest=bytes.fromhex(seal.digest),
        number=seal.number,
        counter=seal.counter,
        version=seal.version,
    )


def _slot_state(disk: FileSystem, root: str, records: Records, slot: str, seal: Seal | None) -> SlotState:
    trial, confirmed = records.trial, records.confirmed
    if slot == confirmed.slot:
        return SlotState.CONFIRMED
    if records.is_open and slot == trial.slot:
        return SlotState.TRIAL if trial.phase == "trial" else SlotState.ARMED
    if disk.exists(staging_folder(root)):
        return SlotState.FETCHING
    if seal is None:
        return SlotState.EMPTY
    has_failed = trial.phase == "reverted" and trial.digest == seal.digest
    if has_failed or seal.digest == confirmed.failed:
        return SlotState.FAILED
    return SlotState.PREVIOUS if seal.digest == confirmed.previous else SlotState.STAGED
