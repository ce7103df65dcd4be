"""Releases, keys, W12 to W15: proposals, contradictions, rotation, revocation, the end, the tail, membership."""

from __future__ import annotations

from typing import Any

import pytest

from swarm.apps.application import Rejected
from swarm.apps.rollout.app import Rollout
from swarm.apps.rollout.entries import TAIL, Activate, Approve, Rollback, encode_command
from swarm.apps.rollout.events import (
    Activated,
    Approved,
    Completed,
    Contradiction,
    Frozen,
    KeysChanged,
    Permitted,
    Planned,
    Proposed,
    Refused,
    Revoked,
    RollingBack,
    keys_key,
    release_key,
)
from swarm.apps.rollout.manifest import encode_manifest, release_id
from swarm.primitives.errors import DecodeError
from swarm.primitives.limits import PLANS_WAITING_PER_ORIGIN_MAX
from tests.support.rollouts import OTHER_CLASS, RELEASE_SIGNERS, RolloutLog, image, make_manifest
from tests.support.swarms import make_genesis

FIRST: dict[str, Any] = {"hold_back": 2}


# ------------------------------------------------------------------------------------------ releases and keys


def test_a_swarm_without_release_keys_refuses_firmware() -> None:
    log = RolloutLog(fleet=False)
    log.app = Rollout()
    log.app.begin_swarm(make_genesis())
    with pytest.raises(Rejected, match="no release keys"):
        log.propose()


def test_a_release_needs_k_signatures() -> None:
    log = RolloutLog()
    assert log.propose(signers=RELEASE_SIGNERS[:1]) == ()
    assert log.propose(signers=("stranger", "release-0")) == ()
    (event,) = log.propose()
    assert isinstance(event, Proposed)
    assert log.keys[-1] == release_key(log.release_id)
    assert log.propose() == (), "known"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"file_bytes": 9}, "chunk-count"), ({"oldest": 2}, "oldest"), ({"swarm": b"?" * 32}, "other-swarm")],
    ids=str,
)
def test_a_bad_manifest_is_rejected_by_its_reason(changes: dict[str, Any], reason: str) -> None:
    from swarm.apps.rollout.entries import Propose
    from swarm.wire.codec import encode

    log = RolloutLog()
    manifest = make_manifest(**{"swarm": log.genesis.id, **changes})
    with pytest.raises(Rejected, match=f"manifest: {reason}"):
        log.log("ops", Propose(encode(manifest), ()))
    if reason != "other-swarm":
        with pytest.raises(DecodeError):
            encode_manifest(manifest)


def test_a_release_is_approved_by_a_quorum_of_voters() -> None:
    log = RolloutLog()
    log.propose()
    log.log("ops", Approve(log.release_id))
    (wish,) = log.duties("dev-0").wishes
    assert (wish.asked, wish.by) == ("approve", ("ops",))
    assert log.approve(("dev-0", "dev-0", "dev-1")) == ()
    (event,) = log.approve(("dev-2",))
    assert event == Approved(log.release_id)
    assert log.approve() == ()
    assert log.all(Approve(b"?" * 32)) == ()


def test_approvals_are_counted_anew_over_the_voters_in_force() -> None:
    log = RolloutLog()
    log.propose()
    log.approve(("dev-2", "dev-3"))
    log.epoch, log.voters = 1, ("dev-0", "dev-1", "dev-3", "dev-9")
    assert log.approve(("dev-0",)) == (), "dev-2 has left"
    assert log.approve(("dev-1",)) == (Approved(log.release_id),)


def test_numbers_only_grow() -> None:
    log = RolloutLog()
    log.propose(5)
    log.approve()
    assert log.propose(4) == ()
    assert len(log.propose(6)) == 1


def test_two_releases_of_one_number_freeze_the_class() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    log.go()
    first = log.release_id
    events = log.propose(2, notes=b"other")
    second = log.release_id
    assert [type(event) for event in events] == [Proposed, Contradiction, Frozen, Frozen]
    assert log.app.state.is_class_frozen(log.plan.class_id)
    assert log.plan.halted_by == "contradiction"
    assert log.approve() == (), "neither is approved while they contradict"
    log.release_id = first
    log.resume()
    assert log.release.is_wanted, "the plan's release survives"
    assert log.app.state.releases[second].contradicted
    log.release_id = second
    assert log.approve() == ()


