"""Runs a scenario in either engine: the door for the command line, notebooks and pytest."""

from __future__ import annotations

from pathlib import Path

from swarm.lab.scenario.output import OutputFolder
from swarm.lab.scenario.parse import load_scenario
from swarm.lab.scenario.progress import OnProgress, ignore_progress
from swarm.lab.scenario.result import Result
from swarm.lab.scenario.schema import Engine, Scenario, check_engine
from swarm.lab.scenario.senses import check_behaviours
from swarm.primitives.settings import parse_duration_ms
from swarm.primitives.version import VERSION


def run_scenario(
    path: str | Path,
    *,
    engine: Engine = "sim",
    seed: int | None = None,
    duration: str | None = None,
    out: str | Path | None = None,
    broker: str | None = None,
) -> Result:
    """Run the scenario file at `path` and return its judged result.

    `engine` is `sim` (deterministic, virtual time) or `mqtt` (one agent process a device over a real broker: an
    embedded one unless `broker` names a URL). `duration` is a text such as `10s`. Raises `ConfigError` for a bad
    file or option; a violated expectation is no error but a row of the result that did not hold.
    """
    duration_ms = None if duration is None else parse_duration_ms(duration, "duration")
    scenario = load_scenario(Path(path), seed=seed, duration_ms=duration_ms)
    return run_loaded(scenario, engine=engine, out=None if out is None else Path(out), broker=broker)


def run_loaded(
    scenario: Scenario,
    *,
    engine: Engine,
    out: Path | None = None,
    broker: str | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Result:
    """Run a checked scenario; the output folder is made only when the engine can perform all of it."""
    check_engine(scenario, engine)
    check_behaviours(scenario, engine)
    output = None if out is None else OutputFolder(out)
    try:
        if engine == "sim":
            from swarm.lab.sim.run import run_sim

            return run_sim(scenario, version=VERSION, output=output, on_progress=on_progress)
        from swarm.lab.processes.run import run_mqtt

        return run_mqtt(scenario, version=VERSION, output=output, on_progress=on_progress, broker=broker)
    finally:
        if output is not None:
            output.close()
