"""Where two rules meet: full tables, second plans, images under two numbers, devices that left. Named after the rule."""

from __future__ import annotations

import pytest

from swarm.apps.rollout import plan as plans
from swarm.apps.rollout import releases, rollback
from swarm.apps.rollout.entries import TAIL, Approve, Consent, Resume, Rollback
from swarm.apps.rollout.events import Accepted, Frozen, Permitted, Refused, Resumed, RolledBack
from swarm.apps.rollout.plan import is_settled
from swarm.apps.rollout.spec import Step
from swarm.primitives.limits import RELEASES_KEPT
from tests.support.rollouts import RELEASE_SIGNERS, RolloutLog, image

NEW_SIGNERS = ("release-7", "release-8", "release-9")


def taken_back(log: RolloutLog) -> None:
    """Order a rollback and let everybody that runs the new image follow."""
    log.rollback()
    for id in log.voters:
        if log.units[id].number == log.release.manifest.number:
            permit = log.permit(id, number=1)
            log.report(id, "healthy", permit=permit, number=1)
            log.report(id, "confirmed", permit=permit, number=1)


@pytest.fixture
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (plans, rollback, releases):
        monkeypatch.setattr(module, "STAGES_KEPT", 2)


# ------------------------------------------------------------------------------------------ releases


def test_a_release_with_a_plan_is_never_forgotten() -> None:
    """Voided by a change of keys, and then one proposal too many: no replica may stumble over its plan."""
    log = RolloutLog()
    log.propose()
    voided = log.release_id
    log.make_plan()
    log.change_keys(2, NEW_SIGNERS, (*NEW_SIGNERS[:2], *RELEASE_SIGNERS[:2]), log.voters)
    assert log.release.state == "voided"
    for number in range(3, 3 + RELEASES_KEPT):
        log.propose(number, signers=NEW_SIGNERS[:2])
    assert log.app.release(voided) is not None
    assert log.duties("dev-0").gos == ()


def test_w12_a_revocation_is_known_as_long_as_somebody_holds_the_image() -> None:
    log = RolloutLog(fleet=False)
    log.propose(1)
    log.approve()
    first = log.release_id
    log.revoke()
    for id in log.units:
        log.report(id, "started")
    log.planned(2, hold_back=2)
    log.run_all()
    for number in range(3, 3 + RELEASES_KEPT):
        log.propose(number)
    assert log.app.release(first) is not None
    log.release_id = log.plan.release
    log.rollback()
    (event,) = log.arm("dev-0", number=1)
    assert isinstance(event, Refused)


def test_w12_another_number_does_not_bring_a_revoked_image_back() -> None:
    log = RolloutLog()
    log.propose(2)
    log.approve()
    log.revoke()
    log.propose(3, image_digest=image(2))
    assert log.approve() == ()
    assert log.duties("dev-0").wishes == ()


def test_w11_a_proposal_with_the_old_image_does_not_bar_the_way_back() -> None:
    """Else k stolen release keys would stop a rollback without a single vote."""
    log = RolloutLog()
    log.planned(hold_back=2)
    (member,) = log.run_stage()
    log.propose(9, image_digest=image(1))
    log.release_id = log.plan.release
    log.rollback()
    assert isinstance(log.arm(member, number=1)[0], Permitted)


def test_w13_a_proposal_with_the_new_image_does_not_settle_its_devices() -> None:
    log = RolloutLog()
    log.planned(hold_back=2)
    (member,) = log.run_stage()
    log.halt()
    log.rollback(stop=True)
    assert log.state == "abandoned"
    log.propose(9, image_digest=image(2))
    assert not is_settled(log.app.state, log.device(member))


def test_w11_the_image_to_go_back_to_needs_a_counter_that_fits() -> None:
    log = RolloutLog(fleet=False)
    log.propose(1)
    log.approve()
    for id in log.units:
        log.report(id, "started")
    log.planned(2, manifest={"counter": 5}, hold_back=2)
    log.run_all()
    log.units["dev-0"].counter = 5
    log.report("dev-0", "started")
    log.rollback()
    assert log.duties("dev-0").task is None
    (event,) = log.arm("dev-0", number=1)
    assert isinstance(event, Refused)
    assert event.reason == "target"
    log.report("dev-0", "declined", reason="old-counter")
    assert log.plan.ended == {"dev-0": "old-counter"}
    assert isinstance(log.arm("dev-1", number=1)[0], Permitted)


# ------------------------------------------------------------------------------------------ plans


def test_w11_a_second_plan_of_a_release_ends_the_way_back_of_the_first() -> None:
    """Else whoever moves in the second plan would be sent back by the first, and fail the second by it."""
    log = RolloutLog()
    log.planned(hold_back=2)
    first = log.plan_id
    log.run_stage()
    taken_back(log)
    assert log.state == "rolled back"
    log.make_plan(hold_back=2)
    (member,) = log.run_stage()
    assert log.duties(member).task is None
    (event,) = log.arm(member, plan=first, stage=1, generation=1, target=image(1))
    assert isinstance(event, Refused)
    log.run_all()
    assert log.state == "completed"
    assert [log.duties(id).task for id in log.voters] == [None] * 4


