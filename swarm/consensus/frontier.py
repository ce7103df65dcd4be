"""R1: which view this device is in, and the timers of that view."""

from __future__ import annotations

from swarm.consensus.state import State

GRACE_VIEWS = 2
"""Views after the last finalization before Δ grows: the first failed leader is routine, not a slow network."""

ANSWER_FACTOR = 3
"""Δ in times from the own F to the FC; in a lossless swarm of equal devices that is Δ = 3 mean one-way delays, as in
the measurements of model.md section 6."""

ANSWER_SURPRISE_MAX = 3
"""A single answer counts as at most this many present Δ: one that waited for a repetition says little."""


def adapt_delta(state: State, answer_ms: int) -> None:
    """Let Δ follow how long a quorum takes to answer the own F: network, disks, and the slowest voter that is needed.

    A quarter of the way each time, so that the empty block of the next leader does not overtake the FC (directed
    scenario `empty`) and a lossy minute is forgotten. Called at a finalization only: nothing else shrinks Δ (R1).
    """
    base = state.delta_base_ms
    target = min(ANSWER_FACTOR * answer_ms, ANSWER_SURPRISE_MAX * base)
    floor, cap = state.config.delta_floor_ms, state.config.delta_cap_ms
    state.delta_base_ms = max(floor, min(cap, base + (target - base) // 4))


def delta_at(state: State, view: int) -> int:
    """Return Δ for `view` in ms: the measured one, grown by half with each view since the last finalization after a grace.

    It shrinks only because something was finalized, never because of other "progress" (R1).
    """
    exponent = max(0, view - 1 - state.final_view - GRACE_VIEWS)
    delta = state.delta_base_ms
    cap = state.config.delta_cap_ms
    while exponent > 0 and delta < cap:
        delta += (delta + 1) // 2
        exponent -= 1
    return min(delta, cap)


def enter(state: State) -> bool:
    """Move cur to the smallest view that is not cleared; answers whether it moved."""
    view = max(state.cur, state.final_view + 1)
    while (slots := state.views.get(view)) is not None and slots.cleared():
        view += 1
    if view == state.cur:
        return False
    state.cur = view
    state.entered_at_ms = state.now_ms
    state.entries.append(view)
    state.armed_at_ms = None
    for voter in [v for v, ahead in state.ahead.items() if ahead <= view]:
        del state.ahead[voter]
    state.note("entered", view)
    return True


def arm(state: State) -> None:
    """Arm the timers of cur at the later of entering it and work appearing; disarm them when work ends."""
    if not state.work:
        state.armed_at_ms = None
    elif state.armed_at_ms is None:
        state.armed_at_ms = state.now_ms
        state.delta_ms = delta_at(state, state.cur)


def vote_deadline_ms(state: State) -> int | None:
    """Return when T_vote = 2Δ of cur expires, None while disarmed."""
    return None if state.armed_at_ms is None else state.armed_at_ms + 2 * state.delta_ms


def view_deadline_ms(state: State) -> int | None:
    """Return when T_view = 3Δ of cur expires, None while disarmed."""
    return None if state.armed_at_ms is None else state.armed_at_ms + 3 * state.delta_ms
