"""Four real devices with slots on a disk model update themselves from the log, stage by stage."""

from __future__ import annotations

from tests.support.updating import SPEC, UpdatingFleet


def test_four_devices_update_themselves_one_after_the_other() -> None:
    fleet = UpdatingFleet()
    fleet.until(
        lambda: all(fleet.record(id).reported for id in fleet.units) if fleet.rollout().state.devices else 0
    )
    release = fleet.propose(2)
    plan = fleet.plan(release, SPEC)
    fleet.until(lambda: fleet.rollout().plan(plan) is not None and fleet.the_plan(plan).state == "completed")
    assert fleet.versions() == dict.fromkeys(fleet.units, 2)
    assert all(unit.status.settled for unit in fleet.units.values())
