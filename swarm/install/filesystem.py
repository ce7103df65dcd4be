"""The file operations of slots and records as one small port, so that a power cut can be put between any two of them.

Nothing here syncs by itself: `write_bytes` reaches the disk with `fsync`, a new or removed name with `fsync_dir`.
Only the standard library: the launcher carries this file with it.
"""

from __future__ import annotations

# ruff: noqa: PTH102, PTH105, PTH108, PTH115, PTH208, PTH211  -- a method is one system call on a string
import os
import shutil
import stat
from typing import Protocol


class FileSystem(Protocol):
    """What the `directory` back end and the launcher need of a disk; paths are strings, errors are `OSError`."""

    def read_bytes(self, path: str) -> bytes:
        """Return a file's content; never follows a link."""

    def write_bytes(self, path: str, data: bytes) -> None:
        """Create or overwrite a file; not yet durable."""

    def fsync(self, path: str) -> None:
        """Make a file's content durable."""

    def fsync_dir(self, path: str) -> None:
        """Make the names in a folder durable."""

    def replace(self, source: str, target: str) -> None:
        """Rename over `target` at once; durable with `fsync_dir`."""

    def symlink(self, target: str, path: str) -> None:
        """Make the link `path` with the text `target`."""

    def readlink(self, path: str) -> str:
        """Return a link's text."""

    def unlink(self, path: str) -> None:
        """Remove a file's or a link's name."""

    def rmtree(self, path: str) -> None:
        """Remove a folder with all that is in it, in any order."""

    def mkdir(self, path: str) -> None:
        """Make a folder whose parent exists."""

    def listdir(self, path: str) -> list[str]:
        """Return the names in a folder."""

    def exists(self, path: str) -> bool:
        """Answer whether the name exists; a link counts without its target."""

    def is_dir(self, path: str) -> bool:
        """Answer whether the name is a folder itself, not a link to one."""

    def size(self, path: str) -> int:
        """Return a file's length in bytes."""

    def free_bytes(self, path: str) -> int:
        """Return what a user without privileges can still write below `path`."""


class RealFileSystem:
    """The disk of this machine."""

    __slots__ = ()

    def read_bytes(self, path: str) -> bytes:
        """Return a file's content; never follows a link."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(fd, "rb") as file:
            return file.read()

    def write_bytes(self, path: str, data: bytes) -> None:
        """Create or overwrite a file, readable by its owner alone if new; not yet durable."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            file.write(data)

    def fsync(self, path: str) -> None:
        """Make a file's content durable."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def fsync_dir(self, path: str) -> None:
        """Make the names in a folder durable."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def replace(self, source: str, target: str) -> None:
        """Rename over `target` at once."""
        os.replace(source, target)

    def symlink(self, target: str, path: str) -> None:
        """Make the link `path` with the text `target`."""
        os.symlink(target, path)

    def readlink(self, path: str) -> str:
        """Return a link's text."""
        return os.readlink(path)

    def unlink(self, path: str) -> None:
        """Remove a file's or a link's name."""
        os.unlink(path)

    def rmtree(self, path: str) -> None:
        """Remove a folder with all that is in it; links are removed, not followed."""
        shutil.rmtree(path)

    def mkdir(self, path: str) -> None:
        """Make a folder for its owner alone."""
        os.mkdir(path, 0o700)

    def listdir(self, path: str) -> list[str]:
        """Return the names in a folder."""
        return os.listdir(path)

    def exists(self, path: str) -> bool:
        """Answer whether the name exists; a link counts without its target."""
        return os.path.lexists(path)

    def is_dir(self, path: str) -> bool:
        """Answer whether the name is a folder itself, not a link to one."""
        try:
            return stat.S_ISDIR(os.lstat(path).st_mode)
        except FileNotFoundError:
            return False

    def size(self, path: str) -> int:
        """Return a file's length in bytes."""
        return os.lstat(path).st_size

    def free_bytes(self, path: str) -> int:
        """Return what a user without privileges can still write below `path`."""
        room = os.statvfs(path)
        return room.f_bavail * room.f_frsize
