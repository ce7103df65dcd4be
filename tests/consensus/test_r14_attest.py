"""PROTOCOL R14: which heights a voter attests, and the checkpoint of r+1 matching attestations."""

from __future__ import annotations

import pytest

from swarm.consensus.attest import APPLIED_KEPT
from swarm.primitives.limits import ATTEST_SLOTS
from swarm.wire.messages import Blocks
from swarm.wire.statements import attest_digest
from tests.support.cluster import Cluster
from tests.support.stage import DELTA_MS, GENESIS, A, F, Made, N, Stage


def quiet_commit(stage: Stage, view: int, parent: Made = GENESIS) -> Made:
    """Commit a block of a voter's submission, which is nothing that R14 attests by itself, while other work waits."""
    submission = stage.submission("voter's", origin="dev-1")
    stage._sequence -= 1
    stage.work(f"waits {view}")
    made = stage.make(view, parent, (submission,))
    stage.give(made, parent=stage.certificate(N, parent.view, parent.hash) if parent.view else None)
    stage.notarize(made)
    stage.finalize(made)
    return made


def test_r14_after_a_block_with_an_operators_submission() -> None:
    stage = Stage()
    stage.work("keeps the device busy")
    stage.commit(1)
    assert stage.signed_views(A) == [1]


def test_r14_not_after_any_other_block_while_there_is_work() -> None:
    stage = Stage()
    quiet_commit(stage, 1)
    assert stage.state.delivered_height == 1
    assert stage.signed(A) == []


def test_r14_at_every_cth_height() -> None:
    stage = Stage(n=7, me=6, snapshot_every=2)
    parent = GENESIS
    for view in range(1, 6):
        parent = quiet_commit(stage, view, parent)
        stage.pass_ms(DELTA_MS)
    assert stage.signed_views(A) == [2, 4]


@pytest.mark.parametrize("pause_ms", [0, 1])
def test_r14_every_cth_height_also_under_load(pause_ms: int) -> None:
    """Found by an audit: the newest candidate took the place of a C-th height that waited for its Δ."""
    stage = Stage(n=20, me=19, snapshot_every=4)
    stage.work("keeps the device busy")
    made = GENESIS
    for view in range(1, 14):
        made = stage.commit(view, made)
        stage.pass_ms(pause_ms)
    assert [height for height in stage.signed_views(A) if height % 4 == 0] == [4, 8, 12]


def test_r14_every_cth_height_of_many_applied_in_one_turn() -> None:
    stage = Stage(n=20, me=19, snapshot_every=4)
    stage.work("keeps the device busy")
    chain = [stage.make(1, GENESIS, (stage.submission(),))]
    for view in range(2, 14):
        chain.append(stage.make(view, chain[-1], (stage.submission(),)))
    finality = stage.certificate(F, 13, chain[-1].hash)
    stage.hear(Blocks(blocks=tuple(made.block for made in chain), finality=finality))
    assert stage.state.delivered_height == 13
    assert [height for height in stage.signed_views(A) if height % 4 == 0] == [4, 8, 12]


def test_r14_when_going_idle() -> None:
    stage = Stage()
    submission = stage.submission("voter's", origin="dev-1")
    made = stage.make(1, GENESIS, (submission,))
    stage.give(made)
    stage.notarize(made)
    stage.finalize(made)
    assert not stage.state.work
    assert stage.signed_views(A) == [1]


def test_r14_when_going_idle_also_if_the_last_one_is_less_than_delta_ago() -> None:
    """Found by reading: the attestation of the idle height waited for its Δ without a timer."""
    stage = Stage()
    first = stage.commit(1)
    submission = stage.submission("voter's", origin="dev-1")
    second = stage.make(2, first, (submission,))
    stage.give(second)
    stage.notarize(second)
    stage.finalize(second)
    assert stage.signed_views(A) == [1]
    stage.pass_ms(DELTA_MS)
    assert stage.signed_views(A) == [1, 2]
    assert stage.device.wake_at_ms is None


def test_r14_at_most_one_outstanding_per_delta_then_the_newest() -> None:
    stage = Stage(n=7, me=6)
    stage.work("keeps the device busy")
    made = GENESIS
    for view in range(1, 5):
        made = stage.commit(view, made)
    assert stage.signed_views(A) == [1]
    stage.pass_ms(DELTA_MS)
    assert stage.signed_views(A) == [1, 4]


def test_r14_only_heights_that_it_applied_itself() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.finalize(made)
    stage.hear(stage.vote(A, 1, 2, b"x" * 32), sender=2)
    assert stage.signed(A) == []
    stage.hear(made.block)
    assert stage.signed_views(A) == [1]


def test_r14_a_height_that_another_voter_attested_goes_first() -> None:
    stage = Stage()
    quiet_commit(stage, 2, quiet_commit(stage, 1))
    assert stage.signed(A) == []
    stage.hear(stage.vote(A, 1, 2, b"x" * 32), sender=2)
    assert stage.signed_views(A) == [1]


