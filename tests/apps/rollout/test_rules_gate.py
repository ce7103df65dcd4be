"""W6 to W11: opening, closing, hold-back, consent, freeze, resume and the way back."""

from __future__ import annotations

from typing import Any

import pytest

from swarm.apps.rollout.entries import Consent, Go, Halt, Late, Ready, Resume, Rollback
from swarm.apps.rollout.events import (
    Abandoned,
    Closed,
    Deadline,
    Frozen,
    Opened,
    Permitted,
    Refused,
    Resumed,
    RolledBack,
    RollingBack,
    plan_key,
)
from swarm.apps.rollout.spec import Step
from tests.support.rollouts import RolloutLog

FIRST: dict[str, Any] = {"hold_back": 2}


def opened(log: RolloutLog) -> str:
    log.planned(**FIRST)
    log.go()
    (member,) = log.members()
    return member


# ------------------------------------------------------------------------------------------ W6


def test_w6_a_stage_opens_by_a_quorum_of_distinct_voters() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    assert log.go(("dev-0", "dev-0", "dev-1", "dev-0")) == ()
    assert log.log("ops", Go(log.plan_id, 0, 0)) == (), "an operator only asks"
    (event,) = log.go(("dev-2",))
    assert isinstance(event, Opened)
    assert log.plan.gos == [], "goes are emptied by an opening"


@pytest.mark.parametrize(("stage", "generation"), [(1, 0), (0, 1)])
def test_w6_a_go_for_another_stage_or_generation_is_a_no_op(stage: int, generation: int) -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    assert log.go(stage=stage, generation=generation) == ()
    assert log.plan.gos == []


def test_w6_no_second_stage_while_one_is_open() -> None:
    log = RolloutLog()
    opened(log)
    assert log.go() == ()


def test_w6_stale_goes_of_an_earlier_generation_do_not_count() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    log.go(("dev-0", "dev-1"))
    log.halt()
    log.resume()
    assert log.go(("dev-2",)) == (), "the two of before the freeze died with it"
    assert log.go(("dev-0", "dev-1"), generation=0) == ()
    assert len(log.go(("dev-0", "dev-1"))) == 1


def test_w6_goes_die_with_the_epoch() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    log.go(("dev-0", "dev-1"))
    log.epoch = 1
    assert log.go(("dev-2",)) == ()


def test_w6_what_a_voter_has_to_hear_before_it_says_go() -> None:
    log = RolloutLog()
    member = opened(log)
    assert log.duties("dev-0").gos == ()
    log.update(member)
    (duty,) = log.duties("dev-0").gos
    assert (duty.stage, duty.kind, duty.listen_to) == (1, "voters", (member,))
    assert duty.soak_ms == 60_000


# ------------------------------------------------------------------------------------------ W7


def test_w7_a_stage_closes_good_when_every_member_is_confirmed() -> None:
    log = RolloutLog(7, reserve=0)
    log.planned(hold_back=3, reserve=0)
    log.go()
    first, second = log.members()
    log.update(first)
    assert log.members() == (first, second)
    log.update(second)
    assert log.members() == ()
    assert log.events[-1] == Closed(log.plan_id, 0, 0, (first, second), ())


def test_w7_a_failed_voter_freezes() -> None:
    log = RolloutLog()
    member = opened(log)
    permit = log.permit(member)
    log.report(member, "reverted", permit=permit, reason="self-test")
    assert log.state == "frozen"
    assert log.plan.halted_by == f"failed:{member}"
    assert log.plan.stages[0].members[member].reason == "self-test"


def test_w7_silence_under_a_permit_is_failure_and_stays_at_risk() -> None:
    log = RolloutLog()
    member = opened(log)
    permit = log.permit(member)
    others = tuple(id for id in log.voters if id != member)
    assert log.late(others[:1]) == ()
    deadline, frozen = log.late(others[1:2])
    assert isinstance(deadline, Deadline)
    assert isinstance(frozen, Frozen)
    assert (deadline.failed, deadline.missed) == ((member,), ())
    assert log.app.at_risk() == (member,)
    log.report(member, "healthy", permit=permit, number=2)
    assert log.device(member).permit is not None
    assert not log.device(member).permit.accepted  # type: ignore[union-attr]


