"""What a plan asks for (W1), what its defaults are, and what it cannot survive, said when it is made."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from swarm.apps.application import Rejected
from swarm.primitives.limits import (
    DURATION_MS_MAX,
    MEMBERS_MAX,
    PLAN_ATTEMPTS_MAX,
    PLAN_RETRIES_MAX,
    PLAN_STEPS_MAX,
    VOTERS_MAX,
)
from swarm.primitives.quorum import Budget

Kind = Literal["voters", "observers"]
Ms = Annotated[int, msgspec.Meta(ge=0, le=DURATION_MS_MAX)]
Voters = Annotated[int, msgspec.Meta(ge=0, le=VOTERS_MAX)]
Devices = Annotated[int, msgspec.Meta(ge=0, le=MEMBERS_MAX)]


class Step(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """So many more devices of one kind: `count`, or `permille` of the class; exactly one of them is not 0."""

    kind: Kind
    count: Devices
    permille: Annotated[int, msgspec.Meta(ge=0, le=1000)]


class PlanSpec(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The wishes of whoever planned. What the steps leave over, all voters and then all observers, follows them."""

    steps: Annotated[tuple[Step, ...], msgspec.Meta(max_length=PLAN_STEPS_MAX)] = ()
    soak_ms: Ms = 60_000
    """Each voter waits so long after a stage closed good before it asks for the next."""
    deadline_ms: Annotated[int, msgspec.Meta(ge=1, le=DURATION_MS_MAX)] = 900_000
    """Each voter waits so long for an open stage, or for a go, before it says `late`."""
    trial_ms: Annotated[int, msgspec.Meta(ge=1, le=DURATION_MS_MAX)] = 120_000
    attempts: Annotated[int, msgspec.Meta(ge=1, le=PLAN_ATTEMPTS_MAX)] = 1
    max_fail: Devices = 0
    """Failed observers that a stage forgives; of voters none."""
    min_confirmed: Devices = 1
    pause_after: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=0, lt=PLAN_STEPS_MAX)], ...],
        msgspec.Meta(max_length=PLAN_STEPS_MAX),
    ] = ()
    """Steps after which an operator must ask for the next stage; sorted, distinct."""
    barrier: bool = False
    """Nobody gets a permit before every member said `ready`."""
    hold_back: Voters | None = None
    """Voters that keep the old image until an extra stage without members; None = q."""
    reserve: Voters | None = None
    """Of u failures the plan leaves so many to chance; None = 1 if u >= 2, else 0."""
    retries: Annotated[int, msgspec.Meta(ge=0, le=PLAN_RETRIES_MAX)] = 2


def settle_spec(spec: PlanSpec, budget: Budget) -> PlanSpec:
    """Return `spec` with its defaults filled in for `budget`; raises `Rejected` when it cannot be carried out (W1)."""
    hold_back = budget.q if spec.hold_back is None else spec.hold_back
    reserve = int(budget.u >= 2) if spec.reserve is None else spec.reserve
    if spec.deadline_ms <= spec.attempts * spec.trial_ms:
        raise Rejected(
            f"deadline {spec.deadline_ms} ms is not above {spec.attempts} attempts of {spec.trial_ms} ms"
        )
    if hold_back > budget.n:
        raise Rejected(f"hold_back {hold_back} of {budget.n} voters")
    if reserve > budget.u:
        raise Rejected(f"reserve {reserve} of u = {budget.u}")
    for step in spec.steps:
        if (step.count == 0) == (step.permille == 0):
            raise Rejected("a step has a count or a share, and only one of them")
    if any(a >= b for a, b in zip(spec.pause_after, spec.pause_after[1:], strict=False)):
        raise Rejected("pause_after is not sorted and distinct")
    if spec.pause_after and spec.pause_after[-1] >= len(spec.steps):
        raise Rejected(f"pause_after {spec.pause_after[-1]} of {len(spec.steps)} steps")
    return msgspec.structs.replace(spec, hold_back=hold_back, reserve=reserve)


def warnings_of(spec: PlanSpec, budget: Budget) -> tuple[str, ...]:
    """Return in words what a plan with this spec cannot survive; shown when it is made."""
    settled = settle_spec(spec, budget)
    found = []
    if (settled.hold_back or 0) < budget.q:
        found.append(
            f"a bomb stops this swarm: {settled.hold_back} voters are held back, {budget.q} are a quorum"
        )
    if budget.u - (settled.reserve or 0) == 0:
        found.append(
            "no voter is updated without a consent: the log stops while it reboots, and for ever if it does not return"
        )
    elif (settled.reserve or 0) == 0:
        found.append(
            "a voter that falls silent by chance during a stage stops the log until one of the two returns"
        )
    return tuple(found)
