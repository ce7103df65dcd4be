"""The state table, the self test and the reports of FIRMWARE section 6, on real devices and on their parts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from swarm.apps.rollout.entries import Ready, Report
from swarm.apps.rollout.spec import PlanSpec
from swarm.apps.rollout.state import Permit
from swarm.behaviours.actions import SelfTested
from swarm.device.firmware.operations import (
    Activate,
    ArmBoot,
    Confirm,
    DeclinePermit,
    Inspect,
    Inspection,
    Revert,
)
from swarm.device.firmware.reports import (
    Due,
    due_of_permit,
    due_of_start,
    make_report,
    reason_code,
    spare_word,
)
from swarm.device.firmware.step import ASK_AGAIN_MS, Entries, Step
from swarm.device.firmware.trial import TEST_AGAIN_MS, SelfCheck, Trial
from swarm.device.firmware.view import View
from swarm.install.port import (
    BootNonce,
    BootOutcome,
    DeviceStatus,
    InstallReason,
    Outcome,
    SlotState,
    SlotStatus,
)
from swarm.primitives.ids import ZERO_DIGEST
from swarm.wire.messages import Item
from tests.device.firmware.test_crash_table import Canary, kinds, refused
from tests.device.firmware.test_rules import rolled_out, started

NONCE = BootNonce(height=7, root=b"\x07" * 32)
RELEASE = b"\x52" * 32
NEW = b"\x02" * 32
OLD = b"\x01" * 32


# ------------------------------------------------------------------------------------------ what the media say


def inspection(
    outcome: Outcome,
    *,
    permit: int = 0,
    settled: bool = True,
    digest: bytes = OLD,
    spare: SlotState = SlotState.EMPTY,
    reason: str = "",
) -> Inspection:
    state = SlotState.TRIAL if outcome is Outcome.TRIAL else SlotState.CONFIRMED
    running = SlotStatus(state=state, release=RELEASE, digest=digest, number=2, counter=1, version="2")
    other = SlotStatus(state=spare)
    status = DeviceStatus(
        booted="b",
        slots=(("a", other), ("b", running)),
        settled=settled and outcome is not Outcome.TRIAL,
        counter=1,
        boots=4,
        spare_bytes=1_000_000,
        revoked=(),
    )
    nonce = NONCE if permit else None
    return Inspection(
        status,
        BootOutcome(outcome=outcome, permit=permit, release=RELEASE, reason=reason, nonce=nonce),
        frozenset(),
    )


def permit_of(id: int = 30, **changes: Any) -> Permit:
    fields: dict[str, Any] = {
        "id": id,
        "plan": bytes(32),
        "stage": 0,
        "generation": 0,
        "incarnation": 0,
        "target": NEW,
        "forward": True,
    }
    return Permit(**{**fields, **changes})


def record_of(**changes: Any) -> SimpleNamespace:
    fields: dict[str, Any] = {
        "reported": True,
        "recovering": False,
        "boot": 4,
        "step": 1,
        "result": "healthy",
        "incarnation": 0,
        "ran_at": 17,
        "digest": NEW,
        "degraded": False,
    }
    return SimpleNamespace(**{**fields, **changes})


def view_with(
    record: SimpleNamespace | None, *, height: int = 9, voted: bool = True, others: int = 3
) -> View:
    """Return as much of a view as a trial looks at; `others` attest the own log at `height`."""
    digest = b"\x0a" * 32
    rollout = SimpleNamespace(release=lambda _id: None)
    genesis = SimpleNamespace(
        budget=SimpleNamespace(n=4, u=1, r=1, q=3), voter_ids=("dev-0", "dev-1", "dev-2", "dev-3")
    )
    fields: dict[str, Any] = {
        "now_ms": 0,
        "genesis": genesis,
        "me": "dev-0",
        "rollout": rollout,
        "record": record,
        "height": height,
        "digests": lambda _height: digest,
        "attests": lambda: {voter: {height: digest} for voter in range(1, 1 + others)},
        "is_voter": True,
        "has_voted": voted,
    }
    return cast("View", SimpleNamespace(**fields))


def passed() -> SelfCheck:
    check = SelfCheck()
    step = Step()
    check.advance(step, 0)
    check.take(SelfTested(1, ""), step, 0)
    return check


def what_next(view: View, permit: Permit | None, seen: Inspection, *, mute: bool = False) -> object:
    trial = Trial(boot=4, first_height=8)
    return trial.next_operation(view, permit, seen, passed(), is_mute=mute)


IN_TRIAL = inspection(Outcome.TRIAL, permit=30, digest=NEW)


# ------------------------------------------------------------------------------------------ before confirm


def test_an_accepted_trial_whose_log_advances_is_confirmed() -> None:
    assert what_next(view_with(record_of()), permit_of(accepted=True), IN_TRIAL) == Confirm()


def test_nothing_is_confirmed_that_was_not_accepted() -> None:
    assert what_next(view_with(record_of(boot=3)), permit_of(), IN_TRIAL) is None


def test_a_trial_that_never_saw_the_log_advance_is_not_confirmed() -> None:
    assert what_next(view_with(record_of(), height=8), permit_of(accepted=True), IN_TRIAL) is None


def test_a_voter_confirms_only_after_own_votes_unless_it_must_not_vote() -> None:
    silent = view_with(record_of(), voted=False)
    assert what_next(silent, permit_of(accepted=True), IN_TRIAL) is None
    assert what_next(silent, permit_of(accepted=True), IN_TRIAL, mute=True) == Confirm()


def test_a_state_that_r_plus_1_others_do_not_attest_is_not_confirmed() -> None:
    assert what_next(view_with(record_of(), others=1), permit_of(accepted=True), IN_TRIAL) is None
    assert what_next(view_with(record_of(), others=2), permit_of(accepted=True), IN_TRIAL) == Confirm()


def test_a_trial_whose_self_test_has_not_answered_is_not_confirmed() -> None:
    trial = Trial(boot=4, first_height=8)
    view = view_with(record_of())
    assert trial.next_operation(view, permit_of(accepted=True), IN_TRIAL, SelfCheck(), is_mute=False) is None


def test_a_rejected_trial_goes_back_whatever_the_reason() -> None:
    assert what_next(view_with(record_of()), permit_of(denied=True), IN_TRIAL) == Revert("rejected")
    # Turned down as another image than the permitted one: the log shows it by not accepting.
    assert what_next(view_with(record_of()), permit_of(), IN_TRIAL) == Revert("rejected")


@pytest.mark.parametrize("permit", [None, permit_of(31)])
def test_a_trial_without_its_permit_goes_back_once_the_log_is_there(permit: Permit | None) -> None:
    assert what_next(view_with(record_of(), height=9), permit, IN_TRIAL) == Revert("no-permit")
    assert what_next(view_with(record_of(), height=6), permit, IN_TRIAL) is None


def test_a_trial_of_an_earlier_incarnation_goes_back() -> None:
    view = view_with(record_of(incarnation=1))
    assert what_next(view, permit_of(accepted=True), IN_TRIAL) == Revert("wiped")


# ------------------------------------------------------------------------------------------ self test


def test_a_failed_self_test_takes_the_image_back_and_the_fleet_halts() -> None:
    canary = Canary(
        hold=lambda _operation: False,
        test=lambda status: None if status.running.number == 2 else "",
    )
    fleet = canary.fleet
    assert canary.unit.version == 2
    for tag in canary.unit.untested:
        fleet.put(canary.id, SelfTested(tag, "no-sensor", "the sensor is gone"))
    fleet.until(lambda: canary.permit == 0)
    assert canary.unit.version == 1
    assert canary.member() == ("failed", "no-sensor")
    assert fleet.the_plan(canary.plan).halted_by == f"failed:{canary.id}"
    assert not fleet.told(canary.id, "confirmed")
    heights = set(fleet.heights().values())
    fleet.note("dev-0")
    fleet.advance(500, 10)
    assert min(fleet.heights().values()) > max(heights), "the log goes on"


def test_a_confirmed_image_that_is_not_well_says_degraded_until_it_is() -> None:
    fleet = started()
    assert all(unit.healths == 1 for unit in fleet.units.values())
    unit = fleet.units["dev-1"]
    unit.test = lambda _status: "no-sensor"
    fleet.restart("dev-1")
    fleet.advance(1_000, 20)
    record = fleet.record("dev-1")
    assert (record.degraded, record.confirmed) == (True, True)
    assert fleet.rollout().at_risk() == ("dev-1",)
    assert unit.healths == 0, "whoever watches it hears of no health"
    unit.test = lambda _status: ""
    fleet.advance(TEST_AGAIN_MS + 1_000, 200)
    assert not fleet.record("dev-1").degraded
    assert unit.healths == 1
    assert fleet.rollout().at_risk() == ()


def test_a_self_test_is_asked_once_a_start_and_its_health_told_again_after_the_trial() -> None:
    check = SelfCheck()
    step = Step()
    check.advance(step, 0)
    check.advance(step, 10)
    assert [type(a).__name__ for a in step.actions] == ["SelfTest"]
    check.take(SelfTested(7, ""), step, 20)
    assert check.result is None, "an answer to nobody's question"
    check.take(SelfTested(1, ""), step, 20)
    check.advance(step, 30)
    check.advance(step, 40)
    assert [type(a).__name__ for a in step.actions] == ["SelfTest", "Healthy"]
    check.tell_again()
    check.advance(step, 50)
    assert [type(a).__name__ for a in step.actions] == ["SelfTest", "Healthy", "Healthy"]


def test_health_is_told_again_once_the_trial_is_confirmed() -> None:
    """A launcher takes the word of a trial for no health of the confirmed slot."""
    canary = Canary(hold=kinds(Confirm))
    assert canary.unit.healths == 1
    canary.fleet.release_held(canary.id)
    canary.until_confirmed()
    assert canary.unit.healths == 2


def test_media_that_cannot_be_read_any_more_are_said() -> None:
    fleet = started()
    unit = fleet.units["dev-1"]
    unit.refuse = lambda operation: (
        refused(operation, InstallReason.MEDIUM) if isinstance(operation, Inspect) else None
    )
    fleet.keeper("dev-1").updater.desk.forget()
    fleet.until(lambda: fleet.record("dev-1").degraded)
    assert fleet.record("dev-1").reason == "unreadable"
    unit.refuse = lambda _operation: None
    fleet.until(lambda: not fleet.record("dev-1").degraded)
    assert len(fleet.told("dev-1", "unreadable")) == 1


# ------------------------------------------------------------------------------------------ permits and intents


def test_a_decline_is_durable_before_it_is_said() -> None:
    canary = Canary(PATIENT, hold=kinds(ArmBoot))
    fleet = canary.fleet
    fleet.passes = without_attests
    canary.unit.hold = kinds(DeclinePermit)
    fleet.restart(canary.id)
    fleet.until(lambda: canary.unit.held, within_ms=70_000, step_ms=200)
    fleet.advance(5_000, 100)
    assert "declined" not in canary.reports()
    fleet.release_held(canary.id)
    fleet.advance(500, 20)
    assert "declined" in canary.reports()


def test_a_permit_that_was_declined_in_an_earlier_boot_is_never_armed() -> None:
    canary = Canary(PATIENT, hold=kinds(ArmBoot))
    canary.unit.held = []
    first = canary.permit
    canary.unit.installer.backend.decline(first)
    canary.fleet.restart(canary.id)
    canary.fleet.until(lambda: canary.permit != first)
    assert "declined" in canary.reports()
    canary.until_confirmed()
    assert canary.unit.installer.backend.outcome().permit > first


def test_a_permit_is_acted_upon_at_most_once() -> None:
    """After a revert the same permit is open until the report lands; nothing arms it again meanwhile."""
    canary = Canary(hold=kinds(Confirm))
    fleet = canary.fleet
    fleet.passes = lambda sender, _receiver, _item: sender != canary.id
    fleet.restart(canary.id)
    assert canary.unit.version == 1
    arms = canary.unit.did(ArmBoot)
    fleet.advance(70_000, 500)
    assert canary.unit.did(ArmBoot) == arms
    assert canary.unit.did(DeclinePermit) == 0, "and it is too late to decline it"
    assert canary.unit.version == 1


def test_arm_before_selection_and_restart_after_both() -> None:
    canary = Canary(hold=kinds(Activate))
    order = [type(operation).__name__ for operation in canary.unit.orders]
    assert order.index("Seal") < order.index("ArmBoot") < order.index("Activate")
    assert canary.unit.installer.backend.outcome().outcome is Outcome.ARMED


# ------------------------------------------------------------------------------------------ reports


def test_every_start_in_a_settled_slot_reports_and_names_the_report_before() -> None:
    fleet = started()
    ran = [fleet.record("dev-1").ran_at]
    for _ in range(3):
        fleet.restart("dev-1")
        fleet.advance(500, 20)
        record = fleet.record("dev-1")
        assert record.result == "started"
        assert record.boot == fleet.boots["dev-1"]
        ran.append(record.ran_at)
    assert ran == sorted(set(ran))
    reports = [report for device, report, before in fleet.reports() if device == "dev-1"]
    befores = [before for device, _, before in fleet.reports() if device == "dev-1"]
    assert [report.previous for report in reports] == befores == [0, *ran[:-1]]


def test_the_boot_nonce_is_the_last_head_before_the_start() -> None:
    fleet = started()
    head = (fleet["dev-1"].running.ledger.height, fleet["dev-1"].running.ledger.frontier.root())
    fleet.restart("dev-1")
    fleet.advance(500, 20)
    last = [report for device, report, _ in fleet.reports() if device == "dev-1"][-1]
    assert (last.nonce_height, last.nonce_root) == head


def test_report_numbers_grow_over_every_crash() -> None:
    canary = Canary(hold=kinds(Confirm))
    canary.fleet.restart(canary.id)
    canary.fleet.until(lambda: canary.permit == 0)
    serials = [report.serial for device, report, _ in canary.fleet.reports() if device == canary.id]
    assert serials == sorted(set(serials))
    assert len(serials) == 3


def test_a_late_fall_back_is_said_with_its_reason() -> None:
    fleet = started()
    plan = rolled_out(fleet)
    for _ in range(6):
        fleet.units["dev-3"].boot()  # starts without health, as the launcher counts them
    fleet.restart("dev-3")
    assert fleet.units["dev-3"].version == 1
    fleet.advance(1_000, 20)
    said = [(d["result"], d["reason"]) for d in fleet.told("dev-3", "reported")][-2:]
    assert said == [("fell_back", "no-health"), ("declined", "fell-back")]
    assert fleet.the_plan(plan).state == "completed"
    fleet.restart("dev-3")
    fleet.advance(30_000, 100)
    assert "fell_back" not in [d["result"] for d in fleet.told("dev-3", "reported")][-2:], "said once"
    # By itself it does not come round to the image that failed here; a release after it is another matter.
    assert fleet.units["dev-3"].version == 1
    rolled_out(fleet, 3)
    assert fleet.units["dev-3"].version == 3


@pytest.mark.parametrize(
    ("outcome", "result"),
    [
        (Outcome.REVERTED, "reverted"),
        (Outcome.NEVER_TRIED, "never_tried"),
        (Outcome.CONFIRMED, "confirmed"),
        (Outcome.FELL_BACK, "reverted"),
    ],
)
def test_an_open_permit_is_ended_by_what_became_of_it(outcome: Outcome, result: Any) -> None:
    seen = inspection(outcome, permit=30, reason="why")
    assert due_of_permit(permit_of(), seen, declined=None) == Due(result, 30, "why")
    assert due_of_permit(permit_of(31), seen, declined=None) is None, "another permit is not meant"
    assert due_of_permit(permit_of(31), seen, declined="stale") == Due("declined", 31, "stale")


@pytest.mark.parametrize("outcome", [Outcome.ARMED, Outcome.TRIAL])
def test_a_permit_is_not_ended_while_it_may_still_be_used(outcome: Outcome) -> None:
    assert due_of_permit(permit_of(), inspection(outcome, permit=30), declined=None) is None


def test_a_trial_does_not_report_started() -> None:
    assert due_of_start(view_with(record_of(boot=3)), IN_TRIAL, 4) is None
    settled = inspection(Outcome.NONE)
    assert due_of_start(view_with(record_of(boot=3)), settled, 4) == Due("started")
    assert due_of_start(view_with(None), settled, 4) == Due("started")
    assert due_of_start(view_with(record_of(boot=4)), settled, 4) is None
    assert due_of_start(view_with(record_of(boot=4, recovering=True)), settled, 4) == Due("started")


def test_what_a_report_carries() -> None:
    view = view_with(record_of(incarnation=2))
    report = make_report(
        view,
        IN_TRIAL,
        Due("healthy", 30),
        class_id=bytes(32),
        number=(4, 2),
        nonce=NONCE,
        degraded=True,
        attestation=b"proof",
    )
    assert isinstance(report, Report)
    assert report.serial == (2, 4, 2)
    assert (report.slot, report.digest, report.number, report.counter) == (1, NEW, 2, 1)
    assert not report.confirmed
    assert report.degraded
    assert (report.spare, report.spare_digest) == ("empty", ZERO_DIGEST)
    assert (report.nonce_height, report.nonce_root) == (7, NONCE.root)
    assert (report.previous, report.attestation, report.permit) == (17, b"proof", 30)


@pytest.mark.parametrize(
    ("state", "digest", "word"),
    [
        (SlotState.EMPTY, b"", "empty"),
        (SlotState.FETCHING, b"", "partial"),
        (SlotState.FETCHING, OLD, "sealed"),
        (SlotState.STAGED, OLD, "sealed"),
        (SlotState.PREVIOUS, OLD, "sealed"),
        (SlotState.FAILED, OLD, "failed"),
    ],
)
def test_the_word_for_the_other_slot(state: SlotState, digest: bytes, word: str) -> None:
    """A slot that still holds the old image can be gone back to until the seal of the next overwrites it."""
    assert spare_word(SlotStatus(state=state, digest=digest)) == word


def test_a_reason_is_a_code_whatever_somebody_wrote() -> None:
    assert reason_code("Sensor gone: /dev/i2c-1 !") == "sensor-gone---dev-i2c-1--"
    assert reason_code("x" * 99) == "x" * 32


# ------------------------------------------------------------------------------------------ entries


def test_an_entry_without_effect_is_not_repeated_at_once() -> None:
    entries = Entries()
    step = Step()
    entries.send("a", Ready(bytes(32), 0), step, 100)
    ((_, tag),) = step.entries
    assert tag < 0
    assert not entries.may_send("a", step, 100 + ASK_AGAIN_MS), "it is on its way"
    entries.settled(tag)
    assert not entries.may_send("a", step, 101)
    assert step.wake_at_ms == 100 + ASK_AGAIN_MS
    assert entries.may_send("a", step, 100 + ASK_AGAIN_MS)
    assert entries.may_send("b", step, 101)


def test_a_permit_is_asked_for_again_after_a_while_and_not_in_a_loop() -> None:
    """Somebody else took the last place: the refusal is of one block, and the next ask comes ten seconds later."""
    fleet = started(observers=1)
    plan = fleet.plan(
        fleet.propose(2), PlanSpec(soak_ms=300, deadline_ms=60_000, trial_ms=9_000, hold_back=0)
    )
    for unit in fleet.units.values():
        unit.refuse = lambda order: (
            refused(order, InstallReason.OLD_COUNTER) if isinstance(order, ArmBoot) else None
        )
    fleet.until(lambda: fleet.rollout().plan(plan) is not None)
    fleet.advance(35_000, 100)
    declined = sum(len(fleet.told(id, "declined")) for id in fleet.units)
    assert 2 <= declined <= 4


PATIENT = PlanSpec(soak_ms=500, deadline_ms=300_000, trial_ms=20_000, hold_back=0)


def without_attests(_sender: str, _receiver: str, item: Item) -> bool:
    return getattr(item, "kind", 0) not in (ord("A"), ord("H"))