def test_other_classes_go_on_after_a_contradiction() -> None:
    log = RolloutLog()
    log.propose(2)
    log.propose(2, notes=b"other")
    log.propose(2, class_uuid=OTHER_CLASS)
    assert log.approve() == (Approved(log.release_id),)


def test_keys_change_by_k_of_both_and_a_quorum() -> None:
    log = RolloutLog()
    log.propose()
    new = ("new-0", "new-1")
    signers = (*new, *RELEASE_SIGNERS[:2])
    assert log.change_keys(2, new, signers, ("ops", "dev-0", "dev-1")) == ()
    assert [wish.asked for wish in log.duties("dev-3").wishes] == ["approve", "keys"]
    (event,) = log.change_keys(2, new, signers, ("dev-2",))
    assert isinstance(event, KeysChanged)
    assert not event.emergency
    assert event.voided == (log.release_id,), "not approved and not signed by the new keys"
    assert log.keys[-1] == keys_key(1)
    assert log.propose(3) == (), "the old keys sign nothing any more"
    assert len(log.propose(3, signers=new)) == 1
    assert len(log.propose(2, signers=new)) == 1, "a voided release may be proposed again"


def test_an_approval_survives_the_rotation_and_lifts_a_contradiction() -> None:
    log = RolloutLog()
    log.propose()
    log.approve()
    approved = log.release_id
    log.propose(2, notes=b"other")
    new = ("new-0",)
    log.change_keys(1, new, (*new, *RELEASE_SIGNERS[:2]), log.voters)
    log.release_id = approved
    assert log.release.is_wanted
    assert not log.app.state.is_class_frozen(log.release.manifest.class_id)


@pytest.mark.parametrize(
    ("signers", "emergency"),
    [(("new-0", "new-1", "release-0"), True), (("new-0", "release-0", "release-1"), None)],
    ids=str,
)
def test_without_k_old_signatures_it_is_an_emergency_and_without_k_new_ones_nothing(
    signers: tuple[str, ...], emergency: bool | None
) -> None:
    log = RolloutLog()
    log.change_keys(2, ("new-0", "new-1"), signers, ("ops",))
    wishes = [wish.asked for wish in log.duties("dev-3").wishes]
    assert wishes == (["keys-emergency"] if emergency else [])
    events = log.change_keys(2, ("new-0", "new-1"), signers, log.voters)
    assert bool(events) == bool(emergency)


def test_a_member_backs_one_change_of_keys_at_a_time() -> None:
    log = RolloutLog()
    for index in range(40):
        log.change_keys(1, (f"new-{index}",), (f"new-{index}",), ("dev-0",))
    assert len(log.app.state.rotations) == 1


# ------------------------------------------------------------------------------------------ W12


def test_w12_a_revocation_takes_the_image_back() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    (member,) = log.run_stage()
    revoked, back = log.revoke()
    assert revoked == Revoked(log.release_id, image(2), "bad")
    assert isinstance(back, RollingBack)
    assert log.app.revoked_digests(log.plan.class_id) == (image(2),)
    assert isinstance(log.arm(member, number=1)[0], Permitted), "a revocation never bars the way back"
    assert log.go() == ()
    assert log.resume() == ()


def test_w12_revoked_is_never_accepted_nor_permitted_again() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    log.go()
    (member,) = log.members()
    permit = log.permit(member)
    log.revoke()
    log.report(member, "healthy", permit=permit, number=2)
    assert log.device(member).permit is not None
    assert not log.device(member).permit.accepted  # type: ignore[union-attr]
    log.report(member, "confirmed", permit=permit, number=2)
    assert log.device(member).permit is None
    assert log.propose(2) == ()
    assert log.make_plan() == ()


def test_w12_revocation_after_the_rollback_order() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    (member,) = log.run_stage()
    log.rollback()
    log.permit(member, number=1)
    (event,) = log.revoke()
    assert isinstance(event, Revoked), "the rollback that runs goes on"
    assert log.state == "rolling back"


def test_w12_no_way_back_to_a_revoked_image() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    log.run_all()
    old_release = log.release_id
    log.planned(3, **FIRST)
    (member,) = log.run_stage()
    new_release, log.release_id = log.release_id, old_release
    log.revoke()
    log.release_id = new_release
    log.rollback()
    (event,) = log.arm(member, number=2)
    assert isinstance(event, Refused)
    assert event.reason == "target"
    log.report(member, "revoked_running")
    assert log.plan.ended == {} or log.state == "rolled back"


