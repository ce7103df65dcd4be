"""What an order of a scenario becomes at its time: entries of `rollout`, as the log stands then."""

from __future__ import annotations

from swarm.apps.rollout.app import Rollout
from swarm.apps.rollout.entries import (
    Approve,
    Command,
    Consent,
    Go,
    Halt,
    MakePlan,
    Resume,
    Rollback,
)
from swarm.apps.rollout.permit import is_frozen
from swarm.apps.rollout.state import Plan
from swarm.lab.scenario.firmware import FirmwareOrder, class_ids
from swarm.lab.sim.releases import Releases
from swarm.primitives.errors import check


def entry_of(order: FirmwareOrder, releases: Releases, rollout: Rollout, swarm: bytes) -> Command | None:
    """Return the entry that `order` asks for, None while what it is about is not on the log yet.

    An order about a release or a plan waits for it, and one that only a frozen plan can follow waits for the freeze.
    """
    match order.what:
        case "propose":
            return releases.propose(order.release, order.signers)
        case "keys":
            check(order.keys is not None, "an order for keys without keys")
            return releases.change_keys(order.keys, swarm) if order.keys is not None else None
        case "halt" if order.class_name:
            class_id = b"".join(class_ids(order.class_name))
            known = any(r.manifest.class_id == class_id for r in rollout.state.releases.values())
            return Halt(class_id, of_class=True, reason="scenario") if known else None
        case _:
            made = releases.made[order.release]
            if rollout.release(made.id) is None:
                return None
            return _about_release(order, releases, rollout, made.id)


def _about_release(
    order: FirmwareOrder, releases: Releases, rollout: Rollout, release: bytes
) -> Command | None:
    match order.what:
        case "approve":
            return Approve(release)
        case "plan":
            return MakePlan(release, order.spec) if order.spec is not None else None
        case "revoke":
            return releases.revoke(order.release)
        case _:
            plan = newest_plan(rollout, release)
            return None if plan is None else _about_plan(order, rollout, plan)


def newest_plan(rollout: Rollout, release: bytes) -> Plan | None:
    """Return the plan of a release that was made last."""
    plans = [plan for plan in rollout.state.plans.values() if plan.release == release]
    return plans[-1] if plans else None


def _about_plan(order: FirmwareOrder, rollout: Rollout, plan: Plan) -> Command | None:
    match order.what:
        case "go":
            return Go(plan.id, len(plan.stages), plan.generation)
        case "halt":
            return Halt(plan.id, of_class=False, reason="scenario")
        case "resume":
            if not is_frozen(rollout.state, plan):
                return None
            return Resume(plan.id, plan.generation, tuple(sorted(order.without)))
        case "rollback":
            return Rollback(plan.id, stop=False)
        case "abandon":
            return Rollback(plan.id, stop=True) if plan.state == "frozen" else None
        case "consent":
            return Consent(plan.id, order.device)
        case _:
            return None
