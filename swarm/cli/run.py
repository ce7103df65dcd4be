"""`swarm run`: a scenario in the simulator or over a real broker, judged at the end."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from swarm.cli.boundary import EXIT_DONE
from swarm.cli.files import STDOUT, check_json_target, words_beside
from swarm.cli.logs import LogLevel, tell
from swarm.cli.screen import watching
from swarm.lab.scenario.parse import load_scenario
from swarm.lab.scenario.result import Result, exit_code
from swarm.lab.scenario.runner import run_loaded
from swarm.lab.scenario.table import render
from swarm.primitives.errors import ConfigError
from swarm.primitives.settings import parse_duration_ms


class EngineName(StrEnum):
    """The two engines."""

    SIM = "sim"
    MQTT = "mqtt"


def run(
    scenario: Annotated[
        Path, typer.Argument(metavar="SCENARIO", show_default=False, help="The scenario file.")
    ],
    *,
    engine: Annotated[
        EngineName,
        typer.Option(help="sim: deterministic, virtual time. mqtt: real agents over a real broker."),
    ] = EngineName.SIM,
    seed: Annotated[int | None, typer.Option(help="Instead of the file's seed.")] = None,
    duration: Annotated[str | None, typer.Option(help="Instead of the file's duration, such as 10s.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for result, genesis, proofs and trace.")] = None,
    json: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write result.json there; - is stdout.")
    ] = None,
    broker: Annotated[
        str | None, typer.Option(help="Broker URL for --engine mqtt; else an embedded one is started.")
    ] = None,
) -> int:
    """Run a scenario and judge it. Exit code 1 when an expectation or an invariant did not hold."""
    if broker is not None and engine is EngineName.SIM:
        raise ConfigError("needs --engine mqtt", where="--broker")
    if out is None:
        # With a folder for everything the file may stand in that one, which does not exist yet.
        check_json_target(json)
    duration_ms = None if duration is None else parse_duration_ms(duration, "--duration")
    loaded = load_scenario(scenario, seed=seed, duration_ms=duration_ms)
    try:
        with watching(loaded.name) as on_progress:
            result = run_loaded(loaded, engine=engine.value, out=out, broker=broker, on_progress=on_progress)
    except KeyboardInterrupt:
        tell(_interrupted(scenario, loaded.seed, out), LogLevel.WARNING)
        raise
    words = words_beside(json)
    Console(file=words).print(render(result, loaded))
    if json is not None:
        _write(result, json)
    print(_next_step(result, scenario, out), file=words)
    return exit_code(result)


def _interrupted(scenario: Path, seed: int, out: Path | None) -> str:
    kept = "" if out is None else f"; what happened so far lies in {out / 'trace' / 'events.jsonl'}"
    return f"interrupted, nothing judged{kept}; again: swarm run {scenario} --seed {seed}"


def _write(result: Result, target: str) -> None:
    if target == STDOUT:
        sys.stdout.write(result.to_json())
        return
    try:
        Path(target).write_text(result.to_json(), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", where=target) from None


def _next_step(result: Result, scenario: Path, out: Path | None) -> str:
    again = f"swarm run {scenario} --seed {result.seed}"
    if exit_code(result) != EXIT_DONE and result.engine == "sim":
        return f"replay exactly this run: {again} (trace digest {(result.trace_digest or '')[:16]})"
    if out is None:
        return f"keep result, proofs and trace: {again} --out runs/{result.scenario}"
    proved = next((row.proof for row in result.decisions if row.proof), None)
    if proved is None:
        return f"files: {out}"
    return f"check a proof offline: swarm verify {out / proved} --genesis {out / 'genesis.json'}"
