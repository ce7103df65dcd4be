"""The volatile state of one replica: everything the rules read, and nothing they do.

It is rebuilt from the store at every start (recover). Slots are bounded by the window of R0; nothing is allocated by a
number that a peer chose, except for certificates, which q voters had to sign.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from swarm.consensus.inputs import Applied
from swarm.consensus.output import AskFor, Evidence, FinalizedBlock, KeptBlock, Output, Send, Serve, Wanted
from swarm.consensus.pool import Pool
from swarm.crypto.digest import sha256
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import EGRESS_BURST, VIEW_WINDOW
from swarm.primitives.quorum import Budget
from swarm.wire.messages import Checkpoint, Proposal
from swarm.wire.sequence import Sequences
from swarm.wire.statements import Certificate, Header, SignedStatement, genesis_header, header_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a replica is told once: the epoch's voters, the budget, itself and its time floor."""

    swarm_id: bytes
    epoch: int
    voters: tuple[DeviceId, ...]
    """Sorted by id; the index is the voter's number in certificates."""
    me: DeviceId
    budget: Budget
    snapshot_every: int
    delta_floor_ms: int = 50
    delta_cap_ms: int = 10_000
    jitter_seed: bytes = b""
    observers: int = 0
    """How many members listen to the voters only, and get others' submissions with the proposals (ADR 0019)."""

    @property
    def my_index(self) -> int | None:
        """Return this device's number among the voters, None for an observer."""
        return self.voters.index(self.me) if self.me in self.voters else None


@dataclass(slots=True)
class Slots:
    """Everything known about one view: one slot per (kind, sender), the certificates, what this device signed."""

    view: int
    notarizes: dict[int, SignedStatement] = field(default_factory=dict)
    skips: dict[int, SignedStatement] = field(default_factory=dict)
    finalizes: dict[int, SignedStatement] = field(default_factory=dict)
    proposes: dict[int, SignedStatement] = field(default_factory=dict)
    proposal: Proposal | None = None
    proposal_hash: bytes = b""
    invalid: bool = False
    vc: Certificate | None = None
    sc: Certificate | None = None
    fc: Certificate | None = None
    own_p: bytes | None = None
    own_n: bytes | None = None
    own_k: bool = False
    own_f: bytes | None = None
    own_f_at_ms: int = 0
    """When the own F was signed or, after a restart, read."""

    def cleared(self) -> bool:
        """Answer whether this view's own certificates clear it (R1)."""
        return self.vc is not None or self.sc is not None or self.fc is not None


@dataclass(slots=True)
class Fetch:
    """One thing asked for: whom it was asked from last, how often, when next (R9)."""

    attempt: int
    due_ms: int
    asked: DeviceId | None = None
    times: dict[DeviceId, int] = field(default_factory=dict)
    """How often each was asked for this one need."""
    rare: bool = False
    """Asked often in vain for the sake of fewer than r+1 voters: the next time is far off."""


@dataclass(slots=True)
class Straggler:
    """One voter that votes in views that are cleared here: when it may be answered again, and the planned answer."""

    allowed_at_ms: int
    span_ms: int
    view: int = 0
    due_ms: int | None = None
    """None while no answer is planned."""


@dataclass(slots=True)
class Doubt:
    """One member's unproved claims of one kind: questions asked for its sake in vain, and until when it is ignored."""

    asked: int = 0
    until_ms: int = 0
    span_ms: int = 0


@dataclass(slots=True)
class Attesting:
    """Which heights R14 asks this voter to attest, and whose different attestations were told."""

    candidate: int = 0
    """The newest height with an event or an operator's submission."""
    due: list[int] = field(default_factory=list)
    """C-th heights not attested yet, rising."""
    wanted_at_ms: int | None = None
    """When the next one may be signed."""
    alarmed: dict[int, int] = field(default_factory=dict)
    """Per voter the highest height at which an A of it that differs was told."""


