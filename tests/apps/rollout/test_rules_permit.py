"""W1 to W5 and the draw: who is named, who is at risk, who gets a permit, what a report does."""

from __future__ import annotations

from typing import Any

import pytest

from swarm.apps.application import Rejected
from swarm.apps.rollout.entries import TAIL, Go, MakePlan, Ready
from swarm.apps.rollout.events import (
    Accepted,
    Closed,
    Denied,
    Frozen,
    Opened,
    Permitted,
    Planned,
    Ran,
    Refused,
    permit_key,
    report_key,
    stage_key,
    verdict_key,
)
from swarm.apps.rollout.manifest import Need
from swarm.apps.rollout.spec import PlanSpec, Step, settle_spec, warnings_of
from swarm.primitives.quorum import Budget
from tests.support.rollouts import CLASS, OTHER_CLASS, VENDOR, RolloutLog, image

FIRST: dict[str, Any] = {"hold_back": 2}


def opened(log: RolloutLog, **spec: Any) -> str:
    """Open the first stage of a plan and return its one member."""
    log.planned(**{**FIRST, **spec})
    log.go()
    (member,) = log.members()
    return member


def refusal(log: RolloutLog, id: str, **fields: Any) -> str:
    (event,) = log.arm(id, **fields)
    assert isinstance(event, Refused), event
    return event.reason


# ------------------------------------------------------------------------------------------ W1


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"deadline_ms": 240_000, "trial_ms": 120_000, "attempts": 2}, "not above 2 attempts"),
        ({"hold_back": 5}, "hold_back 5 of 4"),
        ({"reserve": 2}, "reserve 2 of u = 1"),
        ({"steps": (Step("voters", 0, 0),)}, "a count or a share"),
        ({"steps": (Step("voters", 1, 1),)}, "a count or a share"),
        ({"steps": (Step("voters", 1, 0),), "pause_after": (1,)}, "pause_after 1 of 1"),
        ({"steps": (Step("voters", 1, 0),) * 3, "pause_after": (1, 1)}, "not sorted"),
    ],
    ids=str,
)
def test_w1_an_impossible_plan_is_refused(spec: dict[str, Any], words: str) -> None:
    log = RolloutLog()
    log.propose()
    before = log.app.snapshot()
    with pytest.raises(Rejected, match=words):
        log.make_plan(**spec)
    assert log.app.snapshot() == before


@pytest.mark.parametrize(("n", "u", "reserve"), [(4, 1, 0), (7, 2, 1), (10, 3, 1), (3, 0, 0)])
def test_w1_defaults(n: int, u: int, reserve: int) -> None:
    settled = settle_spec(PlanSpec(), Budget(n, u))
    assert (settled.hold_back, settled.reserve, settled.max_fail, settled.retries) == (n - u, reserve, 0, 2)


def test_w1_what_a_plan_cannot_survive_is_said() -> None:
    assert "a bomb stops this swarm" in warnings_of(PlanSpec(hold_back=2), Budget(4, 1))[0]
    assert "consent" in warnings_of(PlanSpec(), Budget(3, 0))[-1]
    assert warnings_of(PlanSpec(), Budget(7, 2)) == ()


def test_w1_a_stage_names_at_most_u_minus_reserve_voters() -> None:
    log = RolloutLog(7)
    log.planned(hold_back=3)
    assert [len(stage) for stage in log.run_all() if stage] == [1] * 7
    log = RolloutLog(7, reserve=0)
    log.planned(hold_back=3, reserve=0)
    assert [len(stage) for stage in log.run_all() if stage] == [2, 2, 2, 1]


def test_w1_members_come_from_the_block_after_the_first_go() -> None:
    """Whatever stands in the block of the go itself, or in later ones, changes nothing."""
    drawn = []
    for hashes in ((b"a" * 32, b"b" * 32), (b"c" * 32, b"b" * 32), (b"a" * 32, b"d" * 32)):
        log = RolloutLog(10)
        log.planned(hold_back=1, reserve=0)
        log.block_hash = hashes[0]
        log.go(("dev-0",))
        log.block_hash = hashes[1]
        log.go(log.voters[1:])
        drawn.append(log.members())
    assert drawn[0] == drawn[1] != drawn[2]


