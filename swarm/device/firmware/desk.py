"""One operation at a time on the install back end, and what the media said last."""

from __future__ import annotations

from typing import Final

from swarm.device.firmware.operations import Inspect, Inspection, Install, InstallDone, Operation
from swarm.device.firmware.step import Step
from swarm.primitives.errors import check

INSPECT_AGAIN_MS: Final = 5_000
"""After media that could not be read."""


class Desk:
    """Orders operations and knows whether the last `Inspection` still holds."""

    def __init__(self) -> None:
        """Know nothing of the media yet."""
        self.inspection: Inspection | None = None
        self.has_failed = False
        """The last look at the media failed."""
        self._busy: Install | None = None
        self._tag = 0
        self._is_stale = True
        self._look_at_ms: int | None = None

    @property
    def is_free(self) -> bool:
        """Whether an operation may be ordered."""
        return self._busy is None

    def order(self, operation: Operation, step: Step) -> None:
        """Order an operation; the desk must be free."""
        check(self._busy is None, "two operations of one install back end at once")
        self._tag += 1
        self._busy = Install(operation, self._tag)
        step.actions.append(self._busy)

    def take(self, done: InstallDone, step: Step, now_ms: int) -> bool:
        """Take a result back; False when it is none of the operation that is under way."""
        if self._busy is None or self._busy.tag != done.tag:
            return False
        self._busy = None
        if isinstance(done.operation, Inspect):
            if isinstance(done.answer, Inspection):
                self.inspection = done.answer
                self.has_failed, self._is_stale, self._look_at_ms = False, False, None
            else:
                self._look_at_ms = now_ms + INSPECT_AGAIN_MS
                if not self.has_failed:
                    step.tell("unreadable", reason=str(done.error))
                self.has_failed = True
        return True

    def forget(self) -> None:
        """An operation may have changed the media: look again before the next decision."""
        self._is_stale = True

    def look(self, step: Step, now_ms: int) -> Inspection | None:
        """Return what the media say now, or None: an operation is under way, or the media must be read first."""
        if self._busy is not None:
            return None
        if not self._is_stale:
            return self.inspection
        if self._look_at_ms is not None and now_ms < self._look_at_ms:
            step.wake(self._look_at_ms)
            return None
        self.order(Inspect(), step)
        return None
