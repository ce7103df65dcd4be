"""Firmware in words: releases, plans, devices and events of the log, as every command prints them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from swarm.apps.rollout.events import (
    Abandoned,
    Accepted,
    Activated,
    Approved,
    Closed,
    Completed,
    Consented,
    Contradiction,
    Deadline,
    Denied,
    Frozen,
    KeysChanged,
    Opened,
    Permitted,
    Planned,
    Proposed,
    Ran,
    Refused,
    Resumed,
    Revoked,
    RolledBack,
    RollingBack,
    RolloutEvent,
)
from swarm.apps.rollout.manifest import Manifest
from swarm.apps.rollout.spec import PlanSpec, Step
from swarm.apps.rollout.state import Device
from swarm.install.identity import describe_class
from swarm.primitives.ids import ZERO_DIGEST, short
from swarm.primitives.settings import format_duration_ms

STAGE_NAMES = {
    "voters": "voters",
    "observers": "observers",
    "consent": "one voter by consent",
    "release": "end of the hold-back",
    "end": "end",
    "rollback": "way back",
}


def size_text(count: int) -> str:
    """Return a number of bytes as people read it."""
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{count} bytes"


def range_text(values: tuple[int, int]) -> str:
    """Return `1` or `1..2`."""
    return str(values[0]) if values[0] == values[1] else f"{values[0]}..{values[1]}"


def describe_manifest(manifest: Manifest) -> list[str]:
    """Return the lines that say what a release is."""
    head = f"release {short(manifest.release)}: number {manifest.number}, version {manifest.version}"
    chunks = f"{manifest.chunk_count} chunks of {size_text(manifest.chunk_bytes)}"
    lines = [
        f"{head}, security counter {manifest.counter}",
        f"  for {describe_class(manifest.class_id)} in swarm {short(manifest.swarm)}",
        f"  image of {size_text(manifest.file_bytes)} in {chunks}, digest {short(manifest.image_digest)}",
        f"  speaks protocol {range_text(manifest.protocols)}, reads store format {range_text(manifest.stores)}",
    ]
    if manifest.oldest:
        lines.append(f"  may follow number {manifest.oldest} and later")
    if manifest.use_before:
        lines.append(f"  not to be started above height {manifest.use_before}")
    lines += [
        f"  needs {describe_class(need.vendor + need.class_uuid)} at number {need.number} or later"
        for need in manifest.needs
    ]
    if manifest.notes:
        lines.append(f"  notes: {' '.join(manifest.notes.decode('utf-8', 'replace').split())}")
    return lines


def report_manifest(manifest: Manifest) -> dict[str, object]:
    """Return what `--json` writes about a manifest; digests are hexadecimal."""
    return {
        "release": manifest.release.hex(),
        "swarm_id": manifest.swarm.hex(),
        "vendor": manifest.vendor.hex(),
        "class": manifest.class_uuid.hex(),
        "number": manifest.number,
        "version": manifest.version,
        "counter": manifest.counter,
        "oldest": manifest.oldest,
        "file_bytes": manifest.file_bytes,
        "file_hash": manifest.file_hash.hex(),
        "image_digest": manifest.image_digest.hex(),
        "chunk_bytes": manifest.chunk_bytes,
        "chunk_count": manifest.chunk_count,
        "chunk_root": manifest.chunk_root.hex(),
        "use_before": manifest.use_before,
        "protocols": list(manifest.protocols),
        "stores": list(manifest.stores),
        "needs": [
            {"vendor": need.vendor.hex(), "class": need.class_uuid.hex(), "number": need.number}
            for need in manifest.needs
        ],
        "notes": manifest.notes.decode("utf-8", "replace"),
    }


def describe_spec(spec: PlanSpec) -> str:
    """Return a settled plan in one sentence."""
    steps = ", then ".join(_step_text(step) for step in spec.steps)
    parts = [
        f"steps: {steps or 'all voters'}{', then whoever is left' if steps else ', then all observers'}",
        f"soak {format_duration_ms(spec.soak_ms)}",
        f"deadline {format_duration_ms(spec.deadline_ms)}",
        f"trial {format_duration_ms(spec.trial_ms)} x {spec.attempts}",
        f"hold back {spec.hold_back} voters",
        f"reserve {spec.reserve}",
    ]
    if spec.max_fail:
        parts.append(f"{spec.max_fail} observers of a stage may fail")
    if spec.barrier:
        parts.append("all of a stage wait for each other")
    if spec.pause_after:
        parts.append(f"pause after step {', '.join(str(step + 1) for step in spec.pause_after)}")
    return "; ".join(parts)


def _step_text(step: Step) -> str:
    if step.count == 1:
        return f"1 {step.kind.removesuffix('s')}"
    return f"{step.count} {step.kind}" if step.count else f"{step.permille / 10:g} % of the {step.kind}"


def why_at_risk(device: Device) -> str:
    """Return why a device counts as at risk (W2)."""
    if device.permit is not None:
        return f"holds permit {device.permit.id}"
    if device.recovering:
        return "lost its store and has not reported since"
    if device.convicted:
        return "convicted of lying"
    return "says that it is degraded"


def table_lines(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Return rows, the first of them the heading, in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def names_text(names: Iterable[str]) -> str:
    """Return names with commas, or `nobody`."""
    return ", ".join(names) or "nobody"


def describe_event(event: RolloutEvent) -> str:
    """Return one event of the log in words."""
    match event:
        case Proposed():
            return f"release {short(event.release)} proposed: number {event.number}, version {event.version}"
        case Contradiction():
            return (
                f"CONTRADICTION: releases {short(event.first)} and {short(event.second)} both have number"
                f" {event.number}; their class stands still"
            )
        case Approved():
            return f"release {short(event.release)} approved by a quorum"
        case KeysChanged():
            emergency = " (an emergency: too few old keys signed it)" if event.emergency else ""
            voided = f"; {len(event.voided)} proposed releases are void" if event.voided else ""
            return f"release keys changed: {event.keys.k} of {len(event.keys.keys)} sign{emergency}{voided}"
        case Permitted():
            others = f", while {names_text(event.at_risk)} at risk" if event.at_risk else ""
            return f"{event.device} may start image {short(event.target)}{others}"
        case Refused():
            return f"{event.device} got no permit: {event.reason}"
        case Accepted():
            return f"{event.device} is healthy and may confirm (permit {event.permit})"
        case Denied():
            return f"{event.device} must go back (permit {event.permit}): {event.reason}"
        case Revoked():
            return f"release {short(event.release)} revoked: {event.reason}"
        case Ran():
            report = event.report
            why = f" ({report.reason})" if report.reason else ""
            number = f"number {report.number}" if report.number else "no known release"
            return (
                f"{event.device} reports {report.result.replace('_', ' ')}{why}: runs {number}, image"
                f" {short(report.digest)}, boot {report.boot}"
            )
        case Activated():
            return f"protocol version {event.protocol} is spoken from here on"
        case _:
            return _describe_plan_event(event)


_PlanEvent = (
    Planned
    | Opened
    | Deadline
    | Closed
    | Frozen
    | Resumed
    | RollingBack
    | Abandoned
    | RolledBack
    | Completed
    | Consented
)


def _describe_plan_event(event: _PlanEvent) -> str:
    match event:
        case Planned():
            return f"plan {short(event.plan)} made for release {short(event.release)}"
        case Opened():
            kind = STAGE_NAMES[event.kind]
            who = f": {names_text(event.members)}" if event.members else ""
            return f"plan {short(event.plan)}: stage {event.stage} ({kind}) opened{who}"
        case Deadline():
            return (
                f"plan {short(event.plan)}: stage {event.stage} is late; failed by silence:"
                f" {names_text(event.failed)}; missed: {names_text(event.missed)}; instead:"
                f" {names_text(event.added)}"
            )
        case Closed():
            return (
                f"plan {short(event.plan)}: stage {event.stage} closed good; confirmed:"
                f" {names_text(event.confirmed)}"
                + (f"; failed: {names_text(event.failed)}" if event.failed else "")
            )
        case Frozen():
            what = (
                f"class {describe_class(event.class_id)}"
                if event.plan == ZERO_DIGEST
                else f"plan {short(event.plan)}"
            )
            return f"{what} frozen by {event.by}"
        case Resumed():
            return f"plan {short(event.plan)} goes on (generation {event.generation}) without {names_text(event.dropped)}"
        case RollingBack():
            return f"plan {short(event.plan)}: its image is taken back"
        case Abandoned():
            return f"plan {short(event.plan)} given up"
        case RolledBack():
            return f"plan {short(event.plan)} rolled back; stragglers: {names_text(event.stragglers)}"
        case Completed():
            return f"plan {short(event.plan)} completed: release {short(event.release)} is out"
        case Consented():
            return f"plan {short(event.plan)}: {event.device} may restart although nobody else may fail"
