"""Watching a rollout until it ends: a picture of its stages on a terminal, its events line by line elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, Final

from swarm.agent.client.replay import Logged, follow_log
from swarm.apps.rollout.state import Plan, Stage
from swarm.cli.boundary import CommandFailed
from swarm.cli.firmware.screen import Lines, is_terminal
from swarm.cli.firmware.session import Session, say
from swarm.cli.firmware.words import STAGE_NAMES, describe_event, names_text, size_text
from swarm.primitives.ids import short

ENDED: Final = ("completed", "rolled back", "abandoned", "frozen")
"""Where watching ends. A frozen plan waits for people, so they are told."""

WAYS_ON: Final = (
    "go on with `swarm firmware resume`, take it back with `swarm firmware rollback`, or give it up with `swarm firmware"
    " abandon`"
)
"""What people can do about a frozen plan."""

_COLOURS: Final = {"waiting": "dim", "armed": "yellow", "confirmed": "green", "failed": "red"}
_STAGES_SHOWN: Final = 12


async def follow_plan(session: Session, plan: Plan, operator: Path) -> None:
    """Show what happens to a plan until it ends; raises `CommandFailed` when it ends otherwise than `completed`."""
    state = ""
    try:
        with _view() as show:
            async with aclosing(follow_log(session.client, session.replay)) as batches:
                while True:
                    plan = session.plan(plan.id)
                    state = plan.state
                    show(session, plan, ())
                    if state in ENDED:
                        break
                    logged = await anext(batches)
                    session.logged.extend(logged)
                    show(session, plan, logged)
    except BaseException:
        if state not in ENDED:
            say(
                f"the rollout goes on without you; look at it: swarm firmware status --follow --as {operator}"
            )
        raise
    said = f"plan {short(plan.id)} is {state}"
    if state == "completed":
        missed = f"; away and still to come by themselves: {', '.join(plan.missed)}" if plan.missed else ""
        say(f"{said}: number {session.manifest(plan).number} is out{missed}")
        return
    if state == "frozen":
        said += f" by {plan.halted_by}; {WAYS_ON}"
    raise CommandFailed(said)


@contextmanager
def _view() -> Iterator[Any]:
    if not is_terminal():
        yield _Printed()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4, transient=False) as live:

        def show(session: Session, plan: Plan, _logged: tuple[Logged, ...]) -> None:
            live.update(paint_plan(session, plan))

        yield show


class _Printed:
    """Events as they come, and between them a line a second about how far it is."""

    def __init__(self) -> None:
        self._lines = Lines()

    def __call__(self, session: Session, plan: Plan, logged: tuple[Logged, ...]) -> None:
        for item in logged:
            say(f"height {item.height}: {describe_event(item.event)}")
        done, total = progress_of(session, plan)
        number = session.manifest(plan).number
        at_risk = names_text(session.replay.rollout.at_risk())
        self._lines.say(
            f"{plan.state}: {done} of {total} devices run number {number}; at risk: {at_risk}; height"
            f" {session.replay.height}{_served(session)}"
        )


def paint_plan(session: Session, plan: Plan) -> Any:
    """Return the picture of a plan: a bar over its devices, and a row for each stage."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    done, total = progress_of(session, plan)
    head = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=max(1, total), completed=done, width=40)
    head.add_row(bar, f"{done} of {total} devices run number {session.manifest(plan).number}")
    table = Table(box=None, padding=(0, 2))
    for column in ("stage", "who", "state", "members"):
        table.add_column(column)
    for stage in plan.stages[-_STAGES_SHOWN:]:
        members = Text()
        for id, member in stage.members.items():
            members.append(f"{id} ", style=_COLOURS[member.state])
        table.add_row(str(stage.number), STAGE_NAMES[stage.kind], stage_state(stage), members)
    title = f"plan {short(plan.id)}: {plan.state}" + (f" by {plan.halted_by}" if plan.halted_by else "")
    at_risk = names_text(session.replay.rollout.at_risk())
    foot = f"at risk: {at_risk}; height {session.replay.height}{_served(session)}"
    return Group(Text(title, style="bold"), head, table, Text(foot, style="dim"))


def _served(session: Session) -> str:
    counts = session.client.served
    return f"; served {counts.chunks} chunks, {size_text(counts.bytes)}" if counts.chunks else ""


def progress_of(session: Session, plan: Plan) -> tuple[int, int]:
    """Return (devices confirmed with the plan's image, devices of its class)."""
    manifest = session.manifest(plan)
    devices = [device for device in session.state.devices.values() if device.class_id == manifest.class_id]
    done = sum(device.confirmed and device.digest == manifest.image_digest for device in devices)
    return done, len(devices)


def stage_state(stage: Stage) -> str:
    """Return how a stage stands, in a few words."""
    if stage.is_open:
        return f"open since {stage.opened_height}"
    return f"closed at {stage.closed_height}"
