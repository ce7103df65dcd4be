"""One device on a stage: the test speaks for everybody else, and reads what the device signed and published.

Made for tests of single sentences of PROTOCOL.md: `Stage()` is dev-0 of four (u 1, r 1, q 3), so the three others
make every certificate, and dev-0 leads the views 4, 8, 12.
"""

from __future__ import annotations

from dataclasses import dataclass

from swarm.consensus.inputs import Input, SubmissionIn, Tick
from swarm.consensus.state import Config, State
from swarm.primitives.ids import ZERO_DIGEST
from swarm.primitives.quorum import budget_of
from swarm.wire.messages import Block, Proposal, Submission, SubmissionItem
from swarm.wire.statements import (
    Certificate,
    Header,
    Kind,
    SignedStatement,
    genesis_header,
    header_hash,
)
from tests.support.cluster import kind_of
from tests.support.fake_signatures import SWARM_ID, make_certificate, make_statement, make_submission
from tests.support.mini_device import Leaving, MiniDevice, Payload

DELTA_MS = 50
T_VOTE_MS = 2 * DELTA_MS
T_VIEW_MS = 3 * DELTA_MS
P, N, K, F, A = Kind.PROPOSE, Kind.NOTARIZE, Kind.SKIP, Kind.FINALIZE, Kind.ATTEST


@dataclass(frozen=True, slots=True)
class Made:
    """A block that the test made, with its hash."""

    header: Header
    submissions: tuple[Submission, ...]

    @property
    def hash(self) -> bytes:
        return header_hash(self.header)

    @property
    def view(self) -> int:
        return self.header.view

    @property
    def block(self) -> Block:
        return Block(header=self.header, submissions=tuple(s.raw for s in self.submissions))


GENESIS = Made(genesis_header(SWARM_ID), ())


