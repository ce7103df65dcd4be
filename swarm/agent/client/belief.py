"""What a light client believes of an answer: only what r+1 voters signed, checked against genesis (PROTOCOL section 6).

Every function takes an answer and returns what it proves, or raises `DecodeError` or `ProofError`; then the member
that sent it is wrong or lying, and somebody else is asked.
"""

from __future__ import annotations

from dataclasses import dataclass

from swarm.apps.decisions.commands import Closed, decode_event
from swarm.apps.decisions.rules import Outcome
from swarm.apps.router import Refusal, command_key, read_body
from swarm.apps.verify import DECISIONS_APP
from swarm.crypto.merkle import leaf_hash, root_of_range, verify_consistency
from swarm.primitives.errors import ProofError
from swarm.storage.store import StoredBlock
from swarm.wire.certificates import Verify, verify_certificate, verify_checkpoint
from swarm.wire.genesis import Genesis
from swarm.wire.leaves import decode_leaf, submission_leaf
from swarm.wire.messages import (
    AnswerEntries,
    AnswerLeaf,
    AnswerSuperseded,
    AnswerUnknown,
    AskEntries,
    Blocks,
    Checkpoint,
    Submission,
    decode_submission,
)
from swarm.wire.proof import encode_proof, proof_from, verify
from swarm.wire.statements import Kind, header_hash

_DECISIONS = "decisions"


@dataclass(frozen=True, slots=True)
class Proved:
    """A leaf of the log, and the bytes that prove it to anybody."""

    position: int
    leaf: bytes
    height: int
    """Of the checkpoint."""
    proof: bytes


@dataclass(frozen=True, slots=True)
class Range:
    """Consecutive leaves of the log from `position`, and the checkpoint that covers them."""

    position: int
    leaves: tuple[bytes, ...]
    checkpoint: Checkpoint


class Belief:
    """Judges answers for the swarm of one genesis."""

    def __init__(self, genesis: Genesis, verify_signature: Verify) -> None:
        """Check with `verify_signature(public, message, signature)`."""
        self._genesis = genesis
        self._verify = verify_signature

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Believe that the log was like that at that height."""
        verify_checkpoint(
            checkpoint,
            swarm_id=self._genesis.id,
            epoch=0,
            voter_keys=self._genesis.voter_keys,
            r=self._genesis.budget.r,
            verify=self._verify,
        )

    def leaf(self, answer: AnswerLeaf | AnswerSuperseded) -> Proved:
        """Believe that this leaf stands there: the proof is made, and then verified as everybody will verify it.

        Whether it is the leaf that was asked for, the functions below say.
        """
        return self._proved(answer.checkpoint, answer.position, answer.leaf, answer.path)

    def unknown(self, answer: AnswerUnknown, *, key: bytes, expiry: int) -> int:
        """Believe the checkpoint of "unknown" and return its height; that the leaf is missing stays a claim."""
        if answer.key != key:
            raise ProofError("an answer about another key")
        self.checkpoint(answer.checkpoint)
        if answer.checkpoint.height <= expiry:
            raise ProofError(f"unknown at height {answer.checkpoint.height}, not above the expiry {expiry}")
        return answer.checkpoint.height

    def entries(self, answer: AnswerEntries, ask: AskEntries) -> Range:
        """Believe leaves whose root, with the frontier before them, the checkpoint's tree continues."""
        if answer.position != ask.position or len(answer.leaves) > ask.count:
            raise ProofError("other entries than those asked for")
        checkpoint = answer.checkpoint
        end = answer.position + len(answer.leaves)
        if end > checkpoint.log_size:
            raise ProofError("entries beyond the checkpoint")
        if ask.count and not answer.leaves and end < checkpoint.log_size:
            raise ProofError("no entries where the checkpoint says there are some")
        root = root_of_range(answer.position, answer.frontier, map(leaf_hash, answer.leaves))
        if not verify_consistency(end, root, checkpoint.log_size, checkpoint.log_root, answer.rest):
            raise ProofError("the entries are not those of the checkpoint's log")
        self.checkpoint(checkpoint)
        return Range(answer.position, answer.leaves, checkpoint)

    def entry(self, answer: AnswerEntries, ask: AskEntries) -> Proved:
        """Believe the one leaf of an answer to `AskEntries(position, 1)`, with an inclusion proof made of its parts."""
        believed = self.entries(answer, ask)
        if len(believed.leaves) != 1:
            raise ProofError("not the one entry asked for")
        path = inclusion_from_range(
            answer.position, believed.checkpoint.log_size, answer.frontier, answer.rest
        )
        return self._proved(believed.checkpoint, answer.position, believed.leaves[0], path)

    def blocks(self, answer: Blocks, *, height: int, parent: bytes) -> tuple[StoredBlock, ...]:
        """Believe blocks of the log from `height` on: each names the one before, the first one `parent`, the last is final.

        A quorum signed that the last one is final, so all before it are (PROTOCOL R7). Raises `ProofError` or
        `DecodeError`.
        """
        believed: list[StoredBlock] = []
        for block in answer.blocks:
            header = block.header
            if header.height != height + len(believed) or header.parent != parent:
                raise ProofError("blocks that do not follow each other")
            bodies = tuple(decode_submission(raw) for raw in block.submissions)
            if tuple(body.id for body in bodies) != header.submissions:
                raise ProofError("a block whose submissions are others")
            parent = header_hash(header)
            believed.append(StoredBlock(parent, header, bodies))
        finality = answer.finality
        if finality is None or finality.kind != Kind.FINALIZE or finality.digest != parent:
            raise ProofError("blocks that nobody says are final")
        verify_certificate(
            finality,
            swarm_id=self._genesis.id,
            epoch=0,
            voter_keys=self._genesis.voter_keys,
            q=self._genesis.budget.q,
            verify=self._verify,
        )
        return tuple(believed)

    def _proved(self, checkpoint: Checkpoint, position: int, leaf: bytes, path: tuple[bytes, ...]) -> Proved:
        proof = encode_proof(proof_from(self._genesis, checkpoint, position=position, leaf=leaf, path=path))
        verified = verify(proof, self._genesis, self._verify)
        return Proved(position, leaf, verified.height, proof)

    # ------------------------------------------------------------------------------ is it the leaf asked for?

    def outcome_or_refusal(self, leaf: bytes, decision: bytes) -> Outcome | Refusal:
        """Return how the decision ended, or why it was never opened; `ProofError` when the leaf is about neither."""
        event = decode_leaf(leaf).event
        if event is None or DECISIONS_APP not in self._genesis.apps:
            raise ProofError("no event of decisions")
        content = read_body(event.body)
        if isinstance(content, Refusal):
            if command_key(event.submission, event.command) == decision:
                return content
        elif event.app == _DECISIONS:
            happened = decode_event(content)
            if isinstance(happened, Closed) and happened.outcome.decision == decision:
                return happened.outcome
        raise ProofError("the end of another decision")


