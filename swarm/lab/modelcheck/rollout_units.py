"""The devices of the rollout's model: what a correct one may do at any moment, and what a fault does to it.

After FIRMWARE sections 4 (W5, W6) and 6, for one image to one older one: a device acts only on its own permit and says
what it runs. Every choice that time would make (a timer, a slow disk, a late boot) is open.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from swarm.lab.checkers.rollout import Truth
from swarm.lab.modelcheck.rollout_world import Entry, View, World, report_entry


class Unit(NamedTuple):
    """One device: `new` = the image it runs when it is confirmed; `must` = the report it has yet to send."""

    phase: str = "idle"
    """idle | armed | trial | tried (its health is reported) | dead."""
    new: bool = False
    permit: int = 0
    back: bool = False
    """What it is armed with leads back to the old image."""
    acted: int = 0
    declined: int = 0
    incarnation: int = 0
    up: bool = True
    must: tuple[str, int] | None = None
    ever: bool = False


class Move(NamedTuple):
    """What a device does: itself afterwards, the entry it sends, and what that violates."""

    label: str
    unit: Unit
    sends: Entry | None = None
    complaint: str = ""
    wish: bool = False
    """Nothing that must happen at some time."""


def truth_of(unit: Unit) -> Truth:
    """Return what this device really is."""
    if unit.phase == "dead":
        return Truth(phase="bricked", new_image=True, ever_confirmed=unit.ever)
    if unit.phase in ("trial", "tried"):
        return Truth(phase="trial", new_image=not unit.back, ever_confirmed=unit.ever)
    if unit.phase == "armed":
        return Truth(phase="armed", new_image=unit.new, ever_confirmed=unit.ever)
    return Truth(phase="idle", new_image=unit.new, ever_confirmed=unit.ever)


def moves_of(
    world: World, view: View, units: dict[str, Unit], name: str, sent: list[Entry]
) -> Iterator[Move]:
    """Yield everything that the correct device `name` may do; `sent` = its entries that are not in the log yet."""
    unit = units[name]
    if unit.phase == "dead":
        return
    if not unit.up:
        yield Move("returns", _restarted(world, unit)._replace(up=True))
        return
    yield from _votes(world, view, units, name)
    if name not in world.candidates:
        return
    if unit.must is not None:
        yield _reports(name, unit, sent)
    if unit.phase == "idle":
        yield from _idle(world, view, units, name, sent)
    else:
        yield from _busy(world, view, name, unit)


def _restarted(world: World, unit: Unit) -> Unit:
    """Start again: what is durable stays, a trial has used up its attempt, a settled slot reports."""
    if "forgets-decline" in world.habits:
        unit = unit._replace(declined=0)
    if unit.phase in ("trial", "tried"):
        return _settled(world, unit._replace(phase="idle"), "reverted", unit.permit)
    if unit.phase == "idle" and unit.must is None:
        return _settled(world, unit, "started", 0)
    return unit


def _settled(world: World, unit: Unit, result: str, permit: int) -> Unit:
    if "silent-return" in world.habits:
        return unit
    return unit._replace(must=(result, permit))


def _reports(name: str, unit: Unit, sent: list[Entry]) -> Move:
    result, permit = unit.must or ("started", 0)
    serial = 1 + max((entry.args[5] for entry in sent if entry.kind == "report"), default=0)
    entry = report_entry(
        name,
        result,
        permit=permit,
        new=not unit.back if unit.phase in ("trial", "tried") else unit.new,
        confirmed=unit.phase in ("idle", "armed"),
        incarnation=unit.incarnation,
        serial=serial,
    )
    return Move(f"reports {result}", unit._replace(must=None), entry)


def _votes(world: World, view: View, units: dict[str, Unit], name: str) -> Iterator[Move]:
    unit = units[name]
    duties = view.duties[name]
    for go in duties.gos:
        heard = [units[id].up and units[id].phase != "dead" for id in go.listen_to]
        if all(heard) or not go.listen_to:
            yield Move(f"go {go.stage}", unit, Entry(name, "go", (go.stage, go.generation)))
    for late in duties.lates:
        args = (late.stage, late.generation, late.round)
        yield Move(f"late {late.stage}", unit, Entry(name, "late", args))
    if "halt" in world.votes and view.plan in ("planned", "active"):
        yield Move("halt", unit, Entry(name, "halt"), wish=True)
    if "resume" in world.votes and view.plan == "frozen" and view.generation < world.generations:
        yield Move("resume", unit, Entry(name, "resume", (view.generation,)), wish=True)
    if "rollback" in world.votes and view.plan in ("active", "frozen", "completed"):
        yield Move("rollback", unit, Entry(name, "rollback"), wish=True)
    if "revoke" in world.votes and not view.revoked:
        yield Move("revoke", unit, Entry(name, "revoke"), wish=True)


def _idle(world: World, view: View, units: dict[str, Unit], name: str, sent: list[Entry]) -> Iterator[Move]:
    unit = units[name]
    duties = view.duties[name]
    permit = duties.permit
    task = duties.task
    if unit.must is None and permit is None and task is not None and task.refusal is None:
        if not any(entry.kind == "arm" for entry in sent):
            arm = task.arm
            args = (arm.stage, arm.generation, unit.incarnation, int(task.way != "back"))
            yield Move("asks", unit, Entry(name, "arm", args))
    if permit is None:
        return
    if unit.must is None and permit.id in (unit.acted, unit.declined):
        # A later report may have overtaken the one that ended the permit: as long as it is open, it is said again.
        if not any(entry.kind == "report" for entry in sent):
            result = "declined" if permit.id == unit.declined else "reverted"
            there = unit.new == permit.forward
            yield Move("says it again", _settled(world, unit, "confirmed" if there else result, permit.id))
    if permit.id == unit.declined:
        return
    if permit.incarnation != unit.incarnation and "keeps-permit" not in world.habits:
        return
    if permit.id == unit.acted and "acts-twice" not in world.habits:
        return
    others = [id for id in units if id != name and units[id].up and id not in view.at_risk]
    if len(others) >= world.budget.q or "no-presence" in world.habits:
        able = [id for id in units if id != name and units[id].up and units[id].phase == "idle"]
        complaint = "" if len(able) >= world.budget.q else f"(W5) the others of {name} hold no quorum"
        armed = unit._replace(phase="armed", permit=permit.id, back=not permit.forward, acted=permit.id)
        yield Move("arms", armed, complaint=complaint)
    declined = unit._replace(must=("declined", permit.id))
    if permit.id != unit.acted:
        durable = "decline-volatile" not in world.habits
        yield Move("declines", declined._replace(declined=permit.id) if durable else declined)


def _busy(world: World, view: View, name: str, unit: Unit) -> Iterator[Move]:
    permit = view.permits.get(name)
    mine = permit is not None and permit.id == unit.permit
    target = not unit.back
    if unit.phase == "armed":
        if target and view.revoked:
            yield Move("boots the old slot", unit._replace(phase="idle", must=("never_tried", unit.permit)))
            if "boots-revoked" in world.habits:
                complaint = f"(8) {name} started a revoked image although it had another"
                yield Move("boots", unit._replace(phase="trial"), complaint=complaint)
        else:
            yield Move("boots", unit._replace(phase="trial"))
            yield Move("withdraws", unit._replace(phase="idle", must=("never_tried", unit.permit)))
        if "declines-armed" in world.habits:
            yield Move("declines", unit._replace(must=("declined", unit.permit)))
        return
    yield Move("reverts", unit._replace(phase="idle", must=("reverted", unit.permit)))
    if unit.phase == "trial":
        yield Move("is healthy", unit._replace(phase="tried", must=("healthy", unit.permit)))
    accepted = mine and permit is not None and permit.accepted
    if unit.phase == "tried" and (accepted or "confirms-alone" in world.habits):
        confirmed = unit._replace(
            phase="idle", new=target, must=("confirmed", unit.permit), ever=unit.ever or target
        )
        complaint = "" if accepted else f"(6) {name} confirmed without acceptance"
        yield Move("confirms", confirmed, complaint=complaint)


def faults_of(world: World, units: dict[str, Unit], name: str) -> Iterator[Move]:
    """Yield what may befall the correct device `name`; a wipe's recovery record is sent by the explorer."""
    unit = units[name]
    kinds = world.fault_kinds
    if unit.phase == "dead" or not unit.up:
        return
    if "offline" in kinds:
        yield Move("goes offline", unit._replace(up=False))
    if name not in world.candidates:
        return
    if "crash" in kinds:
        yield Move("crashes", _restarted(world, unit))
    if "brick" in kinds and unit.phase in ("trial", "tried") and not unit.back:
        yield Move("bricks", unit._replace(phase="dead", must=None))
    if "fall_back" in kinds and unit.phase == "idle" and unit.new:
        yield Move("falls back", unit._replace(new=False, must=("fell_back", 0)))
    if "wipe" in kinds and unit.incarnation == 0:
        wiped = Unit(new=unit.new, incarnation=1, must=("started", 0), ever=unit.ever)
        yield Move("is wiped", wiped, Entry(name, "recover", (1,)))


