"""A POSIX file system whose power can go at any operation.

What the standard promises and nothing more: data is durable after `fsync` of the file, names after `fsync_dir`
of their directory. After a cut, data that was not synced may be missing, cut short, zeros, or there; names that
were not synced may be old or new, in any order. `replace` is atomic in one directory and, as on a file system
without a journal for both, in two directories may leave the file under both names.

Methods mirror `os` and `pathlib`, so that code written against a small protocol of these runs on it.
"""

from __future__ import annotations

import errno
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from firmware_sim.errors import PowerLoss

_LINKS_MAX = 16
ROOT: Final = 1
CRASH_SHAPES: Final = ("none", "all", "names", "data", "random", "reorder")
"""What of the un-synced survives: nothing, everything, only names, only data, a draw, a draw in another order."""

PathLike = str | PurePosixPath


@dataclass(slots=True)
class _Node:
    kind: str
    """`file`, `dir` or `link`."""
    live: bytes = b""
    durable: bytes = b""
    names: dict[str, int] = field(default_factory=dict)
    durable_names: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Change:
    """Entries to set together: (directory, name, node or 0 for none)."""

    entries: tuple[tuple[int, str, int], ...]


def _failure(code: int, path: PathLike) -> OSError:
    return OSError(code, errno.errorcode[code], str(path))


