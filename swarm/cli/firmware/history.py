"""`swarm firmware history`: what a device ran when, from its reports on the log (FIRMWARE section 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from swarm.agent.client.replay import Logged
from swarm.apps.rollout.entries import Report
from swarm.apps.rollout.events import Ran
from swarm.cli.files import JsonOption, words_beside, write_json
from swarm.cli.firmware.session import Session, run_session
from swarm.cli.firmware.words import table_lines
from swarm.cli.light import AsOption, TimeoutOption, read_timeout_s, write_proof
from swarm.primitives.errors import ConfigError
from swarm.primitives.ids import short

Evidence = Literal["attested", "self-reported", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """What a device ran between two of its reports, or that nobody knows (`evidence` is `unknown`)."""

    evidence: Evidence
    digest: bytes = b""
    slot: int = 0
    number: int = 0
    boots: tuple[int, int] = (0, 0)
    after_height: int | None = None
    """The device started no earlier than this block of the log; None when its word about that fits no log."""
    from_height: int = 0
    to_height: int | None = None
    """Height of the report that ends it; None: it still runs, as far as the log knows."""
    positions: tuple[int, ...] = ()
    said: tuple[str, ...] = ()


def history(
    device: Annotated[str, typer.Argument(metavar="DEVICE", show_default=False, help="Whose past.")],
    *,
    as_: AsOption,
    proofs: Annotated[
        Path | None,
        typer.Option("--proofs", metavar="DIR", help="Write the proof of every report into this folder."),
    ] = None,
    timeout: TimeoutOption = "60s",
    json: JsonOption = None,
) -> None:
    """Print which image a device ran when. Boots that it left out are `unknown`; the rest is its own word.

    A report proves that it was logged there and by whom. What it says a device attests with a key bound to the image,
    or only claims: `self-reported`, and a liar can say anything.
    """
    timeout_s = read_timeout_s(timeout)
    if proofs is not None and not proofs.is_dir():
        raise ConfigError("is no folder", where="--proofs", hint="make it first")

    async def work(session: Session) -> None:
        member = session.genesis.member(device)
        if member is None or member.role == "operator":
            raise ConfigError(f"{device!r} is no device of swarm {session.genesis.swarm}", where="DEVICE")
        reports = reports_of(session.logged, device)
        intervals = intervals_of(reports, session.replay.roots)
        print("\n".join(describe_history(device, intervals)), file=words_beside(json))
        if proofs is not None:
            for logged, _ in reports:
                proved = await session.client.proof(logged.position, timeout=timeout_s)
                write_proof(proved.proof, proofs / f"{device}-{logged.position}.proof")
            print(
                f"{len(reports)} proofs written to {proofs}; check each with `swarm firmware verify`",
                file=words_beside(json),
            )
        if json is not None:
            write_json({"device": device, "intervals": [_report(interval) for interval in intervals]}, json)

    run_session(as_, work, whole=True)


def reports_of(logged: Sequence[Logged], device: str) -> list[tuple[Logged, Report]]:
    """Return the reports of a device, in the order of the log."""
    return [
        (item, item.event.report)
        for item in logged
        if isinstance(item.event, Ran) and item.event.device == device
    ]


def intervals_of(reports: Sequence[tuple[Logged, Report]], roots: Mapping[int, bytes]) -> list[Interval]:
    """Return what a device ran between its reports, with `unknown` where its boot counter skips starts.

    `roots` = the log's root by height: a report names the last head that its device knew before it started, and only
    a head that existed dates the start.
    """
    found: list[Interval] = []
    for index, (logged, report) in enumerate(reports):
        before = reports[index - 1][1] if index else None
        skipped = _skipped_boots(before, report)
        if skipped is not None:
            height = reports[index - 1][0].height if index else 0
            if found:
                # Its last word is all that is known of it.
                found[-1] = replace(found[-1], to_height=height)
            found.append(
                Interval(evidence="unknown", boots=skipped, from_height=height, to_height=logged.height)
            )
        elif before is not None and _continues(before, report):
            found[-1] = _extended(found[-1], logged, report)
            continue
        found.append(_begun(logged, report, roots))
        if len(found) > 1 and found[-2].to_height is None:
            found[-2] = replace(found[-2], to_height=logged.height)
    return found


def _skipped_boots(before: Report | None, report: Report) -> tuple[int, int] | None:
    """Return the boots that no report speaks of, None when there are none.

    A new incarnation lost its counter with its disk, so what happened between is unknown whatever the numbers say.
    """
    if before is None:
        return (1, report.boot - 1) if report.boot > 1 else None
    if report.incarnation != before.incarnation:
        return (0, max(0, report.boot - 1))
    return (before.boot + 1, report.boot - 1) if report.boot > before.boot + 1 else None


def _continues(before: Report, report: Report) -> bool:
    """Answer whether a report is of the same start, or of a start of the same image in the same slot."""
    return (before.digest, before.slot, before.incarnation) == (
        report.digest,
        report.slot,
        report.incarnation,
    )


def _begun(logged: Logged, report: Report, roots: Mapping[int, bytes]) -> Interval:
    dated = roots.get(report.nonce_height) == report.nonce_root
    return Interval(
        # Nobody keeps keys of images yet, so no attestation can be checked here: a word is a word.
        evidence="self-reported",
        digest=report.digest,
        slot=report.slot,
        number=report.number,
        boots=(report.boot, report.boot),
        after_height=report.nonce_height if dated else None,
        from_height=logged.height,
        positions=(logged.position,),
        said=(_said(report),),
    )


def _extended(interval: Interval, logged: Logged, report: Report) -> Interval:
    return replace(
        interval,
        number=report.number,
        boots=(interval.boots[0], report.boot),
        positions=(*interval.positions, logged.position),
        said=(*interval.said, _said(report)),
    )


def _said(report: Report) -> str:
    return report.result.replace("_", " ") + (f" ({report.reason})" if report.reason else "")


def describe_history(device: str, intervals: Sequence[Interval]) -> list[str]:
    """Return the table of a device's past."""
    if not intervals:
        return [f"{device} has not reported yet"]
    rows: list[tuple[str, ...]] = [
        ("number", "image", "slot", "boots", "started after", "known from", "to", "evidence", "it said")
    ]
    rows += [_row(interval) for interval in intervals]
    return [
        f"{device}, from its reports on the log (heights of blocks):",
        *table_lines(rows),
        "self-reported: nothing but the device's own word; unknown: it started without a report",
    ]


def _row(interval: Interval) -> tuple[str, ...]:
    first, last = interval.boots
    boots = str(first) if first == last else f"{first}-{last}"
    heights = (str(interval.from_height), "now" if interval.to_height is None else str(interval.to_height))
    if interval.evidence == "unknown":
        return ("?", "?", "?", boots, "?", *heights, "unknown", "")
    after = "no known block" if interval.after_height is None else str(interval.after_height)
    said = ", ".join(dict.fromkeys(interval.said))
    number = str(interval.number or "?")
    return (
        number,
        short(interval.digest),
        str(interval.slot),
        boots,
        after,
        *heights,
        interval.evidence,
        said,
    )


def _report(interval: Interval) -> dict[str, Any]:
    return {
        "evidence": interval.evidence,
        "digest": interval.digest.hex(),
        "slot": interval.slot,
        "number": interval.number,
        "boots": list(interval.boots),
        "after_height": interval.after_height,
        "from_height": interval.from_height,
        "to_height": interval.to_height,
        "positions": list(interval.positions),
        "said": list(interval.said),
    }