def test_w1_goes_in_one_block_wait_for_the_next_block() -> None:
    log = RolloutLog()
    log.planned()
    log.next_block()
    for voter in log.voters:
        assert log.log(voter, Go(log.plan_id, 0, 0), same_block=True) == ()
    assert log.plan.open_stage is None
    assert log.duties("dev-2").gos[0].again
    (event,) = log.go(("dev-2",))
    assert isinstance(event, Opened)


def test_w1_only_eligible_devices_are_drawn() -> None:
    log = RolloutLog(fleet=False)
    log.report("dev-0", "started", class_id=VENDOR + OTHER_CLASS)
    log.report("dev-1", "started", confirmed=False)
    log.report("dev-2", "started", number=2)
    log.planned(**FIRST)
    log.report("dev-3", "started")
    log.go()
    assert log.members() == ("dev-3",), "right class, confirmed, below the release"


def test_w1_a_higher_counter_or_a_number_too_old_is_not_eligible() -> None:
    log = RolloutLog()
    log.report("dev-0", "started", counter=1)
    log.planned(manifest={"oldest": 1}, **FIRST)
    log.report("dev-1", "started", number=0)
    seen = {id for stage in log.run_all() for id in stage}
    assert seen == {"dev-2", "dev-3"}


def test_w1_shares_and_pauses() -> None:
    log = RolloutLog(4, observers=10)
    steps = (Step("voters", 2, 0), Step("observers", 0, 300))
    log.planned(hold_back=2, steps=steps, pause_after=(0,))
    stages = [log.run_stage(), log.run_stage()]
    assert [len(stage) for stage in stages] == [1, 1]
    assert log.duties("dev-0").gos[0].paused
    log.log("ops", Go(log.plan_id, 2, 0))
    assert not log.duties("dev-0").gos[0].paused
    assert len(log.run_stage()) == 3, "0.3 of ten, after r+1 = 2 voters"


def test_w1_a_plan_is_of_voters_and_operators() -> None:
    log = RolloutLog(observers=1)
    log.propose()
    spec = PlanSpec()
    assert log.log("obs-0", MakePlan(log.release_id, spec)) == ()
    assert isinstance(log.log("dev-0", MakePlan(log.release_id, spec))[0], Planned)
    assert log.log("dev-0", MakePlan(b"?" * 32, spec)) == ()


# ------------------------------------------------------------------------------------------ W2


def test_w2_a_voter_enters_by_its_permit_and_leaves_by_its_report() -> None:
    log = RolloutLog()
    member = opened(log)
    assert log.app.at_risk() == (), "a member alone is not at risk"
    permit = log.permit(member)
    assert log.app.at_risk() == (member,)
    log.halt()
    log.resume()
    log.late()
    log.halt()
    assert log.app.at_risk() == (member,), "no halt, resume or deadline frees anybody"
    log.rollback(stop=True)
    assert log.state == "abandoned"
    assert log.app.at_risk() == (member,), "nor the end of the plan"
    log.report(member, "reverted", permit=permit)
    assert log.app.at_risk() == ()


def test_w2_a_wiped_voter_is_at_risk_until_its_new_incarnation_reports() -> None:
    log = RolloutLog()
    old = log.make_report("dev-0", "started")
    log.recovered("dev-0")
    assert log.app.at_risk() == ("dev-0",)
    log.log("dev-0", old)
    assert log.app.at_risk() == ("dev-0",), "a report of the old incarnation is no report"
    log.report("dev-0", "started")
    assert log.app.at_risk() == ()


