"""R9: what is missing, and whom to ask: first who claimed to have it, then others, with counters and back-off.

The needs are computed anew at every advance from the state; only attempts and times are remembered. So an answer needs
no bookkeeping: when the thing has arrived, the need is gone.
"""

from __future__ import annotations

from dataclasses import dataclass

from swarm.consensus import notarize
from swarm.consensus.claims import BLOCKS, CLEARING, believed, is_doubted, is_sure, on_answer
from swarm.consensus.disseminate import take_token
from swarm.consensus.inputs import BlockIn, BlocksIn, HeartbeatIn, ProtocolAsk, RequestIn
from swarm.consensus.output import AskFor, Priority, Send, Serve
from swarm.consensus.state import Fetch, State
from swarm.consensus.stragglers import clearing_certificates, on_sign_of_finality
from swarm.consensus.tally import absorb_certificate
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import (
    ANSWER_CERTIFICATES_MAX,
    BLOCK_BYTES_MAX,
    BLOCK_SUBMISSIONS_MAX,
    CLAIM_DOUBT_MAX_MS,
    CLAIM_QUESTIONS_MAX,
    FETCHES_MAX,
)
from swarm.wire.messages import (
    AskBlock,
    AskBlocks,
    AskCertificates,
    AskSubmissions,
    Block,
    Item,
    SubmissionItem,
)
from swarm.wire.statements import Header

Key = tuple[str, bytes | int]

_BACK_OFF_MAX = 6
"""Doublings of the interval between two attempts: 64 times Δ, then the cap of Δ rules."""


@dataclass(frozen=True, slots=True)
class Need:
    """One missing thing, who claimed to have it, and how long to wait for it to come by itself first."""

    ask: ProtocolAsk
    claimants: tuple[DeviceId, ...]
    patience_ms: int
    doubtful: bool = False
    """Only their word says that anything is missing, and they are fewer than r+1 voters."""


def plan_needs(state: State) -> dict[Key, Need]:
    """Return everything that is missing now, the most useful first; bounded by FETCHES_MAX."""
    needs: dict[Key, Need] = {}
    delta = state.delta_base_ms
    _need_delivery(state, needs, delta)
    _need_proposal(state, needs, delta)
    _need_notarized(state, needs, delta)
    _need_clearing(state, needs, delta)
    _need_claimed(state, needs, delta)
    return dict(list(needs.items())[:FETCHES_MAX])


def _voters_of(state: State, indices: list[int]) -> tuple[DeviceId, ...]:
    return tuple(state.config.voters[i] for i in indices if i != state.me)


