"""The data partition of a simulated device: the file-system model behind the port that real devices use."""

from __future__ import annotations

from firmware_sim.posixfs import PosixFs


class Partition:
    """A `FileSystem` (`swarm.install.filesystem`) over `PosixFs`; links are names of their own."""

    __slots__ = ("_fs",)

    def __init__(self, fs: PosixFs) -> None:
        """Serve `fs`, which keeps what a power cut leaves."""
        self._fs = fs

    def read_bytes(self, path: str) -> bytes:
        """Return a file's content."""
        return self._fs.read_bytes(path)

    def write_bytes(self, path: str, data: bytes) -> None:
        """Create or overwrite a file; not yet durable."""
        self._fs.write_bytes(path, data)

    def fsync(self, path: str) -> None:
        """Make a file's content durable."""
        self._fs.fsync(path)

    def fsync_dir(self, path: str) -> None:
        """Make the names in a folder durable."""
        self._fs.fsync_dir(path)

    def replace(self, source: str, target: str) -> None:
        """Rename over `target` at once."""
        self._fs.replace(source, target)

    def symlink(self, target: str, path: str) -> None:
        """Make the link `path` with the text `target`."""
        self._fs.symlink(target, path)

    def readlink(self, path: str) -> str:
        """Return a link's text."""
        return self._fs.readlink(path)

    def unlink(self, path: str) -> None:
        """Remove a file's or a link's name."""
        self._fs.unlink(path)

    def rmtree(self, path: str) -> None:
        """Remove a folder with all that is in it."""
        self._fs.rmtree(path)

    def mkdir(self, path: str) -> None:
        """Make a folder whose parent exists."""
        self._fs.mkdir(path)

    def listdir(self, path: str) -> list[str]:
        """Return the names in a folder."""
        return self._fs.listdir(path)

    def exists(self, path: str) -> bool:
        """Answer whether the name exists; a link counts without its target."""
        return self._fs.is_symlink(path) or self._fs.exists(path)

    def is_dir(self, path: str) -> bool:
        """Answer whether the name is a folder itself."""
        return self._fs.is_dir(path) and not self._fs.is_symlink(path)

    def size(self, path: str) -> int:
        """Return a file's length in bytes."""
        return self._fs.file_size(path)

    def free_bytes(self, path: str) -> int:  # noqa: ARG002  -- the port asks by path
        """Return what can still be written; the same everywhere on the partition."""
        return self._fs.space - self._fs.used()