def test_w7_a_member_that_never_asked_is_missed_and_replaced() -> None:
    log = RolloutLog()
    member = opened(log)
    (deadline,) = log.late(("dev-0", "dev-1"))
    assert isinstance(deadline, Deadline)
    assert deadline.missed == (member,)
    (other,) = deadline.added
    assert log.members() == (other,)
    assert log.state == "active", "it learnt nothing about the image"
    log.update(other)
    assert log.plan.missed == [member]
    assert member not in [id for stage in log.run_all() for id in stage]
    assert log.state == "completed"


def test_w7_a_late_of_the_round_before_does_not_count_for_the_replacements() -> None:
    log = RolloutLog()
    opened(log)
    log.late(("dev-0", "dev-1"))
    assert log.late(("dev-2", "dev-3"), round=1) == ()
    assert len(log.late(("dev-2", "dev-3"), round=2)) == 1


def test_w7_a_late_for_the_wait_does_not_count_for_the_open_stage() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    log.late(("dev-0",))
    log.go()
    assert log.late(("dev-1", "dev-2", "dev-3"), stage=0, round=0) == ()


def test_w7_retries_end_and_the_plan_freezes() -> None:
    log = RolloutLog()
    log.planned(hold_back=1, retries=1)
    log.go()
    log.late(("dev-0", "dev-1"))
    assert log.state == "active"
    *_, frozen = log.late(("dev-0", "dev-1"))
    assert isinstance(frozen, Frozen)
    assert log.plan.halted_by == "late"


def test_w7_late_by_fewer_than_the_brake_is_nothing() -> None:
    log = RolloutLog()
    opened(log)
    assert log.late(("dev-0", "dev-0")) == ()
    assert log.log("ops", Late(log.plan_id, 0, 0, 1)) == ()


def test_w7_a_stage_that_waits_for_its_go_freezes_at_its_deadline() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    *_, frozen = log.late(("dev-0", "dev-1"))
    assert isinstance(frozen, Frozen)
    assert frozen.by == "late"
    assert log.keys[-1] == plan_key(log.plan_id)
    assert log.go() == ()


def test_w7_lates_die_with_the_generation_and_the_epoch() -> None:
    log = RolloutLog()
    opened(log)
    log.late(("dev-0",))
    log.halt()
    log.resume()
    assert log.late(("dev-1",)) == ()
    assert log.late(("dev-2",), generation=0) == ()
    log.epoch = 1
    assert log.late(("dev-3",)) == ()
    assert len(log.late(("dev-2",))) == 1


def test_w7_observers_may_fail_up_to_max_fail() -> None:
    log = RolloutLog(observers=4)
    log.planned(hold_back=2, max_fail=1, steps=(Step("voters", 2, 0), Step("observers", 4, 0)))
    log.run_stage()
    log.run_stage()
    log.go()
    first, second, third, fourth = log.members()
    for id in (first, second):
        log.update(id)
    log.report(third, "reverted", permit=log.permit(third))
    assert log.state == "active"
    log.update(fourth)
    assert log.plan.open_stage is None
    assert log.plan.stages[-1].with_state("failed") == [third]


def test_w7_too_few_confirmed_freeze() -> None:
    log = RolloutLog(observers=3)
    log.planned(
        hold_back=2, max_fail=3, min_confirmed=2, steps=(Step("voters", 2, 0), Step("observers", 3, 0))
    )
    log.run_stage()
    log.run_stage()
    log.go()
    first, second, third = log.members()
    log.update(first)
    for id in (second, third):
        log.report(id, "reverted", permit=log.permit(id))
    assert log.state == "frozen"


