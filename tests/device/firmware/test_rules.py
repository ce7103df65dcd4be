"""The rules of FIRMWARE section 4 as real devices keep them: each test bears the name of what it would notice."""

from __future__ import annotations

import pytest

from swarm.apps.rollout.entries import Consent, Halt, Resume, Revoke, Rollback
from swarm.apps.rollout.spec import PlanSpec, Step
from swarm.device.firmware.operations import (
    Activate,
    ArmBoot,
    Begin,
    Confirm,
    RaiseCounter,
    Revert,
    RevokeRelease,
    Seal,
    Withdraw,
)
from swarm.install.port import SlotState
from tests.device.firmware.test_crash_table import Canary, everything, kinds
from tests.support.install import directory_release
from tests.support.updating import SPEC, UpdatingFleet


def rolled_out(fleet: UpdatingFleet, number: int = 2, *, counter: int = 1, spec: PlanSpec = SPEC) -> bytes:
    """Roll a release out to everybody; return its plan."""
    release = fleet.propose(number, release=directory_release(number, counter=counter))
    plan = fleet.plan(release, spec)
    fleet.until(lambda: fleet.rollout().plan(plan) is not None)
    fleet.until(lambda: fleet.the_plan(plan).state == "completed", within_ms=200_000, step_ms=100)
    fleet.advance(1_000, 50)
    return plan


def started(voters: int = 4, *, budget: str | int = "balanced", observers: int = 0) -> UpdatingFleet:
    fleet = UpdatingFleet(voters, budget=budget, observers=observers)
    fleet.advance(500, 20)
    return fleet


# ------------------------------------------------------------------------------------------ W9


def has_signed(fleet: UpdatingFleet, voter: str) -> bool:
    """Answer whether a voter signed a statement in its present boot; those of earlier ones it only repeats (R10)."""
    return fleet.members[voter].running._has_voted


class MuteCanary(Canary):
    """A canary of five voters that may crash and never lie: r = 0 < u - reserve = 1."""

    def make_fleet(self) -> UpdatingFleet:
        return UpdatingFleet(5, budget="crash")


def test_w9_a_voter_in_trial_signs_nothing_where_a_lying_image_were_worse_than_r_liars() -> None:
    canary = MuteCanary(hold=kinds(Confirm))
    fleet = canary.fleet
    assert fleet.genesis.budget.r == 0
    fleet.note("dev-0" if canary.id != "dev-0" else "dev-1")
    fleet.advance(500, 10)
    assert fleet.keeper(canary.id).is_mute
    assert not has_signed(fleet, canary.id)
    fleet.release_held(canary.id)
    canary.until_confirmed()
    fleet.note("dev-0" if canary.id != "dev-0" else "dev-1", b"again", 2)
    fleet.advance(500, 10)
    assert has_signed(fleet, canary.id), "a confirmed image votes again"


def test_w9_a_voter_in_trial_votes_where_r_liars_are_survived() -> None:
    canary = Canary(hold=kinds(Confirm))
    assert not canary.fleet.keeper(canary.id).is_mute
    assert has_signed(canary.fleet, canary.id)


def test_w9_nobody_votes_before_the_media_say_what_was_started() -> None:
    fleet = started(5, budget="crash")
    unit = fleet.units["dev-2"]
    fleet.crash("dev-2")
    fleet.start("dev-2")
    unit.hold = lambda _operation: True
    fleet.note("dev-0")
    fleet.advance(500, 10)
    assert not has_signed(fleet, "dev-2")
    fleet.release_held("dev-2")
    fleet.note("dev-0", b"again", 2)
    fleet.advance(500, 10)
    assert has_signed(fleet, "dev-2")


def test_w9_media_that_cannot_be_read_do_not_silence_a_voter() -> None:
    fleet = started(5, budget="crash")
    from swarm.install.port import InstallReason
    from tests.device.firmware.test_crash_table import refused

    unit = fleet.units["dev-2"]
    unit.refuse = lambda operation: refused(operation, InstallReason.MEDIUM)
    fleet.restart("dev-2")
    fleet.advance(50, 10)
    fleet.note("dev-0")
    fleet.advance(500, 10)
    assert has_signed(fleet, "dev-2")


