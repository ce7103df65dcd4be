"""What one turn has gathered so far, and how the core's notes become events."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarm.consensus.output import Output
from swarm.device import events
from swarm.device.firmware.step import Step
from swarm.device.meter import Questions
from swarm.device.turn import Action, DeviceEvent
from swarm.storage.store import Batch


@dataclass(slots=True)
class Work:
    """What one turn has gathered so far."""

    now_ms: int
    batch: Batch = field(default_factory=Batch)
    events: list[DeviceEvent] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    questions: Questions = field(default_factory=Questions)
    outputs: list[Output] = field(default_factory=list)
    firmware: Step = field(default_factory=Step)
    applied: bool = False
    wake_at_ms: int | None = None

    def event(self, kind: str, **data: object) -> None:
        """Report something observable."""
        self.events.append(DeviceEvent(kind, self.now_ms, tuple(data.items())))


def told_tags(tags: tuple[int, ...]) -> tuple[int, ...]:
    """Return the caller's tags; those of the firmware side are below 0 and nobody else's business."""
    return tuple(tag for tag in tags if tag > 0)


def report_note(work: Work, name: str, number: int) -> None:
    if name == "entered":
        work.event(events.ENTERED, view=number)
    elif name.startswith("skip-"):
        work.event(events.SKIPPED, view=number, reason=name.removeprefix("skip-"))
    elif name == "cleared-by-skip":
        work.event(events.CLEARED_BY_SKIP, view=number)
    elif name == "standstill":
        work.event(events.STANDSTILL, view=number)
    elif name == "attest-mismatch":
        work.event(events.ALARM, what="attestations of one height differ", height=number)
