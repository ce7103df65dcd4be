"""Who is at risk (W2), and how many voters may be (W3): the one set over all rollouts."""

from __future__ import annotations

from swarm.apps.rollout.state import Device, Here, Plan, State
from swarm.primitives.ids import DeviceId


def is_at_risk(device: Device) -> bool:
    """Answer whether a voter with this record may be silent without the log seeing it.

    It enters by its own permit, a recovery record, a conviction or its word that it is degraded, and leaves by its
    own report and by nothing else: no deadline, halt, resume or end of a plan frees anybody.
    """
    return device.permit is not None or device.recovering or device.convicted or device.degraded


def at_risk(state: State, voters: tuple[DeviceId, ...]) -> tuple[DeviceId, ...]:
    """Return the `voters` at risk, in their order."""
    return tuple(id for id in voters if id in state.devices and is_at_risk(state.devices[id]))


def limit_of(here: Here, plan: Plan, device: DeviceId) -> int:
    """Return how many voters may be at risk together with `device`, itself included."""
    free = here.budget.u - (plan.spec.reserve or 0)
    stage = plan.open_stage
    consented = device in plan.consented or (
        stage is not None and stage.kind == "consent" and device in stage.members
    )
    return 1 if free <= 0 and consented else free


def leaves_room(here: Here, plan: Plan, device: DeviceId) -> bool:
    """Answer whether a permit for `device` keeps the set at risk within its limit; an observer does not count."""
    if device not in here.voters:
        return True
    others = [id for id in at_risk(here.state, here.context.voters) if id != device]
    return len(others) + 1 <= limit_of(here, plan, device)


def allows_voters(state: State, voters: tuple[DeviceId, ...], u: int) -> bool:
    """Answer whether a change to `voters` with `u` leaves no more than u of them at risk (W15)."""
    return len(at_risk(state, voters)) <= u
