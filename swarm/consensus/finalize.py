"""R5 and R7: F on a notarized block in hand; an FC finalizes its block and all ancestors, delivered in order, once."""

from __future__ import annotations

from swarm.consensus import frontier, stragglers
from swarm.consensus.notarize import keep_chain
from swarm.consensus.output import FinalizedBlock, Wanted
from swarm.consensus.state import Slots, State
from swarm.primitives.errors import check
from swarm.wire.sequence import Verdict
from swarm.wire.statements import Certificate, Header, Kind


def may_finalize(state: State, slots: Slots) -> bool:
    """Answer R5 for one view: VC held, no K and no F signed there, block and unfinalized ancestors in hand.

    Not bound to cur: a VC that comes late is still a VC, and FC and SC of one view exclude each other by the K and F
    guards alone (lemma 1).
    """
    return (
        state.me is not None
        and slots.view > state.final_view
        and slots.vc is not None
        and not slots.own_k
        and slots.own_f is None
        and slots.vc.digest in state.headers
        and state.chain_in_hand(slots.vc.digest)
    )


def finalize(state: State) -> bool:
    """Ask for F in every view where R5 allows it; the bytes and the VC are stored in the same turn."""
    changed = False
    for view in sorted(v for v in state.views if v > state.final_view):
        slots = state.views[view]
        if may_finalize(state, slots) and slots.vc is not None:
            keep_chain(state, slots.vc.digest)
            state.draft.wanted.append(Wanted(Kind.FINALIZE, state.config.epoch, view, slots.vc.digest))
            changed = True
    return changed


def commit(state: State) -> bool:
    """R7: raise the finalized view by the highest FC, then deliver what is in hand, in height order, exactly once."""
    changed = raise_final(state)
    path = _plan_delivery(state)
    for digest, header in path:
        if not state.has_bodies(header):
            break
        _deliver(state, digest, header)
        changed = True
    return changed


def raise_final(state: State) -> bool:
    """Let the highest FC raise the finalized view, before any rule asks about views at or below it."""
    if not state.fcs:
        return False
    best = max(state.fcs.values(), key=lambda certificate: certificate.number)
    if best.number <= state.final_view:
        return False
    slots = state.views.get(best.number)
    if slots is not None and slots.own_f is not None:
        frontier.adapt_delta(state, state.now_ms - slots.own_f_at_ms)
    state.final_view = best.number
    state.final_hash = best.digest
    state.final_fc = best
    state.final_at_ms = state.now_ms
    state.standstill_round = 0
    state.standstill_cursor = 0
    stragglers.forget_intervals(state)
    for view in [v for v in state.views if v <= state.final_view]:
        del state.views[view]
    for key in [k for k in state.republish if k[1] <= state.final_view and k != (int(Kind.FINALIZE), k[1])]:
        del state.republish[key]
    for key in [k for k in state.republish if k[1] < state.final_view]:
        del state.republish[key]
    state.note("finalized", state.final_view)
    return True


def _plan_delivery(state: State) -> list[tuple[bytes, Header]]:
    """Return the blocks to deliver, oldest first: the path of the highest FC that reaches the delivered tip."""
    for certificate in sorted(state.fcs.values(), key=lambda c: c.number, reverse=True):
        path = _path_down(state, certificate)
        if path is not None:
            return path[::-1]
    return []


def _path_down(state: State, certificate: Certificate) -> list[tuple[bytes, Header]] | None:
    path: list[tuple[bytes, Header]] = []
    digest = certificate.digest
    while digest != state.delivered_hash:
        header = state.headers.get(digest)
        if header is None:
            return None
        check(
            header.height > state.delivered_height,
            f"fork: the FC of view {certificate.number} finalizes another block at height {header.height}",
        )
        path.append((digest, header))
        digest = header.parent
    return path


def _deliver(state: State, digest: bytes, header: Header) -> None:
    submissions = tuple(state.pool.entries[s] for s in header.submissions)
    counts = tuple(state.sequences.apply(s.body, header.height) is Verdict.COUNTS for s in submissions)
    state.draft.finalized.append(
        FinalizedBlock(digest, header, submissions, counts, state.fcs.get(digest)),
    )
    state.delivered_hash = digest
    state.delivered_view = header.view
    state.delivered_height = header.height
    for submission in submissions:
        state.pool.own.pop(submission.id, None)
    state.fcs.pop(digest, None)
    _forget_below(state)
    # A block above may hold a delivered submission once more, as a no-op, and needs its bytes for that.
    needed = {s for h in state.headers.values() if h.view > header.view for s in h.submissions}
    state.pool.judge_again(state.sequences, state.delivered_height, needed)
    state.pool.drop_unneeded(needed)


def _forget_below(state: State) -> None:
    """Drop headers that can no longer matter: at or below the delivered view, and dead branches once caught up."""
    floor = state.final_view if state.delivered_hash == state.final_hash else state.delivered_view
    for digest in [d for d, h in state.headers.items() if h.view <= floor and d != state.delivered_hash]:
        del state.headers[digest]
        state.kept.discard(digest)
        state.too_large.discard(digest)
    for digest in [d for d, c in state.fcs.items() if c.number <= state.delivered_view]:
        del state.fcs[digest]
