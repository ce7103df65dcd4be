"""A process that must not outlive the one that started it asks the kernel to see to it (Linux; elsewhere nothing)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent(number: signal.Signals, *, parent: int | None = None) -> None:
    """Have this process sent the signal `number` when the thread that started it ends.

    With `parent`, the process id of who started it, it leaves at once if that one has ended already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if parent is not None and os.getppid() != parent:
        os._exit(0)
