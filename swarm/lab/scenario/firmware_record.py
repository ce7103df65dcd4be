"""What a run gave of firmware, as it happens: the entries of the log, and what each device truly runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from swarm.apps.rollout.events import Permitted
from swarm.apps.rollout.status import PlanStatus, ReleaseStatus, StageStatus, Status
from swarm.lab.checkers.fleet import FleetRules, Running
from swarm.lab.checkers.rollout import Phase
from swarm.lab.scenario.firmware import FirmwareModel, class_ids
from swarm.lab.scenario.firmware_result import (
    ChunksRow,
    FirmwareDeviceRow,
    FirmwareRow,
    HoldBackRow,
    MemberRow,
    PlanRow,
    ReleaseRow,
    StageRow,
)
from swarm.lab.scenario.rollout_log import LoggedEntry

QUIET_MS: Final = 5_000
"""So long after the last entry about firmware the log must believe what is true: reports take less than a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTruth:
    """What the media of a device say, whatever it says itself. `digest` 32 bytes, of the image it runs or would run."""

    phase: Phase
    slot: str
    digest: bytes
    version: str
    number: int
    counter: int
    confirmed: bool


class FirmwareRecord:
    """Feeds the rules and keeps what the result wants. Times are milliseconds since the start of the run."""

    def __init__(
        self, model: FirmwareModel, voters: tuple[str, ...], u: int, liars: Iterable[str], swarm: bytes
    ) -> None:
        """Start with nothing observed."""
        self._u = u
        self._classes = {b"".join(class_ids(name)): name for name in model.classes}
        self.rules = FleetRules(voters, u, liars, swarm)
        self.truths: dict[str, DeviceTruth] = {}
        self.height = 0
        self.log_size = 0
        self.last_entry_ms = 0
        self.patience_ms = QUIET_MS
        """How long a plan may rest without an entry: the longest of soak and deadline together."""
        self._permit_heights: dict[int, int] = {}
        self._chunks: dict[str, int] = {}

    # ------------------------------------------------------------------------------ during the run

    def on_log(self, entries: Iterable[LoggedEntry], height: int, log_size: int, at_ms: int) -> None:
        """Take the entries up to a height, each once and in order."""
        for entry in entries:
            self.last_entry_ms = at_ms
            self.rules.on_entry(entry.id, entry.speaker, entry.command, entry.events)
            for at, event in entry.events:
                if isinstance(event, Permitted):
                    self._permit_heights[at] = entry.height
        self.height, self.log_size = height, log_size

    def on_truth(self, device: str, truth: DeviceTruth) -> None:
        """Note what a device is from now on."""
        if self.truths.get(device) == truth:
            return
        self.truths[device] = truth
        self.rules.on_running(device, Running(phase=truth.phase, digest=truth.digest))

    def count(self, what: str, number: int = 1) -> None:
        """Count chunks: `sent`, `refused`, `resumed`, `bytes`."""
        self._chunks[what] = self._chunks.get(what, 0) + number

    # ------------------------------------------------------------------------------ at the end

    def end(self, devices: Iterable[str], now_ms: int, *, is_live: bool) -> None:
        """Judge (9) and (10) where the run's end is quiet; `devices` are correct, up and have the whole log.

        Both need a log that is live: without one nobody can report, and nothing ends.
        """
        if not is_live:
            return
        rested_ms = now_ms - self.last_entry_ms
        if rested_ms >= QUIET_MS:
            self.rules.on_quiet_devices(devices)
        if rested_ms >= self.patience_ms:
            self.rules.on_quiet_plans()

    def row(self, status: Status) -> FirmwareRow:
        """Return the rows of the result by the view of one correct device."""
        wanted, kept = self.rules.held_back
        attested = {device.id: device.attested for device in status.devices}
        return FirmwareRow(
            releases=tuple(self._release(release) for release in status.releases),
            plans=tuple(self._plan(plan) for plan in status.plans),
            devices={
                device: self._device(truth, self.rules.believed.get(device, b""), attested.get(device, False))
                for device, truth in self.truths.items()
            },
            at_risk_max=self.rules.at_risk_max,
            at_risk_limit=self._u,
            hold_back=HoldBackRow(wanted=wanted, kept=kept),
            chunks=ChunksRow(
                sent=self._chunks.get("sent", 0),
                refused=self._chunks.get("refused", 0),
                resumed=self._chunks.get("resumed", 0),
                bytes=self._chunks.get("bytes", 0),
            ),
        )

    def _release(self, release: ReleaseStatus) -> ReleaseRow:
        state = release.state
        if state in ("proposed", "approved"):
            state = "contradicted" if release.contradicted else "suspended" if release.suspended else state
        return ReleaseRow(
            id=release.id.hex(),
            class_=self._classes.get(release.class_id, release.class_id.hex()),
            number=release.number,
            version=release.version,
            state=state,
            approved_height=release.approved_height,
        )

    def _plan(self, plan: PlanStatus) -> PlanRow:
        return PlanRow(
            id=plan.id.hex(),
            release=plan.release.hex(),
            state=plan.state,
            generation=plan.generation,
            halted_by=plan.halted_by,
            stages=tuple(self._stage(stage) for stage in plan.stages),
        )

    def _stage(self, stage: StageStatus) -> StageRow:
        return StageRow(
            number=stage.number,
            kind=stage.kind,
            opened_height=stage.opened_height,
            closed_height=stage.closed_height,
            members=tuple(
                MemberRow(
                    device=member.device,
                    permit_height=self._permit_heights.get(member.permit, 0),
                    outcome=member.state,
                    reason=member.reason,
                    height=member.height,
                )
                for member in stage.members
            ),
            missed=stage.missed,
        )

    def _device(self, truth: DeviceTruth, believed: bytes, attested: bool) -> FirmwareDeviceRow:
        return FirmwareDeviceRow(
            slot=truth.slot,
            digest=truth.digest.hex(),
            version=truth.version,
            number=truth.number,
            counter=truth.counter,
            confirmed=truth.confirmed,
            believed=believed.hex(),
            attested=attested,
        )
