"""Every row of the crash table of FIRMWARE section 6: what a start finds, and what the device then does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from swarm.apps.rollout.spec import PlanSpec
from swarm.behaviours.actions import SelfTested
from swarm.device.firmware.operations import (
    Activate,
    ArmBoot,
    Begin,
    Confirm,
    DeclinePermit,
    InstallDone,
    Operation,
    Seal,
    Withdraw,
    WriteChunks,
)
from swarm.install.port import DeviceStatus, InstallError, InstallReason, Outcome
from swarm.install.selection import select_slot
from swarm.wire.messages import Item
from swarm.wire.statements import Kind, SignedStatement
from tests.support.install import directory_release
from tests.support.updating import SPEC, UpdatingFleet

PATIENT = PlanSpec(soak_ms=500, deadline_ms=300_000, trial_ms=20_000, hold_back=0)


def kinds(*wanted: type[Operation]) -> Callable[[Operation], bool]:
    return lambda operation: isinstance(operation, wanted)


class Canary:
    """A fleet whose first member is stopped at one operation."""

    def __init__(
        self,
        spec: PlanSpec = SPEC,
        *,
        hold: Callable[[Operation], bool],
        size: int = 6000,
        test: Callable[[DeviceStatus], str | None] = lambda _status: "",
        same_content: bool = False,
    ) -> None:
        self.fleet = fleet = self.make_fleet()
        fleet.advance(500, 20)
        for unit in fleet.units.values():
            unit.hold = hold
            unit.test = test
        if same_content:
            # Release 2 is release 1 with another program: its large file is in the running image already.
            for unit in fleet.units.values():
                unit.start_over(size)
            for id in fleet.units:
                fleet.restart(id)
            fleet.advance(500, 20)
        made = directory_release(2, size=size, seed=1 if same_content else None)
        self.release = fleet.propose(2, release=made)
        self.plan = fleet.plan(self.release, spec)
        fleet.until(lambda: self.stopped)
        self.id = self.stopped[0]
        self.unit = fleet.units[self.id]
        for unit in fleet.units.values():
            unit.hold = lambda _operation: False

    def make_fleet(self) -> UpdatingFleet:
        return UpdatingFleet()

    @property
    def stopped(self) -> list[str]:
        """Who is held at an operation, or waits for its self test in a trial."""
        return [id for id, unit in self.fleet.units.items() if unit.held or unit.untested]

    def pass_test(self) -> None:
        """Let the self test that was asked for pass."""
        for tag in self.unit.untested:
            self.fleet.put(self.id, SelfTested(tag, ""))
        self.unit.untested = []

    @property
    def permit(self) -> int:
        permit = self.fleet.record(self.id).permit
        return 0 if permit is None else permit.id

    def member(self) -> tuple[str, str]:
        found = self.fleet.the_plan(self.plan).stages[0].members[self.id]
        return found.state, found.reason

    def reports(self) -> list[object]:
        return [data["result"] for data in self.fleet.told(self.id, "reported")]

    def until_confirmed(self) -> None:
        self.fleet.until(lambda: self.member()[0] == "confirmed")
        assert self.unit.version == 2


def test_fetching_is_taken_up_from_the_durable_bitmap() -> None:
    canary = Canary(hold=kinds(WriteChunks), size=40_000)
    # Half of what was to be written is on the medium when the power goes.
    backend = canary.unit.installer.backend
    (order,) = canary.unit.held
    assert isinstance(order.operation, WriteChunks)
    plan = canary.fleet._releases[canary.release].plan
    staging = backend.begin(plan)
    for index, data in order.operation.chunks[:2]:
        staging.write_chunk(index, data)
    staging.checkpoint()
    canary.fleet.restart(canary.id)
    fetcher = None
    for _ in range(400):
        canary.fleet.round()
        fetcher = canary.fleet.keeper(canary.id).updater.download.fetcher or fetcher
        if fetcher is not None:
            break
        canary.fleet.now_ms += 1
    assert fetcher is not None
    assert fetcher.counts.resumed == 2
    canary.until_confirmed()


def test_an_unsealed_slot_is_never_armed() -> None:
    canary = Canary(hold=kinds(Seal))
    canary.fleet.advance(2_000, 50)
    assert canary.unit.did(ArmBoot) == 0
    assert canary.permit == 0
    canary.fleet.restart(canary.id)
    canary.until_confirmed()


def test_a_permit_without_an_intent_needs_a_certificate_of_the_new_boot() -> None:
    canary = Canary(hold=kinds(ArmBoot))
    permit = canary.permit
    assert permit > 0
    canary.fleet.passes = without_attestations
    canary.fleet.restart(canary.id)
    canary.fleet.advance(20_000, 100)
    assert canary.permit == permit
    assert canary.unit.did(ArmBoot) == 1, "only the one that the crash swallowed"
    canary.fleet.passes = everything
    canary.until_confirmed()
    assert canary.unit.did(DeclinePermit) == 0


def test_a_permit_without_a_certificate_in_time_is_declined_and_asked_for_again() -> None:
    canary = Canary(PATIENT, hold=kinds(ArmBoot))
    first = canary.permit
    canary.fleet.passes = without_attestations
    canary.fleet.restart(canary.id)
    canary.fleet.until(lambda: canary.unit.did(DeclinePermit), within_ms=70_000, step_ms=200)
    canary.fleet.advance(1_000, 50)
    assert "declined" in canary.reports()
    assert canary.permit > first, "a new permit was asked for, and waits for its own certificate"
    assert canary.unit.did(ArmBoot) == 1, "the one that the crash swallowed"
    canary.fleet.passes = everything
    canary.until_confirmed()
    assert canary.unit.installer.backend.outcome().permit > first


def test_an_intent_without_selection_is_selected_again_while_the_certificate_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    canary = Canary(hold=kinds(ArmBoot))
    real = select_slot
    failures = [OSError("the link could not be written")]

    def select(*arguments: object) -> None:
        if failures:
            raise failures.pop()
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("swarm.install.directory.select_slot", select)
    canary.fleet.release_held(canary.id)
    canary.until_confirmed()
    assert canary.unit.did(ArmBoot) == 3, "held, failed half-way, and done"
    assert canary.unit.did(Withdraw) == 0


def test_an_intent_without_selection_is_withdrawn_by_a_later_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    canary = Canary(hold=kinds(ArmBoot))
    first = canary.permit
    real = select_slot

    def select(*_arguments: object) -> None:
        raise OSError("the link could not be written")

    monkeypatch.setattr("swarm.install.directory.select_slot", select)
    (order,) = canary.unit.held
    done = canary.unit.installer.run(order.operation, order.tag)
    assert done.error is not None
    monkeypatch.setattr("swarm.install.directory.select_slot", real)
    canary.fleet.restart(canary.id)
    assert canary.unit.installer.backend.outcome().outcome is Outcome.ARMED
    canary.fleet.until(lambda: "never_tried" in canary.reports())
    assert canary.unit.did(Withdraw) == 1
    canary.until_confirmed()
    assert canary.unit.installer.backend.outcome().permit > first


def test_a_restart_in_the_armed_state_is_the_trial() -> None:
    canary = Canary(hold=kinds(Activate))
    canary.fleet.restart(canary.id)
    assert canary.unit.version == 2
    canary.until_confirmed()


def test_a_trial_that_used_up_its_attempts_is_reported_reverted() -> None:
    canary = Canary(hold=kinds(Confirm))
    canary.fleet.restart(canary.id)
    assert canary.unit.version == 1
    canary.fleet.until(lambda: canary.permit == 0)
    assert canary.reports()[-1] == "reverted"
    assert canary.member() == ("failed", "attempts-used-up")
    assert canary.fleet.the_plan(canary.plan).state == "frozen", "the revert beats the acceptance"


def test_an_acceptance_is_confirmed_by_the_next_attempt_of_the_same_trial() -> None:
    spec = PlanSpec(soak_ms=500, deadline_ms=90_000, trial_ms=20_000, hold_back=0, attempts=2)
    canary = Canary(spec, hold=kinds(Confirm))
    canary.fleet.restart(canary.id)
    assert canary.unit.version == 2
    canary.until_confirmed()
    assert canary.reports().count("healthy") == 2, "each start must see the log advance"


def test_a_confirmation_that_was_not_reported_is_reported_by_the_next_boot() -> None:
    canary = Canary(hold=kinds(Confirm))
    (order,) = canary.unit.held
    assert canary.unit.installer.run(order.operation, order.tag).error is None
    canary.fleet.restart(canary.id)
    canary.until_confirmed()
    assert canary.permit == 0


def test_a_report_that_comes_twice_or_late_changes_nothing() -> None:
    canary = Canary(hold=kinds(Confirm))
    fleet = canary.fleet
    caught: list[Item] = []

    def passes(sender: str, _receiver: str, item: Item) -> bool:
        if sender == canary.id and type(item).__name__ == "SubmissionItem":
            caught.append(item)
            return False
        return True

    fleet.passes = passes
    fleet.release_held(canary.id)
    fleet.advance(100, 10)
    assert caught, "the report confirmed"
    fleet.restart(canary.id)
    fleet.passes = everything
    canary.until_confirmed()
    record = fleet.record(canary.id)
    serial = (record.boot, record.step)
    fleet.advance(30_000, 200)
    after = fleet.record(canary.id)
    assert (after.boot, after.step) == serial
    assert canary.member() == ("confirmed", "")


def test_an_open_permit_is_reported_on_until_the_log_has_it() -> None:
    """The end of a permit is lost with the device's own store of submissions only; it is said again all the same."""
    canary = Canary(hold=kinds(Confirm))
    canary.fleet.restart(canary.id)
    canary.fleet.until(lambda: "reverted" in canary.reports())
    for _ in range(3):
        canary.fleet.restart(canary.id)
        canary.fleet.advance(50, 10)
    canary.fleet.until(lambda: canary.permit == 0)


def everything(_sender: str, _receiver: str, _item: Item) -> bool:
    return True


def without_attestations(_sender: str, _receiver: str, item: Item) -> bool:
    if isinstance(item, SignedStatement):
        return item.kind != Kind.ATTEST
    kind = getattr(item, "kind", None)
    return kind != Kind.HEARTBEAT


def refused(operation: Operation, reason: InstallReason) -> InstallDone:
    return InstallDone(0, operation, None, InstallError(reason))


def test_begin_is_idempotent_over_restarts() -> None:
    canary = Canary(hold=kinds(Begin))
    for _ in range(3):
        canary.fleet.restart(canary.id)
        canary.fleet.advance(20, 10)
    canary.until_confirmed()
