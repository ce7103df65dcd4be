"""R10 at a start: the store's contents become core, guard and ledger again, through the code paths of live messages."""

from __future__ import annotations

from swarm.consensus.recover import Recovered
from swarm.storage.store import OwnRecord, Restored
from swarm.wire.sequence import Sequences
from swarm.wire.statements import STATEMENT_KINDS, Kind, SignedStatement


def recovered_core(restored: Restored, sequences: Sequences, voter: int | None) -> Recovered:
    """Return what the core needs of a store; `sequences` are those of the replayed log."""
    tip = restored.tip
    return Recovered(
        tip_hash=None if tip is None else tip.hash,
        tip_header=None if tip is None else tip.header,
        sequences=sequences.copy(),
        statements=() if voter is None else _statements(restored.records, voter),
        proposals=restored.proposals,
        certificates=restored.certificates,
        blocks=tuple((b.hash, b.header, b.submissions) for b in restored.blocks),
        own_submissions=restored.own_submissions,
        checkpoint_height=0 if restored.checkpoint is None else restored.checkpoint.height,
    )


def finalized_view(restored: Restored) -> int:
    """Return the highest view with a stored FC: the guard refuses every view up to it."""
    views = [c.number for c in restored.certificates if c.kind == Kind.FINALIZE]
    tip = 0 if restored.tip is None else restored.tip.header.view
    return max([tip, *views])


def _statements(records: tuple[OwnRecord, ...], voter: int) -> tuple[SignedStatement, ...]:
    return tuple(
        SignedStatement(
            kind=record.kind,
            epoch=record.epoch,
            number=record.number,
            digest=record.digest,
            voter=voter,
            signature=record.signature,
        )
        for record in records
        if record.kind in STATEMENT_KINDS
    )
