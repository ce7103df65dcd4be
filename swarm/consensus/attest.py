"""R14: voters sign what the log and the state are after a height; r+1 matching ones are a checkpoint."""

from __future__ import annotations

from swarm.consensus.inputs import Applied
from swarm.consensus.output import Wanted
from swarm.consensus.state import State
from swarm.consensus.stragglers import on_sign_of_finality
from swarm.primitives.limits import ATTEST_SLOTS
from swarm.wire.messages import Checkpoint
from swarm.wire.statements import Kind, SignedStatement, attest_digest

APPLIED_KEPT = 64
"""Recent own results kept to match others' attestations; older heights are covered by newer checkpoints."""


def on_applied(state: State, applied: Applied) -> None:
    """Remember the own result of a height and whether R14 asks for an attestation of it."""
    state.applied[applied.height] = applied
    for height in sorted(state.applied)[:-APPLIED_KEPT]:
        del state.applied[height]
    if applied.notable:
        state.attesting.candidate = max(state.attesting.candidate, applied.height)
    if applied.height % state.config.snapshot_every == 0 and applied.height > _last(state):
        # Apart from the candidate: a newer height that comes within the same Δ must not take its place.
        state.attesting.due.append(applied.height)
    for voter in sorted(state.attests):
        statement = state.attests[voter].get(applied.height)
        if statement is not None:
            _compare(state, statement)
    _match(state, applied.height)


def _last(state: State) -> int:
    return 0 if state.own_attest is None else state.own_attest.number


def differs(state: State, height: int, voter: int, digest: bytes) -> bool:
    """Answer whether an A contradicts the own result of a recent height, for the first time of this voter there.

    Told once a voter and height, in rising order, so that one number a voter is all the memory it takes.
    """
    applied = state.applied.get(height)
    if applied is None or height <= state.attesting.alarmed.get(voter, 0):
        return False
    return digest != attest_digest(applied.log_size, applied.log_root, applied.state_root)


def _compare(state: State, statement: SignedStatement) -> None:
    """Raise the alarm of R14 where a verified A differs: a bug or a version skew, never evidence."""
    if differs(state, statement.number, statement.voter, statement.digest):
        state.attesting.alarmed[statement.voter] = statement.number
        state.note("attest-mismatch", statement.number)


def on_attest(state: State, statement: SignedStatement, *, own: bool) -> None:
    """Take a verified A into its sender's slots, the newest four heights (R0)."""
    height, voter = statement.number, statement.voter
    _compare(state, statement)
    if height >= state.delivered_height:
        on_sign_of_finality(state, voter, state.delivered_view)
    slots = state.attests.setdefault(voter, {})
    if height in slots or (height <= state.checkpoint_height and not own):
        return
    slots[height] = statement
    for old in sorted(slots)[:-ATTEST_SLOTS]:
        del slots[old]
    if own:
        state.own_attest = statement
    _match(state, height)


def _match(state: State, height: int) -> None:
    """Form the checkpoint of `height` from r+1 attestations that equal the own result."""
    applied = state.applied.get(height)
    if applied is None or height <= state.checkpoint_height:
        return
    digest = attest_digest(applied.log_size, applied.log_root, applied.state_root)
    signers: dict[int, bytes] = {}
    for voter in sorted(state.attests):
        statement = state.attests[voter].get(height)
        if statement is not None and statement.digest == digest:
            signers[voter] = statement.signature
    need = state.config.budget.r + 1
    if len(signers) < need:
        return
    state.checkpoint_height = height
    state.draft.checkpoints.append(
        Checkpoint(
            epoch=state.config.epoch,
            height=height,
            log_size=applied.log_size,
            log_root=applied.log_root,
            state_root=applied.state_root,
            signatures=tuple((voter, signers[voter]) for voter in sorted(signers)[:need]),
        ),
    )


def _candidate(state: State) -> tuple[int | None, bool]:
    """Return the height that R14 asks for, None for none, and whether it is wanted at once.

    C-th heights go first, since attested heights only rise; then one that another voter attested already, so that
    voters that apply at different speeds meet at one height instead of passing each other for ever.
    """
    if state.me is None:
        return None, False
    last = _last(state)
    state.attesting.due = [h for h in state.attesting.due if h > last and h in state.applied]
    if state.attesting.due:
        return state.attesting.due[0], True
    candidate = state.attesting.candidate
    if not state.work and state.delivered_height in state.applied:
        candidate = max(candidate, state.delivered_height) if candidate or state.delivered_height else 0
    floor = max(last, state.checkpoint_height)
    heard = [
        height
        for voter, slots in state.attests.items()
        if voter != state.me
        for height in slots
        if height > floor and height in state.applied
    ]
    if heard:
        candidate = max(heard)
    if candidate <= last or candidate not in state.applied:
        return None, False
    return candidate, bool(heard)


def plan_attest(state: State) -> int | None:
    """Return the height to attest now, None for none: at most one outstanding per Δ, then the newest."""
    candidate, at_once = _candidate(state)
    outstanding = _last(state) > state.checkpoint_height
    if outstanding and not at_once and state.now_ms < (state.attesting.wanted_at_ms or 0):
        return None
    return candidate


def attest(state: State) -> bool:
    """Ask for A if R14 wants one; answers whether it did."""
    height = plan_attest(state)
    if height is None:
        return False
    applied = state.applied[height]
    digest = attest_digest(applied.log_size, applied.log_root, applied.state_root)
    state.attesting.wanted_at_ms = state.now_ms + state.config.delta_floor_ms
    state.draft.wanted.append(Wanted(Kind.ATTEST, state.config.epoch, height, digest))
    return True


def next_due_ms(state: State) -> int | None:
    """Return when an attestation that waits for its Δ may be signed."""
    candidate, _ = _candidate(state)
    return None if candidate is None else state.attesting.wanted_at_ms
