"""Runs of scenarios with firmware: a few lines of YAML in, the world at its end and its judged result out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from swarm.apps.rollout.app import Rollout
from swarm.lab.scenario.firmware_result import FirmwareRow, PlanRow
from swarm.lab.scenario.parse import load_scenario, parse_scenario
from swarm.lab.scenario.result import HELD, Result
from swarm.lab.scenario.schema import Scenario
from swarm.lab.sim.world import World

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "scenarios"

QUICK = "soak: 1s, deadline: 30s, trial: 10s"
"""Timings of a plan in a test."""


@dataclass
class Run:
    """One run at its end. `events` are the device events of kind `firmware`: (ms, device, data)."""

    world: World
    result: Result
    events: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)

    @property
    def firmware(self) -> FirmwareRow:
        assert self.result.firmware is not None
        return self.result.firmware

    @property
    def plan(self) -> PlanRow:
        return self.firmware.plans[-1]

    @property
    def rollout(self) -> Rollout:
        node = next(n for n in self.world.nodes.values() if n.device is not None and n.attack is None)
        assert node.device is not None
        rollout = node.device.ledger.router.rollout
        assert rollout is not None
        return rollout

    def running(self, version: str) -> list[str]:
        """Return who truly runs a release at the end."""
        return [id for id, row in self.firmware.devices.items() if row.version == version]

    def said(self, what: str, device: str | None = None) -> list[dict[str, Any]]:
        """Return what devices reported of themselves to the screen."""
        return [
            data
            for _, name, data in self.events
            if data["what"] == what and (device is None or device == name)
        ]

    def state_of(self, version: str) -> str:
        """Return how a release stands on the log, `unknown` where it holds none."""
        states = [row.state for row in self.firmware.releases if row.version == version]
        return states[0] if states else "unknown"

    def assert_rules_hold(self) -> None:
        broken = {name: state for name, state in self.result.invariants.items() if state != HELD}
        assert not broken, broken
        assert self.result.agreement


def play(
    text: str,
    *,
    seed: int | None = None,
    make: Callable[..., World] = World,
    until_ms: int | None = None,
) -> Run:
    """Run a scenario in the simulator; every rule of the rollout must hold in it."""
    return play_loaded(parse_scenario(text, "test", seed=seed), make=make, until_ms=until_ms)


def play_loaded(
    scenario: Scenario, *, make: Callable[..., World] = World, until_ms: int | None = None
) -> Run:
    events: list[tuple[int, str, dict[str, Any]]] = []

    def note(event: dict[str, Any]) -> None:
        if event["kind"] == "firmware":
            events.append((event["at_ms"], event["device"], event["data"]))

    world = make(scenario, on_trace=note)
    world.run_until(scenario.duration_ms if until_ms is None else until_ms)
    result = world.collector.result(
        world.final_states(), version="x", wall_s=0, trace_digest=None, status=world.end_firmware()
    )
    run = Run(world, result, events)
    run.assert_rules_hold()
    return run


@cache
def play_config(name: str) -> Run:
    """Run `configs/scenarios/firmware-NAME.yaml`, once for all tests of a session that look at it."""
    return play_loaded(load_scenario(CONFIGS / f"firmware-{name}.yaml"))


def swarm(
    *,
    voters: int = 4,
    observers: int = 1,
    operators: int = 1,
    duration: str = "60s",
    release: str = "v2: {behaves: healthy}",
    firmware: str = "",
    plan: str | None = QUICK,
    faults: tuple[str, ...] = (),
    orders: tuple[str, ...] = (),
    extra: str = "",
) -> str:
    """Return a scenario in which v2 is proposed, approved and planned within three seconds.

    `plan` None leaves proposal, approval and plan to `orders`; `firmware` and `extra` are further lines.
    """
    lines = [
        "name: fw-test",
        f"duration: {duration}",
        f"devices: {{voters: {voters}, observers: {observers}, operators: {operators}}}",
        "firmware:",
        *(f"  {line}" for line in firmware.splitlines()),
        f"  release: {{{release}}}",
        *extra.splitlines(),
    ]
    if faults:
        lines += ["faults:", *(f"  - {{{fault}}}" for fault in faults)]
    work = list(orders)
    if plan is not None:
        work += [
            "at: 1s, firmware: {propose: v2}",
            "at: 2s, firmware: {approve: v2}",
            f"at: 3s, firmware: {{plan: {{release: v2, {plan}}}}}",
        ]
    lines += ["workload:", "  - {rate: 0.5/s, submit: {bytes: 40}}", *(f"  - {{{item}}}" for item in work)]
    return "\n".join(lines) + "\n"
