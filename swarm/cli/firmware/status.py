"""`swarm firmware status`: releases, plans, devices and who is at risk, replayed from the log and believed of nobody."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Any

import typer

from swarm.agent.client.replay import follow_log
from swarm.apps.rollout.state import Device, Plan, Release, Stage
from swarm.cli.files import JsonOption, words_beside, write_json
from swarm.cli.firmware.follow import ENDED, follow_plan, stage_state
from swarm.cli.firmware.session import Session, brake_of, run_session, say
from swarm.cli.firmware.words import STAGE_NAMES, describe_event, names_text, table_lines, why_at_risk
from swarm.cli.light import AsOption
from swarm.install.identity import describe_class
from swarm.primitives.errors import ConfigError
from swarm.primitives.ids import ZERO_DIGEST, short

_STAGES_SHOWN = 8
"""Of each plan; `--json` has all of them."""


def status(
    *,
    as_: AsOption,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what happens, until Ctrl-C.")] = False,
    json: JsonOption = None,
) -> None:
    """Print how releases, plans and devices stand. The log is replayed here, so it is what every device knows too.

    With --follow the running plan is watched to its end, or everything that happens where none runs.
    """
    if follow and json is not None:
        raise ConfigError("--follow has no end that could be written", where="--json")

    async def work(session: Session) -> None:
        print("\n".join(describe_state(session)), file=words_beside(json))
        if json is not None:
            write_json(report_state(session), json)
        if follow:
            await _follow(session, as_)

    run_session(as_, work)


async def _follow(session: Session, operator: AsOption) -> None:
    running = [plan for plan in session.state.plans.values() if plan.started and plan.state not in ENDED]
    if len(running) == 1:
        await follow_plan(session, running[0], operator)
        return
    async with aclosing(follow_log(session.client, session.replay)) as batches:
        async for logged in batches:
            for item in logged:
                say(f"height {item.height}: {describe_event(item.event)}")


# ------------------------------------------------------------------------------------------ words


def describe_state(session: Session) -> list[str]:
    """Return the lines of the whole picture."""
    state, genesis, keys = session.state, session.genesis, session.state.keys
    signing = f"{keys.k} of {len(keys.keys)} release keys sign (key epoch {keys.epoch})"
    lines = [
        f"swarm {genesis.swarm}: {session.replay.height} blocks of the log, each verified and replayed here",
        f"  {signing}; {genesis.budget.q} voters decide a step, {brake_of(genesis)} a halt",
    ]
    lines += _frozen_classes(session)
    lines += (
        ["releases:", *_release_lines(session)] if state.releases else ["releases: none was proposed yet"]
    )
    for plan in state.plans.values():
        lines += _plan_lines(session, plan)
    lines += ["devices:", *_device_lines(session)] if state.devices else ["devices: none has reported yet"]
    silent = [m.id for m in (*genesis.voters, *genesis.observers) if m.id not in state.devices]
    if silent and state.devices:
        lines.append(f"  never reported: {names_text(silent)}")
    return [*lines, *_risk_lines(session)]


def _frozen_classes(session: Session) -> list[str]:
    return [
        f"  class {describe_class(id)} stands still: {entry.frozen_by}"
        for id, entry in session.state.classes.items()
        if entry.frozen_by
    ]


def _release_lines(session: Session) -> list[str]:
    classes = {release.manifest.class_id for release in session.state.releases.values()}
    rows = [("number", "id", "version", "counter", "state", "approved by")]
    for release in session.state.releases.values():
        have = len(set(release.approvals) & set(session.genesis.voter_ids))
        manifest = release.manifest
        row = (
            str(manifest.number),
            short(release.id),
            manifest.version,
            str(manifest.counter),
            release_state(release),
            f"{have} of {session.genesis.budget.n}",
        )
        rows.append(row)
    lines = table_lines(rows)
    if len(classes) > 1:
        ids = [describe_class(release.manifest.class_id) for release in session.state.releases.values()]
        lines = [lines[0], *(f"{line}  {id}" for line, id in zip(lines[1:], ids, strict=True))]
    return lines


def release_state(release: Release) -> str:
    """Return how a release stands, in a few words."""
    words: list[str] = [release.state]
    if release.state == "approved":
        words.append(f"at {release.approved_height}")
    if release.completed:
        words.append("and out")
    if release.contradicted:
        words.append("CONTRADICTED")
    if release.suspended:
        words.append("(revocation asked for)")
    return " ".join(words)


def _plan_lines(session: Session, plan: Plan) -> list[str]:
    number = session.manifest(plan).number
    by = f" by {plan.halted_by}" if plan.halted_by else ""
    if by and plan.state != "frozen":
        by = f" (was frozen{by})"
    kept = f"hold back {plan.spec.hold_back}, reserve {plan.spec.reserve}"
    lines = [
        f"plan {short(plan.id)} of number {number}: {plan.state}{by}, generation {plan.generation}, {kept}"
    ]
    hidden = len(plan.stages) - _STAGES_SHOWN
    if hidden > 0:
        lines.append(f"  {hidden} earlier stages (--json has them)")
    lines += [f"  {_stage_line(stage)}" for stage in plan.stages[-_STAGES_SHOWN:]]
    if plan.state in ("planned", "active") and plan.open_stage is None:
        have = len(set(plan.gos) & set(session.genesis.voter_ids))
        lines.append(
            f"  stage {len(plan.stages)} waits: {have} of the {session.genesis.budget.q} voters needed said go"
        )
    for what, names in (("missed", plan.missed), ("out of the plan", plan.dropped)):
        if names:
            lines.append(f"  {what}: {names_text(names)}")
    lines += [f"  {id} cannot go back: {why}" for id, why in plan.ended.items()]
    return lines


def _stage_line(stage: Stage) -> str:
    members = ", ".join(
        f"{id} {member.state}" + (f" ({member.reason})" if member.reason else "")
        for id, member in stage.members.items()
    )
    kind = STAGE_NAMES[stage.kind]
    return f"stage {stage.number} ({kind}), {stage_state(stage)}" + (f": {members}" if members else "")


def _device_lines(session: Session) -> list[str]:
    rows = [("device", "number", "version", "image", "slot", "counter", "says", "at height", "permit")]
    for device in session.state.devices.values():
        if not device.reported:
            rows.append((device.id, *("-" * 8)))
            continue
        rows.append(
            (
                device.id,
                str(device.number or "?"),
                _version_of(session, device),
                short(device.digest),
                str(device.slot),
                str(device.counter),
                says(device),
                str(device.height),
                "-" if device.permit is None else str(device.permit.id),
            )
        )
    return table_lines(rows)


def says(device: Device) -> str:
    """Return the last word of a device about itself."""
    word = device.result.replace("_", " ")
    if device.reason:
        word += f" ({device.reason})"
    return word if device.confirmed else f"{word}, not confirmed"


def _version_of(session: Session, device: Device) -> str:
    release = session.state.release_with(device.class_id, device.digest)
    return "?" if release is None else release.manifest.version


def _risk_lines(session: Session) -> list[str]:
    genesis = session.genesis
    names = session.replay.rollout.at_risk()
    lines = [f"at risk: {names_text(names)}; up to u = {genesis.budget.u} voters may be"]
    lines += [f"  {id} {why_at_risk(session.state.devices[id])}" for id in names]
    holders = [
        device
        for device in session.state.devices.values()
        if device.permit is not None and genesis.voter_index(device.id) is None
    ]
    if holders:
        lines.append(f"observers with a permit: {names_text(device.id for device in holders)}")
    return lines


# ------------------------------------------------------------------------------------------ JSON


def report_state(session: Session) -> dict[str, Any]:
    """Return what `--json` writes; names as in `result.json.firmware`, digests hexadecimal."""
    state, genesis = session.state, session.genesis
    return {
        "swarm": genesis.swarm,
        "height": session.replay.height,
        "log_size": session.replay.log_size,
        "log_root": session.replay.log_root.hex(),
        "verified": True,
        "keys": {
            "k": state.keys.k,
            "epoch": state.keys.epoch,
            "keys": [key.hex() for key in state.keys.keys],
        },
        "protocol": state.protocol,
        "releases": [_report_release(session, release) for release in state.releases.values()],
        "plans": [_report_plan(plan) for plan in state.plans.values()],
        "devices": {device.id: _report_device(session, device) for device in state.devices.values()},
        "at_risk": list(session.replay.rollout.at_risk()),
        "at_risk_limit": genesis.budget.u,
        "frozen_classes": {
            id.hex(): entry.frozen_by for id, entry in state.classes.items() if entry.frozen_by
        },
    }


def _report_release(session: Session, release: Release) -> dict[str, Any]:
    manifest = release.manifest
    return {
        "id": release.id.hex(),
        "class": manifest.class_id.hex(),
        "number": manifest.number,
        "version": manifest.version,
        "counter": manifest.counter,
        "state": release.state,
        "approved_height": release.approved_height,
        "approvals": [id for id in release.approvals if session.genesis.voter_index(id) is not None],
        "completed": release.completed,
        "contradicted": release.contradicted,
        "suspended": release.suspended,
    }


def _report_plan(plan: Plan) -> dict[str, Any]:
    return {
        "id": plan.id.hex(),
        "release": plan.release.hex(),
        "state": plan.state,
        "generation": plan.generation,
        "halted_by": plan.halted_by,
        "hold_back": plan.spec.hold_back,
        "reserve": plan.spec.reserve,
        "stages": [
            {
                "number": stage.number,
                "kind": stage.kind,
                "opened_height": stage.opened_height,
                "closed_height": stage.closed_height,
                "members": [
                    {
                        "device": id,
                        "outcome": member.state,
                        "permit": member.permit,
                        "reason": member.reason,
                        "height": member.height,
                    }
                    for id, member in stage.members.items()
                ],
                "missed": list(stage.missed),
            }
            for stage in plan.stages
        ],
        "missed": list(plan.missed),
        "dropped": list(plan.dropped),
        "ended": dict(plan.ended),
    }


def _report_device(session: Session, device: Device) -> dict[str, Any]:
    digest = device.digest or ZERO_DIGEST
    return {
        "slot": device.slot,
        "digest": digest.hex(),
        "number": device.number,
        "version": _version_of(session, device),
        "counter": device.counter,
        "confirmed": device.confirmed,
        "result": device.result,
        "reason": device.reason,
        "height": device.height,
        "attested": device.attested,
        "permit": 0 if device.permit is None else device.permit.id,
        "at_risk": device.id in session.replay.rollout.at_risk(),
    }