@dataclass(slots=True)
class Draft:
    """The Output under construction."""

    wanted: list[Wanted] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    asks: list[AskFor] = field(default_factory=list)
    serves: list[Serve] = field(default_factory=list)
    finalized: list[FinalizedBlock] = field(default_factory=list)
    keep_blocks: list[KeptBlock] = field(default_factory=list)
    keep_certificates: list[Certificate] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    notes: list[tuple[str, int]] = field(default_factory=list)

    def freeze(self, wake_at_ms: int | None) -> Output:
        """Return the finished record."""
        return Output(
            wanted=tuple(self.wanted),
            sends=tuple(self.sends),
            asks=tuple(self.asks),
            serves=tuple(self.serves),
            finalized=tuple(self.finalized),
            keep_blocks=tuple(self.keep_blocks),
            keep_certificates=tuple(self.keep_certificates),
            checkpoints=tuple(self.checkpoints),
            evidence=tuple(self.evidence),
            notes=tuple(self.notes),
            wake_at_ms=wake_at_ms,
        )


class State:
    """One replica's memory between two inputs. Rules are functions over it, one module per rule group."""

    def __init__(self, config: Config, now_ms: int) -> None:
        """Start at the genesis block, in view 1, knowing nothing."""
        genesis = genesis_header(config.swarm_id)
        self.config = config
        self.me = config.my_index
        self.now_ms = now_ms
        self.draft = Draft()
        self.views: dict[int, Slots] = {}
        self.cur = 0
        """0 until the first R1."""
        self.entered_at_ms = now_ms
        self.entries: deque[int] = deque(maxlen=len(config.voters) + 1)
        self.heard: dict[int, int] = dict.fromkeys(range(len(config.voters)), 0)
        """Highest view of any valid statement, per voter (R4's absence)."""

        self.final_view = 0
        self.final_hash = header_hash(genesis)
        self.final_fc: Certificate | None = None
        self.final_at_ms = now_ms
        self.fcs: dict[bytes, Certificate] = {}
        """FCs above the delivered tip, by block hash."""
        self.delivered_view = 0
        self.delivered_height = 0
        self.delivered_hash = self.final_hash
        self.headers: dict[bytes, Header] = {self.final_hash: genesis}
        self.kept: set[bytes] = set()
        """Hashes whose bytes are durable; only asked for membership, never iterated."""
        self.too_large: set[bytes] = set()  # headers whose submissions exceed a block; membership only
        self.pool = Pool()
        self.sequences = Sequences()

        self.work = False
        self.work_since_ms = now_ms
        self.armed_at_ms: int | None = None
        self.delta_base_ms = config.delta_floor_ms
        """Δ of a view right after a finalization: what R1 measured so far, never below the floor."""
        self.delta_ms = config.delta_floor_ms
        """Δ of cur, as it was when its timers were armed."""

        self.republish: dict[tuple[int, int], tuple[int, Certificate]] = {}
        """Certificates formed here and not heard from others: (kind, view) -> (due, certificate)."""
        self.standstill_round = 0
        self.standstill_cursor = 0
        self.standstill_at_ms: int | None = None
        self.tokens_milli = EGRESS_BURST * 1000
        self.tokens_at_ms = now_ms
        self.stragglers: dict[int, Straggler] = {}
        """By voter; the intervals start anew when finalized advances (R0)."""

        self.fetches: dict[tuple[str, bytes | int], Fetch] = {}
        self.unreliable: dict[DeviceId, tuple[int, int]] = {}
        """Who claimed and did not deliver: (asked last until, current span)."""
        self.claims: dict[DeviceId, tuple[int, int]] = {}
        """What heartbeats claim: sender -> (finalized view, height)."""
        self.ahead: dict[int, int] = {}
        """Voters with a valid statement above cur: voter -> view (R9)."""
        self.doubts: dict[tuple[DeviceId, str], Doubt] = {}
        """By claimant and what it claims; bounded by the members (`claims.py`)."""
        self.ahead_checked_ms: dict[int, int] = {}  # last check of one above the window, per voter (R0)

        self.applied: dict[int, Applied] = {}
        """Own results at recent heights, for attestation."""
        self.attests: dict[int, dict[int, SignedStatement]] = {}
        """Per voter its newest attestations by height."""
        self.own_attest: SignedStatement | None = None
        self.attesting = Attesting()
        self.checkpoint_height = 0
        self.evidence_seen: set[tuple[int, int, str]] = set()
        self.resend_own: list[SignedStatement | Proposal] = []
        """Own stored statements to be published once more after a start (R10)."""

    # ------------------------------------------------------------------------------ small questions

    @property
    def n(self) -> int:
        """Number of voters of the epoch."""
        return len(self.config.voters)

    @property
    def q(self) -> int:
        """Votes that make a certificate."""
        return self.config.budget.q

    def leader(self, view: int) -> int:
        """Return the index of the leader of `view`: voters sorted by id, number view mod n."""
        return view % self.n

    def slots(self, view: int) -> Slots:
        """Return the slots of `view`, made on first use; callers check the window first."""
        slots = self.views.get(view)
        if slots is None:
            slots = self.views[view] = Slots(view)
        return slots

    def in_window(self, view: int) -> bool:
        """Answer whether statements of `view` get a slot: finalized < view <= cur + W (R0)."""
        return self.final_view < view <= max(self.cur, self.final_view + 1) + VIEW_WINDOW

    def vc_of(self, view: int, digest: bytes) -> Certificate | None:
        """Return what notarizes `digest` in `view`: its VC, or its FC, which counts as a VC wherever one is asked."""
        slots = self.views.get(view)
        if slots is not None:
            if slots.vc is not None and slots.vc.digest == digest:
                return slots.vc
            if slots.fc is not None and slots.fc.digest == digest:
                return slots.fc
        if view == self.final_view and digest == self.final_hash:
            return self.final_fc
        return None

    def is_notarized(self, view: int, digest: bytes) -> bool:
        """Answer whether `digest` is notarized or final in `view`; the genesis block is its own VC and FC."""
        if view == self.final_view and digest == self.final_hash:
            return True
        return self.vc_of(view, digest) is not None

    def has_bodies(self, header: Header) -> bool:
        """Answer whether every submission of the block is in hand."""
        entries = self.pool.entries
        return all(digest in entries for digest in header.submissions)

    def chain_in_hand(self, digest: bytes) -> bool:
        """Answer whether the block and every ancestor above the finalized one is in hand, headers and submissions."""
        while digest not in (self.final_hash, self.delivered_hash):
            header = self.headers.get(digest)
            if header is None or not self.has_bodies(header):
                return False
            if header.view <= self.final_view:
                return False
            digest = header.parent
        return True

    def unfinalized_chain(self, digest: bytes) -> list[tuple[bytes, Header]]:
        """Return (hash, header) from the block down to the delivered tip, child first; stops at a missing header."""
        chain: list[tuple[bytes, Header]] = []
        while digest != self.delivered_hash:
            header = self.headers.get(digest)
            if header is None or header.view <= self.delivered_view:
                break
            chain.append((digest, header))
            digest = header.parent
        return chain

    def jitter_ms(self, label: bytes, number: int, attempt: int, span_ms: int) -> int:
        """Return a number in [0, span_ms], a hash of (seed, own id, label, number, attempt): no randomness in the core."""
        if span_ms <= 0:
            return 0
        digest = sha256(
            self.config.jitter_seed,
            self.config.me.encode(),
            label,
            number.to_bytes(8, "big"),
            attempt.to_bytes(8, "big"),
        )
        return int.from_bytes(digest[:8], "big") % (span_ms + 1)

    def note(self, name: str, number: int) -> None:
        """Record something observable for events and metrics."""
        self.draft.notes.append((name, number))