def liar_moves(world: World, view: View, name: str) -> Iterator[Entry]:
    """Yield what a liar may log now: votes of the moment, and any report and arm of its own."""
    kinds = world.liar_moves
    duties = view.duties[name]
    if "go" in kinds:
        for go in duties.gos:
            yield Entry(name, "go", (go.stage, go.generation))
    if "late" in kinds:
        for late in duties.lates:
            yield Entry(name, "late", (late.stage, late.generation, late.round))
    if "halt" in kinds and view.plan in ("planned", "active"):
        yield Entry(name, "halt")
    for wish in ("rollback", "revoke"):
        if wish in world.votes:
            yield Entry(name, wish)
    if "resume" in world.votes and view.plan == "frozen" and view.generation < world.generations:
        yield Entry(name, "resume", (view.generation,))
    if name not in world.candidates:
        return
    if "arm" in kinds and duties.task is not None:
        arm = duties.task.arm
        yield Entry(name, "arm", (arm.stage, arm.generation, 0, int(duties.task.way != "back")))
    if "report" in kinds:
        permit = 0 if duties.permit is None else duties.permit.id
        for result in ("healthy", "confirmed", "reverted", "declined"):
            for new in (False, True):
                yield report_entry(
                    name,
                    result,
                    permit=permit,
                    new=new,
                    confirmed=result != "healthy",
                    incarnation=0,
                    serial=1,
                )
