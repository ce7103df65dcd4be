"""A device that loses its power before or after any operation of its update still ends with the image it was given."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from swarm.apps.rollout.spec import PlanSpec
from swarm.device.firmware.operations import Inspect, Install, InstallDone, Operation
from tests.support.updating import Unit, UpdatingFleet

SPEC = PlanSpec(soak_ms=300, deadline_ms=120_000, trial_ms=20_000, hold_back=0, attempts=3)
OPERATIONS = 12
"""Of one update, looks at the media included; the test says when there are more."""


@dataclass
class Cutter:
    """Counts the operations of whoever is updated first, and takes its power at one of them."""

    fleet: UpdatingFleet
    at: int
    after: bool
    count: int = 0
    cut: bool = False
    id: str = ""
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for id, unit in self.fleet.units.items():
            self._wrap(id, unit)

    def _wrap(self, id: str, unit: Unit) -> None:
        real = unit.run

        def run(order: Install) -> InstallDone | None:
            if not self._counts(id, order.operation):
                return real(order)
            self.count += 1
            self.names.append(type(order.operation).__name__)
            if self.count != self.at:
                return real(order)
            if self.after:
                real(order)
            self.cut = True
            return None

        unit.run = run  # type: ignore[method-assign]

    def _counts(self, id: str, operation: Operation) -> bool:
        if not self.id and not isinstance(operation, Inspect):
            self.id = id
        return id == self.id and not self.cut


def update(at: int, *, after: bool, then: int = 0) -> Cutter:
    fleet = UpdatingFleet()
    fleet.advance(300, 20)
    cutter = Cutter(fleet, at, after)
    plan = fleet.plan(fleet.propose(2), SPEC)
    fleet.until(lambda: cutter.cut or (cutter.id and fleet.record(cutter.id).number == 2), step_ms=5)
    if cutter.cut:
        fleet.restart(cutter.id)
    if then:
        cutter.cut, cutter.at = False, cutter.count + then
        fleet.until(lambda: cutter.cut or fleet.record(cutter.id).number == 2, step_ms=5)
        if cutter.cut:
            fleet.restart(cutter.id)
    fleet.until(lambda: fleet.the_plan(plan).stages[0].members[cutter.id].state == "confirmed", step_ms=50)
    fleet.advance(500, 20)
    record = fleet.record(cutter.id)
    assert (record.number, record.confirmed, record.permit) == (2, True, None)
    assert fleet.units[cutter.id].status.settled
    assert fleet.rollout().at_risk() == ()
    return cutter


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, OPERATIONS + 1))
def test_the_power_goes_at_any_operation(at: int, after: bool) -> None:
    assert update(at, after=after).cut


@pytest.mark.parametrize("then", [1, 2, 3, 4])
@pytest.mark.parametrize("at", [2, 4, 5, 7, 9, 11])
def test_the_power_goes_again_soon_after(at: int, then: int) -> None:
    update(at, after=True, then=then)


def test_the_sweep_reaches_every_operation_of_an_update() -> None:
    cutter = update(10_000, after=False)
    names = set(cutter.names)
    wanted = {"Begin", "CopyChunks", "WriteChunks", "Seal", "ArmBoot", "Activate", "Confirm", "Inspect"}
    assert wanted <= names
    assert len(cutter.names) == OPERATIONS
