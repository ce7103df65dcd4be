"""Looking at real processes from outside, by their ids: who started whom, and who is gone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path


def children_of(pid: int) -> tuple[int, ...]:
    """Return the process ids of the living children of `pid`."""
    running = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return tuple(sorted(child for child in running if _parent_of(child) == pid))


def is_gone(pid: int) -> bool:
    """Answer whether a process has ended; one that only its parent has not looked at yet has."""
    fields = _stat_of(pid)
    return fields is None or fields[0] in "ZX"


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Look every 20 ms whether `condition` holds; False if it has not come about in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


def all_gone(pids: Iterable[int], timeout_s: float) -> bool:
    """Answer whether all of `pids` end in time."""
    wanted = tuple(pids)
    return wait_until(lambda: all(is_gone(pid) for pid in wanted), timeout_s)


def kill_all(pids: Iterable[int]) -> None:
    """End what a failed test has left."""
    for pid in pids:
        if not is_gone(pid):
            os.kill(pid, 9)


def _parent_of(pid: int) -> int | None:
    fields = _stat_of(pid)
    return None if fields is None or fields[0] in "ZX" else int(fields[1])


def _stat_of(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat after the command's name: state, parent, ..."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
