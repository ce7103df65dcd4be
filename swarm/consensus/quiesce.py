"""R11: work is the switch. Without it no view timer runs, nobody proposes, and an idle swarm is silent."""

from __future__ import annotations

from swarm.consensus.state import State


def is_work(state: State) -> bool:
    """Answer whether there is work: a pending submission, a valid proposal of cur, or a notarized unfinal block.

    A proposal of a view that this device has skipped is none, nor is one for an observer: with bytes that nobody has,
    sent to one device alone, a leader would keep that device awake for ever (ADR 0013).
    """
    if state.pool.pending:
        return True
    slots = state.views.get(state.cur)
    if state.me is not None and slots is not None and slots.proposal is not None:
        if not slots.invalid and not slots.own_k:
            return True
    return any(view > state.final_view and s.vc is not None for view, s in state.views.items())


def switch(state: State) -> bool:
    """Note the beginning or end of work; answers whether it changed. The timers follow in frontier."""
    work = is_work(state)
    if work == state.work:
        return False
    state.work = work
    if work:
        state.work_since_ms = state.now_ms
        state.standstill_round = 0
        state.standstill_cursor = 0
    return True
