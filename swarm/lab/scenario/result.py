"""What one run gave: the fields of `result.json` (CONTRACTS), their canonical text, and the judgement on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from swarm.lab.scenario.firmware_result import FirmwareRow, check_firmware_expectations
from swarm.lab.scenario.schema import ExpectDecisions, Scenario
from swarm.primitives.errors import ConfigError
from swarm.primitives.quorum import Budget
from swarm.primitives.settings import format_duration_ms

HELD: Final = "held"
"""What `invariants` says of an invariant that was never violated; else `violated: ...`."""

SUSPECT_FACTOR: Final = 3
"""How many times further from the outcome than everybody else makes a ballot conspicuous."""

SUSPECT_BALLOTS_MIN: Final = 3
"""Of two ballots nobody can say which is the strange one."""

SUSPECT_TIMES_MIN: Final = 3
"""Among three honest sensors one is often three times further off than the next; thrice the same one is not chance."""


class BudgetRow(msgspec.Struct, frozen=True, kw_only=True):
    """The fault budget in the four letters of PROTOCOL section 1."""

    n: int
    u: int
    r: int
    q: int


class DeviceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One device at the end of the run; `log_root` is hexadecimal."""

    role: str
    up: bool
    byzantine: bool
    height: int
    log_size: int
    log_root: str


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """What is final on every correct device that is up at the end."""

    submissions: int
    commands: int
    blocks: int


class CommitMs(msgspec.Struct, frozen=True, kw_only=True):
    """Submit at the origin to final at the origin; None without any."""

    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None
    count: int


class Messages(msgspec.Struct, frozen=True, kw_only=True):
    """Frames of all devices together; `delivered` counts each receiver."""

    published: int
    delivered: int
    dropped: int
    bytes_published: int


class Views(msgspec.Struct, frozen=True, kw_only=True):
    """Views that any correct device entered, and those that ended with a skip certificate."""

    entered: int
    skipped: int


class DecisionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One closed decision.

    `outcome` is an option or a number in plain units, None for undecided with its `reason`. `ballots` are in the
    order of the log, None for who abstained. `scale` is the decimal places of a decision over numbers, `proof` the
    file's name below the output folder.
    """

    subject: str
    rule: str
    outcome: str | float | None
    margin: int | None
    ballots: Mapping[str, str | float | None]
    opened_ms: int
    closed_ms: int
    height: int
    proof: str | None = None
    scale: int | None = None
    reason: str = ""


class ExpectationRow(msgspec.Struct, frozen=True, kw_only=True):
    """One expectation of the scenario, what was found, and whether it held."""

    expect: str
    actual: str
    held: bool


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `result.json` says.

    `caught_up_ms` is the time from the end of the last fault until every correct device that is up had applied
    the height that any of them had at that end; None if that never happened. `firmware` is None without that section.
    """

    scenario: str
    engine: str
    seed: int
    version: str
    duration_ms: int
    wall_s: float
    trace_digest: str | None
    budget: BudgetRow
    devices: Mapping[str, DeviceRow]
    agreement: bool
    forks: int
    committed: Committed
    throughput_per_s: float
    commit_ms: CommitMs
    messages: Messages
    views: Views
    convicted: tuple[str, ...]
    decisions: tuple[DecisionRow, ...]
    invariants: Mapping[str, str]
    expectations: tuple[ExpectationRow, ...] = ()
    firmware: FirmwareRow | None = None
    caught_up_ms: int | None = None

    def to_json(self) -> str:
        """Return the canonical text: fields in their order, mappings sorted by key, one newline at the end."""
        encoded = msgspec.json.encode(self, order="deterministic")
        return msgspec.json.format(encoded, indent=2).decode() + "\n"


def result_from_json(text: str | bytes, source: str) -> Result:
    """Return the result in a `result.json`; raises `ConfigError` naming `source` if it is none."""
    try:
        return msgspec.json.decode(text, type=Result)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"is no result: {error}", where=source) from None


