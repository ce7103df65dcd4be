"""R10's core part: rebuild the state from what the store held, through the same code path as live messages."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.consensus.attest import on_attest
from swarm.consensus.disseminate import on_own_submission
from swarm.consensus.inputs import ProposalIn
from swarm.consensus.state import Config, Draft, State
from swarm.consensus.tally import absorb_certificate, on_proposal, on_statement
from swarm.wire.messages import Proposal, Submission
from swarm.wire.sequence import Sequences
from swarm.wire.statements import Certificate, Header, Kind, SignedStatement, header_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a store gives back to the core at a start; empty for a first start."""

    tip_hash: bytes | None = None
    tip_header: Header | None = None
    sequences: Sequences | None = None
    statements: tuple[SignedStatement, ...] = ()
    """Own statements above the finalized view, and the newest own A."""
    proposals: tuple[Proposal, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    blocks: tuple[tuple[bytes, Header, tuple[Submission, ...]], ...] = ()
    own_submissions: tuple[Submission, ...] = ()
    checkpoint_height: int = 0


def recover(config: Config, recovered: Recovered, now_ms: int) -> State:
    """Return the state of a replica after a start; nothing of it is stored or published again but what R10 says."""
    state = State(config, now_ms)
    if recovered.tip_hash is not None and recovered.tip_header is not None:
        _set_tip(state, recovered.tip_hash, recovered.tip_header)
    if recovered.sequences is not None:
        state.sequences = recovered.sequences
    state.checkpoint_height = recovered.checkpoint_height
    for certificate in recovered.certificates:
        if certificate.kind == Kind.FINALIZE and certificate.number >= state.final_view:
            _set_final(state, certificate)
    for submission in recovered.own_submissions:
        # Before the blocks: one that a block holds is pending all the same, since that block may never be final.
        if state.pool.add(submission, state.sequences, state.delivered_height, own=True):
            on_own_submission(state, submission.id)
            state.pool.own[submission.id].due_ms = now_ms
    for digest, header, submissions in recovered.blocks:
        if header.view <= state.delivered_view:
            continue
        state.headers[digest] = header
        state.kept.add(digest)
        for submission in submissions:
            is_final = header.view <= state.final_view
            state.pool.pin(submission, state.sequences, state.delivered_height, is_final=is_final)
    for certificate in recovered.certificates:
        absorb_certificate(state, certificate)
    for proposal in recovered.proposals:
        # An own proposal lies in a view whose slot may be outside a window that is not entered yet.
        state.cur = max(state.cur, proposal.header.view)
        on_proposal(state, ProposalIn(proposal, header_hash(proposal.header), own=True))
        state.resend_own.append(proposal)
    for statement in recovered.statements:
        if statement.kind == Kind.ATTEST:
            on_attest(state, statement, own=True)
            state.resend_own.append(statement)
        elif statement.number > state.final_view:
            on_statement(state, statement, own=True)
            if statement.kind != Kind.PROPOSE:
                state.resend_own.append(statement)
    state.cur = 0
    state.draft = Draft()
    return state


def _set_tip(state: State, digest: bytes, header: Header) -> None:
    state.headers = {digest: header}
    state.delivered_hash = state.final_hash = digest
    state.delivered_view = state.final_view = header.view
    state.delivered_height = header.height


def _set_final(state: State, certificate: Certificate) -> None:
    """The tip of the log may have been finalized by the FC of a descendant, so the FC decides what is final."""
    state.final_view = certificate.number
    state.final_hash = certificate.digest
    state.final_fc = certificate
    if certificate.number > state.delivered_view:
        state.fcs[certificate.digest] = certificate
