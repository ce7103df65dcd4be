"""The core's face: absorb one input, then ask every rule in the order of PROTOCOL.md until nothing changes.

Pure: time is an argument, randomness is a hash, and what to do comes out as one frozen `Output`. A rule never waits
for "its" message: R3 may become possible by a proposal, a certificate, a body or a view entry, so it is asked each time.
"""

from __future__ import annotations

from typing import assert_never

from swarm.consensus import (
    attest,
    disseminate,
    fetch,
    finalize,
    frontier,
    notarize,
    propose,
    quiesce,
    skip,
    stragglers,
    tally,
)
from swarm.consensus.inputs import (
    Applied,
    BlockIn,
    BlocksIn,
    CertificateIn,
    HeartbeatIn,
    Input,
    ProposalIn,
    RequestIn,
    StatementIn,
    SubmissionIn,
    Tick,
)
from swarm.consensus.output import Output, Priority, Send
from swarm.consensus.recover import Recovered, recover
from swarm.consensus.state import Config, Draft, State
from swarm.primitives.errors import check
from swarm.primitives.limits import BLOCK_BYTES_MAX, EGRESS_FRAMES_PER_SECOND
from swarm.wire.messages import Submission, SubmissionItem
from swarm.wire.statements import Certificate, Kind

PASSES_MAX = 64
"""Passes over the rules in one advance; more would mean that two rules undo each other."""