def budget_row(budget: Budget) -> BudgetRow:
    """Return the row of a fault budget."""
    return BudgetRow(n=budget.n, u=budget.u, r=budget.r, q=budget.q)


def plain_number(value: int, scale: int) -> float:
    """Return an integer in units of 10^-scale as a number for people; the nearest float, equal on every machine."""
    return value / 10**scale if scale else float(value)


def percentile(sorted_values: Sequence[float], percent: int) -> float | None:
    """Return the nearest-rank percentile: the smallest value that `percent` of 100 values do not exceed.

    `sorted_values` ascend. The result is always one of them (nothing is interpolated), None if there are none.
    """
    if not sorted_values:
        return None
    rank = -(-percent * len(sorted_values) // 100)
    return sorted_values[max(rank, 1) - 1]


def commit_ms_of(latencies_ms: Iterable[float]) -> CommitMs:
    """Return the row of commit latencies in any order."""
    ordered = sorted(latencies_ms)
    return CommitMs(
        p50=percentile(ordered, 50),
        p95=percentile(ordered, 95),
        p99=percentile(ordered, 99),
        max=percentile(ordered, 100),
        count=len(ordered),
    )


# ------------------------------------------------------------------------------------------ judgement


def check_expectations(result: Result, scenario: Scenario) -> tuple[ExpectationRow, ...]:
    """Judge `result` by what its scenario expects, one row for each; nothing is changed.

    Put the rows into the result with `judged`.
    """
    expect = scenario.expect
    rows: list[ExpectationRow] = []
    if expect.committed_min is not None:
        found = result.committed.submissions
        rows.append(_row(f"committed_min: {expect.committed_min}", str(found), found >= expect.committed_min))
    if expect.commit_p95_max_ms is not None:
        rows.append(
            _within(
                f"commit_p95_max: {format_duration_ms(expect.commit_p95_max_ms)}",
                result.commit_ms.p95,
                expect.commit_p95_max_ms,
                "no commit",
            )
        )
    if expect.caught_up_within_ms is not None:
        rows.append(
            _within(
                f"caught_up_within: {format_duration_ms(expect.caught_up_within_ms)}",
                result.caught_up_ms,
                expect.caught_up_within_ms,
                "never",
            )
        )
    if expect.convicted is not None:
        wanted, got = sorted(expect.convicted), sorted(result.convicted)
        rows.append(_row(f"convicted: {_names(wanted)}", _names(got), wanted == got))
    for subject, wants in expect.decisions.items():
        rows.extend(_check_decisions(result, subject, wants))
    if expect.firmware is not None:
        rows.extend(
            _row(found.expect, found.actual, found.held)
            for found in check_firmware_expectations(result.firmware, expect.firmware)
        )
    return tuple(rows)


def judged(result: Result, scenario: Scenario) -> Result:
    """Return `result` with the rows of `check_expectations` in it."""
    return msgspec.structs.replace(result, expectations=check_expectations(result, scenario))


def exit_code(result: Result) -> int:
    """Return 0 if the devices agree and every invariant and expectation held, else 1."""
    held = (
        result.agreement
        and result.forks == 0
        and all(state == HELD for state in result.invariants.values())
        and all(row.held for row in result.expectations)
    )
    return 0 if held else 1


def _row(expect: str, actual: str, held: bool) -> ExpectationRow:
    return ExpectationRow(expect=expect, actual=actual, held=held)


def _within(expect: str, found_ms: float | None, limit_ms: int, nothing: str) -> ExpectationRow:
    if found_ms is None:
        return _row(expect, nothing, held=False)
    return _row(expect, f"{found_ms:g}ms", found_ms <= limit_ms)


def _names(names: Sequence[str]) -> str:
    return f"[{', '.join(names)}]"


def _check_decisions(result: Result, subject: str, wants: ExpectDecisions) -> list[ExpectationRow]:
    """Judge the decisions on one subject; an outcome that never came does not fulfil a bound on outcomes."""
    place = f"decisions.{subject}"
    outcomes = [row.outcome for row in result.decisions if row.subject == subject and row.outcome is not None]
    numbers = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    rows: list[ExpectationRow] = []
    if wants.closed_min is not None:
        rows.append(
            _row(
                f"{place}.closed_min: {wants.closed_min}",
                str(len(outcomes)),
                len(outcomes) >= wants.closed_min,
            )
        )
    if wants.min is not None:
        low = min(numbers, default=None)
        held = low is not None and low >= wants.min
        rows.append(_row(f"{place}.min: {wants.min:g}", _shown(low), held))
    if wants.max is not None:
        high = max(numbers, default=None)
        held = high is not None and high <= wants.max
        rows.append(_row(f"{place}.max: {wants.max:g}", _shown(high), held))
    if wants.outcome is not None:
        others = sorted({str(outcome) for outcome in outcomes if outcome != wants.outcome})
        held = bool(outcomes) and not others
        rows.append(_row(f"{place}.outcome: {wants.outcome}", ", ".join(others) or _shown(outcomes), held))
    return rows


def _shown(found: float | Sequence[str | float] | None) -> str:
    if isinstance(found, Sequence):
        return str(found[0]) if found else "no outcome"
    return "no outcome" if found is None else f"{found:g}"


# ------------------------------------------------------------------------------------------ suspects


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """A device whose ballots on one subject stood apart: `apart` of the `balloted` decisions it took part in.

    `typical` is its median ballot there. A hint for people and never evidence: a broken sensor looks like a liar,
    and two who lie alike hide each other.
    """

    subject: str
    device: str
    apart: int
    balloted: int
    typical: float


def name_suspects(decisions: Iterable[DecisionRow]) -> tuple[Suspect, ...]:
    """Name the devices whose numbers lay far outside what all others said, by subject and device.

    A ballot stands *apart* in a decided decision over numbers with at least three ballots when its distance to
    the outcome is more than three times the distance of every other ballot, where a distance below one unit of
    the decision's last decimal place counts as one. A device is a suspect when that was so at least three times
    and in at least half of such decisions in which it balloted.
    """
    balloted: dict[tuple[str, str], list[float]] = {}
    apart: dict[tuple[str, str], int] = {}
    for row in decisions:
        numbers = {name: value for name, value in row.ballots.items() if isinstance(value, int | float)}
        if not isinstance(row.outcome, int | float) or len(numbers) < SUSPECT_BALLOTS_MIN:
            continue
        for device, value in numbers.items():
            balloted.setdefault((row.subject, device), []).append(value)
        odd = _standing_apart(numbers, row.outcome, 10 ** (row.scale or 0))
        if odd is not None:
            apart[row.subject, odd] = apart.get((row.subject, odd), 0) + 1
    return tuple(
        Suspect(
            subject=subject,
            device=device,
            apart=count,
            balloted=len(balloted[subject, device]),
            typical=percentile(sorted(balloted[subject, device]), 50) or 0.0,
        )
        for (subject, device), count in sorted(apart.items())
        if count >= SUSPECT_TIMES_MIN and 2 * count >= len(balloted[subject, device])
    )


def _standing_apart(numbers: Mapping[str, float], outcome: float, units: int) -> str | None:
    """Return the one device whose ballot is more than `SUSPECT_FACTOR` times further off than all others.

    Distances are whole units of the last decimal place, so that 21.3 - 21.0 is exactly three times 0.1.
    """
    distances = {device: round(abs(value - outcome) * units) for device, value in numbers.items()}
    second, furthest = sorted(distances, key=lambda device: (distances[device], device))[-2:]
    return furthest if distances[furthest] > SUSPECT_FACTOR * max(distances[second], 1) else None
