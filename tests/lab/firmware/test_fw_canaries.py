"""FIRMWARE section 9, what a bad image or a lying device does in its stage."""

from __future__ import annotations

from swarm.apps.rollout.events import Permitted, Refused
from swarm.lab.scenario.result import HELD
from tests.support.firmware_runs import play, play_config, swarm
from tests.support.rollouts import RolloutLog

ONLY_DEV_3 = "classes: {canary: [dev-3, obs-0], other: [dev-0, dev-1, dev-2]}"
"""A class whose one voter is dev-3, so that it is the canary whatever the draw."""


def liar(attack: str) -> str:
    return f"at: 0s, byzantine: {{device: dev-3, attack: {attack}}}"


def test_fw_canary_lies_about_health() -> None:
    """dev-3 says that v2 is well and runs the old image; the honest one after it finds the truth."""
    run = play_config("canary-lies")
    assert run.running("v2") == []
    assert run.plan.state == "frozen"


def test_fw_canary_lies_and_nobody_follows_on_its_word_alone() -> None:
    """Until r+1 voters are confirmed, one of them honest, a stage names at most 5 % of the observers."""
    text = swarm(
        observers=40,
        firmware=ONLY_DEV_3.replace("obs-0", ", ".join(f"obs-{number}" for number in range(40))),
        release="v2: {behaves: crash}",
        faults=(liar("lying-canary"),),
        duration="30s",
    )
    run = play(text)
    stages = run.plan.stages
    assert [member.device for member in stages[0].members] == ["dev-3"]
    assert stages[0].closed_height > 0, "its lie closed its own stage"
    observers = [stage for stage in stages if stage.kind == "observers"]
    assert len(observers) == 1
    assert len(observers[0].members) <= 2
    assert run.plan.state == "frozen"
    assert run.running("v2") == []


def test_fw_canary_blocks_nobody_but_itself() -> None:
    run = play_config("canary-contradicts")
    assert run.plan.state == "completed"
    assert "dev-3" not in run.running("v2")
    assert len(run.running("v2")) == 5


def test_fw_canary_blocks_and_is_frozen_by_its_own_failure() -> None:
    """What it says afterwards, and the opposite of it, changes nothing: it failed."""
    run = play(swarm(firmware=ONLY_DEV_3, faults=(liar("blocking-canary"),), duration="40s"))
    assert run.plan.state == "frozen"
    assert run.plan.halted_by == "failed:dev-3"
    assert [m.outcome for m in run.plan.stages[0].members] == ["failed"]


def test_fw_silent_brick_is_called_late_and_stays_charged() -> None:
    run = play_config("canary-bricks")
    assert run.plan.halted_by.startswith("failed:")
    (member,) = run.plan.stages[0].members
    assert (member.outcome, member.reason) == ("failed", "silent")
    assert run.rollout.at_risk() == (member.device,), "no deadline frees it"
    assert not run.result.devices[member.device].up


def test_fw_silent_brick_whose_power_is_taken_goes_back_and_is_freed_by_its_report() -> None:
    first = play(swarm(release="v2: {behaves: brick}", duration="40s"))
    (member,) = first.plan.stages[0].members
    device = member.device
    again = play(
        swarm(
            release="v2: {behaves: brick}",
            duration="80s",
            faults=(f"at: 50s, crash: [{device}]", f"at: 52s, restart: [{device}]"),
        )
    )
    assert [m.device for m in again.plan.stages[0].members] == [device], "the runs are equal until the fault"
    assert again.running("v2") == []
    assert again.rollout.at_risk() == ()
    assert again.plan.state == "frozen", "failed by silence stays failed"


def test_fw_time_bomb_against_the_hold_back() -> None:
    run = play_config("bomb")
    assert run.plan.state == "frozen"
    assert run.plan.halted_by == "late", "the canary was confirmed, and nobody hears it any more"
    assert run.firmware.hold_back.kept >= run.firmware.hold_back.wanted == 3
    assert run.result.committed.submissions > 80, "the log never stopped"


def test_fw_time_bomb_without_a_hold_back_stops_the_swarm() -> None:
    """What the tools print when such a plan is made: `a bomb stops this swarm`. Safe, and dead."""
    run = play(
        swarm(
            release="v2: {behaves: {bomb: 45s}}",
            plan="soak: 1s, deadline: 60s, trial: 10s, hold_back: 0",
            duration="120s",
        )
    )
    up = [id for id, row in run.result.devices.items() if row.up and id.startswith("dev")]
    assert len(up) < 3


def test_fw_permit_hoarder_is_named_and_the_log_goes_on() -> None:
    run = play_config("permit-hoarder")
    assert run.plan.state == "abandoned"
    status = {device: record.permit for device, record in run.rollout.state.devices.items()}
    assert status["dev-3"] is not None, "it is known whose permit it is"
    assert run.result.committed.submissions > 60


def test_fw_permit_hoarder_keeps_other_voters_from_a_permit_for_ever() -> None:
    """Not by deadline, abandonment or a new plan does its charge end: u - reserve = 1 voter is at risk already."""
    log = RolloutLog(4)
    log.planned(hold_back=2)
    log.go()
    (hoarder,) = log.members()
    log.permit(hoarder)
    log.late()
    assert log.state == "frozen"
    log.rollback(stop=True)
    assert log.state == "abandoned"
    log.make_plan(hold_back=2)
    log.go()
    (other,) = log.members()
    (refused,) = log.arm(other)
    assert isinstance(refused, Refused)
    assert refused.reason == "at-risk"
    log.report(hoarder, "declined", permit=log.device(hoarder).permit.id)  # type: ignore[union-attr]
    (permitted,) = log.arm(other)
    assert isinstance(permitted, Permitted)


def test_fw_stale_report_changes_nothing() -> None:
    run = play_config("stale-reports")
    assert run.plan.state == "completed"


def test_fw_stale_report_months_late() -> None:
    """Every report of a finished update, once more after a later one: no belief, no permit, no plan moves."""
    log = RolloutLog(4)
    log.planned()
    log.go()
    (member,) = log.members()
    permit = log.permit(member)
    healthy = log.make_report(member, "healthy", permit=permit, number=2)
    log.log(member, healthy)
    confirmed = log.make_report(member, "confirmed", permit=permit, number=2)
    log.log(member, confirmed)
    before = log.app.snapshot()
    for _ in range(50):
        log.next_block()
    for stale in (healthy, confirmed):
        assert log.log(member, stale) == ()
    assert log.app.snapshot() == before


def test_a_canary_that_crashes_or_hangs_goes_back_by_itself() -> None:
    for name in ("canary-crashes", "canary-hangs"):
        run = play_config(name)
        (member,) = run.plan.stages[0].members
        assert member.outcome == "failed"
        assert run.running("v2") == []
        assert run.rollout.at_risk() == (), "its own report freed it"


def test_an_image_that_lies_is_one_liar_and_no_worse() -> None:
    run = play_config("image-lies")
    assert run.result.invariants["agreement"] == HELD
    liars = run.running("v2")
    assert len(liars) <= 1


def test_an_image_that_signs_two_votes_is_convicted_by_them() -> None:
    run = play(
        swarm(
            release="v2: {behaves: equivocate}", plan="soak: 30s, deadline: 30s, trial: 10s", duration="30s"
        )
    )
    (member,) = run.plan.stages[0].members
    assert run.result.convicted == (member.device,)
    assert run.result.invariants["evidence-soundness"] == HELD
