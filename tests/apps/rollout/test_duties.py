"""What a device asks the log: its task, its permit, votes that are due, timers, wishes, and the status for people."""

from __future__ import annotations

from swarm.apps.rollout.entries import Arm, Consent, Halt, Revoke, Rollback
from swarm.apps.rollout.spec import Step
from swarm.apps.rollout.state import Release
from swarm.apps.rollout.status import STATUS
from swarm.wire.codec import encode
from tests.support.rollouts import RolloutLog


def test_a_plan_that_waits_gives_every_voter_a_go_and_a_timer() -> None:
    log = RolloutLog(observers=1)
    log.planned(hold_back=2, soak_ms=5000, deadline_ms=300_000)
    for id in log.voters:
        duties = log.duties(id)
        (go,) = duties.gos
        (late,) = duties.lates
        assert (go.stage, go.soak_ms, go.listen_to, go.again) == (0, 0, (), False)
        assert (late.stage, late.round, late.deadline_ms) == (0, 0, 305_000)
    assert log.duties("obs-0").gos == ()
    assert log.duties("ops").task is None


def test_a_vote_that_is_on_the_log_is_no_duty_any_more() -> None:
    log = RolloutLog()
    log.planned(hold_back=2)
    log.go(("dev-0",))
    log.late(("dev-0",))
    assert log.duties("dev-0").gos == ()
    assert log.duties("dev-0").lates == ()
    assert len(log.duties("dev-1").gos) == 1


def test_an_open_stage_has_a_timer_per_round() -> None:
    log = RolloutLog()
    log.planned(hold_back=2, deadline_ms=300_000)
    log.go()
    (late,) = log.duties("dev-0").lates
    assert (late.round, late.deadline_ms) == (1, 300_000)
    log.late(("dev-0", "dev-1"))
    (late,) = log.duties("dev-0").lates
    assert late.round == 2
    log.halt()
    assert log.duties("dev-0").lates == ()


def test_the_task_is_the_arm_to_send_and_what_it_would_get() -> None:
    log = RolloutLog()
    log.planned(hold_back=2, barrier=True, trial_ms=9000, attempts=3)
    log.go()
    (member,) = log.members()
    task = log.duties(member).task
    assert task is not None
    assert task.wants_ready
    assert (task.trial_ms, task.attempts, task.refusal) == (9000, 3, "barrier")
    assert isinstance(task.arm, Arm)


def test_wishes_of_operators_are_told_to_voters_until_they_follow() -> None:
    log = RolloutLog()
    log.planned(hold_back=2)
    log.log("ops", Halt(log.plan_id, of_class=False, reason=""))
    log.log("ops", Halt(log.plan.class_id, of_class=True, reason=""))
    log.log("ops", Rollback(log.plan_id, stop=False))
    log.log("ops", Revoke(log.release_id, "", ()))
    asked = [(wish.asked, wish.by) for wish in log.duties("dev-1").wishes]
    assert asked == [(verb, ("ops",)) for verb in ("revoke", "halt-class", "halt", "rollback")]
    log.log("dev-1", Halt(log.plan_id, of_class=False, reason=""))
    log.log("dev-1", Rollback(log.plan_id, stop=False))
    assert [wish.asked for wish in log.duties("dev-1").wishes] == ["revoke", "halt-class"]


def test_an_operators_resume_is_a_wish_for_this_generation_and_no_vote() -> None:
    log = RolloutLog()
    log.planned(hold_back=2)
    assert log.resume(("ops",)) == ()
    assert log.duties("dev-0").resumes == (), "nothing is frozen"
    log.halt()
    assert log.resume(("ops",), without=("dev-2", "dev-2")) == ()
    assert log.state == "frozen"
    (wish,) = log.duties("dev-0").resumes
    assert (wish.plan, wish.generation, wish.without, wish.by) == (log.plan_id, 0, ("dev-2",), ("ops",))
    assert log.duties("obs-0").resumes == ()
    log.resume(("dev-0",), without=("dev-2",))
    assert log.duties("dev-0").resumes == ()
    log.resume(("dev-1", "dev-3"), without=("dev-2",))
    assert log.state != "frozen"
    assert log.duties("dev-2").resumes == ()


def test_a_wish_is_no_vote() -> None:
    log = RolloutLog(3)
    log.planned(hold_back=0)
    log.log("ops", Consent(log.plan_id, "dev-0"))
    log.log("ops", Halt(log.plan_id, of_class=False, reason=""))
    log.log("ops", Rollback(log.plan_id, stop=False))
    log.log("ops", Revoke(log.release_id, "", ()))
    assert log.state == "planned"
    assert log.plan.halts == []


def test_the_status_says_how_everything_stands() -> None:
    log = RolloutLog(observers=2)
    log.planned(hold_back=2, steps=(Step("voters", 1, 0),))
    (member,) = log.run_stage()
    log.go()
    (second,) = log.members()
    permit = log.permit(second)
    status = STATUS.decode(log.app.query(b""))
    assert status.height == log.height
    assert (status.at_risk, status.at_risk_limit) == ((second,), 1)
    (release,) = status.releases
    assert (release.version, release.state, release.approvals) == ("v2", "approved", 3)
    (plan,) = status.plans
    assert [(stage.kind, len(stage.members)) for stage in plan.stages] == [("voters", 1), ("voters", 1)]
    assert plan.stages[1].members[0].permit == permit
    versions = {device.id: device.version for device in status.devices}
    assert versions[member] == "v2"
    assert versions[second] == ""


def test_query_answers_ids() -> None:
    log = RolloutLog()
    log.planned(hold_back=2)
    release: Release = log.release
    assert log.app.query(log.release_id) == encode(release)
    assert log.app.query(log.plan_id) == encode(log.plan)
    assert log.app.query(b"?" * 32) == b"\xc0"