def test_w9_without_a_spare_failure_one_voter_goes_by_consent_of_all_others() -> None:
    fleet = UpdatingFleet(3, budget=0)
    fleet.advance(500, 20)
    assert fleet.genesis.budget.u == 0
    plan = fleet.plan(fleet.propose(2))
    fleet.advance(2_000, 50)
    assert fleet.the_plan(plan).stages == [], "no go opens a stage of voters"
    fleet.operate(Consent(plan, "dev-1"))
    fleet.until(lambda: fleet.units["dev-1"].version == 2 and fleet.record("dev-1").confirmed)
    assert fleet.versions() == {"dev-0": 1, "dev-1": 2, "dev-2": 1}


# ------------------------------------------------------------------------------------------ W10, W11


def test_w10_a_halt_between_permit_and_arm_declines_the_permit() -> None:
    canary = Canary(hold=kinds(ArmBoot))
    fleet = canary.fleet
    fleet.operate(Halt(canary.plan, of_class=False, reason="stop"))
    fleet.until(lambda: fleet.the_plan(canary.plan).state == "frozen")
    canary.unit.held = []  # the order is lost with the process
    fleet.restart(canary.id)
    fleet.until(lambda: canary.permit == 0)
    assert fleet.told(canary.id, "declined")[0]["reason"] == "frozen"
    assert canary.unit.version == 1


def test_w10_a_halt_between_arm_and_restart_withdraws_the_image() -> None:
    canary = Canary(hold=kinds(Activate))
    fleet = canary.fleet
    fleet.operate(Halt(canary.plan, of_class=False, reason="stop"))
    fleet.until(lambda: fleet.the_plan(canary.plan).state == "frozen")
    # The device was about to order the restart; it looks again first.
    canary.unit.held = []
    keeper = fleet.keeper(canary.id)
    keeper.updater.desk._busy = None
    keeper.updater.desk.forget()
    fleet.put(canary.id)
    fleet.until(lambda: canary.permit == 0)
    assert canary.unit.did(Withdraw) == 1
    assert canary.reports()[-1] == "never_tried"
    assert canary.unit.version == 1


def test_w10_a_freeze_during_the_trial_takes_the_image_back_without_a_failure() -> None:
    canary = Canary(hold=lambda _operation: False, test=lambda _status: None)
    fleet = canary.fleet
    fleet.until(lambda: canary.unit.version == 2)
    fleet.operate(Halt(canary.plan, of_class=False, reason="stop"))
    fleet.until(lambda: fleet.the_plan(canary.plan).state == "frozen")
    canary.pass_test()
    fleet.until(lambda: canary.unit.version == 1 and canary.permit == 0)
    assert canary.unit.did(Revert) == 1
    assert canary.member()[0] == "waiting", "rejected by the freeze alone"
    fleet.operate(Resume(canary.plan, 0, ()))
    canary.unit.test = lambda _status: ""
    canary.until_confirmed()
    assert fleet.the_plan(canary.plan).generation == 1


def test_w10_nobody_asks_while_the_log_would_refuse() -> None:
    canary = Canary(hold=kinds(Seal))
    fleet = canary.fleet
    fleet.operate(Halt(canary.plan, of_class=False, reason="stop"))
    fleet.until(lambda: fleet.the_plan(canary.plan).state == "frozen")
    fleet.release_held(canary.id)
    fleet.advance(30_000, 200)
    assert fleet.told(canary.id, "sealed")
    assert not fleet.told(canary.id, "asked")


def test_nobody_asks_for_a_permit_before_the_log_knows_what_this_start_runs() -> None:
    canary = Canary(hold=kinds(Seal))
    fleet = canary.fleet
    fleet.passes = lambda sender, _receiver, item: (
        sender != canary.id or type(item).__name__ != "SubmissionItem"
    )
    fleet.restart(canary.id)
    fleet.advance(15_000, 100)
    assert canary.reports()[-1] == "started"
    assert not fleet.told(canary.id, "asked")
    assert canary.unit.did(Seal) == 1, "the one that the crash swallowed"
    fleet.passes = everything
    canary.until_confirmed()


