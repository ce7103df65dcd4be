"""`result.json.firmware`: the fields of FIRMWARE's last line, the judgement on them, and the table for people."""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec
import pytest
from rich.console import Console

from swarm.lab.scenario.firmware import ExpectFirmware
from swarm.lab.scenario.firmware_result import (
    ChunksRow,
    FirmwareDeviceRow,
    FirmwareRow,
    HoldBackRow,
    MemberRow,
    PlanRow,
    ReleaseRow,
    StageRow,
    check_firmware_expectations,
)
from swarm.lab.scenario.parse import parse_scenario
from swarm.lab.scenario.result import Result, exit_code, result_from_json
from swarm.lab.scenario.table import render
from swarm.lab.sim.run import run_sim
from tests.support.firmware_runs import swarm


def device(version: str, digest: str = "aa", believed: str = "aa") -> FirmwareDeviceRow:
    return FirmwareDeviceRow(
        slot="primary",
        digest=digest,
        version=version,
        number=2,
        counter=0,
        confirmed=True,
        believed=believed,
        attested=False,
    )


def row(*, state: str = "frozen", halted_by: str = "failed:dev-1", members: int = 1) -> FirmwareRow:
    stage = StageRow(
        number=0,
        kind="voters",
        opened_height=9,
        closed_height=0,
        members=tuple(
            MemberRow(device=f"dev-{i}", permit_height=11, outcome="failed", reason="silent", height=20)
            for i in range(1, members + 1)
        ),
        missed=("obs-[0]",),
    )
    return FirmwareRow(
        releases=(
            ReleaseRow(
                id="ab" * 32, class_="gateway", number=2, version="v2", state="approved", approved_height=6
            ),
        ),
        plans=(
            PlanRow(
                id="cd" * 32,
                release="ab" * 32,
                state=state,
                generation=0,
                halted_by=halted_by,
                stages=(stage,),
            ),
        ),
        devices={"dev-0": device("factory"), "dev-1": device("v2", "bb")},
        at_risk_max=1,
        at_risk_limit=1,
        hold_back=HoldBackRow(wanted=3, kept=3),
        chunks=ChunksRow(sent=2, refused=1, resumed=0, bytes=8192),
    )


# ------------------------------------------------------------------------------------------ expectations


@pytest.mark.parametrize(
    ("expect", "held", "actual"),
    [
        (ExpectFirmware(state="frozen"), True, "frozen"),
        (ExpectFirmware(state="completed"), False, "frozen"),
        (ExpectFirmware(halted_by="failed"), True, "failed:dev-1"),
        (ExpectFirmware(halted_by="failed:dev-1"), True, "failed:dev-1"),
        (ExpectFirmware(halted_by="votes"), False, "failed:dev-1"),
        (ExpectFirmware(halted_by=""), False, "failed:dev-1"),
        (ExpectFirmware(running={"v2": 1}), True, "1"),
        (ExpectFirmware(running={"v2": 2}), False, "1"),
        (ExpectFirmware(running={"factory": 1}), True, "1"),
        (ExpectFirmware(at_risk_max=1), True, "1"),
        (ExpectFirmware(at_risk_max=0), False, "1"),
        (ExpectFirmware(releases={"v2": "approved"}), True, "approved"),
        (ExpectFirmware(releases={"v3": "unknown"}), True, "unknown"),
        (ExpectFirmware(releases={"v2": "revoked"}), False, "approved"),
    ],
)
def test_each_expectation_is_judged(expect: ExpectFirmware, held: bool, actual: str) -> None:
    (found,) = check_firmware_expectations(row(), expect)
    assert (found.held, found.actual) == (held, actual)
    assert found.expect.startswith("firmware.")


def test_nothing_planned_and_no_firmware_at_all() -> None:
    empty = msgspec.structs.replace(row(), plans=())
    state, halted = check_firmware_expectations(empty, ExpectFirmware(state="none", halted_by=""))
    assert (state.held, halted.held, halted.actual) == (True, True, "nobody")
    (missing,) = check_firmware_expectations(None, ExpectFirmware(state="none"))
    assert not missing.held


