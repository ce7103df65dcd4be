"""R0's slots and R6: verified statements and certificates come in, certificates form from q of them."""

from __future__ import annotations

from swarm.consensus.attest import differs
from swarm.consensus.claims import CLEARING, on_answer
from swarm.consensus.evidence import report
from swarm.consensus.inputs import ProposalIn
from swarm.consensus.state import Slots, State
from swarm.consensus.stragglers import awaits_attest, is_pointless, on_late_vote, on_sign_of_life
from swarm.primitives.limits import UNFINALIZED_VIEWS_MAX, VIEW_WINDOW
from swarm.wire.messages import proposal_statement
from swarm.wire.statements import Certificate, Kind, SignedStatement


def may_want_statement(state: State, kind: int, number: int, voter: int, digest: bytes) -> str | None:
    """Say why a statement is not worth its signature check, None if it is; changes nothing (R0).

    Unauthenticated fields may only ever cause a drop. A statement that is a copy of the one in the slot is
    `duplicate`; one of another digest is wanted, since it may be evidence.
    """
    if kind == Kind.ATTEST:
        if differs(state, number, voter, digest) or awaits_attest(state, voter, number):
            return None
        if number in state.attests.get(voter, {}):
            return "duplicate"
        return "stale" if number <= state.checkpoint_height else None
    if number > state.cur and not state.in_window(number):
        return None if may_check_ahead(state, voter) else "above-window"
    if is_pointless(state, voter, number):
        return "late"
    slots = state.views.get(number)
    if slots is None:
        return None
    held = _slot_of(slots, kind).get(voter)
    return "duplicate" if held is not None and held.digest == digest and number >= state.cur else None


def may_want_proposal(state: State, number: int, voter: int, digest: bytes) -> str | None:
    """Say why a proposal is not worth its signature check; a bare P in the slot does not make it a duplicate."""
    if number > state.cur and not state.in_window(number):
        return None if may_check_ahead(state, voter) else "above-window"
    slots = state.views.get(number)
    if slots is None:
        return None
    return "duplicate" if slots.proposal is not None and slots.proposal_hash == digest else None


def may_check_ahead(state: State, voter: int) -> bool:
    """Answer whether another statement above the window of this voter may be verified: one per Δ (R0)."""
    checked = state.ahead_checked_ms.get(voter)
    return checked is None or state.now_ms - checked >= state.config.delta_floor_ms


def _slot_of(slots: Slots, kind: int) -> dict[int, SignedStatement]:
    match kind:
        case Kind.NOTARIZE:
            return slots.notarizes
        case Kind.SKIP:
            return slots.skips
        case Kind.FINALIZE:
            return slots.finalizes
        case _:
            return slots.proposes


def on_statement(state: State, statement: SignedStatement, *, own: bool) -> None:
    """Put a verified P, N, K or F into its slot, answer a straggler, remember who is ahead."""
    view, voter = statement.number, statement.voter
    if not own:
        _hear(state, voter, view)
    if view > state.cur and not own:
        # Its signer knows every view below cleared, so it can be asked (R9).
        state.ahead[voter] = max(state.ahead.get(voter, 0), view)
        if not state.in_window(view):
            return
    if view <= state.final_view:
        on_late_vote(state, voter, view)
        return
    slots = state.slots(view)
    _remember_own(state, slots, statement, own=own)
    if not own and view < state.cur:
        on_late_vote(state, voter, view)
    kinds = _slot_of(slots, statement.kind)
    held = kinds.get(voter)
    if held is not None:
        report(state, held, statement)
        return
    kinds[voter] = statement
    if not own:
        on_sign_of_life(state, voter, view)
    _report_across(state, slots, statement)
    if statement.kind != Kind.PROPOSE:
        _form(state, slots, statement)


def _hear(state: State, voter: int, view: int) -> None:
    """Note the voter's presence, at most up to the window: a claim of a far view must not make it present for ever."""
    state.heard[voter] = max(state.heard[voter], min(view, state.cur + VIEW_WINDOW))


def _remember_own(state: State, slots: Slots, statement: SignedStatement, *, own: bool) -> None:
    if not own:
        return
    match statement.kind:
        case Kind.PROPOSE:
            slots.own_p = statement.digest
        case Kind.NOTARIZE:
            slots.own_n = statement.digest
        case Kind.SKIP:
            slots.own_k = True
        case _:
            slots.own_f = statement.digest
            slots.own_f_at_ms = state.now_ms


def _report_across(state: State, slots: Slots, statement: SignedStatement) -> None:
    voter = statement.voter
    if statement.kind == Kind.FINALIZE and voter in slots.skips:
        report(state, slots.skips[voter], statement)
    elif statement.kind == Kind.SKIP and voter in slots.finalizes:
        report(state, slots.finalizes[voter], statement)


