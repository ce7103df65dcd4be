"""Liars that keep the network busy: for each device and message they choose anew what to say, and to whom.

They vote for everything to some and against it to others, hand a certificate that only they can complete to one device
alone, lead with two blocks or with none, and answer no question.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from swarm.primitives.ids import ZERO_DIGEST
from swarm.wire.messages import Proposal
from swarm.wire.statements import Certificate, Header, Kind, SignedStatement, header_hash
from tests.support.chaos import GENESIS
from tests.support.cluster import Cluster, Message
from tests.support.fake_signatures import make_certificate, make_statement


@dataclass(slots=True)
class TwoFaced:
    """Speaks for the byzantine seats of a scheduled cluster; set it as `cluster.on_byzantine`."""

    cluster: Cluster
    rng: random.Random
    shyness: float = 0.3
    """How often a device is told nothing."""
    _signers: dict[tuple[int, int, bytes], dict[int, SignedStatement]] = field(default_factory=dict)
    _headers: dict[bytes, Header] = field(default_factory=dict)
    _clearing: dict[int, Certificate] = field(default_factory=dict)
    _said: set[tuple[int, int, int]] = field(default_factory=set)

    def hear(self, message: Message) -> None:
        """Take a message to one of the seats and answer as one pleases."""
        me, payload = message.target, message.payload
        match payload:
            case Proposal():
                self._headers[header_hash(payload.header)] = payload.header
                self._vote(me, Kind.NOTARIZE, payload.header.view, header_hash(payload.header))
                self._vote(me, Kind.SKIP, payload.header.view, ZERO_DIGEST)
            case SignedStatement() if payload.kind != Kind.ATTEST:
                self._hear_vote(me, payload)
            case Certificate():
                self._clearing.setdefault(payload.number, payload)
                self._lead(me, payload.number + 1)
            case _:
                pass

    def _hear_vote(self, me: int, statement: SignedStatement) -> None:
        key = (statement.kind, statement.number, statement.digest)
        signers = self._signers.setdefault(key, {})
        signers[statement.voter] = statement
        self._vote(me, Kind(statement.kind), statement.number, statement.digest)
        q = self.cluster.devices[0].config.budget.q
        liars = self.cluster.byzantine
        if len(signers) + len(liars - set(signers)) < q:
            return
        voters = (sorted(set(signers) - liars) + sorted(liars))[:q]
        names = {v: self.cluster.devices[v].name for v in voters}
        certificate = make_certificate(statement.kind, statement.number, statement.digest, names)
        self._clearing.setdefault(statement.number, certificate)
        if self._once(me, statement.kind + 1_000, statement.number):
            target = self.rng.choice(self.cluster.correct)
            self.cluster.post(me, target, certificate)
        self._lead(me, statement.number + 1)

    def _once(self, me: int, kind: int, view: int) -> bool:
        if (me, kind, view) in self._said:
            return False
        self._said.add((me, kind, view))
        return True

    def _vote(self, me: int, kind: Kind, view: int, digest: bytes) -> None:
        if not self._once(me, kind * 256 + digest[0], view):
            return
        statement = make_statement(kind, view, digest, me, self.cluster.devices[me].name)
        for target in self.cluster.correct:
            if self.rng.random() > self.shyness:
                self.cluster.post(me, target, statement, broadcast=True)

    def _lead(self, me: int, view: int) -> None:
        """Propose two empty blocks on the last notarized one, each to some, when the view is led by this seat."""
        if view % self.cluster.n != me or not self._once(me, int(Kind.PROPOSE), view):
            return
        before = self._clearing.get(view - 1)
        on = before if before is not None and before.kind != Kind.SKIP else None
        if view > 1 and (on is None or on.digest not in self._headers):
            return
        parent = self._headers[on.digest] if on is not None else None
        for target in self.cluster.correct:
            if self.rng.random() < self.shyness:
                continue
            header = Header(
                epoch=0,
                view=view,
                height=parent.height + 1 if parent is not None else 1,
                parent_view=parent.view if parent is not None else 0,
                parent=on.digest if on is not None else GENESIS,
                submissions=(),
                next=ZERO_DIGEST if self.rng.random() < 0.5 else ZERO_DIGEST[:-1] + b"\x01",
                proposer=me,
            )
            signature = make_statement(
                Kind.PROPOSE, view, header_hash(header), me, self.cluster.devices[me].name
            ).signature
            self._headers[header_hash(header)] = header
            self.cluster.post(me, target, Proposal(header, on, (), signature), broadcast=True)
