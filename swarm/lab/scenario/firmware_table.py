"""The firmware of a result for people: what is released, how each plan went stage by stage, who runs what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from swarm.lab.scenario.firmware_result import FirmwareDeviceRow, FirmwareRow, MemberRow, PlanRow, StageRow

_NAMES_SHOWN: Final = 6
"""Members of a stage by name; a fleet's are counted."""

_STYLES: Final = {
    "completed": "green",
    "approved": "green",
    "active": "yellow",
    "rolling back": "yellow",
    "frozen": "bold red",
    "revoked": "bold red",
    "contradicted": "bold red",
}


def render_firmware(row: FirmwareRow) -> list[RenderableType]:
    """Return what `swarm run` prints of firmware; everything that came from the log is escaped."""
    parts: list[RenderableType] = [_releases(row)]
    names = {release.id: release.version for release in row.releases}
    parts.extend(_plan(plan, names.get(plan.release, plan.release[:12])) for plan in row.plans)
    parts.append(_devices(row))
    parts.append(_figures(row))
    return parts


def _releases(row: FirmwareRow) -> Table:
    table = _table("Releases", "version", "class", ">number", "state", ">approved at", "id")
    for release in row.releases:
        table.add_row(
            escape(release.version),
            escape(release.class_),
            str(release.number),
            _state(release.state),
            str(release.approved_height or "-"),
            release.id[:12],
        )
    return table


def _plan(plan: PlanRow, version: str) -> Table:
    halted = f", halted by {plan.halted_by}" if plan.halted_by else ""
    title = f"Rollout of {escape(version)}: {plan.state}{escape(halted)}"
    table = _table(title, ">stage", "kind", ">opened", ">closed", "members", "missed")
    for stage in plan.stages:
        table.add_row(
            str(stage.number),
            stage.kind,
            str(stage.opened_height),
            str(stage.closed_height or "open"),
            escape(_members(stage)),
            escape(_names(stage.missed)),
        )
    return table


def _members(stage: StageRow) -> str:
    if len(stage.members) <= _NAMES_SHOWN:
        return "  ".join(_member(member) for member in stage.members) or "-"
    counts: dict[str, int] = {}
    for member in stage.members:
        counts[member.outcome] = counts.get(member.outcome, 0) + 1
    return "  ".join(f"{count} {outcome}" for outcome, count in counts.items())


def _member(member: MemberRow) -> str:
    reason = f" ({member.reason})" if member.reason else ""
    return f"{member.device}: {member.outcome}{reason}"


def _names(names: Iterable[str]) -> str:
    found = list(names)
    if len(found) > _NAMES_SHOWN:
        return f"{len(found)} devices"
    return ", ".join(found) or "-"


def _devices(row: FirmwareRow) -> Table:
    """Return who runs what, devices that are alike in one line."""
    table = _table("Who runs what", "devices", "version", ">number", ">counter", "confirmed", "log believes")
    groups: dict[tuple[str, int, int, bool, str], list[str]] = {}
    for device, found in row.devices.items():
        key = (found.version, found.number, found.counter, found.confirmed, _belief(found))
        groups.setdefault(key, []).append(device)
    for (version, number, counter, confirmed, belief), devices in groups.items():
        table.add_row(
            escape(_names(devices)),
            escape(version),
            str(number),
            str(counter),
            "yes" if confirmed else Text("no", "yellow"),
            belief if belief == "the same" else Text(belief, "bold red"),
        )
    return table


def _belief(device: FirmwareDeviceRow) -> str:
    if not device.believed:
        return "nothing yet"
    return "the same" if device.believed == device.digest else "another image"


def _figures(row: FirmwareRow) -> Text:
    chunks = row.chunks
    return Text(
        f"At risk: at most {row.at_risk_max} voters at one time, {row.at_risk_limit} may fail. "
        f"Held back: {row.hold_back.kept} voters, {row.hold_back.wanted} wanted\n"
        f"Chunks: {chunks.sent} sent, {chunks.refused} refused, {chunks.resumed} resumed, {chunks.bytes} bytes"
    )


def _state(state: str) -> Text:
    return Text(state, _STYLES.get(state, ""))


def _table(title: str, *columns: str) -> Table:
    """Return an empty table; a column whose name starts with `>` is aligned to the right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return table