def _form(state: State, slots: Slots, statement: SignedStatement) -> None:
    """R6: a certificate forms from q statements of distinct voters on one kind, view and digest."""
    if _certificate_of(slots, statement.kind) is not None:
        return
    signers = {
        voter: held.signature
        for voter, held in _slot_of(slots, statement.kind).items()
        if held.digest == statement.digest
    }
    if len(signers) < state.q:
        return
    chosen = sorted(signers)[: state.q]
    certificate = Certificate(
        kind=statement.kind,
        epoch=statement.epoch,
        number=statement.number,
        digest=statement.digest,
        signatures=tuple((voter, signers[voter]) for voter in chosen),
    )
    absorb_certificate(state, certificate)
    _schedule_republish(state, certificate)


def _schedule_republish(state: State, certificate: Certificate) -> None:
    """R8: publish it after a random delay in [0, Δ/2] unless it is heard from somebody else before.

    Who does not vote takes a span that grows with the observers, so that as many of them come before a voter's copy
    is heard, however large the fleet is (ADR 0019).
    """
    span = state.delta_ms // 2
    if state.me is None:
        span += span * state.config.observers // state.n
    due = state.now_ms + state.jitter_ms(b"certificate", certificate.number, certificate.kind, span)
    state.republish[certificate.kind, certificate.number] = (due, certificate)


def _certificate_of(slots: Slots, kind: int) -> Certificate | None:
    match kind:
        case Kind.NOTARIZE:
            return slots.vc
        case Kind.SKIP:
            return slots.sc
        case _:
            return slots.fc


def on_certificate(state: State, certificate: Certificate, *, broadcast: bool) -> None:
    """Take a verified certificate of any view of this epoch.

    One that everybody heard need not be republished (R8). A VC or SC that was sent to this device alone is: else a
    liar that completes a certificate in private keeps one device ahead of the others for ever (docs/PROTOCOL.md 5.4).
    """
    if broadcast:
        state.republish.pop((certificate.kind, certificate.number), None)
    elif wants_certificate(state, certificate):
        on_answer(state, CLEARING)
        if certificate.kind != Kind.FINALIZE:
            _schedule_republish(state, certificate)
    absorb_certificate(state, certificate)


def wants_certificate(state: State, certificate: Certificate) -> bool:
    """Answer whether the certificate would tell this replica anything, before its signatures are checked."""
    view = certificate.number
    if certificate.kind == Kind.FINALIZE:
        if len(state.fcs) >= UNFINALIZED_VIEWS_MAX and view <= state.final_view:
            return False
        return view > state.delivered_view and certificate.digest not in state.fcs
    # The bound goes with cur: counted from the finalized view it would stop an outage of that length for ever.
    if view <= state.final_view or view > max(state.cur, state.final_view) + UNFINALIZED_VIEWS_MAX:
        return False
    slots = state.views.get(view)
    return slots is None or _certificate_of(slots, certificate.kind) is None


def absorb_certificate(state: State, certificate: Certificate) -> None:
    """Store the certificate in its view and keep it durable if it moved anything (R10)."""
    view = certificate.number
    if not wants_certificate(state, certificate):
        return
    if certificate.kind == Kind.FINALIZE:
        state.fcs[certificate.digest] = certificate
        state.draft.keep_certificates.append(certificate)
        if view > state.final_view:
            state.slots(view).fc = certificate
        return
    slots = state.slots(view)
    if certificate.kind == Kind.NOTARIZE:
        slots.vc = certificate
    else:
        slots.sc = certificate
        state.note("cleared-by-skip", view)
    state.draft.keep_certificates.append(certificate)


def on_proposal(state: State, message: ProposalIn) -> None:
    """Keep the first valid proposal of a view's leader; a second is evidence and its header is kept in case it
    is certified (R0).
    """
    proposal, digest = message.proposal, message.hash
    header = proposal.header
    if header.view <= state.final_view or not state.in_window(header.view):
        if header.view > state.cur:
            _hear(state, header.proposer, header.view)
            state.ahead[header.proposer] = max(state.ahead.get(header.proposer, 0), header.view)
        elif not message.own:
            on_late_vote(state, header.proposer, header.view)
        return
    slots = state.slots(header.view)
    statement = proposal_statement(proposal, digest)
    second = header.proposer in slots.proposes and slots.proposes[header.proposer].digest != digest
    on_statement(state, statement, own=message.own)
    if second and not _is_certified(slots, digest):
        return
    state.headers.setdefault(digest, header)
    if slots.proposal is None and header.proposer == state.leader(header.view):
        slots.proposal = proposal
        slots.proposal_hash = digest


def _is_certified(slots: Slots, digest: bytes) -> bool:
    return any(c is not None and c.digest == digest for c in (slots.vc, slots.fc))
