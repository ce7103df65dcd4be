"""FIRMWARE section 5 on real devices: everything that keeps a device from asking for a chunk, sealing, or arming."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from swarm.apps.rollout.manifest import Need
from swarm.device.firmware.checks import STORE_FORMAT, why_not_back, why_not_fetch
from swarm.device.firmware.operations import (
    ArmBoot,
    Begin,
    CopyChunks,
    Discard,
    Inspection,
    Seal,
    WriteChunks,
)
from swarm.install.port import (
    BootOutcome,
    Capability,
    DeviceStatus,
    InstallReason,
    Outcome,
    SlotState,
    SlotStatus,
)
from swarm.storage.migration import known_version
from swarm.wire.messages import Item
from tests.device.firmware.test_crash_table import PATIENT, Canary, kinds, refused
from tests.support.install import CLASS, VENDOR
from tests.support.updating import UpdatingFleet

CLASS_ID = VENDOR + CLASS


class Asked:
    """A canary that holds its `Begin`, so that its task can be judged with other facts."""

    def __init__(self) -> None:
        self.canary = Canary(hold=kinds(Begin))
        fleet = self.canary.fleet
        self.device = fleet.members[self.canary.id].running
        self.view = self.device._view(fleet.keeper(self.canary.id), fleet.now_ms)
        task = fleet.rollout(self.canary.id).duties(self.canary.id).task
        assert task is not None
        self.task = task
        inspection = fleet.keeper(self.canary.id).updater.desk.inspection
        assert inspection is not None
        self.inspection = inspection

    @property
    def release(self) -> object:
        return self.canary.fleet.rollout(self.canary.id).release(self.task.release)

    def why(self, **status: object) -> str:
        changed = replace(self.inspection, status=replace(self.inspection.status, **status))  # type: ignore[arg-type]
        return why_not_fetch(self.view, changed, self.task, CLASS_ID)


@pytest.fixture
def asked() -> Asked:
    return Asked()


def test_a_device_that_the_log_names_may_fetch(asked: Asked) -> None:
    assert asked.why() == ""


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"settled": False}, "not-settled"),
        ({"counter": 9}, "old-counter"),
        ({"spare_bytes": 100}, "oversized"),
    ],
)
def test_what_the_device_knows_better(asked: Asked, status: dict[str, object], reason: str) -> None:
    assert asked.why(**status) == reason


def test_a_release_in_the_own_revoked_list_is_never_fetched(asked: Asked) -> None:
    assert asked.why(revoked=(asked.task.release,)) == "revoked"


def test_a_number_that_is_not_above_what_runs(asked: Asked) -> None:
    status = asked.inspection.status
    running = replace(status.running, number=2)
    slots = tuple((name, running if name == status.booted else slot) for name, slot in status.slots)
    assert asked.why(slots=slots) == "old-number"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": "proposed"}, "not-approved"),
        ({"state": "revoked"}, "revoked"),
        ({"suspended": True}, "not-approved"),
        ({"contradicted": True}, "not-approved"),
    ],
)
def test_what_the_log_says_of_the_release(asked: Asked, changes: dict[str, object], reason: str) -> None:
    release = asked.release
    for name, value in changes.items():
        setattr(release, name, value)
    assert asked.why() == reason


def test_a_release_that_may_not_follow_what_the_log_believes(asked: Asked) -> None:
    record = asked.canary.fleet.rollout(asked.canary.id).state.devices[asked.canary.id]
    record.counter = 9
    assert asked.why() == "wrong-number"


def test_what_the_release_needs_of_other_classes(asked: Asked) -> None:
    release = asked.canary.fleet.rollout(asked.canary.id).state.releases[asked.task.release]
    need = Need(vendor=VENDOR, class_uuid=b"\x0c" * 16, number=1)
    release.manifest = msgspec.structs.replace(release.manifest, needs=(need,))
    assert asked.why() == "needs"


def test_another_class_than_the_own(asked: Asked) -> None:
    assert why_not_fetch(asked.view, asked.inspection, asked.task, bytes(32)) == "wrong-class"


def test_a_device_that_is_not_at_completed_never_touches_the_other_slot(asked: Asked) -> None:
    """The image that it runs belongs to a rollout that has not ended: a rollback would need the other slot."""
    fleet = asked.canary.fleet
    state = fleet.rollout(asked.canary.id).state
    record = state.devices[asked.canary.id]
    running = state.releases[asked.task.release]
    record.digest = running.manifest.image_digest
    assert asked.why() == "not-completed"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stores": (2, 3)}, "store-format"),
        ({"protocols": (2, 3)}, "protocol"),
        ({"use_before": 3}, "expired"),
        ({"file_bytes": 900_000_000, "chunk_bytes": 32768, "chunk_count": 27466}, "oversized"),
    ],
)
def test_a_device_that_cannot_follow_says_why_and_goes_on_as_it_is(
    changes: dict[str, Any], reason: str
) -> None:
    fleet = UpdatingFleet()
    fleet.advance(500, 20)
    plan = fleet.plan(fleet.propose(2, **changes))
    fleet.until(lambda: fleet.rollout().plan(plan) is not None and fleet.the_plan(plan).stages)
    (canary,) = fleet.the_plan(plan).stages[0].members
    fleet.until(lambda: fleet.record(canary).result == "declined")
    assert fleet.record(canary).reason == reason
    fleet.advance(20_000, 200)
    unit = fleet.units[canary]
    assert unit.did(Begin) == 0
    assert unit.version == 1
    assert [d["result"] for d in fleet.told(canary, "reported")].count("declined") == 1, "said once"


def test_the_store_format_is_the_one_of_this_program() -> None:
    assert known_version() == STORE_FORMAT, "a rollback must find its votes: see W13 before this is changed"


# ------------------------------------------------------------------------------------------ fetch and seal


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (Begin, InstallReason.NO_SPACE),
        (WriteChunks, InstallReason.NO_SPACE),
        (WriteChunks, InstallReason.MEDIUM),
        (Seal, InstallReason.WRONG_CHUNK_ROOT),
        (Seal, InstallReason.MEDIUM),
    ],
)
def test_what_may_pass_is_said_and_tried_again(operation: type, reason: InstallReason) -> None:
    canary = Canary(hold=kinds(operation))
    failures = [reason]
    canary.unit.refuse = lambda order: (
        refused(order, failures.pop()) if failures and isinstance(order, operation) else None
    )
    canary.fleet.release_held(canary.id)
    canary.until_confirmed()
    declined = [d for d in canary.fleet.told(canary.id, "reported") if d["result"] == "declined"]
    assert [d["reason"] for d in declined] == [str(reason)]


@pytest.mark.parametrize(
    "reason", [InstallReason.IMAGE_REFUSED, InstallReason.WRONG_DIGEST, InstallReason.WRONG_CHUNK_ROOT]
)
def test_an_image_that_cannot_be_sealed_is_never_armed(reason: InstallReason) -> None:
    canary = Canary(PATIENT, hold=kinds(Seal))
    canary.unit.refuse = lambda order: refused(order, reason) if isinstance(order, Seal) else None
    canary.fleet.release_held(canary.id)
    canary.fleet.until(lambda: canary.fleet.record(canary.id).result == "declined")
    assert canary.fleet.record(canary.id).reason == str(reason)
    canary.fleet.advance(200_000, 1_000)
    # What the medium spoiled is fetched twice more; a file that is wrong by itself is not. One order was held first.
    assert canary.unit.did(Seal) == 1 + (3 if reason is InstallReason.WRONG_CHUNK_ROOT else 1)
    assert canary.unit.did(ArmBoot) == 0
    assert canary.unit.version == 1


def test_a_running_image_that_cannot_be_read_only_costs_a_saving() -> None:
    canary = Canary(hold=kinds(CopyChunks))
    canary.unit.refuse = lambda order: (
        refused(order, InstallReason.MEDIUM) if isinstance(order, CopyChunks) else None
    )
    canary.fleet.release_held(canary.id)
    canary.until_confirmed()


def test_chunks_of_the_running_image_are_copied_and_not_fetched() -> None:
    canary = Canary(hold=kinds(CopyChunks), size=200_000, same_content=True)
    canary.fleet.release_held(canary.id)
    canary.until_confirmed()
    (copied,) = canary.fleet.told(canary.id, "copied")
    count = canary.fleet._releases[canary.release].plan.chunk_count
    assert isinstance(copied["chunks"], int)
    assert copied["chunks"] >= count - 3


# ------------------------------------------------------------------------------------------ arm


def test_the_seal_is_verified_again_before_arm_and_a_spoiled_slot_is_fetched_anew() -> None:
    canary = Canary(hold=kinds(ArmBoot))
    canary.unit.rig.damage_sealed_of("b")
    first = canary.permit
    canary.fleet.release_held(canary.id)
    canary.fleet.until(lambda: canary.fleet.told(canary.id, "declined"))
    assert canary.fleet.told(canary.id, "declined")[0]["reason"] == "wrong-digest"
    canary.until_confirmed()
    assert canary.unit.did(Discard) == 1
    assert canary.unit.did(Seal) == 2
    assert canary.unit.installer.backend.outcome().permit > first


def test_nothing_is_armed_while_the_certificate_is_not_complete() -> None:
    canary = Canary(hold=kinds(Seal))

    def passes(_sender: str, receiver: str, item: Item) -> bool:
        return receiver != canary.id or getattr(item, "kind", 0) not in (ord("A"), ord("H"))

    canary.fleet.passes = passes
    canary.fleet.release_held(canary.id)
    canary.fleet.until(lambda: canary.permit)
    canary.fleet.advance(5_000, 50)
    assert canary.unit.did(ArmBoot) == 0
    canary.fleet.passes = lambda _sender, _receiver, _item: True
    canary.until_confirmed()


@pytest.mark.parametrize(
    ("changes", "revoked", "reason"),
    [
        ({}, False, ""),
        ({"digest": b"\x03" * 32}, False, "no-image"),
        ({"state": SlotState.FAILED}, False, "no-image"),
        ({"state": SlotState.EMPTY, "digest": b""}, False, "no-image"),
        ({"counter": 1}, False, "old-counter"),
        ({}, True, "revoked"),
    ],
)
def test_w11_what_keeps_a_device_from_going_back(
    changes: dict[str, object], revoked: bool, reason: str
) -> None:
    old = SlotStatus(state=SlotState.PREVIOUS, release=b"\x01" * 32, digest=b"\x02" * 32, number=1, counter=2)
    spare = replace(old, **changes)  # type: ignore[arg-type]
    running = replace(old, state=SlotState.CONFIRMED, release=b"\x04" * 32, digest=b"\x05" * 32, number=2)
    status = DeviceStatus(
        booted="a",
        slots=(("a", running), ("b", spare)),
        settled=True,
        counter=2,
        boots=3,
        spare_bytes=0,
        revoked=(old.release,) if revoked else (),
    )
    inspection = Inspection(status, BootOutcome(outcome=Outcome.NONE), frozenset({Capability.RESUME}))
    assert why_not_back(inspection, b"\x02" * 32) == reason
    assert why_not_back(inspection, b"\x02" * 32, spoiled=old.release) in ("wrong-digest", reason)