def test_w2_degraded_and_convicted_voters_are_at_risk() -> None:
    log = RolloutLog()
    log.report("dev-1", "started", degraded=True)
    assert log.app.at_risk() == ("dev-1",)
    log.report("dev-1", "started")
    log.convicted("dev-2")
    log.report("dev-2", "started")
    assert log.app.at_risk() == ("dev-2",), "a conviction ends with the membership only"


def test_w2_observers_and_former_voters_do_not_count() -> None:
    log = RolloutLog(observers=1)
    log.report("obs-0", "started", degraded=True)
    log.report("dev-3", "started", degraded=True)
    assert log.app.at_risk() == ("dev-3",)
    assert log.app.at_risk(log.voters[:3]) == ()


# ------------------------------------------------------------------------------------------ W3


def test_w3_permit_needs_open_stage() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    assert log.arm("dev-0", stage=0) == (), "a stage that is not there"
    log.go()
    (member,) = log.members()
    (event,) = log.arm(member)
    assert isinstance(event, Permitted)
    permit = log.device(member).permit
    assert permit is not None
    assert permit.id == log.position - 1, "its id is the position of its event"
    assert log.keys[-1] == permit_key(log.plan_id, 0, 0, member, 0)


def test_w3_permit_needs_membership_and_this_generation() -> None:
    log = RolloutLog()
    member = opened(log)
    other = next(id for id in log.voters if id != member)
    assert refusal(log, other) == "not-a-member"
    assert log.arm(member, generation=1) == ()
    assert log.arm(member, stage=1) == ()
    assert log.arm(member, plan=b"?" * 32) == ()
    log.halt()
    log.resume()
    assert log.arm(member, generation=0) == (), "an arm of the generation before"
    assert isinstance(log.arm(member)[0], Permitted)


def test_w3_permit_needs_this_incarnation() -> None:
    log = RolloutLog()
    member = opened(log)
    assert refusal(log, member, incarnation=1) == "other-incarnation"
    log.recovered(member)
    assert refusal(log, member, incarnation=0) == "other-incarnation"
    assert refusal(log, member) == "unsettled", "recovering: it has not said what it runs"
    log.report(member, "started")
    assert isinstance(log.arm(member)[0], Permitted)


def test_w3_one_device_one_open_permit() -> None:
    log = RolloutLog()
    member = opened(log)
    log.permit(member)
    assert refusal(log, member) == "permit-open"


def test_w3_permit_needs_an_approved_wanted_release() -> None:
    log = RolloutLog()
    member = opened(log)
    log.revoke_signed()
    assert refusal(log, member) == "frozen"
    log = RolloutLog()
    log.propose()
    log.make_plan(**FIRST)
    assert log.go() == (), "not approved: no stage opens"


def test_w3_permit_ends_with_use_before() -> None:
    log = RolloutLog()
    log.planned(manifest={"use_before": 16}, **FIRST)
    log.go()
    (member,) = log.members()
    while log.height < 16:
        log.next_block()
    assert refusal(log, member) == "expired"


def test_w3_permit_needs_the_image_of_the_plan() -> None:
    log = RolloutLog()
    assert refusal(log, opened(log), target=image(7)) == "target"


def test_w3_permit_needs_settlement() -> None:
    log = RolloutLog()
    member = opened(log)
    log.report(member, "started", confirmed=False)
    assert refusal(log, member) == "unsettled"
    log.report(member, "started", counter=1)
    assert refusal(log, member) == "unsettled", "the image's counter is too low for it"


def test_w3_permit_needs_what_the_release_needs() -> None:
    log = RolloutLog()
    needs = (Need(VENDOR, OTHER_CLASS, 3),)
    log.planned(manifest={"needs": needs}, **FIRST)
    plan, release = log.plan_id, log.release_id
    log.go()
    (member,) = log.members()
    assert refusal(log, member) == "needs"
    log.planned(3, manifest={"class_uuid": OTHER_CLASS}, hold_back=0)
    log.run_all()
    log.plan_id, log.release_id = plan, release
    assert isinstance(log.arm(member)[0], Permitted)


