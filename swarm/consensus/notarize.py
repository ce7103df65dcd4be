"""R3: whether the proposal of cur may be notarized; what is missing makes it pending, not invalid.

Safety (lemma 6): a correct N demands an SC for every view that the block's parent link jumps over, and lemma 2 needs at
most one N per voter and view.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from swarm.consensus.frontier import vote_deadline_ms
from swarm.consensus.output import KeptBlock, Wanted
from swarm.consensus.state import State
from swarm.primitives.ids import ZERO_DIGEST
from swarm.primitives.limits import BLOCK_BYTES_MAX
from swarm.wire.statements import Header, Kind


class Standing(Enum):
    """What a proposal is right now."""

    READY = "ready"
    PENDING = "pending"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The standing of the proposal of cur and, while pending, what is missing (asked for by R9)."""

    standing: Standing
    reason: str = ""
    missing_skips: tuple[int, ...] = ()
    missing_block: bytes | None = None
    missing_bodies: bytes | None = None


_READY = Judgement(Standing.READY)


def judge(state: State) -> Judgement:
    """Judge the first proposal of cur's leader against R3; changes nothing. Call only when there is one."""
    slots = state.views[state.cur]
    if slots.proposal is None:
        return Judgement(Standing.PENDING, "no proposal")
    header = slots.proposal.header
    reason = _structural_fault(state, header)
    if reason:
        return Judgement(Standing.INVALID, reason)
    for view in range(header.parent_view + 1, state.cur):
        held = state.views.get(view)
        if view > state.final_view and (held is None or held.sc is None):
            missing = tuple(
                v
                for v in range(header.parent_view + 1, state.cur)
                if v not in state.views or state.views[v].sc is None
            )
            return Judgement(Standing.PENDING, "skip certificate", missing_skips=missing)
    if not state.is_notarized(header.parent_view, header.parent):
        return Judgement(Standing.PENDING, "parent certificate", missing_block=header.parent)
    return _judge_bytes(state, slots.proposal_hash, header)


def _structural_fault(state: State, header: Header) -> str:
    """Return why the header can never become valid, or an empty string."""
    if header.parent_view < state.final_view:
        # It would need an SC for the finalized view, which excludes its FC (lemma 1).
        return "parent below the finalized view"
    if header.parent_view == state.final_view and header.parent != state.final_hash:
        return "parent is not the finalized block"
    if header.parent_view >= header.view:
        return "parent view not below the view"
    if len(set(header.submissions)) != len(header.submissions):
        return "submission twice"
    if header.next != ZERO_DIGEST:
        return "next epoch without a membership change"
    parent = state.headers.get(header.parent)
    if parent is not None and (parent.height + 1 != header.height or parent.view != header.parent_view):
        return "height or parent view does not follow the parent"
    slots = state.views.get(header.parent_view)
    certified = None if slots is None else (slots.vc or slots.fc)
    if certified is not None and certified.digest != header.parent:
        # VC is unique per view (lemma 2): another parent of that view can never be certified.
        return "another block is notarized in the parent's view"
    return ""


def _judge_bytes(state: State, digest: bytes, header: Header) -> Judgement:
    """Demand header and submissions of the block and of every ancestor down to the finalized tip."""
    if digest in state.too_large:
        return Judgement(Standing.INVALID, "block too large")
    current = digest
    while current not in (state.final_hash, state.delivered_hash):
        held = state.headers.get(current)
        if held is None:
            return Judgement(Standing.PENDING, "ancestor", missing_block=current)
        if not state.has_bodies(held):
            return Judgement(Standing.PENDING, "submissions", missing_bodies=current)
        current = held.parent
    if current not in state.headers:
        return Judgement(Standing.PENDING, "finalized block", missing_block=current)
    if sum(len(state.pool.entries[s].raw) for s in header.submissions) > BLOCK_BYTES_MAX:
        return Judgement(Standing.INVALID, "block too large")
    return _READY


def may_notarize(state: State) -> bool:
    """Answer whether a proposal of cur could be notarized now: nothing signed N or K there, T_vote not expired."""
    slots = state.views.get(state.cur)
    if state.me is None or not state.work or slots is None or slots.proposal is None or slots.invalid:
        return False
    deadline = vote_deadline_ms(state)
    expired = deadline is not None and state.now_ms >= deadline
    return slots.own_n is None and not slots.own_k and not expired


def notarize(state: State) -> bool:
    """Ask for N on the proposal of cur if R3 allows it; marks it invalid if it can never be; answers if it did."""
    if not may_notarize(state):
        return False
    slots = state.views[state.cur]
    judgement = judge(state)
    if judgement.standing is Standing.INVALID:
        slots.invalid = True
        state.note("invalid-proposal", state.cur)
        return True
    if judgement.standing is Standing.PENDING:
        return False
    keep_chain(state, slots.proposal_hash)
    state.draft.wanted.append(Wanted(Kind.NOTARIZE, state.config.epoch, state.cur, slots.proposal_hash))
    return True


def keep_chain(state: State, digest: bytes) -> None:
    """Make the bytes of the block and of its unfinalized ancestors durable: N promises to serve them (R3, R10)."""
    for current, header in state.unfinalized_chain(digest):
        if header.view <= state.final_view:
            # Final already: its bytes may be missing here, and they become durable when it is delivered.
            break
        if current in state.kept:
            continue
        state.kept.add(current)
        bodies = tuple(state.pool.entries[s] for s in header.submissions)
        state.draft.keep_blocks.append(KeptBlock(current, header, bodies))