class Stage:
    """The device `me` of `n` voters, its clock, and everything that left it."""

    def __init__(
        self,
        n: int = 4,
        me: int = 0,
        budget: str | int = "balanced",
        snapshot_every: int = 256,
        observers: int = 0,
    ) -> None:
        self.names = tuple(f"dev-{i}" for i in range(n))
        self.me = me
        self.now_ms = 0
        config = Config(
            swarm_id=SWARM_ID,
            epoch=0,
            voters=self.names,
            me=self.names[me] if me < n else "obs-0",
            budget=budget_of(n, budget),
            snapshot_every=snapshot_every,
            delta_floor_ms=DELTA_MS,
            observers=observers,
        )
        self.device = MiniDevice(config, 0)
        self.left: list[Leaving] = []
        self._sequence = 0

    # ------------------------------------------------------------------------------ questions

    @property
    def state(self) -> State:
        return self.device.up.state

    @property
    def others(self) -> list[int]:
        return [i for i in range(len(self.names)) if i != self.me]

    def signed(self, kind: Kind, view: int | None = None) -> list[bytes]:
        """Return the digests of the own statements of a kind, of one view or of all."""
        return [s.digest for s in self.device.disk.statements if s.kind == kind and view in (None, s.number)]

    def signed_views(self, kind: Kind) -> list[int]:
        return [s.number for s in self.device.disk.statements if s.kind == kind]

    def take_left(self) -> list[Leaving]:
        """Return what left since the last call."""
        left, self.left = self.left, []
        return left

    def left_kinds(self) -> list[str]:
        """Return the kinds of what left since the last call."""
        return [kind_of(left.payload) for left in self.take_left()]

    def log_ids(self) -> list[bytes]:
        return self.device.disk.applied_ids()

    # ------------------------------------------------------------------------------ what happens

    def inputs(self, *inputs: Input) -> None:
        self.left += self.device.turn(list(inputs), self.now_ms)

    def hear(self, *payloads: Payload, sender: int = 1) -> None:
        """Let the device receive messages, one turn each."""
        for payload in payloads:
            name = self.names[sender] if sender < len(self.names) else f"obs-{sender}"
            self.left += self.device.receive(name, payload, self.now_ms)

    def pass_ms(self, duration_ms: int) -> None:
        """Let time pass; the device is woken when it asked for it."""
        end_ms = self.now_ms + duration_ms
        while (wake_ms := self.device.wake_at_ms) is not None and wake_ms <= end_ms:
            self.now_ms = max(self.now_ms, wake_ms)
            self.inputs(Tick())
        self.now_ms = end_ms

    def restart(self) -> None:
        self.device.stop()
        self.left += self.device.start(self.now_ms)

    def submission(self, text: str = "x", origin: str = "ops") -> Submission:
        """Make a submission with the next sequence number; nobody has it yet."""
        self._sequence += 1
        return make_submission(origin, self._sequence, text)

    def work(self, text: str = "work") -> Submission:
        """Give the device something to do: a pending submission of an operator."""
        submission = self.submission(text)
        self.hear(SubmissionItem(raw=submission.raw))
        return submission

    def inputs_of(self, made: Made) -> None:
        """Let the device hear the submissions of a block, but not the block."""
        for submission in made.submissions:
            self.hear(SubmissionItem(raw=submission.raw))

    def submit(self, text: str = "own") -> Submission:
        """Let the device submit something of its own."""
        submission = self.submission(text, origin=self.device.name)
        self.inputs(SubmissionIn(submission, own=True))
        return submission

    # ------------------------------------------------------------------------------ what others make

    def vote(self, kind: Kind, view: int, voter: int, digest: bytes = ZERO_DIGEST) -> SignedStatement:
        return make_statement(kind, view, digest, voter, self.names[voter])

    def hear_votes(self, kind: Kind, view: int, voters: list[int], digest: bytes = ZERO_DIGEST) -> None:
        for voter in voters:
            self.hear(self.vote(kind, view, voter, digest), sender=voter)

    def certificate(
        self, kind: Kind, view: int, digest: bytes = ZERO_DIGEST, voters: list[int] | None = None
    ) -> Certificate:
        """Return the certificate of these voters; by default the first q, the device under test last of all."""
        chosen = voters or [*self.others, self.me][: self.device.config.budget.q]
        return make_certificate(kind, view, digest, {v: self.names[v] for v in chosen})

    def skip_to(self, view: int) -> None:
        """Clear every view below `view` by its SC."""
        for number in range(max(1, self.state.cur), view):
            self.hear(self.certificate(K, number))

    def make(
        self,
        view: int,
        parent: Made = GENESIS,
        submissions: tuple[Submission, ...] = (),
        *,
        height: int | None = None,
        parent_view: int | None = None,
        next_digest: bytes = ZERO_DIGEST,
    ) -> Made:
        """Make a block of the leader of `view` on `parent`; wrong fields only where a test gives them."""
        header = Header(
            epoch=0,
            view=view,
            height=parent.header.height + 1 if height is None else height,
            parent_view=parent.view if parent_view is None else parent_view,
            parent=parent.hash,
            submissions=tuple(s.id for s in submissions),
            next=next_digest,
            proposer=view % len(self.names),
        )
        return Made(header, submissions)

    def proposal(
        self, made: Made, *, parent: Certificate | None = None, skips: tuple[Certificate, ...] = ()
    ) -> Proposal:
        leader = made.header.proposer
        statement = self.vote(P, made.view, leader, made.hash)
        return Proposal(header=made.header, parent=parent, skips=skips, signature=statement.signature)

    def give(
        self, made: Made, *, parent: Certificate | None = None, skips: tuple[Certificate, ...] = ()
    ) -> None:
        """Let the device receive a block's submissions, then its proposal."""
        for submission in made.submissions:
            self.hear(SubmissionItem(raw=submission.raw))
        self.hear(self.proposal(made, parent=parent, skips=skips), sender=made.header.proposer)

    def notarize(self, made: Made) -> None:
        """Let the device see the VC of a block."""
        self.hear(self.certificate(N, made.view, made.hash))

    def finalize(self, made: Made) -> None:
        """Let the device see the FC of a block."""
        self.hear(self.certificate(F, made.view, made.hash))

    def commit(self, view: int, parent: Made = GENESIS, text: str = "committed") -> Made:
        """Bring a block with one submission into the log of the device."""
        made = self.make(view, parent, (self.submission(text),))
        self.give(made, parent=self.certificate(N, parent.view, parent.hash) if parent.view else None)
        self.notarize(made)
        self.finalize(made)
        return made
