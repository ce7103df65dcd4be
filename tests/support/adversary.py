"""A seeded adversary: r voters that may sign anything, every order of delivery, clocks of its choosing, crashes.

The liars are an oracle that signed everything (model.md, section 1): a certificate exists as soon as q - r correct
voters signed for it, and the adversary hands it to whom it likes, or hides it. Nothing that was published is ever
lost, and everything may arrive any number of times.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from swarm.consensus.inputs import Tick
from swarm.crypto.digest import sha256
from swarm.primitives.ids import ZERO_DIGEST
from swarm.wire.messages import Proposal, SubmissionItem
from swarm.wire.statements import Certificate, Header, Kind, header_hash
from tests.support.chaos import GENESIS, complaints_of
from tests.support.cluster import Cluster
from tests.support.fake_signatures import make_certificate, make_statement, make_submission
from tests.support.mini_device import Leaving, Payload

VOTES = (Kind.NOTARIZE, Kind.SKIP, Kind.FINALIZE)


@dataclass(slots=True)
class Adversary:
    """One run: `step` does one random act, `complaints` asks the checkers."""

    n: int
    budget: str | int
    seed: int
    liars: int | None = None
    """Lying voters; by default r, the most that the budget bears."""
    crashes: bool = True
    rng: random.Random = field(init=False)
    cluster: Cluster = field(init=False)
    clocks_ms: list[int] = field(init=False)
    archive: list[tuple[int, Payload]] = field(default_factory=list)
    headers: dict[bytes, Header] = field(default_factory=dict)
    _read: list[int] = field(init=False)
    _signers: dict[tuple[int, int, bytes], set[int]] = field(default_factory=dict)
    _sequence: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.cluster = Cluster(self.n, self.budget)
        r = self.cluster.devices[0].config.budget.r
        liars = min(r, self.n - 1) if self.liars is None else self.liars
        self.cluster.byzantine = set(self.rng.sample(range(self.n), liars))
        self.clocks_ms = [0] * self.n
        self._read = [0] * self.n

    # ------------------------------------------------------------------------------ acts

    def run(self, steps: int) -> list[str]:
        """Do `steps` acts and return what the checkers say."""
        for _ in range(steps):
            self.step()
        return self.complaints()

    def complaints(self) -> list[str]:
        """Ask the checkers, also about blocks that only the adversary knows."""
        return complaints_of(self.cluster)

    def step(self) -> None:
        """Do one act, in the proportions that found most mutations."""
        target = self.rng.choice(self.cluster.correct)
        act = self.rng.random()
        if act < 0.42 and self.archive:
            recent = self.archive[-40:] if self.rng.random() < 0.7 else self.archive
            source, payload = self.rng.choice(recent)
            if source != target:
                self._hand(target, source, payload)
        elif act < 0.58:
            self._lie(target)
        elif act < 0.78:
            self._certify(target)
        elif act < 0.93:
            self.clocks_ms[target] += self.rng.choice((25, 100, 200))
            self._turn(target)
        elif act < 0.97 or not self.crashes:
            self._sequence += 1
            submission = make_submission("ops", self._sequence, f"{self._sequence}")
            self.archive.append((-1, SubmissionItem(raw=submission.raw)))
            self._hand(target, -1, self.archive[-1][1])
        else:
            self.cluster.devices[target].stop()
            self._after(target, self.cluster.devices[target].start(self.clocks_ms[target]))

    def _hand(self, target: int, source: int, payload: Payload) -> None:
        device = self.cluster.devices[target]
        name = self.cluster.devices[source].name if source >= 0 else "ops"
        self._after(target, device.receive(name, payload, self.clocks_ms[target]))

    def _turn(self, target: int) -> None:
        self._after(target, self.cluster.devices[target].turn([Tick()], self.clocks_ms[target]))

    def _after(self, source: int, leaving: list[Leaving]) -> None:
        for left in leaving:
            payload = left.payload
            self.archive.append((source, payload))
            if isinstance(payload, Proposal):
                self.headers[header_hash(payload.header)] = payload.header
        statements = self.cluster.devices[source].disk.statements
        for statement in statements[self._read[source] :]:
            key = (statement.kind, statement.number, statement.digest)
            self._signers.setdefault(key, set()).add(source)
        self._read[source] = len(statements)

    # ------------------------------------------------------------------------------ lies

    def formable(self, kind: Kind, view: int, digest: bytes) -> Certificate | None:
        """Return the certificate that correct signers and the liars make together, None if they are too few."""
        q = self.cluster.devices[0].config.budget.q
        signers = self._signers.get((kind, view, digest), set())
        if not signers or len(signers) + len(self.cluster.byzantine) < q:
            return None
        chosen = (sorted(signers) + sorted(self.cluster.byzantine))[:q]
        return make_certificate(kind, view, digest, {v: self.cluster.devices[v].name for v in chosen})

    def _certify(self, target: int) -> None:
        """Hand out one certificate that exists."""
        keys = [key for key in self._signers if key[0] in VOTES]
        if not keys:
            return
        kind, view, digest = self.rng.choice(keys[-24:])
        certificate = self.formable(Kind(kind), view, digest)
        if certificate is not None:
            self._hand(target, target, certificate)

    def _lie(self, target: int) -> None:
        """Sign anything as one of the liars, for one device only."""
        if not self.cluster.byzantine:
            return
        cur = self.cluster.devices[target].up.state.cur
        leader = cur % self.n
        if leader in self.cluster.byzantine and self.rng.random() < 0.6:
            self._propose(target, cur, leader)
            return
        liar = self.rng.choice(sorted(self.cluster.byzantine))
        kind = self.rng.choice(VOTES)
        view = max(1, cur - self.rng.randint(0, 2))
        known = [digest for digest, header in self.headers.items() if header.view == view]
        if kind != Kind.SKIP and not known:
            return
        digest = ZERO_DIGEST if kind == Kind.SKIP else self.rng.choice(known)
        self._hand(target, liar, make_statement(kind, view, digest, liar, self.cluster.devices[liar].name))

    def _propose(self, target: int, view: int, leader: int) -> None:
        """Propose on any block that can be notarized, also over views that nobody skipped."""
        parents: list[tuple[int, bytes, int, Certificate | None]] = [(0, GENESIS, 0, None)]
        for digest, header in self.headers.items():
            certificate = self.formable(Kind.NOTARIZE, header.view, digest)
            if header.view < view and certificate is not None:
                parents.append((header.view, digest, header.height, certificate))
        parent_view, parent, height, certificate = self.rng.choice(parents[-4:])
        submissions = [p for s, p in self.archive if s < 0]
        chosen = [self.rng.choice(submissions)] if submissions and self.rng.random() < 0.7 else []
        raws = [p.raw for p in chosen if isinstance(p, SubmissionItem)]
        header = Header(
            epoch=0,
            view=view,
            height=height + 1,
            parent_view=parent_view,
            parent=parent,
            submissions=tuple(sha256(raw) for raw in raws),
            next=ZERO_DIGEST,
            proposer=leader,
        )
        digest = header_hash(header)
        self.headers[digest] = header
        skips = [self.formable(Kind.SKIP, v, ZERO_DIGEST) for v in range(parent_view + 1, view)]
        name = self.cluster.devices[leader].name
        proposal = Proposal(
            header=header,
            parent=certificate,
            skips=tuple(c for c in skips if c is not None),
            signature=make_statement(Kind.PROPOSE, view, digest, leader, name).signature,
        )
        self.archive.append((leader, proposal))
        for raw in raws:
            self._hand(target, leader, SubmissionItem(raw=raw))
        self._hand(target, leader, proposal)


def explore(n: int, budget: str | int, seeds: range, steps: int, *, liars: int | None = None) -> list[str]:
    """Return the complaints of the first run that has any; exceptions of guard and core pass through."""
    for seed in seeds:
        adversary = Adversary(n, budget, seed, liars)
        complaints = adversary.run(steps)
        if complaints:
            return [f"seed {seed}: {complaint}" for complaint in complaints]
    return []
