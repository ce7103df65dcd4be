"""Turns what devices report during a run into its `Result`; both engines feed it the same events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from swarm.apps.decisions.rules import Outcome
from swarm.apps.rollout.status import Status
from swarm.device import events
from swarm.device.turn import DeviceEvent
from swarm.lab.checkers.agreement import Agreement
from swarm.lab.checkers.evidence_soundness import EvidenceSoundness
from swarm.lab.checkers.no_lost_commit import NoLostCommit
from swarm.lab.checkers.one_vote import OneVotePerView
from swarm.lab.scenario.firmware_record import FirmwareRecord
from swarm.lab.scenario.result import (
    Committed,
    DecisionRow,
    DeviceRow,
    Messages,
    Result,
    Views,
    budget_row,
    commit_ms_of,
    judged,
    plain_number,
)
from swarm.lab.scenario.schema import Scenario
from swarm.wire.messages import Item, Proposal
from swarm.wire.statements import Kind, SignedStatement, header_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalState:
    """One device at the end of a run."""

    up: bool
    height: int
    log_size: int
    log_root: bytes


@dataclass(slots=True)
class _Closed:
    outcome: Outcome
    height: int
    closed_ms: int


@dataclass(slots=True)
class Traffic:
    """Frames of all devices together."""

    published: int = 0
    delivered: int = 0
    dropped: int = 0
    bytes_published: int = 0


@dataclass(slots=True)
class _Reached:
    """When a device reached which heights, for the time to catch up."""

    times: list[tuple[int, int]] = field(default_factory=list)


class Collector:
    """Everything one run gave, as it happens. Times are milliseconds since the start of the run."""

    def __init__(self, scenario: Scenario, engine: str) -> None:
        """Start with nothing observed."""
        self._scenario = scenario
        self._engine = engine
        self.byzantine = dict.fromkeys(scenario.byzantine)
        self.agreement = Agreement()
        self.no_lost_commit = NoLostCommit()
        self.one_vote = OneVotePerView()
        self.evidence = EvidenceSoundness(self.byzantine)
        self.traffic = Traffic()
        self.latencies_ms: list[float] = []
        self._blocks: dict[int, tuple[int, int]] = {}
        self._opened_ms: dict[bytes, int] = {}
        self._closed: dict[bytes, _Closed] = {}
        self._entered: dict[int, None] = {}
        self._skipped: dict[int, None] = {}
        self._reached: dict[str, _Reached] = {}
        self.attest_alarms = 0
        self.last_block_ms = 0
        self.firmware: FirmwareRecord | None = None
        """Set by an engine that runs a scenario with firmware."""

    # ------------------------------------------------------------------------------ during the run

    def note_liar(self, device: str) -> None:
        """Count a device as an attacker's from now on: the image that it runs lies with the device's key."""
        self.byzantine[device] = None
        self.evidence.excuse(device)

    def on_event(self, device: str, event: DeviceEvent, at_ms: int) -> None:
        """Take one event of a device; those of an attacker's devices count for nothing."""
        if device in self.byzantine:
            return
        data: dict[str, Any] = dict(event.data)
        match event.kind:
            case events.FINALIZED:
                self._on_finalized(device, data, at_ms)
            case events.STARTED:
                self.agreement.on_started(device, data["height"])
                self.no_lost_commit.on_started(device, data["height"])
                self._reached.setdefault(device, _Reached()).times.append((at_ms, data["height"]))
            case events.COMMITTED:
                self.latencies_ms.append(float(data["latency_ms"]))
                self.no_lost_commit.on_committed(device, data["height"])
            case events.OPENED:
                for decision in data["decisions"]:
                    self._opened_ms.setdefault(decision, at_ms)
            case events.CLOSED:
                outcome: Outcome = data["outcome"]
                self._closed.setdefault(outcome.decision, _Closed(outcome, data["height"], at_ms))
            case events.ENTERED:
                self._entered[data["view"]] = None
            case events.CLEARED_BY_SKIP:
                self._skipped[data["view"]] = None
            case events.EVIDENCE:
                self.evidence.on_evidence(device, data["voter"], data["kinds"])
            case events.ALARM:
                self.attest_alarms += 1
            case _:
                pass

    def _on_finalized(self, device: str, data: Mapping[str, Any], at_ms: int) -> None:
        height = data["height"]
        if height not in self._blocks:
            self.last_block_ms = at_ms
        self.agreement.on_delivered(device, height, data["hash"])
        self.no_lost_commit.on_delivered(device, height)
        self._blocks.setdefault(height, (data["submissions"], data["commands"]))
        self._reached.setdefault(device, _Reached()).times.append((at_ms, height))

    def on_published(self, device: str, items: Iterable[Item], voters: tuple[str, ...]) -> None:
        """Take the items of a frame that a correct device published, for the one-vote checker."""
        if device in self.byzantine:
            return
        for item in items:
            match item:
                case SignedStatement():
                    self.one_vote.on_statement(voters[item.voter], item.kind, item.number, item.digest)
                case Proposal():
                    header = item.header
                    self.one_vote.on_statement(
                        voters[header.proposer], Kind.PROPOSE, header.view, header_hash(header)
                    )
                case _:
                    pass

    @property
    def closed(self) -> tuple[tuple[Outcome, int, int], ...]:
        """(outcome, height, closed at ms) so far, in the order of closing."""
        return tuple((c.outcome, c.height, c.closed_ms) for c in self._closed.values())

    # ------------------------------------------------------------------------------ at the end

    def result(
        self,
        final: Mapping[str, FinalState],
        *,
        version: str,
        wall_s: float,
        trace_digest: str | None,
        proofs: Mapping[bytes, str] | None = None,
        status: Status | None = None,
    ) -> Result:
        """Return the judged result; `final` holds every device, `proofs` file names by decision id.

        `status` is how one correct device finds firmware, where the scenario has any.
        """
        scenario = self._scenario
        correct = {d: s for d, s in final.items() if d not in self.byzantine and s.up}
        self.no_lost_commit.on_end({d: s.height for d, s in correct.items()})
        self._compare_roots(correct)
        common = min((s.height for s in correct.values()), default=0)
        blocks = [self._blocks[h] for h in range(1, common + 1) if h in self._blocks]
        seconds = scenario.duration_ms / 1000
        submissions = sum(s for s, _ in blocks)
        result = Result(
            scenario=scenario.name,
            engine=self._engine,
            seed=scenario.seed,
            version=version,
            duration_ms=scenario.duration_ms,
            wall_s=round(wall_s, 3),
            trace_digest=trace_digest,
            budget=budget_row(scenario.budget),
            devices={device: self._row(device, state) for device, state in final.items()},
            agreement=not self.agreement.complaints,
            forks=len(self.agreement.forked),
            committed=Committed(
                submissions=submissions,
                commands=sum(c for _, c in blocks),
                blocks=len(blocks),
            ),
            throughput_per_s=round(submissions / seconds, 3),
            commit_ms=commit_ms_of(self.latencies_ms),
            messages=Messages(
                published=self.traffic.published,
                delivered=self.traffic.delivered,
                dropped=self.traffic.dropped,
                bytes_published=self.traffic.bytes_published,
            ),
            views=Views(entered=len(self._entered), skipped=len(self._skipped)),
            convicted=tuple(sorted(self.evidence.convicted)),
            decisions=tuple(self._decisions(proofs or {})),
            invariants=self._invariants(),
            caught_up_ms=self._caught_up_ms(correct),
            firmware=None if self.firmware is None or status is None else self.firmware.row(status),
        )
        return judged(result, scenario)

    def _invariants(self) -> dict[str, str]:
        attest = f"violated: {self.attest_alarms} alarms" if self.attest_alarms else "held"
        return {
            "agreement": self.agreement.verdict(),
            "one-vote-per-view": self.one_vote.verdict(),
            "no-lost-commit": self.no_lost_commit.verdict(),
            "evidence-soundness": self.evidence.verdict(),
            "equal-attestations": attest,
            **({} if self.firmware is None else self.firmware.rules.verdicts()),
        }

    def _row(self, device: str, state: FinalState) -> DeviceRow:
        role = "voter" if device in self._scenario.devices.voter_ids else "observer"
        return DeviceRow(
            role=role,
            up=state.up,
            byzantine=device in self.byzantine,
            height=state.height,
            log_size=state.log_size,
            log_root=state.log_root.hex(),
        )

    def _compare_roots(self, correct: Mapping[str, FinalState]) -> None:
        """Devices with logs of one size must have one root: agreement seen from the other end."""
        roots: dict[int, tuple[bytes, str]] = {}
        for device, state in correct.items():
            root, first = roots.setdefault(state.log_size, (state.log_root, device))
            if root != state.log_root:
                self.agreement.complain(
                    f"{first} and {device} have different logs of {state.log_size} leaves"
                )

    def _caught_up_ms(self, correct: Mapping[str, FinalState]) -> int | None:
        """Return the time from the last fault's end until every correct device had the height any of them had then."""
        end = self._scenario.last_fault_end_ms
        goal = max((self._height_at(device, end) for device in correct), default=0)
        worst = 0
        for device in correct:
            if self._height_at(device, end) >= goal:
                continue
            times = [at for at, height in self._reached.get(device, _Reached()).times if height >= goal]
            if not times:
                return None
            worst = max(worst, times[0] - end)
        return worst

    def _height_at(self, device: str, at_ms: int) -> int:
        reached = self._reached.get(device, _Reached()).times
        return max((height for at, height in reached if at <= at_ms), default=0)

    def _decisions(self, proofs: Mapping[bytes, str]) -> Iterable[DecisionRow]:
        for decision, closed in self._closed.items():
            outcome = closed.outcome
            yield DecisionRow(
                subject=outcome.subject,
                rule=outcome.rule,
                outcome=shown_value(outcome, outcome.value),
                margin=outcome.margin,
                ballots={device: shown_value(outcome, ballot) for device, ballot in outcome.ballots},
                opened_ms=self._opened_ms.get(decision, closed.closed_ms),
                closed_ms=closed.closed_ms,
                height=closed.height,
                proof=proofs.get(decision),
                scale=None if outcome.options else outcome.scale,
                reason=outcome.reason,
            )


def shown_value(outcome: Outcome, value: int | None) -> str | float | None:
    """Return an outcome's value or a ballot as people read it: the option's name, or the number in plain units."""
    if value is None:
        return None
    if outcome.options:
        return outcome.options[value]
    return plain_number(value, outcome.scale)
