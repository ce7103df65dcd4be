"""A stopped store in which everything is really signed and every table has rows: what a disk may spoil."""

from __future__ import annotations

from pathlib import Path

from swarm.apps.decisions.commands import cast_command, open_command
from swarm.apps.decisions.rules import decision_id
from swarm.apps.router import Router
from swarm.device.ledger import Ledger
from swarm.primitives.ids import ZERO_DIGEST
from swarm.storage.sqlite import SqliteStore, create_store
from swarm.storage.store import Batch, Finality, OwnRecord, StoredBlock
from swarm.wire.messages import Checkpoint, Proposal, Submission
from swarm.wire.sequence import Sequences, Verdict
from swarm.wire.statements import (
    Certificate,
    Header,
    Kind,
    SignedStatement,
    attest_digest,
    genesis_header,
    header_hash,
)
from tests.support.swarms import keypair, make_genesis, make_submission, sign_statement

ME = "dev-0"
GENESIS = make_genesis(4, snapshot_every=2)


class SignedHistory:
    """Grows a store of `dev-0` block by block, as its device would."""

    def __init__(self, path: Path) -> None:
        """Create the store at `path` and open it."""
        create_store(path, GENESIS.id, ME, keypair(ME).public)
        self.store = SqliteStore(path, swarm_id=GENESIS.id, device=ME)
        self.ledger = Ledger(GENESIS, Router(GENESIS.apps))
        self.sequences = Sequences()
        self.tip = genesis_header(GENESIS.id)

    def certificate(self, kind: Kind, view: int, digest: bytes = ZERO_DIGEST) -> Certificate:
        """Return a certificate of the first q voters."""
        signers = tuple(
            (index, sign_statement(GENESIS, GENESIS.voter_ids[index], kind, view, digest))
            for index in range(GENESIS.budget.q)
        )
        return Certificate(kind=int(kind), epoch=0, number=view, digest=digest, signatures=signers)

    def own(self, kind: Kind, number: int, digest: bytes = ZERO_DIGEST) -> OwnRecord:
        """Return a record of this device's own statement."""
        return OwnRecord(int(kind), 0, number, digest, sign_statement(GENESIS, ME, kind, number, digest))

    def block(self, view: int, *submissions: Submission) -> StoredBlock:
        """Return a block on the tip."""
        header = Header(
            epoch=0,
            view=view,
            height=self.tip.height + 1,
            parent_view=self.tip.view,
            parent=header_hash(self.tip),
            submissions=tuple(s.id for s in submissions),
            next=ZERO_DIGEST,
            proposer=0,
        )
        return StoredBlock(header_hash(header), header, submissions)

    def finalize(self, view: int, *submissions: Submission) -> None:
        """Vote for, certify, finalize, apply and attest one block, each in the turn it belongs to."""
        block = self.block(view, *submissions)
        votes = [self.own(Kind.NOTARIZE, view, block.hash)]
        self.store.commit(Batch(records=votes, blocks=[block]))
        votes = [self.own(Kind.FINALIZE, view, block.hash)]
        self.store.commit(
            Batch(records=votes, certificates=[self.certificate(Kind.NOTARIZE, view, block.hash)])
        )
        height = block.header.height
        counts = tuple(self.sequences.apply(s.body, height) is Verdict.COUNTS for s in submissions)
        block = StoredBlock(block.hash, block.header, submissions, counts)
        batch = Batch(finalized=[Finality(block, self.certificate(Kind.FINALIZE, view, block.hash))])
        applied, _ = self.ledger.apply(block, batch)
        digest = attest_digest(applied.log_size, applied.log_root, applied.state_root)
        batch.records.append(self.own(Kind.ATTEST, height, digest))
        self.store.commit(batch)
        if height % 2 == 0:
            signers = tuple(
                (i, sign_statement(GENESIS, GENESIS.voter_ids[i], Kind.ATTEST, height, digest))
                for i in range(GENESIS.budget.r + 1)
            )
            checkpoint = Checkpoint(
                epoch=0,
                height=height,
                log_size=applied.log_size,
                log_root=applied.log_root,
                state_root=applied.state_root,
                signatures=signers,
            )
            self.store.commit(Batch(checkpoints=[checkpoint]))
        self.tip = block.header


def write_signed_store(path: Path) -> None:
    """Write a store with a log of decisions, notes and refusals, and with something in every live table."""
    history = SignedHistory(path)
    opening = make_submission(
        GENESIS,
        "dev-1",
        1,
        (
            "decisions",
            open_command(subject="door", rule="plurality", options=("on", "off"), deadline_ms=1000),
        ),
        ("notes", b"a note"),
    )
    decision = decision_id(opening.id, 0)
    history.finalize(1, opening)
    ballots = [
        make_submission(GENESIS, f"dev-{n}", 2 if n == 1 else 1, ("decisions", cast_command(decision, 0)))
        for n in range(4)
    ]
    history.finalize(2, *ballots[:2], make_submission(GENESIS, "ops", 1, ("nothing", b"refused")))
    history.finalize(3, *ballots[2:], ballots[0])
    for view in range(4, 8):
        history.finalize(view, make_submission(GENESIS, "dev-2", view, ("notes", bytes([view]) * 90)))
    waiting = make_submission(GENESIS, ME, 2, ("notes", b"not in the log yet"))
    eighth = history.block(8, make_submission(GENESIS, "dev-3", 2, ("notes", b"kept")))
    proposal = Proposal(
        header=eighth.header,
        parent=history.certificate(Kind.FINALIZE, 7, eighth.header.parent),
        skips=(),
        signature=history.own(Kind.PROPOSE, 8, eighth.hash).signature,
    )
    two_faced = tuple(
        SignedStatement(
            kind=kind,
            epoch=0,
            number=5,
            digest=digest,
            voter=3,
            signature=sign_statement(GENESIS, "dev-3", kind, 5, digest),
        )
        for kind, digest in ((int(Kind.SKIP), ZERO_DIGEST), (int(Kind.FINALIZE), eighth.hash))
    )
    history.store.commit(
        Batch(
            records=[
                history.own(Kind.PROPOSE, 8, eighth.hash),
                history.own(Kind.NOTARIZE, 8, eighth.hash),
                OwnRecord(int(Kind.SUBMISSION), 0, 2, waiting.id, waiting.signature),
            ],
            proposals=[proposal],
            blocks=[eighth],
            own_submissions=[waiting],
            certificates=[
                history.certificate(Kind.NOTARIZE, 8, eighth.hash),
                history.certificate(Kind.SKIP, 9),
            ],
            evidence=[(two_faced[0], two_faced[1])],
            boot=1,
        )
    )
    history.store.close()
