"""One dropped guard of the rollout each, and who must notice: a world of the model, or a directed test by its name.

The list is that of the study behind FIRMWARE section 10. A guard of the log is dropped by rewriting the function that
holds it (the piece must occur exactly once, so that the list cannot rot); a guard of the device is a habit of the
model's devices, because those are what the model has instead of an agent.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from swarm.lab.modelcheck.rollout_model import WORLDS
from swarm.lab.modelcheck.rollout_world import World

ROOM: Final = "swarm.apps.rollout."


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """`changes` = (function, old, new); `habit` = what devices do instead; `says` = words of the complaint."""

    name: str
    changes: tuple[tuple[str, str, str], ...] = ()
    habit: str = ""
    world: World | None = None
    says: str = ""
    caught_by: str = ""


FOUR: Final = WORLDS["four"]
BRICKS: Final = WORLDS["four-bricks"]
WIPES: Final = WORLDS["four-wipes"]
RESUMES: Final = WORLDS["four-resumes"]
REVOKES: Final = WORLDS["four-revokes"]
REFUSE: Final = WORLDS["five-refuse"]
LIAR: Final = WORLDS["four-canary-lies"]
STALE: Final = replace(
    RESUMES,
    candidates="",
    delays=frozenset({"go", "late"}),
    forgets_stale=False,
    liar_moves=frozenset({"go", "late"}),
)
"""Nobody to update: the only stage is the last one, and votes may come as late as they like."""
BRAKES: Final = replace(FOUR, votes=frozenset())

_ENDS_ALL: Final = "    for device in here.state.devices.values():\n        device.permit = None\n"

LOG_SIDE: Final = (
    Mutation(
        name="halt frees",
        changes=(("gate.freeze", '    plan.state = "frozen"\n', '    plan.state = "frozen"\n' + _ENDS_ALL),),
        world=FOUR,
        says="(1)",
    ),
    Mutation(
        name="deadline frees",
        changes=(
            (
                "gate.pass_deadline",
                '        _end(stage.members[id], "failed", "silent", here.height)\n',
                (
                    '        _end(stage.members[id], "failed", "silent", here.height)\n'
                    "        here.state.devices[id].permit = None\n"
                ),
            ),
        ),
        world=BRAKES,
        says="(1)",
    ),
    Mutation(
        name="charged only when it reports",
        changes=(
            (
                "risk.is_at_risk",
                "device.permit is not None or",
                '(device.permit is not None and device.result == "healthy") or',
            ),
        ),
        world=BRAKES,
        says="(1)",
    ),
    Mutation(
        name="report names no permit",
        changes=(("report.is_about", "report.permit == permit.id", "True"),),
        caught_by="test_rules_permit.test_w4_a_permit_without_a_trial_may_be_asked_for_again",
    ),
    Mutation(
        name="anybody may report for a device",
        changes=(
            (
                "report.apply_report",
                "device = here.state.device(here.origin)",
                (
                    "named = [d for d in here.state.devices.values() if d.permit and d.permit.id == report.permit]\n"
                    "    device = named[0] if named else here.state.device(here.origin)"
                ),
            ),
        ),
        caught_by="test_mutations.test_w4_nobody_reports_for_another",
    ),
    Mutation(
        name="no limit check",
        changes=(("risk.leaves_room", "len(others) + 1 <= limit_of(here, plan, device)", "True"),),
        world=WIPES,
        says="(2)",
    ),
    Mutation(
        name="arm after halt",
        changes=(
            ("permit._refusal_stage", "    if is_frozen(state, plan):\n", "    if False:\n"),
            ("permit._refusal_stage", 'plan.state != "active" or not stage.is_open', "not stage.is_open"),
        ),
        world=FOUR,
        says="(4)",
    ),
    Mutation(
        name="go after halt",
        changes=(
            (
                "gate.waits_for_go",
                'plan.state not in ("planned", "active") or is_frozen(here.state, plan) or',
                'plan.state not in ("planned", "active", "frozen") or',
            ),
        ),
        world=FOUR,
        says="(4)",
    ),
    Mutation(
        name="acceptance after halt",
        changes=(
            ("permit.accepts", "if is_frozen(here.state, plan) or not release.is_wanted:", "if False:"),
            ("permit.accepts", '    if plan.state != "active":\n', "    if False:\n"),
        ),
        world=FOUR,
        says="(4)",
    ),
    Mutation(
        name="go by r",
        changes=(("gate.apply_go", ">= here.quorum", ">= here.budget.r"),),
        world=FOUR,
        says="(5)",
    ),
    Mutation(
        name="stale go counted",
        changes=(("gate.apply_go", "go.generation != plan.generation or", ""),),
        world=STALE,
        says="(5)",
    ),
    Mutation(
        name="halt by b-1",
        changes=(("gate.apply_halt", ">= here.brake", ">= here.brake - 1"),),
        world=FOUR,
        says="(5)",
    ),
    Mutation(
        name="late by b-1",
        changes=(
            (
                "gate.apply_late",
                "here.vote(plan.lates) < here.brake",
                "here.vote(plan.lates) < here.brake - 1",
            ),
        ),
        world=BRAKES,
        says="(5)",
    ),
    Mutation(
        name="stale late",
        changes=(("gate.apply_late", " or late.generation != plan.generation", ""),),
        caught_by="test_rules_gate.test_w7_lates_die_with_the_generation_and_the_epoch",
        world=STALE,
        says="(5)",
    ),
    Mutation(
        name="second permit while one is open",
        changes=(
            ("permit.refusal_of", "if device.permit is not None:", "if False:"),
            ("permit._refusal_stage", 'or member.state != "waiting"', ""),
            ("plan.is_settled", " or device.permit is not None", ""),
        ),
        world=LIAR,
        says="(3)",
    ),
    Mutation(
        name="no deadline",
        changes=(
            (
                "gate.apply_late",
                "    stage = plan.open_stage\n",
                "    stage = plan.open_stage\n    if stage is not None:\n        return\n",
            ),
        ),
        world=BRICKS,
        says="(9)",
    ),
    Mutation(
        name="no deadline while waiting for the go",
        changes=(("gate.apply_late", "    if stage is None:\n", "    if stage is None:\n        return\n"),),
        world=REFUSE,
        says="(9)",
    ),
    Mutation(
        name="revocation freezes the rollback",
        changes=(
            (
                "permit._refusal_back",
                "    if not device.confirmed",
                '    if release.state == "revoked":\n        return "revoked"\n    if not device.confirmed',
            ),
        ),
        caught_by="test_rules_release.test_w12_a_revocation_takes_the_image_back",
    ),
    Mutation(
        name="brake r+1",
        changes=(("state.Here.brake", "min(self.budget.u, self.budget.r) + 1", "self.budget.r + 1"),),
        world=REFUSE,
        says="(9)",
    ),
    Mutation(
        name="report only with a permit",
        changes=(
            (
                "report.apply_report",
                "if not is_news(device, report):",
                "if not is_news(device, report) or (device.reported and report.permit == 0):",
            ),
        ),
        world=BRICKS,
        says="(10)",
    ),
    Mutation(
        name="confirmed needs acceptance",
        changes=(
            (
                "report.ends_permit",
                "report.result in ENDING)",
                'report.result in ENDING and (report.result != "confirmed" or permit.accepted))',
            ),
        ),
        caught_by="test_rules_permit.test_w4_confirmed_without_acceptance_ends_the_permit_as_a_failure",
    ),
)

DEVICE_SIDE: Final = (
    Mutation(name="same permit acted upon twice", habit="acts-twice", world=BRICKS, says="(1)"),
    Mutation(name="decline not durable", habit="decline-volatile", world=BRICKS, says="(1)"),
    Mutation(name="decline after arming", habit="declines-armed", world=BRICKS, says="(1)"),
    Mutation(name="a wiped device keeps its permit", habit="keeps-permit", world=WIPES, says="(1)"),
    Mutation(name="no presence rule", habit="no-presence", world=BRICKS, says="(W5)"),
    Mutation(name="confirm without acceptance", habit="confirms-alone", world=BRAKES, says="(6)"),
    Mutation(name="bootloader ignores the revocation", habit="boots-revoked", world=REVOKES, says="(8)"),
    Mutation(name="no report on return", habit="silent-return", world=BRICKS, says="(10)"),
)

HARMLESS: Final = (
    Mutation(
        name="go needs n", changes=(("gate.apply_go", ">= here.quorum", ">= here.budget.n"),), world=BRAKES
    ),
    Mutation(
        name="old-generation arm",
        changes=(("permit.apply_arm", "arm.generation != plan.generation or ", ""),),
        world=RESUMES,
    ),
    Mutation(
        name="a failure report does not freeze",
        changes=(("gate.judge_stage", "if len(failed) > _forgiven(plan, stage):", "if False:"),),
        world=BRAKES,
    ),
)


def _holders() -> list[Any]:
    return [module for name, module in sorted(sys.modules.items()) if name.startswith(ROOM)]


def _rewritten(function: Any, changes: list[tuple[str, str]], name: str) -> Any:
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in changes:
        assert source.count(old) == 1, f"{name}: {old!r} occurs {source.count(old)} times"
        source = source.replace(old, new)
    space: dict[str, Any] = {}
    exec(compile(source, f"<{name}>", "exec"), function.__globals__, space)
    return space[function.__name__]


@contextmanager
def mutated(mutation: Mutation) -> Iterator[None]:
    """Drop the guard inside of the `with` block."""
    by_target: dict[str, list[tuple[str, str]]] = {}
    for target, old, new in mutation.changes:
        by_target.setdefault(target, []).append((old, new))
    undo: list[tuple[Any, str, Any]] = []
    try:
        for target, changes in by_target.items():
            module, *path = target.split(".")
            owner: Any = importlib.import_module(ROOM + module)
            for step in path[:-1]:
                owner = getattr(owner, step)
            original = inspect.getattr_static(owner, path[-1])
            if isinstance(original, property):
                undo.append((owner, path[-1], original))
                setattr(owner, path[-1], _rewritten(original.fget, changes, mutation.name))
                continue
            broken = _rewritten(original, changes, mutation.name)
            for holder in _holders():
                for key, value in list(vars(holder).items()):
                    if value is original:
                        undo.append((holder, key, original))
                        setattr(holder, key, broken)
        yield
    finally:
        for holder, key, original in reversed(undo):
            setattr(holder, key, original)
