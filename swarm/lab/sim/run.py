"""One run in the simulator from beginning to end, in slices, so that a screen can follow."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

from swarm.device.proofs import proof_of_key
from swarm.lab.scenario.output import OutputFolder, name_proofs
from swarm.lab.scenario.progress import DeviceNow, OnProgress, Progress, ignore_progress
from swarm.lab.scenario.result import Result
from swarm.lab.scenario.schema import Scenario, check_engine, fault_key
from swarm.lab.sim.world import World

SLICE_MS = 250
"""Virtual time between two looks of the screen."""

COLLECT_EVERY = 200_000
"""New objects between two searches for cycles: a fleet's stores are millions of objects, and hardly any is a cycle."""


def run_sim(
    scenario: Scenario,
    *,
    version: str,
    output: OutputFolder | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Result:
    """Run `scenario` in virtual time and return its judged result; the same scenario and seed give the same digest.

    Raises `ConfigError` for what the simulator cannot perform, before anything runs.
    """
    check_engine(scenario, "sim")
    started = time.monotonic()
    world = World(scenario, on_trace=None if output is None else output.trace)
    with _seldom_collecting():
        while world.now_ms < scenario.duration_ms:
            world.run_until(min(world.now_ms + SLICE_MS, scenario.duration_ms))
            on_progress(_progress(world))
    proofs = {} if output is None else _write_proofs(world, output)
    result = world.collector.result(
        world.final_states(),
        version=version,
        wall_s=time.monotonic() - started,
        trace_digest=world.trace_digest,
        proofs=proofs,
        status=world.end_firmware(),
    )
    if output is not None:
        output.write_genesis(world.genesis)
        output.finish(result)
    return result


@contextmanager
def _seldom_collecting() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_EVERY, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _progress(world: World) -> Progress:
    scenario = world.scenario
    devices = []
    for device, node in world.nodes.items():
        running = node.device
        devices.append(
            DeviceNow(
                id=device,
                up=running is not None,
                byzantine=node.attack is not None,
                view=0 if running is None else running.replica.state.cur,
                height=0 if running is None else running.ledger.height,
                pending=0 if running is None else len(running.replica.state.pool.pending),
            ),
        )
    return Progress(
        at_ms=world.now_ms,
        duration_ms=scenario.duration_ms,
        phase="running",
        devices=tuple(devices),
        closed=world.collector.closed,
        happened=tuple(fault_key(f) for f in scenario.faults if f.at_ms <= world.now_ms),
    )


def _write_proofs(world: World, output: OutputFolder) -> dict[bytes, str]:
    """Write a proof of each closed decision from the stores of correct devices."""
    names = name_proofs(outcome for outcome, _, _ in world.collector.closed)
    stores = [n.store for n in world.nodes.values() if n.is_up and n.attack is None]
    written: dict[bytes, str] = {}
    for decision, name in names.items():
        for store in stores:
            proof = proof_of_key(store, world.genesis, decision)
            if proof is not None:
                written[decision] = output.write_proof(name, proof)
                break
    return written
