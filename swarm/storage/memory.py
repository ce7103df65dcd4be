"""The store in memory: the same contract for the simulator and for tests, with power cuts on demand.

What SQLite keeps in tables lies in dictionaries of immutable values, so a commit costs little more than its hashes,
and nothing is ever deep-copied. The chain, its pruning and its mark are the very code of the store on a disk.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, fields
from typing import Literal

from swarm.primitives.errors import StoreError, check
from swarm.primitives.ids import ZERO_DIGEST
from swarm.primitives.limits import CHAIN_RECORDS_KEPT, SNAPSHOTS_KEPT
from swarm.storage.chain import (
    Chain,
    Head,
    Mark,
    ViewNumber,
    check_beginning,
    check_mark,
    seal_digest,
    seal_record,
)
from swarm.storage.rows import (
    GENESIS_VIEW,
    SUBMISSION_PREFIX,
    check_continues,
    decode_raw,
    evidence_key,
    finality_view,
    view_of,
)
from swarm.storage.store import Batch, Finality, NewLeaf, Restored, Snapshot, StoredBlock
from swarm.wire.messages import Checkpoint, Proposal, Submission
from swarm.wire.statements import Certificate, Kind, SignedStatement

Boundary = Literal["nothing", "transaction", "all"]
"""What a power cut finds durable: nothing of the turn, its transaction without the mark, or everything."""


class PowerCut(BaseException):
    """The power went in the middle of a commit; nothing of the device but its medium is left.

    Derived from BaseException so that no handler of ordinary failures takes it for a full disk.
    """


@dataclass(slots=True)
class Medium:
    """What survives the process. Mutable containers of immutable values; copied one level deep at most."""

    chain: Chain
    seal: bytes | None
    mark: Mark | None
    boot: int = 0
    proposals: dict[ViewNumber, Proposal] = field(default_factory=dict)
    certificates: dict[tuple[ViewNumber, int], Certificate] = field(default_factory=dict)
    finality: dict[ViewNumber, Certificate] = field(default_factory=dict)
    kept: dict[bytes, StoredBlock] = field(default_factory=dict)
    log: list[StoredBlock] = field(default_factory=list)
    heights: dict[bytes, int] = field(default_factory=dict)
    submissions: dict[bytes, Submission] = field(default_factory=dict)
    unsettled: set[bytes] = field(default_factory=set)
    """Ids of submissions that are in no block of the log; asked for membership only, never iterated."""
    own: dict[bytes, Submission] = field(default_factory=dict)
    leaves: list[bytes | Submission] = field(default_factory=list)
    keys: dict[bytes, int] = field(default_factory=dict)
    sequences: dict[tuple[str, int, int], int] = field(default_factory=dict)
    nodes: dict[tuple[int, int], bytes] = field(default_factory=dict)
    snapshots: dict[int, Snapshot] = field(default_factory=dict)
    checkpoints: dict[int, Checkpoint] = field(default_factory=dict)
    checkpoint_order: list[tuple[int, int]] = field(default_factory=list)
    """(log size, height) of the checkpoints, ascending."""
    evidence: dict[tuple[int, int, int, int], tuple[SignedStatement, SignedStatement]] = field(
        default_factory=dict
    )

    def copied(self) -> Medium:
        """Return a medium that further commits to this one leave alone."""
        parts = {f.name: copy(getattr(self, f.name)) for f in fields(self) if f.name != "chain"}
        return Medium(chain=self.chain.copy(), **parts)


class MemoryStore:
    """One device's store without a disk. Synced at every commit unless `hold_syncs` was called.

    `reopen` is what a restart sees; until then this object is the one holder of the medium.
    """

    def __init__(
        self,
        *,
        swarm_id: bytes = ZERO_DIGEST,
        device: str = "dev",
        key_public: bytes = ZERO_DIGEST,
        medium: Medium | None = None,
    ) -> None:
        """Open `medium`, or a new sealed one of this swarm, device and key (32 bytes each).

        Raises `StoreGoneError` exactly when a store on a disk would.
        """
        if medium is None:
            seal = seal_digest(swarm_id, device, key_public)
            medium = Medium(chain=Chain(Head(0, seal)), seal=seal, mark=Mark(0, seal, 0))
        self.medium = medium
        self._failed = ""
        self._next_failure = ""
        self._cut: Boundary | None = None
        self._synced: Medium | None = None
        medium.chain = medium.chain.verified()
        if check_beginning(medium.chain, medium.seal):
            check_mark(medium.chain, medium.mark)
            medium.chain.append(seal_record(medium.chain.base.hash))
            medium.seal = None
        self._start()

    # ----------------------------------------------------------------------------- faults

    def power_cut(self, *, after: Boundary) -> None:
        """Let the next commit raise `PowerCut`, with this much of it durable."""
        self._cut = after

    def fail_next(self, reason: str) -> None:
        """Let the next commit fail like a full disk: `StoreError`, nothing durable, the store unusable."""
        self._next_failure = reason

    def hold_syncs(self) -> None:
        """From now on the disk lies: it reports commits as synced and would lose them with the power."""
        self._synced = self.medium.copied()

    def lose_unsynced(self, *, keep_mark: bool = False) -> None:
        """Cut the power of a disk that lied; `reopen` sees the state at `hold_syncs`.

        With `keep_mark` the mark alone did reach the disk, as when a flipped bit spoils the write-ahead log.
        """
        check(self._synced is not None, "nothing is unsynced: hold_syncs was not called")
        if self._synced is not None:
            if keep_mark:
                self._synced.mark = self.medium.mark
            self.medium, self._synced = self._synced, None
        self._failed = "the power is off"

    def reopen(self) -> MemoryStore:
        """Return the store that a restart would open; this one is closed. Raises `StoreGoneError` as that would."""
        self.close()
        return MemoryStore(medium=self.medium)

    # ----------------------------------------------------------------------------- contract

    def load(self) -> Restored:
        """Return everything needed to go on."""
        self._check_usable()
        m = self.medium
        certificates = [m.certificates[key] for key in sorted(m.certificates) if key[0] > self._finalized]
        highest = m.finality.get(self._finalized) or m.certificates.get((self._finalized, int(Kind.FINALIZE)))
        if highest is not None:
            certificates.insert(0, highest)
        return Restored(
            boot=m.boot,
            records=m.chain.statements_above(self._finalized),
            sequence=m.chain.sequence,
            proposals=tuple(m.proposals[at] for at in sorted(m.proposals) if at > self._finalized),
            certificates=tuple(certificates),
            blocks=tuple(sorted(m.kept.values(), key=lambda b: (view_of(b.header), b.hash))),
            own_submissions=tuple(sorted(m.own.values(), key=lambda s: (s.body.sequence, s.id))),
            tip=m.log[-1] if m.log else None,
            snapshot=m.snapshots[max(m.snapshots)] if m.snapshots else None,
            log_size=len(m.leaves),
            checkpoint=m.checkpoints[max(m.checkpoints)] if m.checkpoints else None,
        )

    def commit(self, batch: Batch) -> None:
        """Make the whole batch durable, then the mark, then return; or raise `PowerCut` where that was asked for."""
        self._check_usable()
        if batch.is_empty():
            return
        cut, self._cut = self._cut, None
        if cut == "nothing":
            self._failed = "the power is off"
            raise PowerCut(cut)
        if self._next_failure:
            self._failed = self._next_failure
            raise StoreError(f"cannot write the store: {self._failed}", hint="start the device again")
        try:
            self._write(batch)
        except BaseException as error:
            self._failed = repr(error)
            raise
        if cut == "transaction":
            self._failed = "the power is off"
            raise PowerCut(cut)
        if batch.records or batch.boot is not None:
            self._write_mark()
        if cut == "all":
            self._failed = "the power is off"
            raise PowerCut(cut)

    def block_at(self, height: int) -> StoredBlock | None:
        """Return the log's block of `height`."""
        log = self._readable().log
        return log[height - 1] if 0 < height <= len(log) else None

    def block_by_hash(self, digest: bytes) -> StoredBlock | None:
        """Return a kept or finalized block by its hash."""
        m = self._readable()
        height = m.heights.get(digest)
        return m.kept.get(digest) if height is None else m.log[height - 1]

    def finality_of(self, height: int) -> Certificate | None:
        """Return the FC that names the log's block of exactly this height, if one is stored."""
        block = self.block_at(height)
        return None if block is None else self.medium.finality.get(view_of(block.header))

    def certificate(self, kind: int, view: int) -> Certificate | None:
        """Return a stored certificate of this kind and view, of the newest epoch that has one."""
        m = self._readable()
        for epoch in range(max(self._finalized[0], self._tip[0], self._epoch_max), -1, -1):
            found = m.certificates.get(((epoch, view), kind))
            if found is None and kind == Kind.FINALIZE:
                found = m.finality.get((epoch, view))
            if found is not None:
                return found
        return None

    def submission(self, digest: bytes) -> Submission | None:
        """Return a stored submission by id."""
        return self._readable().submissions.get(digest)

    def node(self, level: int, index: int) -> bytes:
        """Return a perfect-subtree hash of the log's Merkle tree; raises `StoreError` if absent."""
        found = self._readable().nodes.get((level, index))
        if found is None:
            raise StoreError(f"the store has no Merkle node {index} of level {level}")
        return found

    def leaf(self, position: int) -> bytes | None:
        """Return the leaf data at `position`."""
        leaves = self._readable().leaves
        if not 0 <= position < len(leaves):
            return None
        found = leaves[position]
        return found if isinstance(found, bytes) else SUBMISSION_PREFIX + found.raw

    def find(self, key: bytes) -> int | None:
        """Return the position of the last leaf stored with `key`."""
        return self._readable().keys.get(key)

    def find_sequence(self, origin: str, incarnation: int, sequence: int) -> int | None:
        """Return the position of the applied submission leaf with this origin, incarnation and sequence."""
        return self._readable().sequences.get((origin, incarnation, sequence))

    def checkpoint_covering(self, log_size: int) -> Checkpoint | None:
        """Return the oldest checkpoint whose log size is at least `log_size`."""
        m = self._readable()
        index = bisect_left(m.checkpoint_order, (log_size, 0))
        return m.checkpoints[m.checkpoint_order[index][1]] if index < len(m.checkpoint_order) else None

    def blocks_after(self, height: int) -> Iterator[StoredBlock]:
        """Yield the log's blocks above `height` in order; a commit in between is harmless."""
        while (block := self.block_at(height + 1)) is not None:
            yield block
            height += 1

    def evidence(self) -> tuple[tuple[SignedStatement, SignedStatement], ...]:
        """Return the stored evidence in the order of epoch, voter and kinds; one pair of each."""
        evidence = self._readable().evidence
        return tuple(evidence[key] for key in sorted(evidence))

    def close(self) -> None:
        """Release the medium; a closed store answers nothing."""
        self._failed = "it is closed"

    # ----------------------------------------------------------------------------- opening

    def _start(self) -> None:
        m = self.medium
        is_behind = check_mark(m.chain, m.mark)
        self._marked_count = 0 if m.mark is None else m.mark.count
        m.boot = max(m.boot, 0 if m.mark is None else m.mark.boot)
        if is_behind:
            self._write_mark()
        finals = [key[0] for key in m.certificates if key[1] == Kind.FINALIZE]
        self._finalized: ViewNumber = max([GENESIS_VIEW, *finals, *m.finality])
        self._tip: ViewNumber = view_of(m.log[-1].header) if m.log else GENESIS_VIEW
        self._epoch_max = max((key[0][0] for key in m.certificates), default=0)

    def _check_usable(self) -> None:
        if self._failed:
            raise StoreError(
                f"the store cannot be used any more: {self._failed}", hint="start the device again"
            )

    def _readable(self) -> Medium:
        if self._failed:
            self._check_usable()
        return self.medium

    # ----------------------------------------------------------------------------- committing

    def _write_mark(self) -> None:
        head = self.medium.chain.head
        self.medium.mark = Mark(head.count, head.hash, self.medium.boot)
        self._marked_count = head.count

    def _write(self, batch: Batch) -> None:
        m = self.medium
        check_continues(batch, height=len(m.log), tip=self._tip, log_size=len(m.leaves))
        for record in batch.records:
            m.chain.append(record)
        if batch.finalized:
            self._append_log(batch.finalized)
        for block in batch.blocks:
            if view_of(block.header) > self._tip and block.hash not in m.kept:
                m.kept[block.hash] = block
                self._hold(block.submissions)
        for submission in batch.own_submissions:
            self._hold((submission,))
            if submission.id in m.unsettled:
                m.own[submission.id] = submission
        for digest in batch.settled_submissions:
            m.own.pop(digest, None)
        if batch.certificates or batch.finalized:
            self._keep_certificates(batch)
        for proposal in batch.proposals:
            m.proposals.setdefault(view_of(proposal.header), proposal)
        for leaf in batch.leaves:
            self._append_leaf(leaf)
        for level, index, digest in batch.nodes:
            m.nodes[level, index] = digest
        for snapshot in batch.snapshots:
            m.snapshots[snapshot.height] = snapshot
        while len(m.snapshots) > SNAPSHOTS_KEPT:
            del m.snapshots[min(m.snapshots)]
        for checkpoint in batch.checkpoints:
            if checkpoint.height not in m.checkpoints:
                m.checkpoints[checkpoint.height] = checkpoint
                insort(m.checkpoint_order, (checkpoint.log_size, checkpoint.height))
        for first, second in batch.evidence:
            m.evidence.setdefault(evidence_key(first, second), (first, second))
        if batch.boot is not None:
            m.boot = max(m.boot, batch.boot)
        self._prune(batch)

    def _hold(self, submissions: tuple[Submission, ...]) -> None:
        m = self.medium
        for submission in submissions:
            if submission.id not in m.submissions:
                m.submissions[submission.id] = submission
                m.unsettled.add(submission.id)

    def _append_log(self, finalized: list[Finality]) -> None:
        m = self.medium
        for finality in finalized:
            block, self._tip = finality.block, view_of(finality.block.header)
            m.log.append(block)
            m.heights[block.hash] = block.header.height
            for submission in block.submissions:
                m.submissions.setdefault(submission.id, submission)
                m.unsettled.discard(submission.id)
                m.own.pop(submission.id, None)

    def _keep_certificates(self, batch: Batch) -> None:
        m = self.medium
        given = batch.certificates + [f.certificate for f in batch.finalized if f.certificate is not None]
        self._finalized = max([self._finalized, *map(finality_view, given)])
        for certificate in given:
            at = (certificate.epoch, certificate.number)
            if certificate.kind != Kind.FINALIZE:
                is_live = at > self._finalized
            else:
                is_live = self._is_waiting(at, certificate)
            if is_live:
                m.certificates.setdefault((at, certificate.kind), certificate)
                self._epoch_max = max(self._epoch_max, certificate.epoch)
            elif certificate.kind == Kind.FINALIZE and certificate.digest in m.heights:
                m.finality.setdefault(at, certificate)

    def _is_waiting(self, at: ViewNumber, finality: Certificate) -> bool:
        """Answer whether an FC stays among the live certificates, as in the store on a disk."""
        return at > self._tip or (at == self._finalized and finality.digest not in self.medium.heights)

    def _append_leaf(self, leaf: NewLeaf) -> None:
        m = self.medium
        if leaf.data[:1] == SUBMISSION_PREFIX:
            raw = leaf.data[1:]
            known = (m.submissions.get(key) for key in leaf.keys)
            submission = next((s for s in known if s is not None and s.raw == raw), None)
            if submission is None:
                submission = decode_raw(raw)
                m.submissions.setdefault(submission.id, submission)
                m.unsettled.discard(submission.id)
            body = submission.body
            m.sequences.setdefault((body.origin, body.incarnation, body.sequence), leaf.position)
            m.leaves.append(submission)
        else:
            m.leaves.append(leaf.data)
        for key in leaf.keys:
            m.keys[key] = leaf.position

    def _prune(self, batch: Batch) -> None:
        m = self.medium
        has_finality = bool(batch.finalized) or any(c.kind == Kind.FINALIZE for c in batch.certificates)
        if not has_finality and len(m.chain.entries) <= CHAIN_RECORDS_KEPT:
            return
        m.chain.prune(self._finalized, self._marked_count)
        for at in [at for at in m.proposals if at <= self._finalized]:
            del m.proposals[at]
        for at, kind in [key for key in m.certificates if key[0] <= self._finalized]:
            if kind != Kind.FINALIZE:
                del m.certificates[at, kind]
            elif not self._is_waiting(at, m.certificates[at, kind]):
                certificate = m.certificates.pop((at, kind))
                if certificate.digest in m.heights:
                    m.finality.setdefault(at, certificate)
        if batch.finalized:
            self._drop_blocks()

    def _drop_blocks(self) -> None:
        """Drop kept blocks up to the tip: they are in the log now, or never will be."""
        m = self.medium
        gone = [b for b in m.kept.values() if view_of(b.header) <= self._tip]
        for block in gone:
            del m.kept[block.hash]
        dropped = [block for block in gone if block.hash not in m.heights]
        if dropped:
            needed = {digest for block in m.kept.values() for digest in block.header.submissions}
            for digest in (digest for block in dropped for digest in block.header.submissions):
                if digest in m.unsettled and digest not in m.own and digest not in needed:
                    m.unsettled.discard(digest)
                    del m.submissions[digest]
