"""Small swarms with fixed keys, and logs of them that are really signed: the same bytes in every run."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.crypto.digest import tagged_sha256
from swarm.crypto.keys import KeyPair
from swarm.crypto.merkle import Frontier, inclusion_path, leaf_hash
from swarm.crypto.signing import sign
from swarm.primitives.quorum import budget_of
from swarm.wire.codec import encode
from swarm.wire.genesis import APPS_DEFAULT, Genesis, Member, Role
from swarm.wire.messages import Checkpoint, Command, Submission, SubmissionBody, seal_submission
from swarm.wire.proof import Proof, proof_from
from swarm.wire.statements import Kind, attest_digest, envelope_bytes, statement_bytes

STATE_ROOT = tagged_sha256("test state root")


def keypair(id: str) -> KeyPair:
    """Return the key of a test identity, a function of its id alone."""
    return KeyPair(tagged_sha256("test key", id.encode()))


def member(id: str, role: Role) -> Member:
    return Member(id, role, keypair(id).public)


def make_genesis(
    voters: int = 4,
    *,
    observers: int = 0,
    budget: str | int = "balanced",
    snapshot_every: int = 256,
    apps: tuple[str, ...] = APPS_DEFAULT,
) -> Genesis:
    """Return a genesis of dev-0.., obs-0.. and the operator ops."""
    return Genesis(
        swarm="test",
        u=budget_of(voters, budget).u,
        snapshot_every=snapshot_every,
        apps=apps,
        members=(
            *(member(f"dev-{index}", "voter") for index in range(voters)),
            *(member(f"obs-{index}", "observer") for index in range(observers)),
            member("ops", "operator"),
        ),
    )


def make_submission(
    genesis: Genesis,
    origin: str,
    sequence: int,
    *commands: tuple[str, bytes],
    incarnation: int = 0,
    expiry: int = 0,
) -> Submission:
    """Return a submission of `origin` with a real signature."""
    body = SubmissionBody(
        origin=origin,
        incarnation=incarnation,
        sequence=sequence,
        expiry=expiry,
        commands=tuple(Command(app, command) for app, command in commands),
    )
    signed = encode(body)
    message = envelope_bytes(genesis.id, Kind.SUBMISSION, signed)
    return seal_submission(body, signed, sign(keypair(origin), message))


def sign_statement(
    genesis: Genesis, voter: str, kind: int, number: int, digest: bytes, epoch: int = 0
) -> bytes:
    return sign(keypair(voter), statement_bytes(genesis.id, kind, epoch, number, digest))


def make_checkpoint(
    genesis: Genesis,
    leaves: Sequence[bytes],
    *,
    height: int = 7,
    signers: Sequence[int] | None = None,
    epoch: int = 0,
) -> Checkpoint:
    """Return a checkpoint of the log of `leaves` (leaf data), attested by voters `signers` (default: the first r+1)."""
    tree = Frontier()
    for leaf in leaves:
        tree.append(leaf_hash(leaf))
    digest = attest_digest(len(leaves), tree.root(), STATE_ROOT)
    chosen = range(genesis.budget.r + 1) if signers is None else signers
    return Checkpoint(
        epoch=epoch,
        height=height,
        log_size=len(leaves),
        log_root=tree.root(),
        state_root=STATE_ROOT,
        signatures=tuple(
            (voter, sign_statement(genesis, genesis.voter_ids[voter], Kind.ATTEST, height, digest, epoch))
            for voter in chosen
        ),
    )


def path_of(leaves: Sequence[bytes], position: int) -> tuple[bytes, ...]:
    """Return the inclusion path of one leaf of a log."""
    nodes: dict[tuple[int, int], bytes] = {}
    tree = Frontier()
    for leaf in leaves:
        for level, index, digest in tree.append(leaf_hash(leaf)):
            nodes[level, index] = digest
    return tuple(inclusion_path(position, len(leaves), lambda level, index: nodes[level, index]))


def make_proof(
    genesis: Genesis, leaves: Sequence[bytes], position: int, *, checkpoint: Checkpoint | None = None
) -> Proof:
    """Return the proof of the leaf at `position` of the log of `leaves`."""
    return proof_from(
        genesis,
        checkpoint or make_checkpoint(genesis, leaves),
        position=position,
        leaf=leaves[position],
        path=path_of(leaves, position),
    )