def test_w7_barrier_who_is_not_ready_at_the_deadline_is_missed() -> None:
    log = RolloutLog(7, reserve=0)
    log.planned(hold_back=3, reserve=0, barrier=True)
    log.go()
    first, second = log.members()
    log.log(first, Ready(log.plan_id, 0))
    deadline = next(e for e in log.late(log.voters[:4]) if isinstance(e, Deadline))
    assert deadline.missed == (second,)
    (third,) = deadline.added
    log.log(third, Ready(log.plan_id, 0))
    assert isinstance(log.arm(first)[0], Permitted)


# ------------------------------------------------------------------------------------------ W8


def test_w8_hold_back_keeps_a_quorum_on_the_old_image_until_it_is_released() -> None:
    log = RolloutLog(7, reserve=0)
    log.planned(reserve=0)
    assert len(log.run_stage()) == 2
    (duty,) = log.duties("dev-0").gos
    assert duty.kind == "release"
    (event,) = log.go()
    assert isinstance(event, Opened)
    assert (event.kind, event.members) == ("release", ())
    assert log.plan.released
    assert len(log.run_stage()) == 2


def test_w8_the_hold_back_ends_only_when_enough_are_confirmed() -> None:
    log = RolloutLog(7, reserve=0)
    log.planned(reserve=0)
    log.go()
    first, second = log.members()
    permit = log.permit(first)
    log.update(second)
    log.late()
    log.resume()
    assert log.go() == (), "one of the two that may move holds a permit and is not confirmed"
    assert log.duties("dev-0").gos == ()
    assert log.duties("dev-0").lates != (), "but it cannot wait for ever"
    log.report(first, "reverted", permit=permit)
    log.run_stage()
    assert log.duties("dev-0").gos[0].kind == "release"


def test_w8_an_armed_voter_dropped_by_a_resume_still_holds_nothing_back() -> None:
    log = RolloutLog(4)
    log.planned(hold_back=2)
    log.go()
    (member,) = log.members()
    log.permit(member)
    log.halt()
    log.resume(without=(member,))
    log.go()
    assert len(log.members()) == 1
    (other,) = log.members()
    assert isinstance(log.arm(other)[0], Refused), "its permit is charged"


def test_w8_few_observers_before_one_honest_voter_is_confirmed() -> None:
    log = RolloutLog(4, observers=60)
    log.planned(hold_back=2, steps=(Step("observers", 60, 0),))
    assert len(log.run_stage()) == 3, "5 % of 60"
    log = RolloutLog(4, observers=60)
    log.planned(hold_back=2, steps=(Step("voters", 1, 0), Step("observers", 30, 0), Step("voters", 1, 0)))
    log.run_stage()
    assert len(log.run_stage()) == 3, "one voter of r = 1 liars proves nothing"
    log = RolloutLog(4, observers=60)
    log.planned(hold_back=2, steps=(Step("voters", 2, 0), Step("observers", 60, 0)))
    log.run_stage()
    log.run_stage()
    assert len(log.run_stage()) == 60, "of r+1 = 2 confirmed voters one is honest"


# ------------------------------------------------------------------------------------------ W9


def test_w9_without_a_budget_no_voter_moves_by_go() -> None:
    log = RolloutLog(3, observers=2)
    log.planned(hold_back=0)
    assert len(log.run_stage()) == 1
    assert log.members() == ()
    stages = [log.run_stage()]
    assert set(stages[0]) <= {"obs-0", "obs-1"}
    assert log.go() == (), "only voters are left: no go opens anything"
    assert log.state == "active"


def test_w9_a_consent_names_one_voter_by_all_the_others() -> None:
    log = RolloutLog(3, reserve=-1)
    log.planned(hold_back=0)
    assert log.consent("dev-1", ("dev-0", "dev-2")) == (), "nobody asked"
    log.log("ops", Consent(log.plan_id, "dev-1"))
    assert log.consent("dev-1", ("dev-0", "dev-1")) == (), "not by itself"
    assert [wish.asked for wish in log.duties("dev-2").wishes] == ["consent"]
    consented, event = log.consent("dev-1", ("dev-2",))
    assert consented.__class__.__name__ == "Consented"
    assert isinstance(event, Opened)
    assert event.members == ("dev-1",)
    log.update("dev-1")
    assert log.plan.open_stage is None
    for id in ("dev-0", "dev-2"):
        log.log("ops", Consent(log.plan_id, id))
        log.consent(id)
        log.update(id)
    log.go()
    assert log.state == "completed"
    assert log.rules.verdict() == "held"