class Replica:
    """One voter's or observer's consensus core. Not thread-safe; driven by device/device and by tests."""

    def __init__(self, config: Config, recovered: Recovered, now_ms: int) -> None:
        """Rebuild the state from the store's contents; the first `advance` publishes what R10 repeats."""
        self._state = recover(config, recovered, now_ms)

    @property
    def state(self) -> State:
        """The state, for questions only: device, tests and `explain` read it, nobody else writes it."""
        return self._state

    def be_mute(self, *, mute: bool) -> None:
        """Sign nothing, as an observer, or vote again; what was signed before stays known (FIRMWARE W9)."""
        self._state.me = None if mute else self._state.config.my_index

    # ------------------------------------------------------------------------------ admission's questions

    def why_drop_statement(self, kind: int, epoch: int, number: int, voter: int, digest: bytes) -> str | None:
        """Say why a statement is dropped before its signature is checked, None if it is wanted (R0)."""
        if epoch != self._state.config.epoch:
            return "wrong-epoch"
        if voter >= self._state.n:
            return "unknown-sender"
        return tally.may_want_statement(self._state, kind, number, voter, digest)

    def wants_certificate(self, certificate: Certificate) -> bool:
        """Answer whether a certificate is worth its q signature checks."""
        return tally.wants_certificate(self._state, certificate)

    def why_drop_proposal(self, epoch: int, view: int, voter: int, digest: bytes) -> str | None:
        """Say why a proposal is dropped before its signature is checked, None if it is wanted (R0)."""
        if epoch != self._state.config.epoch:
            return "wrong-epoch"
        if voter >= self._state.n:
            return "unknown-sender"
        return tally.may_want_proposal(self._state, view, voter, digest)

    def spend_check(self, view: int, voter: int) -> None:
        """Note that a statement's signature is checked now; above the window that is one per voter and Δ (R0)."""
        if view > self._state.cur and not self._state.in_window(view):
            self._state.ahead_checked_ms[voter] = self._state.now_ms

    def waits_to_hear(self, certificate: Certificate) -> bool:
        """Answer whether a copy from somebody else would spare us republishing this certificate (R8)."""
        held = self._state.republish.get((certificate.kind, certificate.number))
        return held is not None and held[1].digest == certificate.digest

    def hears_certificate(self, certificate: Certificate) -> None:
        """Note that somebody else published a verified certificate we hold: it need not be republished (R8)."""
        self._state.republish.pop((certificate.kind, certificate.number), None)

    def wants_submission(self, digest: bytes) -> bool:
        """Answer whether a submission is new to this replica."""
        return digest not in self._state.pool.entries

    def wants_block(self, digest: bytes) -> bool:
        """Answer whether the bytes of this block are worth checking."""
        return fetch.wants_block(self._state, digest)

    # ------------------------------------------------------------------------------ inputs

    def absorb(self, message: Input, now_ms: int) -> None:
        """Take one verified input; nothing is decided before `advance`."""
        state = self._state
        state.now_ms = max(state.now_ms, now_ms)
        match message:
            case StatementIn(statement=statement, own=own):
                if statement.kind == Kind.ATTEST:
                    attest.on_attest(state, statement, own=own)
                else:
                    tally.on_statement(state, statement, own=own)
            case CertificateIn(certificate=certificate, broadcast=broadcast):
                tally.on_certificate(state, certificate, broadcast=broadcast)
            case ProposalIn():
                tally.on_proposal(state, message)
            case SubmissionIn():
                self._on_submission(message)
            case BlockIn():
                fetch.on_block(state, message)
            case BlocksIn():
                fetch.on_blocks(state, message)
            case HeartbeatIn():
                fetch.on_heartbeat(state, message)
            case RequestIn():
                fetch.on_request(state, message)
            case Applied():
                attest.on_applied(state, message)
            case Tick():
                pass
            case _:
                assert_never(message)

    def _on_submission(self, message: SubmissionIn) -> None:
        state = self._state
        submission = message.submission
        views = _views_that_need(state, submission)
        if views:
            is_final = max(views) <= state.final_view
            state.pool.pin(submission, state.sequences, state.delivered_height, is_final=is_final)
        else:
            state.pool.add(submission, state.sequences, state.delivered_height, own=message.own)
        if message.own and submission.id in state.pool.entries:
            disseminate.on_own_submission(state, submission.id)
            state.draft.sends.append(Send(SubmissionItem(raw=submission.raw), None, Priority.SUBMISSION))

    # ------------------------------------------------------------------------------ rules

    def advance(self, now_ms: int) -> Output:
        """Ask R0 to R14 in order until nothing changes, and return everything to do (see `Output` for the order).

        Statements in `wanted` are asked for once per call: the caller signs them, feeds them back with `absorb`,
        and calls again. What the guard refuses is a bug, so the caller must stop.
        """
        state = self._state
        state.now_ms = max(state.now_ms, now_ms)
        passes = 0
        changed = True
        while changed and not state.draft.wanted:
            passes += 1
            check(passes <= PASSES_MAX, "the rules do not come to rest")
            changed = finalize.raise_final(state)
            changed |= frontier.enter(state)
            changed |= quiesce.switch(state)
            frontier.arm(state)
            changed |= propose.propose(state)
            changed |= notarize.notarize(state)
            changed |= skip.skip(state)
            changed |= finalize.finalize(state)
            changed |= finalize.commit(state)
            changed |= attest.attest(state)
        wake_at_ms = None
        if not state.draft.wanted and not state.draft.finalized:
            disseminate.disseminate(state)
            stragglers.answer_stragglers(state)
            fetch.fetch(state)
            # Only a quiet output is waited upon; before that the caller comes back at once.
            wake_at_ms = self._wake_at_ms()
        output = state.draft.freeze(wake_at_ms)
        state.draft = Draft()
        return output

    def _wake_at_ms(self) -> int | None:
        state = self._state
        candidates: list[int | None] = [
            disseminate.standstill_due_ms(state),
            fetch.next_due_ms(state),
            attest.next_due_ms(state),
            stragglers.next_due_ms(state),
            min((due for due, _ in state.republish.values()), default=None),
            min((r.due_ms for r in state.pool.own.values()), default=None),
        ]
        if skip.may_skip(state):
            # After K or F nothing of cur waits for time: only certificates move on from there.
            voted = state.slots(state.cur).own_n is not None
            candidates.append(frontier.view_deadline_ms(state) if voted else frontier.vote_deadline_ms(state))
        wait = propose.empty_wait_ms(state) if propose.may_propose(state) else None
        if wait is not None and wait > state.now_ms:
            candidates.append(wait)
        times = [c for c in candidates if c is not None]
        # A time that is already past means "blocked by the token bucket": look again when it holds a token more.
        return max(min(times), state.now_ms + 1000 // EGRESS_FRAMES_PER_SECOND + 1) if times else None


def _views_that_need(state: State, submission: Submission) -> list[int]:
    """Return the views of known undelivered blocks that hold the submission.

    A block that it makes larger than a block may be is marked and needs nothing any more: its header alone would
    otherwise pin a hundred times what a block may hold.
    """
    views: list[int] = []
    for digest, header in state.headers.items():
        if header.view <= state.delivered_view or submission.id not in header.submissions:
            continue
        held = sum(len(state.pool.entries[s].raw) for s in header.submissions if s in state.pool.entries)
        if header.view > state.final_view and held + len(submission.raw) > BLOCK_BYTES_MAX:
            state.too_large.add(digest)
        if digest not in state.too_large:
            views.append(header.view)
    return views
