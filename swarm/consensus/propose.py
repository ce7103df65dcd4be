"""R2: the leader of cur proposes one block on the highest notarized or final block below it."""

from __future__ import annotations

from swarm.consensus.disseminate import publish
from swarm.consensus.output import KeptBlock, Priority, Wanted
from swarm.consensus.state import State
from swarm.primitives.ids import ZERO_DIGEST
from swarm.primitives.limits import FRAME_BYTES_MAX
from swarm.wire.messages import Proposal, Submission, SubmissionItem
from swarm.wire.statements import Certificate, Header, Kind, header_hash

SKIPS_MAX = 16
"""Newest SCs attached to a proposal; the rest is asked for (R2, directed scenario `cap`)."""

_NO_SIGNATURE = bytes(64)


def plan_parent(state: State) -> tuple[int, bytes]:
    """Return (view, hash) of the highest notarized or final block below cur; everything between is skipped (R1)."""
    for view in sorted((v for v in state.views if state.final_view < v < state.cur), reverse=True):
        slots = state.views[view]
        certificate = slots.vc or slots.fc
        if certificate is not None:
            return view, certificate.digest
    return state.final_view, state.final_hash


def may_propose(state: State) -> bool:
    """Answer whether this device leads cur, there is work, and nothing was signed in cur yet."""
    if state.me is None or not state.work or state.leader(state.cur) != state.me:
        return False
    slots = state.views.get(state.cur)
    return slots is None or (slots.own_p is None and slots.own_n is None and not slots.own_k)


def empty_wait_ms(state: State) -> int | None:
    """Return until when the leader waits before it proposes an empty block: Δ after arming."""
    return None if state.armed_at_ms is None else state.armed_at_ms + state.delta_ms


def propose(state: State) -> bool:
    """Ask for the proposal of cur if R2 allows it now; answers whether it did."""
    if not may_propose(state):
        return False
    parent_view, parent_hash = plan_parent(state)
    if state.final_hash != state.delivered_hash or not state.chain_in_hand(parent_hash):
        # What would be a no-op is judged on the applied state, so the leader applies what is final first.
        return False
    parent_header = state.headers[parent_hash]
    submissions = _select(state, parent_hash, parent_header.height + 1)
    if not submissions:
        wait = empty_wait_ms(state)
        if wait is None or state.now_ms < wait or parent_hash == state.final_hash:
            return False
    header = Header(
        epoch=state.config.epoch,
        view=state.cur,
        height=parent_header.height + 1,
        parent_view=parent_view,
        parent=parent_hash,
        submissions=tuple(s.id for s in submissions),
        next=ZERO_DIGEST,
        proposer=state.leader(state.cur),
    )
    digest = header_hash(header)
    parent = state.vc_of(parent_view, parent_hash) if parent_view else None
    proposal = Proposal(
        header=header,
        parent=parent,
        skips=_newest_skips(state, parent_view),
        signature=_NO_SIGNATURE,
    )
    state.draft.keep_blocks.append(KeptBlock(digest, header, submissions))
    state.kept.add(digest)
    state.draft.wanted.append(
        Wanted(Kind.PROPOSE, state.config.epoch, state.cur, digest, proposal=proposal),
    )
    _send_along(state, submissions)
    return True


def _send_along(state: State, submissions: tuple[Submission, ...]) -> None:
    """Publish with the proposal what observers have not heard: what came from no voter.

    Else each observer would ask for each block. Where the bucket is empty they do.
    """
    if state.config.observers == 0:
        return
    for submission in submissions:
        if submission.body.origin not in state.config.voters:
            if not publish(state, SubmissionItem(raw=submission.raw), Priority.BULK):
                return


def _select(state: State, parent_hash: bytes, height: int) -> tuple[Submission, ...]:
    """Return the submissions that would be no no-op after the parent's chain."""
    if not state.pool.pending:
        return ()
    ahead = state.sequences.copy()
    for _, header in reversed(state.unfinalized_chain(parent_hash)):
        for digest in header.submissions:
            ahead.apply(state.pool.entries[digest].body, header.height)
    return state.pool.select(ahead, height)


def _newest_skips(state: State, parent_view: int) -> tuple[Certificate, ...]:
    room = FRAME_BYTES_MAX // 4
    chosen: list[Certificate] = []
    for view in range(state.cur - 1, max(parent_view, state.cur - 1 - SKIPS_MAX), -1):
        certificate = state.views[view].sc if view in state.views else None
        if certificate is None:
            continue
        room -= 80 * (len(certificate.signatures) + 1)
        if room < 0:
            break
        chosen.append(certificate)
    return tuple(reversed(chosen))
