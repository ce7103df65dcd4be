"""A result for people: who was up, what happened when, what was decided, who stood apart, what held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from swarm.lab.scenario.firmware_table import render_firmware
from swarm.lab.scenario.result import (
    HELD,
    DecisionRow,
    ExpectationRow,
    Result,
    exit_code,
    name_suspects,
)
from swarm.lab.scenario.schema import (
    BrokerImpair,
    Byzantine,
    Crash,
    Cut,
    Fault,
    Partition,
    PowerCut,
    Restart,
    Scenario,
    StolenKeys,
    fault_key,
)
from swarm.primitives.quorum import Budget
from swarm.primitives.settings import format_duration_ms

_DECISIONS_SHOWN: Final = 5
"""The last decisions of each subject; all of them are in `result.json`."""


def render(result: Result, scenario: Scenario | None = None) -> RenderableType:
    """Return what `swarm run` prints at the end; with the scenario also its faults and who was made to lie.

    Everything that came from a device or a file is escaped, so that a name cannot change the markup.
    """
    parts: list[RenderableType] = [_headline(result), _devices_table(result, scenario)]
    if scenario is not None and scenario.faults:
        parts.append(_faults_table(scenario))
    if result.decisions:
        parts.append(_decisions_table(result.decisions))
    if result.firmware is not None:
        parts.extend(render_firmware(result.firmware))
    parts.append(_suspects(result))
    parts.append(_figures(result))
    if result.expectations:
        parts.append(_expectations_table(result.expectations))
    parts.append(_invariants(result))
    return Group(*parts)


def _headline(result: Result) -> Text:
    budget = Budget(result.budget.n, result.budget.u)
    length = format_duration_ms(result.duration_ms)
    text = Text(f"{result.scenario}: {length}, engine {result.engine}, seed {result.seed}\n")
    text.append(budget.in_words())
    if result.trace_digest:
        text.append(f"\ntrace digest {result.trace_digest}")
    return text


def _devices_table(result: Result, scenario: Scenario | None) -> Table:
    table = _table(
        "Devices", "device", "role", "at the end", ">height", ">log size", "log root", "in the run"
    )
    for device, row in result.devices.items():
        table.add_row(
            escape(device),
            row.role,
            Text("up", "green") if row.up else Text("down", "red"),
            str(row.height),
            str(row.log_size),
            row.log_root[:12],
            escape(_story(device, row.byzantine, scenario)),
        )
    return table


def _story(device: str, byzantine: bool, scenario: Scenario | None) -> str:
    """Return what was done to a device, in one line: `killed at 12s, back at 18s`."""
    parts: list[str] = []
    for fault in scenario.faults if scenario is not None else ():
        at = format_duration_ms(fault.at_ms)
        if isinstance(fault, Crash) and device in fault.devices:
            parts.append(f"killed at {at}")
        elif isinstance(fault, Restart) and device in fault.devices:
            parts.append(f"back at {at}")
        elif isinstance(fault, Byzantine) and device == fault.device:
            parts.append(f"byzantine from {at}: {fault.attack}")
        elif isinstance(fault, PowerCut) and device in fault.devices:
            during = f" during {fault.during}" if fault.during else ""
            parts.append(f"power cut at {at}{during}")
    if byzantine and not any(part.startswith("byzantine") for part in parts):
        parts.append("byzantine")
    return ", ".join(parts)


def _faults_table(scenario: Scenario) -> Table:
    table = _table("What happened when", ">at", "fault", "whom")
    for fault in scenario.faults:
        table.add_row(format_duration_ms(fault.at_ms), fault_key(fault), escape(_whom(fault)))
    return table


def _whom(fault: Fault) -> str:
    if isinstance(fault, Partition):
        return " | ".join(", ".join(group) for group in fault.groups)
    if isinstance(fault, Cut):
        return f"{fault.sender} -> {', '.join(fault.receivers)}"
    if isinstance(fault, Byzantine):
        return f"{fault.device}: {fault.attack}"
    if isinstance(fault, StolenKeys):
        return f"{fault.count} release keys sign {fault.release}"
    if isinstance(fault, BrokerImpair):
        return "the broker mistreats messages"
    devices = getattr(fault, "devices", None)
    if devices is not None:
        return ", ".join(devices)
    return str(getattr(fault, "device", "all"))


def _decisions_table(decisions: Iterable[DecisionRow]) -> Table:
    by_subject: dict[str, list[DecisionRow]] = {}
    for row in decisions:
        by_subject.setdefault(row.subject, []).append(row)
    table = _table("Last decisions", "subject", ">no.", "rule", ">outcome", ">margin", ">took", "ballots")
    for subject, rows in by_subject.items():
        for number in range(max(1, len(rows) - _DECISIONS_SHOWN + 1), len(rows) + 1):
            row = rows[number - 1]
            table.add_row(
                escape(subject),
                str(number),
                escape(row.rule),
                escape(_outcome(row)),
                "-" if row.margin is None else str(row.margin),
                format_duration_ms(row.closed_ms - row.opened_ms),
                escape(_ballots(row)),
            )
    return table


def _outcome(row: DecisionRow) -> str:
    if row.outcome is None:
        return f"undecided: {row.reason}" if row.reason else "undecided"
    return _number(row.outcome, row.scale)


def _ballots(row: DecisionRow) -> str:
    return "  ".join(
        f"{device}: {'abstained' if value is None else _number(value, row.scale)}"
        for device, value in sorted(row.ballots.items())
    )


def _number(value: str | float, scale: int | None) -> str:
    return value if isinstance(value, str) else f"{value:.{scale or 0}f}"


def _suspects(result: Result) -> RenderableType:
    """Return the suspects; labelled as the hint that it is, since only evidence convicts."""
    suspects = name_suspects(result.decisions)
    convicted = escape(", ".join(result.convicted)) or "nobody"
    if not suspects:
        return Text.from_markup(f"Suspects: none stood apart. Convicted by evidence: {convicted}")
    table = _table("Suspects: a hint, no evidence", "device", "subject", ">stood apart", ">says")
    for suspect in suspects:
        table.add_row(
            Text(suspect.device, "bold red"),
            escape(suspect.subject),
            f"{suspect.apart} of {suspect.balloted}",
            f"{suspect.typical:g}",
        )
    return Group(table, Text.from_markup(f"Convicted by evidence: {convicted}"))


def _figures(result: Result) -> Text:
    commit, sent, done = result.commit_ms, result.messages, result.committed
    lines = [
        f"Committed: {done.submissions} submissions, {done.commands} commands, {done.blocks} blocks",
        f"Throughput: {result.throughput_per_s:.1f} submissions/s",
        f"Commit: p50 {_ms(commit.p50)}, p95 {_ms(commit.p95)}, p99 {_ms(commit.p99)}, max {_ms(commit.max)}",
        f"Messages: {sent.published} published, {sent.delivered} delivered, {sent.dropped} dropped",
        f"Bytes published: {sent.bytes_published}",
        f"Views: {result.views.entered} entered, {result.views.skipped} skipped",
    ]
    return Text("\n".join(lines))


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g} ms"


def _expectations_table(expectations: Iterable[ExpectationRow]) -> Table:
    table = _table("Expectations", "expected", "found", "held")
    for row in expectations:
        table.add_row(escape(row.expect), escape(row.actual), _held(row.held))
    return table


def _invariants(result: Result) -> Text:
    states: Mapping[str, str] = {
        "agreement": HELD if result.agreement and result.forks == 0 else f"violated: {result.forks} forks",
        **result.invariants,
    }
    text = Text("Invariants: ")
    for index, (name, state) in enumerate(states.items()):
        text.append(", " if index else "")
        text.append(f"{name} {state}", "green" if state == HELD else "bold red")
    good = exit_code(result) == 0
    text.append(
        "\nEverything held." if good else "\nNot everything held.", "bold green" if good else "bold red"
    )
    return text


def _held(held: bool) -> Text:
    return Text("yes", "green") if held else Text("NO", "bold red")


def _table(title: str, *columns: str) -> Table:
    """Return an empty table; a column whose name starts with `>` is aligned to the right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return table
