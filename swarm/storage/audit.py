"""Every table beside log and leaves, row by row, against what the rest of the store says or against its signers.

What SQLite's own check cannot see is a flipped bit inside a value. Each row here has a second witness: a hash, a
signature, the columns beside the encoded value, or the log.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from swarm.apps.decisions.app import Decisions
from swarm.apps.decisions.commands import Closed, decode_event
from swarm.apps.router import Refusal, command_key, read_body, state_root
from swarm.crypto import signing
from swarm.primitives.errors import DecodeError, StoreError
from swarm.primitives.limits import NUMBER_MAX
from swarm.storage.finding import Finding
from swarm.storage.inspection import Identity
from swarm.storage.rows import (
    CERTIFICATE,
    CHECKPOINT,
    HEADER,
    PROPOSAL,
    STATEMENT,
    decode_raw,
    decode_row,
    evidence_key,
    view_of,
)
from swarm.storage.signers import Signers
from swarm.wire.certificates import Verify
from swarm.wire.genesis import Genesis
from swarm.wire.leaves import EventBody, Leaf
from swarm.wire.messages import Checkpoint
from swarm.wire.statements import Kind, header_hash, statement_bytes

SNAPSHOT_PREFIX_BYTES = 8
"""The log's size, before the applications' state."""


@dataclass(frozen=True, slots=True)
class Audit:
    """One pass over the tables that stand beside the log. Each method yields what is wrong."""

    connection: sqlite3.Connection
    identity: Identity
    genesis: Genesis | None
    verify: Verify = signing.verify

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong with certificates, proposals, blocks, own submissions, evidence and state."""
        yield from self._certificates()
        yield from self._finality()
        yield from self._proposals()
        yield from self._blocks()
        yield from self._submissions()
        yield from self._evidence()
        yield from self._state()

    def checkpoints(self) -> tuple[list[Checkpoint], list[Finding]]:
        """Return the checkpoints that hold, and what is wrong with the others."""
        good: list[Checkpoint] = []
        wrong: list[Finding] = []
        signers = Signers(self.genesis, self.verify)

        def judge(height: int, log_size: int, body: bytes) -> None:
            checkpoint = decode_row(CHECKPOINT, body)
            if (checkpoint.height, checkpoint.log_size) != (height, log_size):
                raise DecodeError("malformed", "it stands at another height or log size")
            signers.checkpoint(checkpoint)
            good.append(checkpoint)

        rows = "SELECT height, log_size, body FROM checkpoints ORDER BY height"
        wrong.extend(self._judge("checkpoint", "the checkpoint of height {0}", rows, judge))
        return good, wrong

    # ----------------------------------------------------------------------------- what others signed

    def _certificates(self) -> Iterator[Finding]:
        signers = Signers(self.genesis, self.verify)

        def judge(epoch: int, view: int, kind: int, body: bytes) -> None:
            certificate = decode_row(CERTIFICATE, body)
            if (certificate.epoch, certificate.number, certificate.kind) != (epoch, view, kind):
                raise DecodeError("malformed", "it stands at another view or kind")
            signers.certificate(certificate)

        rows = "SELECT epoch, view, kind, body FROM certificates"
        yield from self._judge("certificate", "the certificate of kind {2} of view {1}", rows, judge)

    def _finality(self) -> Iterator[Finding]:
        signers = Signers(self.genesis, self.verify)

        def judge(epoch: int, view: int, body: bytes, digest: bytes | None) -> None:
            certificate = decode_row(CERTIFICATE, body)
            named = (certificate.kind, certificate.epoch, certificate.number, certificate.digest)
            if named != (Kind.FINALIZE, epoch, view, digest):
                raise DecodeError("malformed", "it does not name the log's block")
            signers.certificate(certificate)

        rows = "SELECT epoch, view, body, hash FROM finality LEFT JOIN log USING (epoch, view)"
        yield from self._judge("finality", "the FC of view {1}", rows, judge)

    def _evidence(self) -> Iterator[Finding]:
        signers = Signers(self.genesis, self.verify)

        def judge(epoch: int, voter: int, first_kind: int, second_kind: int, *bodies: bytes) -> None:
            first, second = (decode_row(STATEMENT, body) for body in bodies)
            key = evidence_key(first, second)
            if key != (epoch, voter, first_kind, second_kind) or second.voter != voter:
                raise DecodeError("malformed", "it is of another voter or kind")
            for statement in (first, second):
                signers.statement(statement)

        rows = "SELECT epoch, voter, first_kind, second_kind, first, second FROM evidence"
        yield from self._judge("evidence", "the evidence against voter {1}", rows, judge)

    # ----------------------------------------------------------------------------- what is our own, or not in the log

    def _proposals(self) -> Iterator[Finding]:
        signers = Signers(self.genesis, self.verify)

        def judge(epoch: int, view: int, body: bytes) -> None:
            proposal = decode_row(PROPOSAL, body)
            header = proposal.header
            if view_of(header) != (epoch, view):
                raise DecodeError("malformed", "it is of another view")
            self._check_own(Kind.PROPOSE, epoch, view, header_hash(header), proposal.signature)
            parent = proposal.parent
            if parent is None and header.parent_view != 0:
                raise DecodeError("malformed", "it has no certificate of its parent")
            if parent is not None:
                if (parent.number, parent.digest) != (header.parent_view, header.parent):
                    raise DecodeError("malformed", "its certificate is of another parent")
                signers.certificate(parent)
            for skip in proposal.skips:
                signers.certificate(skip)

        yield from self._judge(
            "proposal", "the proposal of view {1}", "SELECT epoch, view, body FROM proposals", judge
        )

    def _blocks(self) -> Iterator[Finding]:
        def judge(digest: bytes, body: bytes) -> None:
            header = decode_row(HEADER, body)
            if header_hash(header) != digest:
                raise DecodeError("malformed", "its header does not have the block's hash")
            for wanted in header.submissions:
                if self._one("SELECT 1 FROM submissions WHERE id = ?", wanted) is None:
                    raise DecodeError("malformed", f"submission {wanted.hex()[:8]} is missing")

        yield from self._judge(
            "block", "a block that is not in the log", "SELECT hash, header FROM blocks", judge
        )

    def _submissions(self) -> Iterator[Finding]:
        def judge(_row: int, _digest: bytes, raw: bytes, final: int) -> None:
            decode_raw(raw)
            if final not in (0, 1):
                raise DecodeError("malformed", f"it is neither final nor not: {final}")

        def judge_own(_digest: bytes, sequence: int, raw: bytes) -> None:
            body = decode_raw(raw).body
            if (body.origin, body.sequence) != (self.identity.device, sequence):
                raise DecodeError("malformed", "it is of another origin or sequence number")

        rows = "SELECT row, id, raw, final FROM submissions"
        yield from self._judge("submission", "submission {0}", rows, judge)
        rows = "SELECT id, sequence, raw FROM own_submissions JOIN submissions USING (id)"
        yield from self._judge("submission", "own submission {1}", rows, judge_own)

    def _state(self) -> Iterator[Finding]:
        def judge(*columns: Any) -> None:
            boot, sequence, n, epoch, height, digest, signature = columns
            if not 0 <= boot < NUMBER_MAX or not 0 <= sequence < NUMBER_MAX:
                raise DecodeError("malformed", f"boot {boot}, sequence {sequence}")
            attest = (n, epoch, height, digest, signature)
            if attest == (None,) * 5:
                return
            if None in attest:
                raise DecodeError("malformed", "half of the newest attestation is missing")
            self._check_own(Kind.ATTEST, epoch, height, digest, signature)

        rows = (
            "SELECT boot, sequence, attest_n, attest_epoch, attest_height, attest_digest, attest_signature"
            " FROM state"
        )
        yield from self._judge("state", "what pruning left", rows, judge)

    def _check_own(self, kind: int, epoch: int, number: int, digest: bytes, signature: bytes) -> None:
        is_packable = 0 <= epoch < 2**32 and 0 <= number <= NUMBER_MAX and len(digest) == 32
        if not is_packable or not self.verify(
            self.identity.key_public,
            statement_bytes(self.identity.swarm_id, kind, epoch, number, digest),
            signature,
        ):
            raise DecodeError("bad-signature", "this device did not sign it")

    # ----------------------------------------------------------------------------- what follows from the log

    def snapshots(self, checkpoints: list[Checkpoint], size_at: Callable[[int], int]) -> Iterator[Finding]:
        """Yield what is wrong with the applications' states; `size_at(height)` is the log's size after that block."""
        heights = [row[0] for row in self.connection.execute("SELECT height FROM snapshots ORDER BY height")]
        newer: Mapping[int, int] = dict(zip(heights, [*heights[1:], NUMBER_MAX], strict=False))

        def judge(height: int, state: bytes) -> None:
            size = int.from_bytes(state[:SNAPSHOT_PREFIX_BYTES], "big")
            if len(state) < SNAPSHOT_PREFIX_BYTES or size != size_at(height):
                raise DecodeError("malformed", "it is of another log size")
            root = state_root(state[SNAPSHOT_PREFIX_BYTES:])
            # A state is attested until the next one; without genesis nobody knows when that was due.
            every = 0 if self.genesis is None else self.genesis.snapshot_every
            end = min(newer[height], height + every) if every else height + 1
            if any(height <= c.height < end and c.state_root != root for c in checkpoints):
                raise DecodeError("malformed", "it has not the root that voters attested")

        yield from self._judge(
            "snapshot", "the snapshot of height {0}", "SELECT height, state FROM snapshots", judge
        )

    def keys(self, leaf_at: Callable[[int], Leaf | None]) -> Iterator[Finding]:
        """Yield what is wrong with the keys that find leaves; `leaf_at` returns the leaf at a position, if any."""

        def judge(key: bytes, position: int) -> None:
            leaf = leaf_at(position)
            if leaf is None:
                raise DecodeError("malformed", "there is no leaf")
            expected, is_known = key_of(leaf)
            if is_known and key != expected:
                raise DecodeError("malformed", "that leaf has another key")

        yield from self._judge("leaf", "the key to leaf {1}", "SELECT key, position FROM keys", judge)

    # ----------------------------------------------------------------------------- rows

    def _judge(self, part: str, name: str, rows: str, judge: Callable[..., None]) -> Iterator[Finding]:
        for row in self.connection.execute(rows):
            try:
                judge(*row)
            except DecodeError as error:
                yield Finding(part, f"{name.format(*row)} does not hold ({error})")
            except StoreError as error:
                yield Finding(part, f"{name.format(*row)}: {error.message}")

    def _one(self, sql: str, *arguments: object) -> Any:
        return self.connection.execute(sql, arguments).fetchone()


def key_of(leaf: Leaf) -> tuple[bytes | None, bool]:
    """Return the key by which a leaf is found, and whether that is known: applications of users choose their own."""
    if leaf.submission is not None:
        return leaf.submission.id, True
    event = leaf.event
    if event is None:
        return None, False
    try:
        content = read_body(event.body)
        if isinstance(content, Refusal):
            return command_key(event.submission, event.command), True
        return _decision_key(event, content)
    except DecodeError:
        return None, False


def _decision_key(event: EventBody, content: bytes) -> tuple[bytes | None, bool]:
    if event.app != Decisions.name:
        return None, False
    happened = decode_event(content)
    return (happened.outcome.decision, True) if isinstance(happened, Closed) else (None, True)