def test_w9_nobody_else_may_be_at_risk() -> None:
    log = RolloutLog(3, reserve=-1)
    log.planned(hold_back=0)
    log.recovered("dev-0")
    log.log("ops", Consent(log.plan_id, "dev-1"))
    assert log.consent("dev-1") == ()
    log.report("dev-0", "started")
    log.log("ops", Consent(log.plan_id, "dev-1"))
    assert len(log.consent("dev-1")) == 2
    log.recovered("dev-0")
    assert isinstance(log.arm("dev-1")[0], Refused)


def test_w9_consent_is_not_needed_where_voters_may_fail() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    log.log("ops", Consent(log.plan_id, "dev-1"))
    assert log.consent("dev-1") == ()


# ------------------------------------------------------------------------------------------ W10


def test_w10_a_freeze_stops_go_permit_and_acceptance_and_ends_no_permit() -> None:
    log = RolloutLog()
    member = opened(log)
    assert log.log("ops", Halt(log.plan_id, of_class=False, reason="")) == (), "a wish"
    assert [wish.asked for wish in log.duties("dev-0").wishes] == ["halt"]
    assert log.halt(("dev-0",)) == ()
    (frozen,) = log.halt(("dev-1",))
    assert frozen == Frozen(log.plan_id, log.plan.class_id, 0, "votes")
    (event,) = log.arm(member)
    assert isinstance(event, Refused)
    assert event.reason == "frozen"
    assert log.late() == ()


def test_w10_a_class_is_halted_with_every_plan_of_it() -> None:
    log = RolloutLog()
    opened(log)
    halt = Halt(log.plan.class_id, of_class=True, reason="")
    events = log.all(halt, ("dev-0", "dev-1"))
    assert [type(event) for event in events] == [Frozen, Frozen]
    assert log.all(Halt(b"?" * 32, of_class=True, reason="")) == ()
    assert log.go() == ()
    assert isinstance(log.resume()[-1], Resumed)
    assert not log.app.state.is_class_frozen(log.plan.class_id)


def test_w10_resume_needs_a_quorum_of_equal_wishes_in_this_generation() -> None:
    log = RolloutLog()
    member = opened(log)
    assert log.resume() == (), "nothing is frozen"
    log.halt()
    log.resume(("dev-0",), without=(member,))
    log.resume(("dev-1", "dev-2"))
    assert log.state == "frozen", "they do not want the same"
    assert log.all(Resume(log.plan_id, 1, ())) == ()
    (event,) = log.resume(("dev-0",))
    assert event == Resumed(log.plan_id, 1, ())
    assert log.members() == (member,)


def test_w10_a_resume_drops_who_failed_and_goes_on_with_others() -> None:
    log = RolloutLog()
    member = opened(log)
    log.report(member, "reverted", permit=log.permit(member))
    events = log.resume()
    assert Resumed(log.plan_id, 1, (member,)) in events
    assert log.plan.open_stage is None
    assert member not in [id for stage in log.run_all() for id in stage]


def test_w10_a_convicted_member_freezes() -> None:
    log = RolloutLog()
    member = opened(log)
    (frozen,) = log.convicted(member)
    assert isinstance(frozen, Frozen)
    assert frozen.by == f"convicted:{member}"
    assert log.convicted(member) == ()


def test_w10_freeze_beats_open_by_position_alone() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    log.go(("dev-0", "dev-1"))
    log.next_block()
    for voter in ("dev-0", "dev-1"):
        log.log(voter, Halt(log.plan_id, of_class=False, reason=""), same_block=True)
    assert log.log("dev-2", Go(log.plan_id, 0, 0), same_block=True) == ()


