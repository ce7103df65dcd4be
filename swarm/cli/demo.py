"""`make demo`: the greenhouse over a real broker, and a proof of what it decided that anybody can check.

Run as `python -m swarm.cli.demo`; it works in a clone, where the scenario file lies beside the package.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from swarm.apps.verify import read_verified, verify_proof
from swarm.cli.boundary import EXIT_DONE, EXIT_INTERRUPTED, CommandFailed, run_guarded
from swarm.cli.files import load_genesis, read_file
from swarm.cli.screen import watching
from swarm.cli.verify import describe_proof
from swarm.lab.processes.parent import end_with_parent
from swarm.lab.scenario.parse import load_scenario
from swarm.lab.scenario.result import Result, exit_code, name_suspects
from swarm.lab.scenario.runner import run_loaded
from swarm.lab.scenario.schema import Crash, Restart, Scenario
from swarm.lab.scenario.table import render
from swarm.primitives.errors import ConfigError, ProofError
from swarm.primitives.limits import PROOF_BYTES_MAX
from swarm.primitives.settings import format_duration_ms
from swarm.wire.proof import verify as verify_leaf

GREENHOUSE: Final = Path(__file__).resolve().parents[2] / "configs" / "scenarios" / "greenhouse.yaml"
_RUNS: Final = Path("runs")
_STARTED_BY_MAKE: Final = "MAKELEVEL"


def demo(
    *,
    scenario: Annotated[Path, typer.Option(help="Another scenario than the greenhouse.")] = GREENHOUSE,
    runs: Annotated[Path, typer.Option(help="Where the folder of this demonstration is made.")] = _RUNS,
) -> int:
    """Watch devices decide together although one lies and one is killed, then check a proof of it."""
    loaded = load_scenario(scenario)
    out = _fresh_folder(runs)
    devices = len(loaded.devices.ids)
    print(
        f"{loaded.name}: {loaded.description}.\n"
        f"{devices} agent processes and an MQTT broker on this machine, for {format_duration_ms(loaded.duration_ms)}; "
        f"Ctrl-C ends all of them.\n",
        flush=True,
    )
    with watching(loaded.name) as on_progress:
        result = run_loaded(loaded, engine="mqtt", out=out, on_progress=on_progress)
    Console().print(render(result, loaded))
    print()
    for line in _story(result, loaded):
        print(line)
    _show_proof(result, out)
    return exit_code(result)


def _fresh_folder(runs: Path) -> Path:
    """Make and return the first of `demo-1`, `demo-2`, ... that does not exist yet."""
    number = 1
    while True:
        folder = runs / f"demo-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise ConfigError(f"cannot be made: {error.strerror}", where=str(folder)) from None
        else:
            return folder


def _story(result: Result, scenario: Scenario) -> list[str]:
    """Return what there was to see, in a few sentences."""
    lines = [
        f"{suspect.device} stood apart in {suspect.apart} of {suspect.balloted} decisions on {suspect.subject}: "
        f"it says {suspect.typical:g}{_because(suspect.device, scenario)}, and no outcome followed it."
        for suspect in name_suspects(result.decisions)
    ]
    for fault in scenario.faults:
        if isinstance(fault, Crash | Restart):
            what = "was killed" if isinstance(fault, Crash) else "came back with its store"
            lines.append(f"{', '.join(fault.devices)} {what} at {format_duration_ms(fault.at_ms)}.")
    if result.caught_up_ms is not None and scenario.faults:
        lines.append(
            f"{format_duration_ms(result.caught_up_ms)} after the last fault every device had the whole log."
        )
    return lines


def _because(device: str, scenario: Scenario) -> str:
    """Return what the scenario knows about the strange ballots of a device, which the swarm cannot know."""
    block = scenario.devices.behaviour_of(device)
    return " because it lies" if block is not None and "lie" in block else ""


def _show_proof(result: Result, out: Path) -> None:
    """Check the newest proof with the genesis file alone, then a forged one; say where everything lies.

    Raises `CommandFailed` if there is no proof, or if the forged one is believed.
    """
    name = next((row.proof for row in reversed(result.decisions) if row.proof is not None), None)
    if name is None:
        raise CommandFailed(f"no decision of this run has a proof; see {out / 'result.json'}")
    genesis_file, proof_file = out / "genesis.json", out / name
    genesis = load_genesis(genesis_file)
    proof = read_file(proof_file, PROOF_BYTES_MAX)
    leaf = verify_leaf(proof, genesis)
    print(f"\nA proof, checked offline with {genesis_file} alone:")
    print("\n".join(describe_proof(leaf, read_verified(leaf, genesis), genesis)))
    place = len(proof) // 2
    forged = proof[:place] + bytes([proof[place] ^ 1]) + proof[place + 1 :]
    try:
        verify_proof(forged, genesis)
    except ProofError as error:
        print(f"The same proof with byte {place} changed: REJECTED ({error}).")
    else:
        raise CommandFailed(f"{proof_file} with byte {place} changed was believed")
    print(f"\nresult   {out / 'result.json'}\nproof    {proof_file}\ngenesis  {genesis_file}")
    print(f"check it again: {_swarm_command()} verify {proof_file} --genesis {genesis_file}")


def _swarm_command() -> str:
    """Return how this very installation is called from here."""
    script = Path(sys.executable).with_name("swarm")
    try:
        return str(script.relative_to(Path.cwd()))
    except ValueError:
        return "swarm"


def main() -> None:
    """Run the demonstration as a process of its own."""
    began_s = time.monotonic()
    if _STARTED_BY_MAKE in os.environ:
        # Who kills `make` means what it runs, too.
        end_with_parent(signal.SIGTERM)
    code = run_guarded(_parsed(demo))
    if code == EXIT_DONE:
        print(f"done in {time.monotonic() - began_s:.0f} s, no process left behind")
    elif code == EXIT_INTERRUPTED:
        print("interrupted; no process left behind", file=sys.stderr)
    sys.exit(code)


def _parsed(command: Callable[..., int]) -> Callable[[], int]:
    """Return `command` with its options taken from the command line of this process."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(command)
    return lambda: int(app(standalone_mode=False) or 0)


if __name__ == "__main__":
    main()
