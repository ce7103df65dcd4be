"""Temporary folders that do not outlive their owner for long: what a killed process left goes at the next start.

An owner holds a lock (flock) on its folder itself. The kernel drops it with the process, however that ends, and no
other process inherits it, so a folder that can be locked has nobody. Process ids would not do: they are used again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_COMING: Final = ".new"
"""Ends the name of a folder that its owner has not locked yet: nobody may look at it."""


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """Give a fresh folder, readable by this user only, and remove it at the end of the block.

    `prefix` begins its name and belongs to this function alone: all folders of this user with that prefix whose owner
    is gone are removed first. Raises `OSError` where no folder can be made.
    """
    where = Path(tempfile.gettempdir())
    remove_orphans(where, prefix)
    coming = Path(tempfile.mkdtemp(prefix=prefix, suffix=_COMING, dir=where))
    # Locked before it gets the name under which others find it. A rename onto an existing folder fails, if that has
    # content, and an empty one under our prefix is nobody's.
    owned = _lock(coming)
    folder = coming.with_name(coming.name.removesuffix(_COMING))
    try:
        coming.rename(folder)
        yield folder
    finally:
        shutil.rmtree(folder if folder.exists() else coming, ignore_errors=True)
        if owned is not None:
            os.close(owned)


def remove_orphans(where: Path, prefix: str) -> None:
    """Remove the folders in `where` that `scratch_folder(prefix)` made and whose owner is gone; never raises.

    Untouched are links, what belongs to another user, and what cannot be locked.
    """
    with contextlib.suppress(OSError):
        for found in list(where.iterdir()):
            if found.name.startswith(prefix) and not found.name.endswith(_COMING):
                with contextlib.suppress(OSError):
                    _remove_if_orphan(found)


def _remove_if_orphan(folder: Path) -> None:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        return
    owned = _lock(folder)
    if owned is None:
        return
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(owned)


def _lock(folder: Path) -> int | None:
    """Return the descriptor that holds the lock on `folder`, None if another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
