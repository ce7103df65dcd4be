"""What a run gave of firmware: `result.json.firmware` (FIRMWARE section 10) and the judgement on it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from swarm.lab.scenario.firmware import ExpectFirmware


class ReleaseRow(msgspec.Struct, frozen=True, kw_only=True):
    """One release on the log; `class` is the scenario's word for it.

    `state` is `proposed`, `approved`, `revoked`, `voided`, or `contradicted` while another one has its number.
    """

    id: str
    class_: str = msgspec.field(name="class")
    number: int
    version: str
    state: str
    approved_height: int


class MemberRow(msgspec.Struct, frozen=True, kw_only=True):
    """One member of a stage; `permit_height` 0 = it never got a permit, `height` = where its part ended."""

    device: str
    permit_height: int
    outcome: str
    reason: str
    height: int


class StageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One stage; `closed_height` 0 = open."""

    number: int
    kind: str
    opened_height: int
    closed_height: int
    members: tuple[MemberRow, ...]
    missed: tuple[str, ...]


class PlanRow(msgspec.Struct, frozen=True, kw_only=True):
    """One plan; `halted_by` = `votes`, `failed:<ids>`, `late`, `contradiction`, `revoked`, `convicted:<id>` or empty."""

    id: str
    release: str
    state: str
    generation: int
    halted_by: str
    stages: tuple[StageRow, ...]


class FirmwareDeviceRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a device truly runs at the end, read from its media, and `believed`: the digest that the log believes.

    `version` is the release's, or `factory`: one version is one image in a scenario.
    """

    slot: str
    digest: str
    version: str
    number: int
    counter: int
    confirmed: bool
    believed: str
    attested: bool


class HoldBackRow(msgspec.Struct, frozen=True, kw_only=True):
    """Voters that the newest plan kept on the old image: how many it had to, and the fewest there were."""

    wanted: int
    kept: int


class ChunksRow(msgspec.Struct, frozen=True, kw_only=True):
    """Chunks of all devices together.

    `sent` = answers with a chunk, `refused` = chunks that did not match, `resumed` = chunks that a device still had
    after a start, `bytes` = of the chunks that were written.
    """

    sent: int
    refused: int
    resumed: int
    bytes: int


class FirmwareRow(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of firmware; `at_risk_max` = the most voters that were at risk at one position of the log."""

    releases: tuple[ReleaseRow, ...]
    plans: tuple[PlanRow, ...]
    devices: Mapping[str, FirmwareDeviceRow]
    at_risk_max: int
    at_risk_limit: int
    hold_back: HoldBackRow
    chunks: ChunksRow


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One expectation about firmware: what was expected, what was found, whether it held."""

    expect: str
    actual: str
    held: bool


def check_firmware_expectations(row: FirmwareRow | None, expect: ExpectFirmware) -> tuple[Finding, ...]:
    """Judge `row` by what its scenario expects; nothing is changed."""
    if row is None:
        return (Finding(expect="firmware", actual="no firmware", held=False),)
    found: list[Finding] = []
    newest = row.plans[-1] if row.plans else None
    if expect.state is not None:
        state = "none" if newest is None else newest.state
        found.append(_finding("state", expect.state, state, held=state == expect.state))
    if expect.halted_by is not None:
        by = "" if newest is None else newest.halted_by
        held = by == expect.halted_by or by.partition(":")[0] == expect.halted_by
        found.append(_finding("halted_by", expect.halted_by or "nobody", by or "nobody", held=held))
    for name, wanted in expect.running.items():
        count = sum(device.version == name for device in row.devices.values())
        found.append(_finding(f"running.{name}", str(wanted), str(count), held=count == wanted))
    if expect.at_risk_max is not None:
        held = row.at_risk_max <= expect.at_risk_max
        found.append(_finding("at_risk_max", str(expect.at_risk_max), str(row.at_risk_max), held=held))
    for name, wanted_state in expect.releases.items():
        states = [release.state for release in row.releases if release.version == name]
        actual = states[0] if states else "unknown"
        found.append(_finding(f"releases.{name}", wanted_state, actual, held=actual == wanted_state))
    return tuple(found)


def _finding(key: str, wanted: str, actual: str, *, held: bool) -> Finding:
    return Finding(expect=f"firmware.{key}: {wanted}", actual=actual, held=held)