class PosixFs:
    """An empty file system; `space` bounds the bytes of all files.

    `cut` = (operation, shape, seed) makes that operation, counted from 1, lose the power in the middle. `observer`
    is called in each operation, where a cut would come; it may call `crash` and raise PowerLoss itself.
    """

    def __init__(self, *, space: int = 1 << 40) -> None:
        self.space = space
        self.ops = 0
        self.cut: tuple[int, str, int] | None = None
        self.observer: Callable[[], None] | None = None
        self._nodes: dict[int, _Node] = {ROOT: _Node("dir")}
        self._next = ROOT + 1
        self._pending: list[_Change] = []

    # ---------------------------------------------------------------------------- lookup

    def _walk(self, path: PathLike, *, follow: bool = True, links: int = 0) -> tuple[int, str, int]:
        """Return (directory node, last name, node or 0)."""
        if links > _LINKS_MAX:
            raise _failure(errno.ELOOP, path)
        parts = [part for part in str(path).split("/") if part not in {"", "."}]
        directory, name, node = ROOT, "", ROOT
        seen: list[str] = []
        for index, part in enumerate(parts):
            if self._nodes[node].kind != "dir":
                raise _failure(errno.ENOTDIR, path)
            directory, name = node, part
            node = self._nodes[directory].names.get(part, 0)
            is_last = index == len(parts) - 1
            if node and self._nodes[node].kind == "link" and (follow or not is_last):
                target = PurePosixPath("/", *seen, self._nodes[node].live.decode(), *parts[index + 1 :])
                return self._walk(_normal(target), follow=follow, links=links + 1)
            if not node and not is_last:
                raise _failure(errno.ENOENT, path)
            seen.append(part)
        return directory, name, node

    def _find(self, path: PathLike, kind: str, *, follow: bool = True) -> _Node:
        node = self._walk(path, follow=follow)[2]
        if not node:
            raise _failure(errno.ENOENT, path)
        found = self._nodes[node]
        if found.kind != kind:
            wrong = {"dir": errno.ENOTDIR, "file": errno.EISDIR, "link": errno.EINVAL}
            raise _failure(wrong[kind], path)
        return found

    def _is(self, path: PathLike, kind: str | None, *, follow: bool = True) -> bool:
        try:
            node = self._walk(path, follow=follow)[2]
        except OSError:
            return False
        return bool(node) and (kind is None or self._nodes[node].kind == kind)

    def exists(self, path: PathLike) -> bool:
        """Return whether the path names anything, links followed."""
        return self._is(path, None)

    def is_dir(self, path: PathLike) -> bool:
        """Return whether the path names a directory."""
        return self._is(path, "dir")

    def is_file(self, path: PathLike) -> bool:
        """Return whether the path names a file."""
        return self._is(path, "file")

    def is_symlink(self, path: PathLike) -> bool:
        """Return whether the path itself is a link."""
        return self._is(path, "link", follow=False)

    def read_bytes(self, path: PathLike) -> bytes:
        """Return the content of a file. Raises OSError as the system call does."""
        return self._find(path, "file").live

    def file_size(self, path: PathLike) -> int:
        """Return the length of a file in bytes."""
        return len(self.read_bytes(path))

    def readlink(self, path: PathLike) -> str:
        """Return the target of a link."""
        return self._find(path, "link", follow=False).live.decode()

    def listdir(self, path: PathLike) -> list[str]:
        """Return the names in a directory, sorted."""
        return sorted(self._find(path, "dir").names)

    # ---------------------------------------------------------------------------- data

    def write_bytes(self, path: PathLike, data: bytes) -> None:
        """Create or overwrite a file; nothing is durable yet. Raises OSError, also for a full disk."""
        self._write(path, data, append=False)

    def append_bytes(self, path: PathLike, data: bytes) -> None:
        """Add to the end of a file, which is created if missing."""
        self._write(path, data, append=True)

    def _write(self, path: PathLike, data: bytes, *, append: bool) -> None:
        directory, name, node = self._walk(path)
        if node and self._nodes[node].kind != "file":
            raise _failure(errno.EISDIR, path)
        before = self._nodes[node].live if node else b""
        content = before + data if append else data
        if self.used() - len(before) + len(content) > self.space:
            raise _failure(errno.ENOSPC, path)
        if not node:
            node = self._add(_Node("file"), directory, name)
        self._nodes[node].live = content
        self._tick()

    def used(self) -> int:
        """Return the bytes of all files that have a name."""
        return sum(len(self._nodes[i].live) for i in self._reachable() if self._nodes[i].kind == "file")

    def fsync(self, path: PathLike) -> None:
        """Make the content of a file durable (not its name)."""
        node = self._find(path, "file")
        self._tick()
        node.durable = node.live

    # ---------------------------------------------------------------------------- names

    def fsync_dir(self, path: PathLike) -> None:
        """Make the names in a directory durable."""
        directory = self._walk(path)[2]
        self._find(path, "dir")
        self._tick()
        waiting = self._pending
        self._pending = []
        for change in waiting:
            if any(entry[0] == directory for entry in change.entries):
                self._settle(change)
            else:
                self._pending.append(change)

    def mkdir(self, path: PathLike) -> None:
        """Make a directory; its parent must exist."""
        directory, name, node = self._walk(path)
        if node:
            raise _failure(errno.EEXIST, path)
        self._add(_Node("dir"), directory, name)
        self._tick()

    def symlink(self, target: PathLike, path: PathLike) -> None:
        """Make a link to `target` at `path`."""
        directory, name, node = self._walk(path, follow=False)
        if node:
            raise _failure(errno.EEXIST, path)
        content = str(target).encode()
        self._add(_Node("link", live=content, durable=content), directory, name)
        self._tick()

    def replace(self, source: PathLike, target: PathLike) -> None:
        """Rename, replacing a file or link at the target."""
        from_dir, from_name, node = self._walk(source, follow=False)
        if not node:
            raise _failure(errno.ENOENT, source)
        to_dir, to_name, other = self._walk(target, follow=False)
        if other and self._nodes[other].kind == "dir":
            raise _failure(errno.EISDIR, target)
        if (from_dir, from_name) == (to_dir, to_name):
            self._tick()
            return
        removal, arrival = (from_dir, from_name, 0), (to_dir, to_name, node)
        if from_dir == to_dir:
            self._change((arrival, removal))
        else:
            self._change((arrival,))
            self._change((removal,))
        self._tick()

    def unlink(self, path: PathLike) -> None:
        """Remove a file or link."""
        directory, name, node = self._walk(path, follow=False)
        if not node:
            raise _failure(errno.ENOENT, path)
        if self._nodes[node].kind == "dir":
            raise _failure(errno.EISDIR, path)
        self._change(((directory, name, 0),))
        self._tick()

    def rmdir(self, path: PathLike) -> None:
        """Remove an empty directory."""
        directory, name, _ = self._walk(path, follow=False)
        if self._find(path, "dir", follow=False).names:
            raise _failure(errno.ENOTEMPTY, path)
        self._change(((directory, name, 0),))
        self._tick()

    def rmtree(self, path: PathLike) -> None:
        """Remove a directory and all in it, one name an operation, deepest first."""
        base = PurePosixPath(path)
        for name in self.listdir(base):
            if self._is(base / name, "dir", follow=False):
                self.rmtree(base / name)
            else:
                self.unlink(base / name)
        self.rmdir(base)

    def _add(self, node: _Node, directory: int, name: str) -> int:
        number = self._next
        self._next += 1
        self._nodes[number] = node
        self._change(((directory, name, number),))
        return number

    def _change(self, entries: tuple[tuple[int, str, int], ...]) -> None:
        for directory, name, node in entries:
            names = self._nodes[directory].names
            if node:
                names[name] = node
            else:
                names.pop(name, None)
        self._pending.append(_Change(entries))

    def _settle(self, change: _Change) -> None:
        for directory, name, node in change.entries:
            names = self._nodes[directory].durable_names
            if node:
                names[name] = node
            else:
                names.pop(name, None)

    # ---------------------------------------------------------------------------- power

    def _tick(self) -> None:
        """Count an operation whose effect is live and not yet durable; the power may go here."""
        self.ops += 1
        if self.observer is not None:
            self.observer()
        if self.cut is not None and self.cut[0] == self.ops:
            _, shape, seed = self.cut
            self.cut = None
            self.crash(shape, seed)
            raise PowerLoss(self.ops)

    def crash(self, shape: str = "random", seed: int = 0) -> None:
        """Lose the power now; what was not synced survives as `shape` and `seed` say. Raises KeyError if unknown."""
        keep_names, keep_data = {
            "none": (0.0, 0.0),
            "all": (1.0, 1.0),
            "names": (1.0, 0.0),
            "data": (0.0, 1.0),
            "random": (0.5, 0.5),
            "reorder": (0.7, 0.5),
        }[shape]
        rng = random.Random(f"{shape}/{seed}/{self.ops}")
        survivors = [change for change in self._pending if rng.random() < keep_names]
        if shape == "reorder":
            rng.shuffle(survivors)
        for change in survivors:
            self._settle(change)
        for number in sorted(self._nodes):
            node = self._nodes[number]
            if node.live != node.durable and rng.random() >= keep_data:
                node.live = _damaged(rng, node) if 0.0 < keep_data < 1.0 else node.durable
        self._forget()

    def _forget(self) -> None:
        self._pending = []
        for node in self._nodes.values():
            node.durable = node.live
            node.names = dict(node.durable_names)
        alive = self._reachable()
        self._nodes = {number: node for number, node in self._nodes.items() if number in alive}

    def _reachable(self) -> set[int]:
        found, todo = {ROOT}, [ROOT]
        while todo:
            for node in self._nodes[todo.pop()].names.values():
                if node not in found:
                    found.add(node)
                    todo.append(node)
        return found

    # ---------------------------------------------------------------------------- whole media

    def tree(self) -> dict[str, str | bytes | None]:
        """Return path -> content of a file (bytes), target of a link (str), None for a directory."""
        found: dict[str, str | bytes | None] = {}
        todo = [(PurePosixPath("/"), ROOT)]
        while todo:
            path, number = todo.pop()
            node = self._nodes[number]
            found[str(path)] = _shown(node)
            todo += [(path / name, child) for name, child in sorted(node.names.items())]
        return found

    def media_hash(self) -> bytes:
        """Return a digest of what a reader sees now; after a crash that is all there is."""
        return hashlib.blake2b(repr(sorted(self.tree().items())).encode(), digest_size=16).digest()

    def fork(self) -> PosixFs:
        """Return an independent copy, un-synced state included; it counts operations from 0, without cut and observer."""
        copy = PosixFs(space=self.space)
        copy._next = self._next
        copy._pending = list(self._pending)
        copy._nodes = {
            number: _Node(node.kind, node.live, node.durable, dict(node.names), dict(node.durable_names))
            for number, node in self._nodes.items()
        }
        return copy


def _shown(node: _Node) -> str | bytes | None:
    if node.kind == "dir":
        return None
    return node.live if node.kind == "file" else node.live.decode()


def _normal(path: PurePosixPath) -> PurePosixPath:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts = parts[:-1] or ["/"]
        elif part == "/":
            parts = ["/"]
        else:
            parts.append(part)
    return PurePosixPath(*parts)


def _damaged(rng: random.Random, node: _Node) -> bytes:
    """What may be found of a file that was written and not synced."""
    length = len(node.live)
    kept = rng.randrange(length + 1)
    return rng.choice(
        [node.durable, b"", node.live[:kept], bytes(length), node.live[:kept] + bytes(length - kept)]
    )
