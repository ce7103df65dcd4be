"""What serving others may cost: places for askers, frames of each, bytes a second in all."""

from __future__ import annotations

from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import (
    ASKER_IDLE_MS,
    ASKER_TURN_MS,
    ASKERS_SERVED_MAX,
    SERVED_FRAME_EVERY_MS,
)


class Pace:
    """Bytes a second, without a bound where none is given. Large frames may overdraw it by one."""

    def __init__(self, bytes_per_s: int | None, now_ms: int) -> None:
        """Allow at once what a tenth of a second allows."""
        self._rate = bytes_per_s
        self._burst = 0 if bytes_per_s is None else bytes_per_s // 10
        self._left = self._burst
        self._at_ms = now_ms

    def is_open(self, now_ms: int) -> bool:
        """Answer whether a frame may leave now."""
        if self._rate is None:
            return True
        passed = now_ms - self._at_ms
        if passed > 0:
            # Milliseconds that do not yet make a byte stay on the clock.
            earned = passed * self._rate // 1000
            if earned:
                self._left = min(self._burst, self._left + earned)
                self._at_ms = now_ms
        return self._left >= 0

    def spend(self, size: int) -> None:
        """Note that a frame of `size` bytes leaves."""
        if self._rate is not None:
            self._left -= size

    def wake_at_ms(self, now_ms: int) -> int:
        """Return when the next frame may leave."""
        if self._rate is None or self._left >= 0:
            return now_ms
        return now_ms + -(-(-self._left * 1000) // self._rate)


class Frames:
    """How many frames of one release one asker may have: all chunks and a tenth more, then one every second."""

    __slots__ = ("_at_ms", "_full", "_left_ms")

    def __init__(self, chunk_count: int, now_ms: int) -> None:
        """Begin with the full number."""
        self._full = frames_max(chunk_count) * SERVED_FRAME_EVERY_MS
        self._left_ms = self._full
        self._at_ms = now_ms

    def spend(self, now_ms: int) -> bool:
        """Take one frame; False when there is none left now."""
        self._left_ms = min(self._full, self._left_ms + max(0, now_ms - self._at_ms))
        self._at_ms = max(self._at_ms, now_ms)
        if self._left_ms < SERVED_FRAME_EVERY_MS:
            return False
        self._left_ms -= SERVED_FRAME_EVERY_MS
        return True


def frames_max(chunk_count: int) -> int:
    """Return the frames of a release that may pass between two devices: chunk count + 10 %, and never less than 4 more.

    The slack is for the leaf list (one frame for 1,024 chunks), for wrong answers, and for losses.
    """
    return chunk_count + max(4, chunk_count // 10)


class Places:
    """Who is being served. So many at a time; when all are taken, one that had its turn makes room.

    A place keeps the frames that wait in the transport few, whatever the size of the fleet. The rest is told to ask
    somebody else, and there are ever more devices that have the release.
    """

    def __init__(self) -> None:
        """Start with all places free."""
        self._since_ms: dict[DeviceId, int] = {}
        self._last_ms: dict[DeviceId, int] = {}

    def take(self, asker: DeviceId, now_ms: int) -> tuple[bool, DeviceId | None]:
        """Return whether `asker` has a place now, and who lost one for it."""
        for idle in [id for id, last in self._last_ms.items() if now_ms - last >= ASKER_IDLE_MS]:
            self.leave(idle)
        gone: DeviceId | None = None
        if asker not in self._since_ms and len(self._since_ms) >= ASKERS_SERVED_MAX:
            gone, since_ms = next(iter(self._since_ms.items()))
            if now_ms - since_ms < ASKER_TURN_MS:
                return False, None
            self.leave(gone)
        self._since_ms.setdefault(asker, now_ms)
        self._last_ms[asker] = now_ms
        return True, gone

    def leave(self, asker: DeviceId) -> None:
        """Give a place back."""
        self._since_ms.pop(asker, None)
        self._last_ms.pop(asker, None)
