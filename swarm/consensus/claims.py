"""Whose word is a reason to ask (R9): what r+1 voters say is true, what fewer say may be a lie and is forgotten.

A claim of a far view or height costs its maker one message. It must not cost every device a question every few seconds
for ever, nor may it ever be ignored for ever: only the claimants may have what is missing.
"""

from __future__ import annotations

from swarm.consensus.state import Doubt, State
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import CLAIM_DOUBT_MAX_MS, CLAIM_DOUBT_MS, CLAIM_QUESTIONS_MAX

CLEARING, BLOCKS = "clearing", "blocks"
"""What a claim is about: certificates that clear a view, or blocks of the log."""


def is_sure(state: State, claimants: list[DeviceId]) -> bool:
    """Answer whether one of the claimants is correct: they are r+1 distinct voters."""
    return sum(claimant in state.config.voters for claimant in claimants) > state.config.budget.r


def is_doubted(state: State, claimant: DeviceId, about: str) -> bool:
    """Answer whether the word of this one alone is no reason to ask for now."""
    doubt = state.doubts.get((claimant, about))
    return doubt is not None and state.now_ms < doubt.until_ms


def believed(state: State, claimants: tuple[DeviceId, ...], about: str) -> tuple[DeviceId, ...]:
    """Return for whose sake a question may still be asked, and count it; the claims of the others are forgotten."""
    kept: list[DeviceId] = []
    for claimant in claimants:
        doubt = state.doubts.setdefault((claimant, about), Doubt())
        if doubt.asked < CLAIM_QUESTIONS_MAX:
            doubt.asked += 1
            kept.append(claimant)
        else:
            _begin_doubt(state, claimant, about, doubt)
    return tuple(kept)


def _begin_doubt(state: State, claimant: DeviceId, about: str, doubt: Doubt) -> None:
    """Forget the claim and let the claimant's next ones wait, each time twice as long, at most a few minutes."""
    anew = doubt.span_ms == 0 or state.now_ms >= doubt.until_ms + CLAIM_DOUBT_MAX_MS
    doubt.span_ms = CLAIM_DOUBT_MS if anew else min(2 * doubt.span_ms, CLAIM_DOUBT_MAX_MS)
    doubt.until_ms = state.now_ms + doubt.span_ms
    doubt.asked = 0
    view, height = state.claims.get(claimant, (0, 0))
    if about == BLOCKS:
        state.claims[claimant] = (view, 0)
        return
    state.claims[claimant] = (0, height)
    if claimant in state.config.voters:
        state.ahead.pop(state.config.voters.index(claimant), None)


def on_answer(state: State, about: str) -> None:
    """Somebody answered usefully: who claims has what is missing, so the counts of questions start anew."""
    for (_, what), doubt in state.doubts.items():
        if what == about:
            doubt.asked = 0