def check_own_leaf(leaf: bytes, submission: Submission) -> None:
    """Raise `ProofError` unless the leaf is exactly this submission."""
    if leaf != submission_leaf(submission.raw):
        raise ProofError("the leaf of another submission")


def superseding(leaf: bytes, submission: Submission) -> Submission:
    """Return the other submission in the leaf that used up the sequence number of `submission`."""
    other = decode_leaf(leaf).submission
    if other is None or other.id == submission.id:
        raise ProofError("no other submission")
    mine, body = submission.body, other.body
    if (body.origin, body.incarnation, body.sequence) != (mine.origin, mine.incarnation, mine.sequence):
        raise ProofError("a submission with another number")
    return other


def refusals_of(leaves: tuple[bytes, ...], submission: bytes) -> list[tuple[int, str]]:
    """Return (offset, reason) of the refusals among the events that follow a submission's own leaf, `leaves[0]`.

    The events of a submission stand right behind it (PROTOCOL section 2), so the first leaf of another ends them.
    """
    found: list[tuple[int, str]] = []
    for offset, data in enumerate(leaves[1:], start=1):
        event = decode_leaf(data).event
        if event is None or event.submission != submission:
            break
        content = read_body(event.body)
        if isinstance(content, Refusal):
            found.append((offset, content.reason))
    return found


def inclusion_from_range(
    position: int, log_size: int, frontier: tuple[bytes, ...], rest: tuple[bytes, ...]
) -> tuple[bytes, ...]:
    """Return the inclusion path of leaf `position` from its frontier and the consistency path that follows it.

    The leaf is the last of the tree of position + 1 leaves. Its siblings below the last perfect subtree of that tree
    are the smallest hashes of the frontier. From there on they are the steps of the consistency path, whose first
    hash is that subtree itself unless it is the whole tree (RFC 6962 sections 2.1.1 and 2.1.2).
    """
    size = position + 1
    if size == log_size:
        return tuple(reversed(frontier))
    level = (size & -size).bit_length() - 1
    low = tuple(reversed(frontier))[:level]
    is_whole = size.bit_count() == 1
    return low + (rest if is_whole else rest[1:])