def test_w3_barrier_waits_for_every_member() -> None:
    log = RolloutLog(7, reserve=0)
    log.planned(hold_back=3, reserve=0, barrier=True)
    log.go()
    first, second = log.members()
    assert refusal(log, first) == "barrier"
    assert log.duties(first).task is not None
    log.log(first, Ready(log.plan_id, 0))
    log.log("dev-0" if "dev-0" not in (first, second) else "dev-1", Ready(log.plan_id, 0))
    assert refusal(log, first) == "barrier"
    log.log(second, Ready(log.plan_id, 0))
    assert isinstance(log.arm(first)[0], Permitted)
    assert isinstance(log.arm(second)[0], Permitted)


def test_w3_no_permit_lifts_the_set_above_its_limit() -> None:
    log = RolloutLog()
    member = opened(log)
    other = next(id for id in log.voters if id != member)
    log.recovered(other)
    assert refusal(log, member) == "at-risk"
    log.report(other, "started")
    assert isinstance(log.arm(member)[0], Permitted)
    log.recovered(other)
    assert len(log.app.at_risk()) == 2, "a wipe may lift it above; then no permit until it falls"


def test_w3_observers_take_no_room() -> None:
    log = RolloutLog(observers=3)
    log.planned(hold_back=2, steps=(Step("observers", 1, 0),))
    log.go()
    (member,) = log.members()
    log.recovered("dev-0")
    assert isinstance(log.arm(member)[0], Permitted)
    assert log.app.at_risk() == ("dev-0",)


def test_w3_the_permit_names_who_else_is_at_risk() -> None:
    log = RolloutLog(7, reserve=0)
    log.planned(hold_back=3, reserve=0)
    log.go()
    first, second = log.members()
    log.permit(first)
    (event,) = log.arm(second)
    assert isinstance(event, Permitted)
    assert event.at_risk == (first,)


# ------------------------------------------------------------------------------------------ W4


def test_w4_every_report_sets_the_belief_and_names_the_one_before() -> None:
    log = RolloutLog(fleet=False)
    (first,) = log.report("dev-0", "started")
    assert isinstance(first, Ran)
    assert first.before == 0
    at = log.position - 1
    (second,) = log.report("dev-0", "fell_back", number=7, permit=99)
    assert isinstance(second, Ran)
    assert second.before == at
    assert log.device("dev-0").digest == image(7)
    assert log.keys[-1] == report_key("dev-0", 0, 1, 2)


def test_w4_a_stale_or_doubled_report_is_a_no_op() -> None:
    log = RolloutLog()
    stale = log.make_report("dev-0", "started", number=5)
    new = log.make_report("dev-0", "started", number=1)
    log.log("dev-0", new)
    before = log.app.snapshot()
    assert log.log("dev-0", stale) == ()
    assert log.log("dev-0", new) == ()
    assert log.app.snapshot() == before


def test_w4_operators_do_not_report() -> None:
    log = RolloutLog()
    report = log.make_report("dev-0", "started")
    assert log.log("ops", report) == ()


def test_w4_healthy_is_accepted_where_nothing_bars_it() -> None:
    log = RolloutLog()
    member = opened(log)
    permit = log.permit(member)
    _, verdict = log.report(member, "healthy", permit=permit, number=2)
    assert verdict == Accepted(permit, member)
    assert log.keys[-1] == verdict_key(member, permit)
    assert log.report(member, "healthy", permit=permit, number=2)[1:] == (), "given once, it stands"
    assert log.app.at_risk() == (member,), "and frees nobody"


def test_w4_healthy_without_its_permit_or_with_another_image_is_nothing() -> None:
    log = RolloutLog()
    member = opened(log)
    permit = log.permit(member)
    assert len(log.report(member, "healthy", permit=permit + 1, number=2)) == 1
    assert log.report(member, "healthy", permit=permit, number=3)[1] == Denied(permit, member, "image")


