"""The agent's side of the launcher: which slot it is, and the pipe over which it says that it lives.

Call `beat` where the event loop and the consensus tick have both advanced, never from a thread of its own: a beat that
goes on while the device stands still takes the watchdog's meaning away.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from swarm.install.launcher import BEAT, ENV_LIFELINE, ENV_ROOT, ENV_SLOT, HEALTHY
from swarm.install.selection import SLOTS


class Lifeline:
    """The open pipe to the launcher. `root` and `slot` are what `DirectoryBackend` needs."""

    def __init__(self, fd: int, root: str, slot: str) -> None:
        """Take over the writing end `fd`; a full pipe must never hold the agent up."""
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)
        self._fd = fd
        self.root = root
        self.slot = slot

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Lifeline | None:
        """Return the lifeline that a launcher left in `environment`; None when nobody did, as with a start by hand."""
        fd, root, slot = (environment.get(key, "") for key in (ENV_LIFELINE, ENV_ROOT, ENV_SLOT))
        if not fd.isdecimal() or not root or slot not in SLOTS:
            return None
        try:
            if not stat.S_ISFIFO(os.fstat(int(fd)).st_mode):
                return None
        except (OSError, OverflowError):
            return None
        return cls(int(fd), root, slot)

    def beat(self) -> bool:
        """Say that the device advances; False when the launcher is gone, and then the agent must end."""
        return self._send(BEAT)

    def healthy(self) -> bool:
        """Say that the self test passed in this start; False as with `beat`."""
        return self._send(HEALTHY)

    def close(self) -> None:
        """Close the pipe; the launcher then waits for the end of the process, or for its silence."""
        os.close(self._fd)

    def _send(self, word: bytes) -> bool:
        try:
            os.write(self._fd, word)
        except BlockingIOError:
            # The launcher is busy, not gone; 64 KiB of beats are waiting for it.
            return True
        except BrokenPipeError:
            return False
        return True
