"""Which pairs of one voter's statements convict it: only those that no correct device ever makes both."""

from __future__ import annotations

from swarm.consensus.output import Evidence
from swarm.consensus.state import State
from swarm.primitives.limits import EVIDENCE_MAX
from swarm.wire.statements import Kind, SignedStatement

_SAME_KIND = (Kind.PROPOSE, Kind.NOTARIZE, Kind.FINALIZE)


def convicts(first: SignedStatement, second: SignedStatement) -> bool:
    """Answer whether the two verified statements are evidence: same voter, epoch and view, and a convicting pair.

    N with another N, P with another P, F with another F, and F with K. Not N(a) with F(b), not N with K, nothing
    about A: correct devices make those when a leader equivocates or after an upgrade.
    """
    if (first.voter, first.epoch, first.number) != (second.voter, second.epoch, second.number):
        return False
    if first.kind == second.kind:
        return first.kind in _SAME_KIND and first.digest != second.digest
    return {first.kind, second.kind} == {int(Kind.FINALIZE), int(Kind.SKIP)}


def report(state: State, first: SignedStatement, second: SignedStatement) -> None:
    """Hand out the pair once per voter, view and kinds; bounded, because a liar can make many."""
    if not convicts(first, second):
        return
    key = (first.voter, first.number, "".join(sorted(chr(first.kind) + chr(second.kind))))
    if key in state.evidence_seen or sum(k[0] == first.voter for k in state.evidence_seen) >= EVIDENCE_MAX:
        return
    state.evidence_seen.add(key)
    state.draft.evidence.append(Evidence(first, second))