def test_w12_k_release_signatures_alone_only_stop_it() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    log.go()
    assert log.revoke_signed(signers=RELEASE_SIGNERS[:1]) == ()
    (event,) = log.revoke_signed()
    assert isinstance(event, Frozen)
    assert event.by == "revoked"
    assert log.release.suspended
    log.resume()
    assert log.state == "active"
    assert not log.release.suspended


def test_w12_a_device_without_another_image_says_so_and_may_be_mended() -> None:
    log = RolloutLog()
    log.planned(hold_back=2)
    log.run_all()
    log.revoke()
    for id in log.voters:
        log.report(id, "revoked_running", spare="empty")
    assert log.state == "rolled back"
    log.planned(3, hold_back=2)
    log.run_all()
    assert log.state == "completed"


# ------------------------------------------------------------------------------------------ W13


def test_w13_completed_needs_a_last_go_without_members() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    for _ in range(3):
        log.run_stage()
    log.run_stage()
    log.run_stage()
    assert log.state == "active"
    (duty,) = log.duties("dev-0").gos
    assert duty.kind == "end"
    events = log.go()
    assert events[-1] == Completed(log.plan_id, log.release_id)
    assert log.release.completed


def test_w13_before_completed_a_device_never_touches_its_other_slot() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    log.run_stage()
    log.halt()
    log.rollback(stop=True)
    log.planned(3, hold_back=2)
    log.go()
    members = [log.members()]
    assert log.state == "active"
    assert all(log.device(id).number == 1 for stage in members for id in stage)
    updated = [id for id in log.voters if log.device(id).number == 2]
    assert updated
    assert not any(id in stage for stage in log.run_all() for id in updated)


def test_w13_activate_needs_images_that_speak_it() -> None:
    log = RolloutLog()
    log.planned(manifest={"protocols": (1, 2)}, hold_back=2)
    log.run_stage()
    assert log.all(Activate(2)) == ()
    log.run_all()
    assert log.all(Activate(3)) == ()
    (event,) = log.all(Activate(2))
    assert event == Activated(2)
    assert log.all(Activate(2)) == ()


def test_w13_activate_counts_who_is_at_risk_against_u() -> None:
    log = RolloutLog()
    log.planned(manifest={"protocols": (1, 2)}, hold_back=2)
    log.run_all()
    log.report("dev-0", "started", number=1)
    log.recovered("dev-1")
    assert log.all(Activate(2)) == (), "one deaf voter, one at risk, u = 1"
    log.report("dev-1", "started")
    assert log.all(Activate(2)) == (Activated(2),)


# ------------------------------------------------------------------------------------------ W14


def test_w14_one_active_plan_per_class() -> None:
    log = RolloutLog()
    first = log.planned(**FIRST)
    log.go()
    log.planned(3, **FIRST)
    assert log.go() == ()
    assert log.duties("dev-0").gos == ()
    assert log.late() == (), "nor does it wait for its go"
    log.plan_id = first
    log.halt()
    log.rollback(stop=True)
    log.plan_id = list(log.app.state.plans)[-1]
    assert log.go() != ()


def test_w14_classes_in_parallel_share_one_set_at_risk() -> None:
    log = RolloutLog()
    for id in ("dev-2", "dev-3"):
        log.units[id].class_uuid = OTHER_CLASS
        log.report(id, "started")
    one = log.planned(**FIRST)
    log.go()
    (first,) = log.members()
    log.planned(2, manifest={"class_uuid": OTHER_CLASS}, **FIRST)
    log.go()
    (second,) = log.members()
    assert isinstance(log.arm(second)[0], Permitted)
    log.plan_id = one
    log.release_id = log.plan.release
    (event,) = log.arm(first)
    assert isinstance(event, Refused)
    assert event.reason == "at-risk"


def latecomer(log: RolloutLog) -> str:
    """Complete a rollout without one observer, which then turns up."""
    log.planned(hold_back=2)
    log.run_all()
    log.report("obs-9", "started")
    return "obs-9"