def test_w11_a_rollback_brings_everybody_back_to_the_old_image() -> None:
    fleet = started(observers=2)
    plan = rolled_out(fleet)
    fleet.operate(Rollback(plan, stop=False))
    fleet.until(lambda: fleet.the_plan(plan).state == "rolled back", within_ms=100_000, step_ms=50)
    assert set(fleet.versions().values()) == {1}
    assert fleet.the_plan(plan).ended == {}


def test_w11_who_cannot_go_back_says_so_and_the_rollback_ends() -> None:
    fleet = started()
    plan = rolled_out(fleet)
    fleet.units["dev-1"].rig.damage_sealed_of("a")
    fleet.operate(Rollback(plan, stop=False))
    fleet.until(lambda: fleet.the_plan(plan).state == "rolled back", within_ms=100_000, step_ms=50)
    versions = fleet.versions()
    assert versions.pop("dev-1") == 2
    assert set(versions.values()) == {1}
    assert fleet.the_plan(plan).ended == {"dev-1": "wrong-digest"}


def test_w11_an_old_image_below_the_counter_is_declined() -> None:
    fleet = started()
    plan = rolled_out(fleet, counter=2)
    assert all(unit.status.counter == 2 for unit in fleet.units.values())
    fleet.operate(Rollback(plan, stop=False))
    fleet.until(lambda: fleet.the_plan(plan).state == "rolled back", within_ms=50_000, step_ms=50)
    assert set(fleet.versions().values()) == {2}
    assert fleet.the_plan(plan).ended == dict.fromkeys(fleet.units, "old-counter")


# ------------------------------------------------------------------------------------------ W12


def test_w12_a_revocation_is_written_into_the_boot_records_of_every_device() -> None:
    fleet = started(observers=1)
    release = fleet.propose(2)
    fleet.advance(500, 20)
    fleet.operate(Revoke(release, "bad", ()))
    fleet.until(lambda: all(release in unit.status.revoked for unit in fleet.units.values()))
    assert all(unit.did(RevokeRelease) == 1 for unit in fleet.units.values())


@pytest.mark.parametrize("operation", [Begin, Seal, ArmBoot, Activate, Confirm])
def test_w12_a_revocation_stops_an_update_wherever_it_is(operation: type) -> None:
    canary = Canary(hold=kinds(operation))
    fleet = canary.fleet
    fleet.operate(Revoke(canary.release, "bad", ()))
    fleet.until(lambda: fleet.rollout().release(canary.release).state == "revoked")  # type: ignore[union-attr]
    fleet.release_held(canary.id)
    fleet.until(lambda: canary.unit.version == 1 and canary.permit == 0 and canary.unit.status.settled)
    fleet.advance(100, 10)
    assert fleet.keeper(canary.id).updater.download.release == b"", "nothing of it is fetched any more"
    fleet.advance(12_000, 100)
    assert canary.unit.version == 1
    assert canary.release in canary.unit.status.revoked
    assert canary.unit.status.spare.state is not SlotState.STAGED, "what must not run is not kept ready"


def test_w12_a_revoked_image_that_runs_is_left_by_the_way_back() -> None:
    fleet = started()
    plan = rolled_out(fleet)
    release = fleet.the_plan(plan).release
    fleet.operate(Revoke(release, "bad", ()))
    fleet.until(lambda: set(fleet.versions().values()) == {1}, within_ms=100_000, step_ms=50)
    fleet.until(lambda: fleet.the_plan(plan).state == "rolled back")


def test_w12_a_device_without_another_image_runs_on_says_so_and_fetches_the_next() -> None:
    fleet = started()
    plan = rolled_out(fleet)
    fleet.units["dev-2"].rig.wipe_slot("a")
    fleet.operate(Revoke(fleet.the_plan(plan).release, "bad", ()))
    fleet.until(lambda: fleet.the_plan(plan).state == "rolled back", within_ms=100_000, step_ms=50)
    assert fleet.versions()["dev-2"] == 2
    assert fleet.record("dev-2").result == "revoked_running"
    fleet.restart("dev-2")
    fleet.advance(500, 20)
    assert fleet.record("dev-2").result == "revoked_running", "each start says it again"
    rolled_out(fleet, 3)
    assert set(fleet.versions().values()) == {3}


