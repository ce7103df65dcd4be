"""R4: K in cur, never ahead of it, never after F, on a time-out, an invalid proposal, or a leader that will not come."""

from __future__ import annotations

from swarm.consensus.frontier import view_deadline_ms, vote_deadline_ms
from swarm.consensus.output import Wanted
from swarm.consensus.state import State
from swarm.primitives.ids import ZERO_DIGEST
from swarm.wire.statements import Kind


def is_absent(state: State, voter: int) -> bool:
    """Answer whether more than n views were entered since this device was in the last view that voter spoke of.

    Counted in entries, so a jump over a long gap counts one; a statement names its view, so a replay refreshes
    nothing (R4). Figures behind it: view-based absence took p50 from 10.5 to 7.3 delays with one of four dead.
    """
    if voter == state.me:
        return False
    entries = state.entries
    return len(entries) == state.n + 1 and entries[0] > state.heard[voter]


def why_skip(state: State) -> str | None:
    """Say why R4 wants K in cur now, None if it does not; only asked while nothing forbids it."""
    slots = state.slots(state.cur)
    leader = state.leader(state.cur)
    vote_at, view_at = vote_deadline_ms(state), view_deadline_ms(state)
    if slots.invalid:
        return "invalid"
    if leader in slots.skips and leader != state.me:
        return "leader-skipped"
    if slots.own_n is None and slots.proposal is None and is_absent(state, leader):
        return "leader-absent"
    if vote_at is not None and state.now_ms >= vote_at and slots.own_n is None:
        return "vote-timeout"
    if view_at is not None and state.now_ms >= view_at:
        return "view-timeout"
    return None


def may_skip(state: State) -> bool:
    """Answer whether K in cur is allowed: there is work, and no F and no K was signed there."""
    if state.me is None or not state.work:
        return False
    slots = state.slots(state.cur)
    return slots.own_f is None and not slots.own_k


def skip(state: State) -> bool:
    """Ask for K in cur if R4 wants it; answers whether it did."""
    if not may_skip(state):
        return False
    reason = why_skip(state)
    if reason is None:
        return False
    state.note(f"skip-{reason}", state.cur)
    state.draft.wanted.append(Wanted(Kind.SKIP, state.config.epoch, state.cur, ZERO_DIGEST))
    return True