# ------------------------------------------------------------------------------------------ json and table


@pytest.fixture(scope="module")
def result() -> Result:
    text = swarm(duration="40s") + "expect: {firmware: {state: completed, running: {v2: 5}}}\n"
    return run_sim(parse_scenario(text, "test"), version="x")


def keys_of(value: object) -> object:
    """Return the shape of JSON data: keys, and of lists the shape of the first item."""
    if isinstance(value, Mapping):
        return {key: keys_of(item) for key, item in value.items()}
    if isinstance(value, list):
        return [keys_of(value[0])] if value else []
    return None


def test_result_has_every_field_of_the_contract(result: Result) -> None:
    assert exit_code(result) == 0
    firmware = json.loads(result.to_json())["firmware"]
    assert set(firmware) == {
        "releases",
        "plans",
        "devices",
        "at_risk_max",
        "at_risk_limit",
        "hold_back",
        "chunks",
    }
    assert set(firmware["releases"][0]) == {"id", "class", "number", "version", "state", "approved_height"}
    plan = firmware["plans"][0]
    assert set(plan) == {"id", "release", "state", "generation", "halted_by", "stages"}
    assert set(plan["stages"][0]) == {
        "number",
        "kind",
        "opened_height",
        "closed_height",
        "members",
        "missed",
    }
    assert set(plan["stages"][0]["members"][0]) == {
        "device",
        "permit_height",
        "outcome",
        "reason",
        "height",
    }
    assert set(firmware["devices"]["dev-0"]) == {
        "slot",
        "digest",
        "version",
        "number",
        "counter",
        "confirmed",
        "believed",
        "attested",
    }
    assert set(firmware["hold_back"]) == {"wanted", "kept"}
    assert set(firmware["chunks"]) == {"sent", "refused", "resumed", "bytes"}
    assert result_from_json(result.to_json(), "result.json") == result


def test_result_is_filled_with_what_happened(result: Result) -> None:
    firmware = result.firmware
    assert firmware is not None
    (plan,) = firmware.plans
    members = [member for stage in plan.stages for member in stage.members]
    assert len(members) == 5
    for member in members:
        assert 0 < member.permit_height <= member.height
    opened = [stage.opened_height for stage in plan.stages]
    assert opened == sorted(opened)
    assert {row.believed for row in firmware.devices.values()} == {
        row.digest for row in firmware.devices.values()
    }
    assert firmware.hold_back == HoldBackRow(wanted=3, kept=3)
    assert firmware.chunks.sent >= 5
    assert firmware.chunks.bytes > 5 * 4096


def test_one_seed_gives_one_digest_with_firmware_too(result: Result) -> None:
    text = swarm(duration="40s") + "expect: {firmware: {state: completed, running: {v2: 5}}}\n"
    again = run_sim(parse_scenario(text, "test"), version="x")
    assert again.trace_digest == result.trace_digest
    other = run_sim(parse_scenario(text, "test", seed=9), version="x")
    assert other.trace_digest != result.trace_digest


def shown(result: Result) -> str:
    console = Console(width=160, force_terminal=False)
    with console.capture() as captured:
        console.print(render(result))
    return captured.get()


def test_table_says_it_for_people(result: Result) -> None:
    text = shown(msgspec.structs.replace(result, firmware=row()))
    assert "Rollout of v2: frozen, halted by failed:dev-1" in text
    assert "dev-1: failed (silent)" in text
    assert "obs-[0]" in text, "a name is no markup"
    assert "another image" in text
    assert "Held back: 3 voters, 3 wanted" in text
    assert "Chunks: 2 sent, 1 refused" in text


def test_table_counts_the_members_of_a_large_stage(result: Result) -> None:
    text = shown(msgspec.structs.replace(result, firmware=row(members=40)))
    assert "40 failed" in text
    assert "dev-39" not in text