def test_w4_healthy_after_a_freeze_is_rejected_and_no_failure() -> None:
    log = RolloutLog()
    member = opened(log)
    permit = log.permit(member)
    log.halt()
    assert log.report(member, "healthy", permit=permit, number=2)[1] == Denied(permit, member, "frozen")
    log.report(member, "reverted", permit=permit, number=1)
    log.resume()
    assert member in log.members(), "turned down by the freeze alone: it may ask again"
    assert isinstance(log.arm(member)[0], Permitted)


@pytest.mark.parametrize("result", ["never_tried", "declined"])
def test_w4_a_permit_without_a_trial_may_be_asked_for_again(result: str) -> None:
    log = RolloutLog()
    member = opened(log)
    permit = log.permit(member)
    log.report(member, result, permit=permit + 3)
    assert log.app.at_risk() == (member,), "naming another permit ends nothing"
    log.report(member, result, permit=permit)
    assert log.app.at_risk() == ()
    assert log.state == "active"
    assert isinstance(log.arm(member)[0], Permitted)


def test_w4_a_new_incarnation_ends_every_older_permit() -> None:
    log = RolloutLog()
    member = opened(log)
    log.permit(member)
    log.recovered(member)
    log.report(member, "started")
    assert log.device(member).permit is None
    assert log.plan.halted_by == f"failed:{member}", "what became of its trial nobody knows"


def test_w4_wiped_after_confirm_before_its_report_is_confirmed() -> None:
    log = RolloutLog()
    member = opened(log)
    permit = log.permit(member)
    log.report(member, "healthy", permit=permit, number=2)
    log.truth(member, "trial", new=True)
    log.truth(member, "idle", new=True, ever=True)
    log.recovered(member)
    events = log.report(member, "started", number=2)
    assert isinstance(events[-1], Closed)
    assert log.rules.verdict() == "held"


def test_w4_confirmed_without_acceptance_ends_the_permit_as_a_failure() -> None:
    log = RolloutLog()
    member = opened(log)
    permit = log.permit(member)
    log.report(member, "confirmed", permit=permit, number=2)
    assert log.app.at_risk() == ()
    assert log.plan.halted_by == f"failed:{member}"
    assert log.device(member).digest == image(2), "belief follows the report all the same"


def test_w4_a_confirmed_device_that_runs_the_old_image_again_has_failed() -> None:
    log = RolloutLog()
    member = opened(log)
    log.update(member)
    assert log.plan.open_stage is None
    events = log.report(member, "fell_back", number=1, reason="no-health")
    assert isinstance(events[-1], Frozen)
    assert log.plan.stages[0].members[member].state == "failed"


def test_w4_a_contradictory_report_is_that_devices_failure_only() -> None:
    log = RolloutLog()
    member = opened(log)
    permit = log.permit(member)
    log.report(member, "confirmed", permit=permit, number=1)
    assert log.plan.halted_by == f"failed:{member}"
    log.resume()
    assert log.state == "active"
    assert member in log.plan.dropped
    log.go()
    assert member not in log.members()


def test_w4_stage_events_are_found_by_their_stage() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    log.go()
    assert log.keys[-1] == stage_key(log.plan_id, 0, 0)


# ------------------------------------------------------------------------------------------ W5 (its side on the log)


def test_w5_the_device_finds_its_permit_and_its_task() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    assert all(log.duties(id).task is None for id in log.voters)
    log.go()
    (member,) = log.members()
    task = log.duties(member).task
    assert task is not None
    assert (task.way, task.refusal, task.release, task.arm.target) == (
        "stage",
        None,
        log.release_id,
        image(2),
    )
    log.log(member, task.arm)
    duties = log.duties(member)
    assert duties.permit is not None
    assert duties.task is not None
    assert duties.task.refusal == "permit-open"
    assert [log.duties(id).task for id in log.voters if id != member] == [None] * 3
    assert len(log.plan.stages) < TAIL
    assert CLASS in log.plan.class_id
