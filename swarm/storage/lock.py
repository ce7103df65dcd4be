"""One process holds a store: an advisory lock on a file beside it, for as long as the store is open."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from swarm.primitives.errors import StoreError, StoreHeldError


class StoreLock:
    """The exclusive lock on the store at `path`; released by `close` and by the end of the process.

    Raises `StoreHeldError` when another process (or another open store of this one) holds it. The lock is not on the
    database itself, because SQLite drops all of a process's locks on a file when any of its descriptors is closed.
    """

    __slots__ = ("_fd",)

    def __init__(self, path: Path) -> None:
        """Take the lock, without waiting."""
        file = path.with_name(path.name + ".lock")
        try:
            fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(
                f"cannot open {file}: {error.strerror}", hint="check the folder's permissions"
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
            os.close(fd)
            named = f"another process (pid {holder})" if holder.isdigit() else "another process"
            raise StoreHeldError(
                f"{named} holds {path}", hint="stop that agent, or give this one a store of its own"
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
        self._fd = fd

    def close(self) -> None:
        """Release the lock; the file stays, since removing it would let two processes lock two files of one name."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: a new file exists after a power cut only when its folder was synced."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