def test_w12_a_permit_to_a_revoked_old_image_is_declined() -> None:
    fleet = started()
    second = fleet.the_plan(rolled_out(fleet, 2)).release
    third = rolled_out(fleet, 3)
    for unit in fleet.units.values():
        unit.hold = kinds(ArmBoot)
    fleet.operate(Rollback(third, stop=False))
    fleet.until(lambda: any(unit.held for unit in fleet.units.values()))
    id = next(id for id, unit in fleet.units.items() if unit.held)
    fleet.units[id].held = []
    fleet.operate(Revoke(second, "bad", ()))
    fleet.until(lambda: fleet.rollout().release(second).state == "revoked")  # type: ignore[union-attr]
    fleet.restart(id)
    fleet.until(lambda: fleet.told(id, "declined"))
    assert fleet.told(id, "declined")[0]["reason"] == "revoked"


# ------------------------------------------------------------------------------------------ W13, W14


def test_w13_the_counter_is_raised_after_completed_and_not_before() -> None:
    fleet = started()
    release = fleet.propose(2, release=directory_release(2, counter=2))
    plan = fleet.plan(release)
    fleet.until(lambda: len(fleet.rollout().plan(plan).stages) > 2 if fleet.rollout().plan(plan) else False)  # type: ignore[union-attr]
    assert 2 in fleet.versions().values()
    assert all(unit.did(RaiseCounter) == 0 for unit in fleet.units.values())
    fleet.until(lambda: fleet.the_plan(plan).state == "completed", within_ms=200_000, step_ms=100)
    fleet.advance(500, 20)
    assert all(unit.status.counter == 2 for unit in fleet.units.values())


def test_w13_the_other_slot_is_kept_until_completed() -> None:
    """A second plan waits; nobody gives up the image that a rollback of the first would need."""
    fleet = started()
    first = fleet.plan(fleet.propose(2))
    fleet.until(lambda: any(v == 2 for v in fleet.versions().values()))
    fleet.plan(fleet.propose(3))
    while fleet.the_plan(first).state != "completed":
        for unit in fleet.units.values():
            if unit.version == 2:
                assert unit.status.spare.number == 1
        fleet.advance(200, 50)


def test_w14_a_device_that_missed_the_whole_rollout_takes_the_newest_completed() -> None:
    fleet = started(observers=2)
    fleet.crash("obs-1")
    spec = PlanSpec(soak_ms=300, deadline_ms=30_000, trial_ms=10_000, hold_back=0, retries=0)
    for number in (2, 3):
        rolled_out(fleet, number, spec=spec)
    fleet.start("obs-1")
    fleet.until(lambda: fleet.units["obs-1"].version == 3, within_ms=60_000)
    fleet.advance(500, 20)
    assert fleet.units["obs-1"].did(Seal) == 1, "never the one in between"
    assert fleet.record("obs-1").confirmed


def test_w1_a_barrier_starts_nobody_before_every_member_holds_the_image() -> None:
    fleet = started(observers=3)
    for id in fleet.units:
        fleet.units[id].hold = kinds(Seal) if id == "obs-2" else (lambda _operation: False)
    spec = PlanSpec(
        steps=(Step("observers", 3, 0),),
        soak_ms=300,
        deadline_ms=60_000,
        trial_ms=10_000,
        hold_back=0,
        barrier=True,
    )
    # Before r+1 voters are confirmed a stage names one observer only, so the voters go first.
    plan = fleet.plan(fleet.propose(2), spec)
    fleet.until(lambda: fleet.the_plan(plan).stages if fleet.rollout().plan(plan) else None)
    fleet.until(lambda: fleet.units["obs-2"].held or fleet.versions()["obs-0"] == 2, within_ms=50_000)
    fleet.release_held("obs-2")
    fleet.until(lambda: fleet.the_plan(plan).state == "completed", within_ms=200_000, step_ms=100)
    assert set(fleet.versions().values()) == {2}
