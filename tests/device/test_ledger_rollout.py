"""The ledger and the rollout: genesis keys, blocks that are drawn from, positions that are permits, and a replay."""

from __future__ import annotations

from swarm.apps.rollout.entries import Approve, Arm, Go, MakePlan, Propose, encode_command
from swarm.apps.rollout.events import decode_event
from swarm.apps.rollout.manifest import encode_manifest, sign_release, sorted_signatures
from swarm.apps.rollout.spec import PlanSpec
from swarm.apps.router import Router
from swarm.device.ledger import Ledger
from swarm.storage.store import Batch, StoredBlock
from swarm.wire.leaves import decode_leaf
from swarm.wire.messages import Submission
from swarm.wire.statements import Header, header_hash
from tests.support.rollouts import RolloutLog, make_manifest, make_rollout_genesis, release_keypairs
from tests.support.swarms import make_submission

GENESIS = make_rollout_genesis()


class Chain:
    """Blocks of one submission each, applied to one ledger."""

    def __init__(self) -> None:
        self.ledger = Ledger(GENESIS, Router(GENESIS.apps))
        self.blocks: list[StoredBlock] = []
        self.sequence: dict[str, int] = {}
        self.leaves: list[bytes] = []

    def apply(self, block: StoredBlock) -> None:
        batch = Batch()
        self.ledger.apply(block, batch)
        self.blocks.append(block)
        self.leaves += [leaf.data for leaf in batch.leaves]

    def log(self, origin: str, body: bytes) -> Submission:
        self.sequence[origin] = self.sequence.get(origin, 0) + 1
        submission = make_submission(GENESIS, origin, self.sequence[origin], ("rollout", body))
        height = self.ledger.height + 1
        header = Header(
            epoch=0,
            view=height,
            height=height,
            parent_view=height - 1,
            parent=bytes(32),
            submissions=(submission.id,),
            next=bytes(32),
            proposer=0,
        )
        self.apply(StoredBlock(header_hash(header), header, (submission,), (True,)))
        return submission


def rolled_out() -> tuple[Chain, bytes, str]:
    """Roll a release out up to the first permit; return the chain, the plan and the member."""
    chain = Chain()
    reports = RolloutLog(fleet=False)
    manifest = encode_manifest(make_manifest(GENESIS.id))
    release = make_manifest(GENESIS.id).release
    signatures = sorted_signatures(sign_release(pair, release) for pair in release_keypairs()[:2])
    for voter in GENESIS.voter_ids:
        chain.log(voter, encode_command(reports.make_report(voter, "started")))
    chain.log("ops", encode_command(Propose(manifest, signatures)))
    for voter in GENESIS.voter_ids[:3]:
        chain.log(voter, encode_command(Approve(release)))
    plan = chain.log("ops", encode_command(MakePlan(release, PlanSpec()))).id
    for voter in GENESIS.voter_ids[:3]:
        chain.log(voter, encode_command(Go(plan, 0, 0)))
    rollout = chain.ledger.router.rollout
    assert rollout is not None
    found = rollout.plan(plan)
    assert found is not None
    (member,) = found.stages[0].members
    chain.log(member, encode_command(Arm(plan, 0, 0, 0, make_manifest(GENESIS.id).image_digest)))
    return chain, plan, member


def test_a_permits_id_is_the_position_of_its_leaf() -> None:
    chain, plan, member = rolled_out()
    rollout = chain.ledger.router.rollout
    assert rollout is not None
    permit = rollout.duties(member).permit
    assert permit is not None
    leaf = decode_leaf(chain.leaves[permit.id])
    assert leaf.event is not None
    event = decode_event(leaf.event.body[1:])
    assert event.__class__.__name__ == "Permitted"
    assert permit.plan == plan


def test_the_draw_is_the_hash_of_the_block_after_the_first_go() -> None:
    chain, plan, _ = rolled_out()
    rollout = chain.ledger.router.rollout
    assert rollout is not None
    found = rollout.plan(plan)
    assert found is not None
    assert found.seed == chain.blocks[found.first_go].hash, "blocks[i] has height i + 1"


def test_a_replay_makes_the_same_log() -> None:
    chain, _, _ = rolled_out()
    other = Chain()
    for block in chain.blocks:
        other.apply(block)
    assert other.leaves == chain.leaves
    assert other.ledger.frontier.root() == chain.ledger.frontier.root()
    first, second = (c.ledger.router.snapshot(c.ledger.sequences) for c in (chain, other))
    assert first == second
