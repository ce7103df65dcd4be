"""PROTOCOL R14: which heights a voter attests, and the checkpoint of r+1 matching attestations."""

from __future__ import annotations

from swarm.wire.statements import attest_digest
from tests.support.cluster import Cluster
from tests.support.stage import DELTA_MS, GENESIS, A, Made, N, Stage


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