@pytest.fixture
def late_log() -> RolloutLog:
    log = RolloutLog(observers=2)
    log.observers = (*log.observers, "obs-9")
    log.units["obs-9"] = type(log.units["obs-0"])("obs-9")
    return log


def test_w14_a_latecomer_gets_the_newest_completed_release(late_log: RolloutLog) -> None:
    log = late_log
    id = latecomer(log)
    task = log.duties(id).task
    assert task is not None
    assert (task.way, task.arm.stage, task.refusal) == ("tail", TAIL, None)
    log.update_tail(id)
    assert log.device(id).number == 2
    assert log.duties(id).task is None


def test_w14_never_one_in_between_except_as_oldest_demands(late_log: RolloutLog) -> None:
    log = late_log
    id = latecomer(log)
    two, two_release = log.plan_id, log.release_id
    log.planned(3, hold_back=2)
    log.run_stage()
    log.plan_id, log.release_id = two, two_release
    assert isinstance(log.arm(id, stage=TAIL)[0], Permitted), "three is not completed"
    log.report(id, "declined", permit=log.device(id).permit.id)  # type: ignore[union-attr]
    log.plan_id = list(log.app.state.plans)[-1]
    log.release_id = log.plan.release
    log.app.state.plans[log.plan_id].missed.append(id)
    log.run_all()
    log.plan_id, log.release_id = two, two_release
    (event,) = log.arm(id, stage=TAIL)
    assert isinstance(event, Refused), "two has been overtaken"
    log.planned(4, manifest={"oldest": 3}, hold_back=2)
    log.run_all()
    assert log.arm(id, stage=TAIL)[0].__class__ is Refused, "four may not follow one"
    task = log.duties(id).task
    assert task is not None
    assert task.arm.target == image(3)


def test_w14_failures_freeze_the_tail_and_a_resume_thaws_it(late_log: RolloutLog) -> None:
    log = late_log
    id = latecomer(log)
    for _ in range(3):
        log.report(id, "reverted", permit=log.permit(id, stage=TAIL))
    assert isinstance(log.events[-1], Frozen)
    (event,) = log.arm(id, stage=TAIL)
    assert isinstance(event, Refused)
    assert log.state == "completed"
    log.resume()
    assert isinstance(log.arm(id, stage=TAIL)[0], Permitted)


def test_w14_the_tail_has_the_limit_of_every_permit() -> None:
    log = RolloutLog()
    log.planned(hold_back=2)
    log.run_all()
    for id in ("dev-0", "dev-1"):
        log.report(id, "started", number=1)
    assert isinstance(log.arm("dev-0", stage=TAIL)[0], Permitted)
    (event,) = log.arm("dev-1", stage=TAIL)
    assert isinstance(event, Refused)


def test_w14_waiting_plans_of_one_origin_are_few() -> None:
    log = RolloutLog()
    log.propose()
    first = log.make_plan()
    assert isinstance(first[0], Planned)
    first_id = log.plan_id
    for _ in range(PLANS_WAITING_PER_ORIGIN_MAX):
        log.make_plan()
    assert len(log.app.state.plans) == PLANS_WAITING_PER_ORIGIN_MAX
    assert log.app.plan(first_id) is None


# ------------------------------------------------------------------------------------------ W15 (its hook)


def test_w15_a_change_of_voters_must_keep_the_set_at_risk_within_u() -> None:
    log = RolloutLog(7)
    log.recovered("dev-0")
    log.recovered("dev-1")
    assert log.app.allows_voters(log.voters, 2)
    assert not log.app.allows_voters(log.voters[:4], 1)
    assert log.app.allows_voters(log.voters[1:5], 1)


def test_w15_rollback_votes_of_an_ended_epoch_are_dead() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    log.rollback(("dev-0", "dev-1"))
    log.epoch = 1
    assert log.rollback(("dev-2",)) == ()


def test_what_is_no_command_is_rejected_and_who_is_no_member_has_no_say() -> None:
    log = RolloutLog(observers=1)
    with pytest.raises(Rejected, match="not a command of rollout@1: malformed"):
        log.app.apply(log.context("dev-0"), b"\x90")
    log.planned(**FIRST)
    before = log.app.snapshot()
    assert log.app.apply(log.context("obs-0"), encode_command(Rollback(log.plan_id, stop=False))) == ()
    assert log.app.snapshot() == before
    assert release_id(b"") != log.release_id
