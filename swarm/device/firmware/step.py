"""What one turn of the firmware side gives, and how its own entries are followed until they are in the log."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

from swarm.apps.rollout.entries import Command, encode_command
from swarm.behaviours.actions import SelfTest
from swarm.device.firmware.operations import FirmwareAction
from swarm.primitives.ids import DeviceId
from swarm.wire.messages import Answered, AskChunks, AskLeaves, Request

ChunkQuestion = AskLeaves | AskChunks

ASK_AGAIN_MS: Final = 10_000
"""An own entry that came into the log without the effect it was sent for is not repeated earlier."""


@dataclass(slots=True)
class Step:
    """Collected over one turn; the device carries it out after its transaction."""

    entries: list[tuple[bytes, int]] = field(default_factory=list)
    """(command of `rollout`, tag) for the log; tags are below 0."""
    actions: list[FirmwareAction | SelfTest] = field(default_factory=list)
    asks: list[tuple[DeviceId, ChunkQuestion]] = field(default_factory=list)
    """Questions for chunks, for the outbox; the counters go back to the fetcher."""
    answers: list[tuple[DeviceId, Request, Answered]] = field(default_factory=list)
    """Chunks and leaves for others, each in a frame of its own, after everything else."""
    events: list[dict[str, object]] = field(default_factory=list)
    """Data of device events `firmware`; each has `what`."""
    wake_at_ms: int | None = None

    def wake(self, at_ms: int | None) -> None:
        """Be called again at `at_ms` at the latest."""
        if at_ms is not None and (self.wake_at_ms is None or at_ms < self.wake_at_ms):
            self.wake_at_ms = at_ms

    def tell(self, what: str, **data: object) -> None:
        """Report something observable."""
        self.events.append({"what": what, **data})


class Entries:
    """Own entries by what they are for: none is sent while the same is on its way, or again at once without effect."""

    def __init__(self) -> None:
        """Nothing has been sent in this boot."""
        self._tag = 0
        self._flying: dict[int, Hashable] = {}
        self._not_before_ms: dict[Hashable, int] = {}

    def is_flying(self, key: Hashable) -> bool:
        """Answer whether an entry with this key is on its way."""
        return key in self._flying.values()

    def is_flying_as(self, word: str) -> bool:
        """Answer whether an entry whose key is `word`, or begins with it, is on its way."""
        return any(
            key == word or (isinstance(key, tuple) and key[0] == word) for key in self._flying.values()
        )

    def may_send(self, key: Hashable, step: Step, now_ms: int) -> bool:
        """Answer whether an entry with this key may be sent now; else the step wakes when it may."""
        if self.is_flying(key):
            return False
        at_ms = self._not_before_ms.get(key, now_ms)
        if at_ms > now_ms:
            step.wake(at_ms)
        return at_ms <= now_ms

    def send(self, key: Hashable, command: Command, step: Step, now_ms: int) -> None:
        """Send it; nothing with the same key goes out before this one has settled and a while has passed."""
        self._tag -= 1
        self._flying[self._tag] = key
        self._not_before_ms[key] = now_ms + ASK_AGAIN_MS
        step.entries.append((encode_command(command), self._tag))

    def settled(self, tag: int) -> None:
        """Note that the entry with this tag is in the log, or never will be."""
        self._flying.pop(tag, None)

    def forget(self, key: Hashable) -> None:
        """Let an entry with this key be sent again at once: what it was for has come anew."""
        self._not_before_ms.pop(key, None)