def own_digest(stage: Stage) -> bytes:
    result = stage.device.disk.results[-1]
    return attest_digest(result.log_size, result.log_root, result.state_root)


def test_r14_r_plus_1_matching_are_a_checkpoint() -> None:
    stage = Stage()
    stage.commit(1)
    assert stage.device.disk.checkpoints == [], "r + 1 = 2, and this is one"
    stage.hear(stage.vote(A, 1, 3, own_digest(stage)), sender=3)
    (checkpoint,) = stage.device.disk.checkpoints
    assert (checkpoint.height, [voter for voter, _ in checkpoint.signatures]) == (1, [0, 3])


def test_r14_another_digest_or_the_same_voter_is_no_checkpoint_but_an_alarm() -> None:
    stage = Stage()
    stage.commit(1)
    stage.hear(stage.vote(A, 1, 3, b"x" * 32), sender=3)
    stage.hear(stage.vote(A, 1, 3, own_digest(stage)), sender=3)
    assert stage.device.disk.checkpoints == []
    assert ("attest-mismatch", 1) in stage.device.notes
    assert stage.device.evidence == [], "an alarm, never evidence"


def test_r14_a_different_a_after_the_checkpoint_is_an_alarm_once() -> None:
    """Found by an audit: below the checkpoint an A was stale before anybody compared it."""
    stage = Stage()
    stage.commit(1)
    stage.hear(stage.vote(A, 1, 3, own_digest(stage)), sender=3)
    assert len(stage.device.disk.checkpoints) == 1
    for voter in (2, 3, 2, 3):
        stage.hear(stage.vote(A, 1, voter, b"x" * 32), sender=voter)
    assert stage.device.notes.count(("attest-mismatch", 1)) == 2, "one from each voter, not one a copy"
    assert stage.device.evidence == []


def test_r14_a_different_a_is_compared_with_recent_heights_only() -> None:
    """Bounded: a result is kept for 64 heights, and an alarm a voter and height is told once."""
    stage = Stage()
    made = stage.commit(1)
    for view in range(2, APPLIED_KEPT + 2):
        made = stage.commit(view, made)
    stage.hear(stage.vote(A, APPLIED_KEPT + 1, 3, own_digest(stage)), sender=3)
    for height in range(1, APPLIED_KEPT + 2):
        stage.hear(stage.vote(A, height, 2, b"x" * 32), sender=2)
    alarms = [number for name, number in stage.device.notes if name == "attest-mismatch"]
    assert alarms == list(range(2, APPLIED_KEPT + 2))
    assert len(stage.state.attests[2]) <= ATTEST_SLOTS


def test_r14_an_a_that_equals_what_is_known_below_the_checkpoint_is_not_checked() -> None:
    stage = Stage()
    stage.commit(1)
    stage.hear(stage.vote(A, 1, 3, own_digest(stage)), sender=3)
    digest = own_digest(stage)
    assert stage.device.up.why_drop_statement(A, 0, 1, 1, digest) == "stale"
    assert stage.device.up.why_drop_statement(A, 0, 1, 1, b"x" * 32) is None


def test_r14_attestations_that_came_before_the_block_count() -> None:
    ahead = Stage()
    made = ahead.commit(1)
    stage = Stage()
    stage.hear(stage.vote(A, 1, 3, own_digest(ahead)), sender=3)
    stage.give(made)
    stage.notarize(made)
    stage.finalize(made)
    assert len(stage.device.disk.checkpoints) == 1


def test_r14_a_proof_carries_exactly_r_plus_1_signatures() -> None:
    stage = Stage()
    stage.commit(1)
    for voter in (1, 2, 3):
        stage.hear(stage.vote(A, 1, voter, own_digest(stage)), sender=voter)
    assert [len(c.signatures) for c in stage.device.disk.checkpoints] == [2]


def test_r14_every_device_of_a_swarm_reaches_the_checkpoint_of_its_tip() -> None:
    cluster = Cluster(4, observers=1)
    for i in range(5):
        cluster.submit(i % 4, f"{i}")
    cluster.settle(10_000)
    tips = {d.disk.log[-1].header.height for d in cluster.devices}
    assert [d.disk.checkpoints[-1].height for d in cluster.devices] == [tips.pop()] * 5


def test_r14_a_checkpoint_of_the_tip_forms_also_if_all_restart_before_attesting() -> None:
    cluster = Cluster(4)
    cluster.submit(0, "x")
    cluster.stabilize(where=lambda m: chr(getattr(m.payload, "kind", 0)) != "A")
    for device in range(4):
        cluster.devices[device].disk.statements = [
            s for s in cluster.devices[device].disk.statements if s.kind != A
        ]
        cluster.crash(device)
        cluster.restart(device)
    cluster.settle(5_000)
    assert [len(d.disk.checkpoints) for d in cluster.devices] == [1] * 4