def test_w11_a_straggler_keeps_its_right_to_ask_until_then() -> None:
    log = RolloutLog()
    log.planned(hold_back=2)
    (member,) = log.run_stage()
    log.rollback()
    log.late()
    assert isinstance(log.events[-1], RolledBack)
    task = log.duties(member).task
    assert task is not None
    assert (task.way, task.refusal) == ("back", None)


def test_w7_a_failed_member_is_out_of_the_plan_also_where_it_is_forgiven() -> None:
    log = RolloutLog(observers=3)
    log.planned(hold_back=2, max_fail=1, steps=(Step("voters", 2, 0), Step("observers", 2, 0)))
    log.run_stage()
    log.run_stage()
    log.go()
    first, second = log.members()
    log.report(first, "reverted", permit=log.permit(first))
    log.update(second)
    assert first not in {id for members in log.run_all() for id in members}
    assert log.state == "completed"
    assert log.duties(first).task is None
    assert isinstance(log.arm(first, stage=TAIL)[0], Refused), "the tail belongs to the plan"


def test_w10_a_dropped_device_is_out_of_the_tail_too() -> None:
    """A quorum can take the tail away from a device that freezes it again and again."""
    log = RolloutLog(observers=1)
    log.planned(hold_back=2, steps=(Step("voters", 4, 0),))
    log.run_stage()
    log.halt()
    log.resume(without=("obs-0",))
    log.run_all()
    assert log.state == "completed"
    assert log.duties("obs-0").task is None
    (event,) = log.arm("obs-0", stage=TAIL)
    assert isinstance(event, Refused)
    assert event.reason == "not-a-member"


def test_w7_a_plan_without_room_for_another_stage_freezes_at_its_deadline(small_tables: None) -> None:
    log = RolloutLog()
    log.planned(hold_back=0)
    log.run_stage()
    log.run_stage()
    assert log.duties("dev-0").gos == ()
    assert log.go() == ()
    (event,) = log.late()
    assert isinstance(event, Frozen)
    log.rollback()
    assert log.state == "rolling back"


def test_w9_a_consent_leaves_room_for_the_way_back(small_tables: None) -> None:
    log = RolloutLog(3, reserve=-1)
    log.planned(hold_back=0)
    for id in log.voters:
        log.log("ops", Consent(log.plan_id, id))
        log.consent(id)
    assert len(log.plan.stages) == 1
    for id in log.members():
        log.update(id)
    for id in log.voters:
        log.log("ops", Consent(log.plan_id, id))
        log.consent(id)
        for member in log.members():
            log.update(member)
    assert len(log.plan.stages) == 2
    log.rollback()
    assert log.state == "rolling back"


def test_w6_an_opening_empties_the_votes_of_the_plans_that_wait_behind_it() -> None:
    log = RolloutLog()
    first = log.planned(hold_back=2)
    log.go(("dev-0", "dev-1"))
    log.late(("dev-2",))
    log.make_plan(hold_back=2)
    log.run_stage()
    waiting = log.app.plan(first)
    assert waiting is not None
    assert (waiting.gos, waiting.lates) == ([], [])


def test_w6_nobody_listens_to_a_device_that_left() -> None:
    log = RolloutLog(observers=2)
    log.planned(hold_back=2, steps=(Step("observers", 1, 0),))
    (member,) = log.run_stage()
    assert log.duties("dev-0").gos[0].listen_to == (member,)
    log.observers = tuple(id for id in log.observers if id != member)
    log.epoch += 1
    log.next_block()
    assert log.duties("dev-0").gos[0].listen_to == ()


def test_w10_a_resume_does_not_depend_on_the_order_of_the_names() -> None:
    log = RolloutLog()
    log.planned(hold_back=2)
    log.halt()
    log.log("dev-0", Resume(log.plan_id, 0, ("dev-1", "dev-2")))
    log.log("dev-1", Resume(log.plan_id, 0, ("dev-2", "dev-1")))
    (event,) = log.log("dev-2", Resume(log.plan_id, 0, ("dev-2", "dev-1", "dev-1")))
    assert isinstance(event, Resumed)
    assert event.dropped == ("dev-1", "dev-2")


# ------------------------------------------------------------------------------------------ reports and wishes


def test_w4_healthy_of_a_new_incarnation_ends_the_old_permit_and_is_not_accepted() -> None:
    log = RolloutLog()
    log.planned(hold_back=2)
    log.go()
    (member,) = log.members()
    permit = log.permit(member)
    log.recovered(member)
    events = log.report(member, "healthy", permit=permit, number=2)
    assert not any(isinstance(event, Accepted) for event in events)
    assert log.device(member).permit is None


def test_nobody_is_asked_for_an_entry_without_effect() -> None:
    """A voter that follows such a wish would follow it for ever."""
    log = RolloutLog()
    log.propose(2)
    first = log.release_id
    log.propose(3)
    log.approve()
    assert log.log("dev-0", Approve(first)) == ()
    assert log.duties("dev-0").wishes == (), "two has been overtaken"
    log.propose(3, version="another")
    assert log.duties("dev-0").wishes == (), "contradicted"

    log = RolloutLog()
    first = log.planned(2, hold_back=2)
    log.run_all()
    log.log("ops", Rollback(first, stop=False))
    assert [wish.asked for wish in log.duties("dev-0").wishes] == ["rollback"]
    log.planned(3, hold_back=2)
    log.run_stage()
    assert log.duties("dev-0").wishes == (), "another plan of the class is active"
