"""R0: whoever still votes in a cleared or finalized view is answered with what clears it, unless it moves on by itself.

On a network with jitter most late votes are only late: their sender has the certificate already. n devices that answer
every late vote of n voters at once would cost n squared messages a commit, so each waits a random part of n eighths
of Δ: whoever is really behind gets its first answer after about an eighth of Δ, and its next word stops the others.
"""

from __future__ import annotations

from swarm.consensus.output import Priority, Send
from swarm.consensus.state import State, Straggler
from swarm.primitives.limits import ANSWER_CERTIFICATES_MAX
from swarm.wire.statements import Certificate


def on_late_vote(state: State, voter: int, view: int) -> None:
    """Plan an answer to a vote in a view that is cleared here; at doubling intervals for each voter."""
    if voter == state.me or state.me is None:
        return
    floor = state.config.delta_floor_ms
    held = state.stragglers.get(voter)
    if held is None:
        base = state.final_at_ms if view <= state.final_view else state.entered_at_ms
        held = Straggler(allowed_at_ms=base + floor, span_ms=floor)
    if state.now_ms < held.allowed_at_ms or held.due_ms is not None:
        return
    wait = state.jitter_ms(b"late vote", view, voter, state.n * state.delta_base_ms // 8)
    held.view, held.due_ms = view, state.now_ms + wait
    state.stragglers[voter] = held


def is_pointless(state: State, voter: int, view: int) -> bool:
    """Answer whether a vote in a finalized view would change nothing here, so that its signature need not be checked.

    Its voter was heard in that view or above, and an answer to it is not allowed yet. (That one is planned is no reason:
    another item of the same frame may drop the plan.)
    """
    if view > state.final_view or state.heard[voter] < view:
        return False
    held = state.stragglers.get(voter)
    allowed_at_ms = state.final_at_ms + state.config.delta_floor_ms if held is None else held.allowed_at_ms
    return state.now_ms < allowed_at_ms


def on_sign_of_life(state: State, voter: int, view: int) -> None:
    """Drop the planned answer: a new vote of `view` shows that its sender is no more where the late one was."""
    held = state.stragglers.get(voter)
    if held is not None and held.due_ms is not None and view > max(held.view, state.final_view):
        held.due_ms = None


def on_sign_of_finality(state: State, voter: int, view: int) -> None:
    """Drop the planned answer: its receiver knows an FC of `view` or of a later one."""
    held = state.stragglers.get(voter)
    if held is not None and held.due_ms is not None and held.view <= view:
        held.due_ms = None


def awaits_attest(state: State, voter: int, height: int) -> bool:
    """Answer whether an A of this height would spare an answer: its voter has applied what is final here."""
    held = state.stragglers.get(voter)
    if held is None or held.due_ms is None:
        return False
    return height >= state.delivered_height and held.view <= state.delivered_view


def answer_stragglers(state: State) -> None:
    """Send the answers that are due."""
    for voter, held in state.stragglers.items():
        if held.due_ms is None or held.due_ms > state.now_ms:
            continue
        held.due_ms = None
        found = clearing_certificates(state, held.view)[:ANSWER_CERTIFICATES_MAX]
        if found:
            held.allowed_at_ms = state.now_ms + held.span_ms
            held.span_ms = min(held.span_ms * 2, state.config.delta_cap_ms)
            to = state.config.voters[voter]
            state.draft.sends.extend(Send(certificate, to, Priority.ANSWER) for certificate in found)


def forget_intervals(state: State) -> None:
    """Let the intervals start anew, because finalized advances; answers that are planned stay planned."""
    for voter, held in list(state.stragglers.items()):
        if held.due_ms is None:
            del state.stragglers[voter]
        else:
            held.span_ms = state.config.delta_floor_ms


def next_due_ms(state: State) -> int | None:
    """Return when the next answer is due."""
    return min((held.due_ms for held in state.stragglers.values() if held.due_ms is not None), default=None)


def clearing_certificates(state: State, view: int) -> list[Certificate]:
    """Return what clears `view` and the views above it here: the newest FC first, then certificates by view."""
    found: list[Certificate] = []
    if state.final_fc is not None and state.final_view >= view:
        found.append(state.final_fc)
    for number in sorted(v for v in state.views if v >= view and v > state.final_view):
        slots = state.views[number]
        found.extend(c for c in (slots.vc, slots.sc) if c is not None)
    return found
