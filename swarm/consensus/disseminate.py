"""R8: what is published, and published again; everything repeated passes one token bucket with priorities."""

from __future__ import annotations

from swarm.consensus.output import Priority, Send
from swarm.consensus.pool import Resend
from swarm.consensus.state import State
from swarm.primitives.limits import EGRESS_BURST, EGRESS_FRAMES_PER_SECOND
from swarm.wire.messages import Item, SubmissionItem
from swarm.wire.statements import SignedStatement

STANDSTILL_DELTAS = 5
"""T_s = 5Δ: with 3Δ the measured p99 was the same and publishes a commit 25 instead of 22 (model.md section 6)."""

RESEND_DELTAS = 8
"""First back-off of an own unfinalized submission, in Δ right after a finalization: later than a commit in a view with one bad leader."""

_RESERVE = {
    Priority.VOTE: 0,
    Priority.SUBMISSION: EGRESS_BURST // 8,
    Priority.ANSWER: EGRESS_BURST // 4,
    Priority.BULK: EGRESS_BURST // 2,
}


def take_token(state: State, priority: Priority) -> bool:
    """Take one frame's token if the bucket holds more than this priority's reserve; refills by time passed."""
    passed = state.now_ms - state.tokens_at_ms
    if passed > 0:
        refill = passed * EGRESS_FRAMES_PER_SECOND
        state.tokens_milli = min(EGRESS_BURST * 1000, state.tokens_milli + refill)
        state.tokens_at_ms = state.now_ms
    if state.tokens_milli < (1 + _RESERVE[priority]) * 1000:
        return False
    state.tokens_milli -= 1000
    return True


def publish(state: State, item: Item, priority: Priority) -> bool:
    """Publish an item to everybody if the bucket allows it; answers whether it did."""
    if not take_token(state, priority):
        return False
    state.draft.sends.append(Send(item, None, priority))
    return True


def disseminate(state: State) -> None:
    """Publish what is due: own stored items after a start, formed certificates, own submissions, a standstill."""
    _resend_after_start(state)
    _republish_certificates(state)
    _resend_own_submissions(state)
    _standstill(state)


def on_own_submission(state: State, digest: bytes) -> None:
    """Schedule the repetition of an own submission until it is in the log."""
    state.pool.own[digest] = Resend(state.now_ms + RESEND_DELTAS * state.delta_base_ms, 0)


def _resend_after_start(state: State) -> None:
    while state.resend_own:
        if not publish(state, state.resend_own[0], Priority.VOTE):
            return
        state.resend_own.pop(0)


def _republish_certificates(state: State) -> None:
    for key in sorted(state.republish, key=lambda k: (state.republish[k][0], k)):
        due, certificate = state.republish[key]
        if due > state.now_ms or not publish(state, certificate, Priority.VOTE):
            return
        del state.republish[key]


def _resend_own_submissions(state: State) -> None:
    cap = state.config.delta_cap_ms
    for digest, resend in list(state.pool.own.items()):
        if resend.due_ms > state.now_ms:
            continue
        submission = state.pool.entries.get(digest)
        if submission is None:
            del state.pool.own[digest]
            continue
        if not publish(state, SubmissionItem(raw=submission.raw), Priority.SUBMISSION):
            return
        resend.attempt += 1
        span = min(cap, RESEND_DELTAS * state.delta_base_ms << min(resend.attempt, 16))
        resend.due_ms = state.now_ms + span + state.jitter_ms(b"resend", resend.attempt, 0, span // 4)


def standstill_due_ms(state: State) -> int | None:
    """Return when the next standstill round is due: T_s after the later of the last finalization and work appearing."""
    if not state.work:
        return None
    if state.standstill_round and state.standstill_at_ms is not None:
        return state.standstill_at_ms
    since = max(state.final_at_ms, state.work_since_ms)
    return since + STANDSTILL_DELTAS * state.delta_ms


def _standstill(state: State) -> None:
    due = standstill_due_ms(state)
    if due is None or state.now_ms < due:
        return
    items = _standstill_items(state)
    start = state.standstill_cursor if state.standstill_cursor < len(items) else 0
    sent = 0
    for item, priority in items[start:] + items[:start]:
        if not publish(state, item, priority):
            break
        sent += 1
    state.standstill_cursor = 0 if sent >= len(items) else (start + sent) % len(items)
    state.standstill_round += 1
    # 1.5x per repetition to 4x.
    factor_16 = min(64, 16 * 3 ** min(state.standstill_round, 4) // 2 ** min(state.standstill_round, 4))
    span = STANDSTILL_DELTAS * state.delta_ms * factor_16 // 16
    state.standstill_at_ms = state.now_ms + span
    state.note("standstill", state.cur)


def _standstill_items(state: State) -> list[tuple[Item, Priority]]:
    """Return everything to repeat, in R8's order: own of cur, highest FC, certificates, older own, submissions."""
    items: list[tuple[Item, Priority]] = [(i, Priority.VOTE) for i in own_items(state, state.cur)]
    if state.final_fc is not None:
        items.append((state.final_fc, Priority.VOTE))
    above = [v for v in sorted(state.views) if v > state.final_view]
    for view in above:
        slots = state.views[view]
        items.extend((c, Priority.VOTE) for c in (slots.vc, slots.sc) if c is not None)
    for view in above:
        if view != state.cur:
            items.extend((i, Priority.VOTE) for i in own_items(state, view))
    items.extend(
        (SubmissionItem(raw=state.pool.entries[digest].raw), Priority.SUBMISSION)
        for digest in state.pool.pending
    )
    return items


def own_items(state: State, view: int) -> list[Item]:
    """Return this device's own stored proposal and statements of one view."""
    slots = state.views.get(view)
    if slots is None or state.me is None:
        return []
    items: list[Item] = []
    if slots.proposal is not None and slots.own_p == slots.proposal_hash:
        items.append(slots.proposal)
    kinds: tuple[dict[int, SignedStatement], ...] = (slots.notarizes, slots.skips, slots.finalizes)
    items.extend(kind[state.me] for kind in kinds if state.me in kind)
    return items