# ------------------------------------------------------------------------------------------ W11


def test_w11_rollback_gives_permits_to_the_old_image_whatever_is_frozen() -> None:
    log = RolloutLog()
    member = opened(log)
    log.update(member)
    log.halt()
    assert log.rollback(("dev-0", "dev-1")) == ()
    (event,) = log.rollback(("dev-2",))
    assert event == RollingBack(log.plan_id, 1, 1)
    task = log.duties(member).task
    assert task is not None
    assert (task.way, task.refusal) == ("back", None)
    permit = log.permit(member, number=1)
    log.report(member, "healthy", permit=permit, number=1)
    assert log.device(member).permit is not None
    events = log.report(member, "confirmed", permit=permit, number=1)
    assert events[-1] == RolledBack(log.plan_id, ())


def test_w11_same_limit_on_the_way_back() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    first, second = log.run_stage()[0], log.run_stage()[0]
    log.rollback()
    log.permit(first, number=1)
    assert isinstance(log.arm(second, number=1)[0], Refused)


def test_w11_only_to_the_image_in_the_other_slot() -> None:
    log = RolloutLog()
    (member,) = (opened(log),)
    log.update(member)
    log.rollback()
    for number in (2, 3, 5):
        (event,) = log.arm(member, number=number)
        assert isinstance(event, Refused)
        assert event.reason == "target"
    other = next(id for id in log.voters if id != member)
    (event,) = log.arm(other, number=1)
    assert isinstance(event, Refused)
    assert event.reason == "not-open", "it runs the old image"


def test_w11_a_rollback_from_the_middle_of_a_trial_waits_for_it() -> None:
    log = RolloutLog()
    member = opened(log)
    permit = log.permit(member)
    log.rollback()
    assert log.state == "rolling back"
    log.report(member, "healthy", permit=permit, number=2)
    assert not log.device(member).permit.accepted  # type: ignore[union-attr]
    events = log.report(member, "reverted", permit=permit, number=1)
    assert events[-1] == RolledBack(log.plan_id, ())


def test_w11_failures_do_not_stop_it_and_stragglers_may_still_ask() -> None:
    log = RolloutLog()
    log.planned(**FIRST)
    first, second = log.run_stage()[0], log.run_stage()[0]
    log.rollback()
    log.report(first, "reverted", permit=log.permit(first, number=1), number=2, reason="trial")
    assert log.state == "rolling back"
    *_, ended = log.late(("dev-0", "dev-1"))
    assert ended == RolledBack(log.plan_id, (first, second))
    assert isinstance(log.arm(second, number=1)[0], Permitted)
    assert log.rollback() == (), "it has been rolled back"


def test_w11_who_cannot_go_back_declines() -> None:
    log = RolloutLog()
    member = opened(log)
    log.update(member)
    log.rollback()
    events = log.report(member, "declined", reason="no-image", spare="empty")
    assert events[-1] == RolledBack(log.plan_id, (member,))


def test_w11_after_completed_too() -> None:
    log = RolloutLog()
    log.planned(hold_back=2)
    log.run_all()
    assert log.state == "completed"
    log.rollback()
    assert log.state == "rolling back"
    assert not log.release.completed
    for id in log.voters:
        permit = log.permit(id, number=1)
        log.report(id, "confirmed", permit=permit, number=1)
    assert log.state == "rolled back"


def test_w11_stop_gives_a_frozen_plan_up_and_moves_nothing() -> None:
    log = RolloutLog()
    opened(log)
    assert log.rollback(stop=True) == (), "not frozen"
    log.halt()
    log.log("ops", Rollback(log.plan_id, stop=True))
    assert [wish.asked for wish in log.duties("dev-0").wishes] == ["abandon"]
    (event,) = log.rollback(stop=True)
    assert event == Abandoned(log.plan_id)
    assert log.resume() == ()
