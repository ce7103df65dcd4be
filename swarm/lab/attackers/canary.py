"""Devices that speak for an image which they never installed: they ask, get a permit, and say what they like."""

from __future__ import annotations

from typing import ClassVar, Final

from swarm.apps.rollout.entries import Report, Result
from swarm.apps.rollout.state import Device as Record
from swarm.apps.rollout.state import Permit
from swarm.device.device import Device
from swarm.device.turn import Turn, TurnInput
from swarm.lab.attackers.insider import Insider, Speaker
from swarm.primitives.ids import ZERO_DIGEST

CONTRADICT_MS: Final = 2_000
"""How often a blocking canary says the opposite."""


class LyingCanary:
    """Says that the new image is well and confirmed, and goes on with the old one."""

    name: ClassVar[str] = "lying-canary"
    keeps_firmware: ClassVar[bool] = False

    def __init__(self, insider: Insider) -> None:
        """Begin with the image that the device really has."""
        self._insider = insider
        self._speaker = Speaker()
        self._step = 0
        self._claimed = insider.digest
        self._boot = 0

    def change(self, turn: Turn) -> Turn:
        """Let everything else of the device be correct: what it votes on the log's blocks is not the lie."""
        return turn

    def act(self, device: Device, now_ms: int) -> tuple[tuple[TurnInput, ...], int | None]:
        """Report a start, ask for a permit whenever the log names this device, and then lie."""
        rollout = device.ledger.router.rollout
        if rollout is None:
            return (), None
        if device.boot != self._boot:
            self._boot, self._step = device.boot, 0
        record = rollout.state.devices.get(self._insider.id)
        if record is None or not record.reported:
            self.report("started", device, now_ms, record=record)
            return self._speaker.take()
        task = rollout.duties(self._insider.id).task
        if record.permit is not None:
            self.abuse(record.permit, record, device, now_ms)
        elif task is not None and task.refusal is None:
            key = ("arm", task.plan, task.arm.stage, task.arm.generation)
            self._speaker.say(key, task.arm, now_ms)
        return self._speaker.take()

    def abuse(self, permit: Permit, record: Record, device: Device, now_ms: int) -> None:
        """Do with a permit what this attacker got it for."""
        self._claimed = permit.target
        result: Result = "confirmed" if permit.accepted else "healthy"
        self.report(result, device, now_ms, permit=permit.id, record=record)

    def report(
        self,
        result: Result,
        device: Device,
        now_ms: int,
        *,
        permit: int = 0,
        reason: str = "",
        record: Record | None = None,
        digest: bytes | None = None,
        again: int = 0,
    ) -> Report | None:
        """Log a report with whatever digest is claimed; the report, or None where it was said a moment ago."""
        new = self._claimed != self._insider.digest
        made = Report(
            permit=permit,
            incarnation=0 if record is None else record.incarnation,
            boot=device.boot,
            step=self._step + 1,
            result=result,
            reason=reason,
            class_id=self._insider.class_id,
            slot=int(new),
            digest=self._claimed if digest is None else digest,
            number=2 if new else 1,
            counter=0,
            confirmed=result != "healthy",
            degraded=False,
            spare="sealed" if new else "empty",
            spare_digest=self._insider.digest if new else ZERO_DIGEST,
            nonce_height=device.ledger.height,
            nonce_root=device.ledger.frontier.root(),
            attestation=b"",
            previous=0 if record is None else record.ran_at,
        )
        if not self._speaker.say(("report", result, permit, again), made, now_ms):
            return None
        self._step += 1
        return made


class BlockingCanary(LyingCanary):
    """Takes a permit and says that the image failed, then that it did not, and again: to make everybody stop."""

    name: ClassVar[str] = "blocking-canary"

    def __init__(self, insider: Insider) -> None:
        """Count the contradictions."""
        super().__init__(insider)
        self._turns = 0
        self._next_ms = 0

    def act(self, device: Device, now_ms: int) -> tuple[tuple[TurnInput, ...], int | None]:
        """Go on contradicting itself after the permit is gone."""
        inputs, wake_at_ms = super().act(device, now_ms)
        rollout = device.ledger.router.rollout
        record = None if rollout is None else rollout.state.devices.get(self._insider.id)
        is_due = now_ms >= self._next_ms
        if is_due and record is not None and record.reported and record.permit is None and self._turns:
            self._next_ms = now_ms + CONTRADICT_MS
            other = self._claimed if self._turns % 2 else self._insider.digest
            result: Result = "started" if self._turns % 2 else "fell_back"
            if self.report(result, device, now_ms, record=record, digest=other, again=self._turns):
                self._turns += 1
            self._speaker.wake(self._next_ms)
            more, wake_at_ms = self._speaker.take()
            inputs = (*inputs, *more)
        return inputs, wake_at_ms

    def abuse(self, permit: Permit, record: Record, device: Device, now_ms: int) -> None:
        """Say at once that the trial failed."""
        self._turns = 1
        self.report("reverted", device, now_ms, permit=permit.id, reason="self-test", record=record)
        self._claimed = permit.target


class PermitHoarder(LyingCanary):
    """Asks for a permit and keeps it for ever."""

    name: ClassVar[str] = "permit-hoarder"

    def abuse(self, permit: Permit, record: Record, device: Device, now_ms: int) -> None:
        """Do nothing with it."""


class RepeatedReports(LyingCanary):
    """Says again, for as long as it lives, every report that it ever made: stale ones, months late."""

    name: ClassVar[str] = "repeated-reports"

    def __init__(self, insider: Insider) -> None:
        """Keep what was said."""
        super().__init__(insider)
        self._made: list[Report] = []

    def act(self, device: Device, now_ms: int) -> tuple[tuple[TurnInput, ...], int | None]:
        """Do as a lying canary, and repeat everything every second."""
        inputs, _ = super().act(device, now_ms)
        for index, made in enumerate(self._made):
            self._speaker.say(("again", index), made, now_ms, again_ms=1_000)
        more, wake_at_ms = self._speaker.take()
        return (*inputs, *more), wake_at_ms if wake_at_ms is not None else now_ms + 1_000

    def report(self, *arguments: object, **named: object) -> Report | None:
        """Remember every report."""
        made = super().report(*arguments, **named)  # type: ignore[arg-type]  # passed on as they came
        if made is not None:
            self._made.append(made)
        return made