def _need_delivery(state: State, needs: dict[Key, Need], delta: int) -> None:
    """FC known, bytes not: asked for also without work (directed scenario `idle body`)."""
    if state.final_hash == state.delivered_hash:
        return
    signers = [] if state.final_fc is None else [voter for voter, _ in state.final_fc.signatures]
    claimants = _voters_of(state, signers)
    digest = state.final_hash
    while digest != state.delivered_hash:
        header = state.headers.get(digest)
        if header is None:
            height = state.delivered_height + 1
            asked = state.fetches.get(("blocks", height))
            if digest == state.final_hash or (asked is not None and asked.attempt >= state.n):
                # Also by hash, down from the FC: blocks up to the next FC may be too many or too large for one answer.
                needs["block", digest] = Need(AskBlock(hash=digest), claimants, delta // 4)
            needs["blocks", height] = Need(AskBlocks(height=height), claimants, delta // 2)
            return
        if not state.has_bodies(header):
            _need_bodies(state, needs, digest, claimants, delta // 4)
        digest = header.parent


def _need_bodies(
    state: State,
    needs: dict[Key, Need],
    digest: bytes,
    claimants: tuple[DeviceId, ...],
    patience_ms: int,
) -> None:
    header = state.headers[digest]
    missing = tuple(s for s in header.submissions if s not in state.pool.entries)[:BLOCK_SUBMISSIONS_MAX]
    if missing:
        needs["submissions", digest] = Need(AskSubmissions(ids=missing), claimants, patience_ms)


def _need_proposal(state: State, needs: dict[Key, Need], delta: int) -> None:
    slots = state.views.get(state.cur)
    if slots is None or slots.proposal is None or slots.invalid:
        return
    if state.me is None or slots.own_k:
        # Only N needs it now; once a VC names the block, that is the reason.
        return
    judgement = notarize.judge(state)
    proposer = _voters_of(state, [slots.proposal.header.proposer])
    if judgement.missing_skips:
        view = judgement.missing_skips[0]
        needs["clearing", view] = Need(AskCertificates(view=view), proposer, delta // 4)
    if judgement.missing_block is not None:
        digest = judgement.missing_block
        needs["block", digest] = Need(AskBlock(hash=digest), proposer, delta // 4)
    if judgement.missing_bodies is not None:
        _need_bodies(state, needs, judgement.missing_bodies, proposer, delta // 4)


def _need_notarized(state: State, needs: dict[Key, Need], delta: int) -> None:
    """Certified or voted blocks that are not in hand: needed for F, for proposing, and for the next N."""
    if state.me is None:
        # Who does none of these three waits until the block is final.
        return
    for view in sorted(v for v in state.views if v > state.final_view):
        slots = state.views[view]
        if slots.vc is not None:
            _need_chain(state, needs, slots.vc.digest, [v for v, _ in slots.vc.signatures], delta // 4)
            continue
        for voter in sorted(slots.notarizes):
            digest = slots.notarizes[voter].digest
            if digest not in state.headers and ("block", digest) not in needs:
                holders = [v for v, s in sorted(slots.notarizes.items()) if s.digest == digest]
                needs["block", digest] = Need(
                    AskBlock(hash=digest),
                    _voters_of(state, holders),
                    delta // 2,
                    doubtful=len(holders) <= state.config.budget.r,
                )


def _need_chain(
    state: State, needs: dict[Key, Need], digest: bytes, signers: list[int], patience: int
) -> None:
    claimants = _voters_of(state, signers)
    while digest not in (state.final_hash, state.delivered_hash):
        header = state.headers.get(digest)
        if header is None:
            needs.setdefault(("block", digest), Need(AskBlock(hash=digest), claimants, patience))
            return
        if header.view <= state.final_view:
            return
        if not state.has_bodies(header):
            _need_bodies(state, needs, digest, claimants, patience)
        digest = header.parent


def _need_clearing(state: State, needs: dict[Key, Need], delta: int) -> None:
    """A valid statement above cur: its signer knows cur cleared."""
    ahead = [voter for voter in sorted(state.ahead) if state.ahead[voter] > state.cur]
    if ahead:
        claimants = list(_voters_of(state, ahead))
        _need_claim(state, needs, AskCertificates(view=state.cur), claimants, delta // 2)


def _need_claimed(state: State, needs: dict[Key, Need], delta: int) -> None:
    """A heartbeat with a higher finalized view or height."""
    if not state.claims:
        return
    _forget_claims(state)
    above = sorted(s for s, (view, _) in state.claims.items() if view > state.final_view)
    if above:
        # Not from cur on: whoever has the VCs up to cur but not the FC would be told nothing.
        _need_claim(state, needs, AskCertificates(view=state.final_view + 1), above, delta // 2)
    next_height = state.delivered_height + 1
    higher = sorted(s for s, (_, height) in state.claims.items() if height > next_height)
    if higher:
        _need_claim(state, needs, AskBlocks(height=next_height), higher, delta // 2)


def _forget_claims(state: State) -> None:
    """Drop claims that say nothing new: what is final and delivered here only grows, and a fleet claims much."""
    view, height = state.final_view, state.delivered_height + 1
    for sender in [s for s, claim in state.claims.items() if claim[0] <= view and claim[1] <= height]:
        del state.claims[sender]


def _need_claim(
    state: State,
    needs: dict[Key, Need],
    ask: AskCertificates | AskBlocks,
    claimants: list[DeviceId],
    patience_ms: int,
) -> None:
    """Need what somebody claims to have; the word of fewer than r+1 voters counts only while it is not doubted."""
    about, number = (CLEARING, ask.view) if isinstance(ask, AskCertificates) else (BLOCKS, ask.height)
    sure = is_sure(state, claimants)
    if not sure:
        claimants = [c for c in claimants if not is_doubted(state, c, about)]
    held = needs.get((about, number))
    if not claimants or (held is not None and not held.doubtful):
        return
    others = () if held is None else tuple(c for c in held.claimants if c not in claimants)
    needs[about, number] = Need(ask, (*others, *claimants), patience_ms, doubtful=not sure)


def fetch(state: State) -> None:
    """Send the requests that are due, forget those whose need is gone."""
    needs = plan_needs(state)
    for key in [k for k in state.fetches if k not in needs]:
        del state.fetches[key]
    for key, need in needs.items():
        entry = state.fetches.get(key)
        if entry is None:
            wait = need.patience_ms + state.jitter_ms(b"fetch", state.cur, 0, need.patience_ms)
            entry = state.fetches[key] = Fetch(0, state.now_ms + wait)
        if entry.rare and not need.doubtful:
            entry.rare, entry.due_ms = False, state.now_ms
        # Above answers in the bucket: other people's questions must not starve what this device needs itself.
        if state.now_ms < entry.due_ms or not take_token(state, Priority.SUBMISSION):
            continue
        if entry.asked is not None:
            _distrust(state, entry.asked)
        claimants = need.claimants
        if need.doubtful and not isinstance(need.ask, AskBlock):
            claimants = believed(state, claimants, key[0])
            if not claimants:
                del state.fetches[key]
                continue
        device = _whom(state, entry, claimants)
        if device is None:
            continue
        entry.asked = device
        entry.times[device] = entry.times.get(device, 0) + 1
        entry.attempt += 1
        span = min(state.config.delta_cap_ms, state.delta_base_ms << min(entry.attempt, _BACK_OFF_MAX))
        # Only votes N of a few are left here; such a vote is not forgotten, so the question becomes rare.
        entry.rare = need.doubtful and entry.attempt >= CLAIM_QUESTIONS_MAX
        if entry.rare:
            span = CLAIM_DOUBT_MAX_MS
        entry.due_ms = state.now_ms + span + state.jitter_ms(b"back-off", state.cur, entry.attempt, span // 4)
        state.draft.asks.append(AskFor(entry.asked, need.ask))


def _whom(state: State, entry: Fetch, claimants: tuple[DeviceId, ...]) -> DeviceId | None:
    """Return whom to ask now: who was asked least for this need, who disappointed lately last, claimants first.

    Everybody is asked before anybody is asked again, so that liars cannot hide the one who has it.
    """
    voters = [v for v in state.config.voters if v != state.config.me and v not in claimants]
    start = state.jitter_ms(b"whom", state.cur, 0, max(0, len(voters) - 1))
    order = [*claimants, *voters[start:], *voters[:start]]
    if not order:
        return None

    def rank(place: int) -> tuple[int, bool, bool, int]:
        device = order[place]
        late = state.unreliable.get(device, (0, 0))[0] > state.now_ms
        return entry.times.get(device, 0), late, place >= len(claimants), place

    return order[min(range(len(order)), key=rank)]


def _distrust(state: State, device: DeviceId) -> None:
    _, span = state.unreliable.get(device, (0, state.delta_base_ms))
    span = min(span * 2, state.config.delta_cap_ms)
    state.unreliable[device] = (state.now_ms + span, span)


def on_heartbeat(state: State, message: HeartbeatIn) -> None:
    """Remember what a member says it has, only to ask it for more."""
    state.claims[message.sender] = (message.finalized_view, message.height)
    if message.sender in state.config.voters:
        on_sign_of_finality(state, state.config.voters.index(message.sender), message.finalized_view)


def wants_block(state: State, digest: bytes) -> bool:
    """Answer whether the block was asked for, or a certificate or a known header names it; else its bytes are dropped."""
    return (
        ("block", digest) in state.fetches
        or digest in state.fcs
        or digest in state.headers
        or any(s.vc is not None and s.vc.digest == digest for s in state.views.values())
    )


def on_block(state: State, message: BlockIn) -> bool:
    """Take a block that is wanted and stands where it was asked for; answers whether it was taken."""
    header = message.header
    if not wants_block(state, message.hash) or header.view <= state.delivered_view:
        return False
    if not _belongs(state, message.hash, header):
        return False
    is_final = header.view <= state.final_view
    if not is_final and sum(len(s.raw) for s in message.submissions) > BLOCK_BYTES_MAX:
        if message.hash in state.headers:
            state.too_large.add(message.hash)
        return False
    _take(state, message, is_final=is_final)
    on_answer(state, BLOCKS)
    return True


def _belongs(state: State, digest: bytes, header: Header) -> bool:
    """Answer whether the header stands in the view and height that whoever named its hash says.

    Nothing is kept by a number that a liar put into a header: a view that no vote, certificate or child names would
    never be forgotten, and its bytes neither.
    """
    certificate = state.fcs.get(digest)
    if certificate is not None:
        return header.view == certificate.number
    if digest == state.final_hash:
        return header.view == state.final_view
    slots = state.views.get(header.view)
    if slots is not None and header.proposer == state.leader(header.view):
        certified = slots.vc is not None and slots.vc.digest == digest
        if certified or slots.proposal_hash == digest:
            return True
        if any(statement.digest == digest for statement in slots.notarizes.values()):
            return True
    return any(
        child.parent == digest and child.parent_view == header.view and child.height == header.height + 1
        for child in state.headers.values()
    )


def _take(state: State, message: BlockIn, *, is_final: bool) -> None:
    state.headers.setdefault(message.hash, message.header)
    for submission in message.submissions:
        state.pool.pin(submission, state.sequences, state.delivered_height, is_final=is_final)


def on_blocks(state: State, message: BlocksIn) -> bool:
    """Take consecutive blocks on the delivered tip, with the FC on the last: a long gap closes in order."""
    digest = state.delivered_hash
    chain: list[BlockIn] = []
    for block in message.blocks:
        if block.header.height <= state.delivered_height:
            continue
        if block.header.parent != digest:
            return False
        chain.append(block)
        digest = block.hash
    if not chain or message.finality is None or message.finality.digest != digest:
        return False
    for block in chain:
        _take(state, block, is_final=True)
    absorb_certificate(state, message.finality)
    on_answer(state, BLOCKS)
    return True


def on_request(state: State, message: RequestIn) -> None:
    """Answer from memory, or hand the question to the store (`Serve`)."""
    match message.ask:
        case AskCertificates(view=view):
            for certificate in clearing_certificates(state, view)[:ANSWER_CERTIFICATES_MAX]:
                _answer(state, message.sender, certificate)
        case AskBlock(hash=digest):
            header = state.headers.get(digest)
            if header is None or not state.has_bodies(header):
                state.draft.serves.append(Serve(message.sender, message.ask))
                return
            bodies = tuple(state.pool.entries[s].raw for s in header.submissions)
            _answer(state, message.sender, Block(header=header, submissions=bodies))
            notarization = state.vc_of(header.view, digest)
            if notarization is not None:
                _answer(state, message.sender, notarization)
        case AskSubmissions(ids=ids):
            for digest in ids:
                held = state.pool.entries.get(digest)
                if held is not None:
                    _answer(state, message.sender, SubmissionItem(raw=held.raw))
            missing = tuple(d for d in ids if d not in state.pool.entries)
            if missing:
                state.draft.serves.append(Serve(message.sender, AskSubmissions(ids=missing)))
        case AskBlocks():
            state.draft.serves.append(Serve(message.sender, message.ask))


def _answer(state: State, to: DeviceId, item: Item) -> None:
    if take_token(state, Priority.ANSWER):
        state.draft.sends.append(Send(item, to, Priority.ANSWER))


def next_due_ms(state: State) -> int | None:
    """Return when the next fetch is due."""
    return min((f.due_ms for f in state.fetches.values()), default=None)
