"""What the commands of an operator share: connecting, saying what is missing, and files with proofs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer

from swarm.agent.client.connect import Client, connect
from swarm.agent.client.results import ClientError
from swarm.apps.decisions.rules import Outcome
from swarm.apps.verify import Entry
from swarm.cli.boundary import CommandFailed
from swarm.cli.logs import LogLevel, is_json, tell
from swarm.cli.verify import _report_entry, _report_outcome
from swarm.primitives.errors import ConfigError
from swarm.primitives.settings import parse_duration_ms

T = TypeVar("T")

AsOption = Annotated[
    Path,
    typer.Option("--as", metavar="OPERATOR.yaml", show_default=False, help="Who asks: its operator.yaml."),
]
TimeoutOption = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="How long to wait for the proof.")
]
ProofOption = Annotated[
    Path | None, typer.Option("--proof", metavar="FILE", help="Write the proof to this file.")
]

QUIET_S: Final = 2.2
"""After this long without a quorum it is said what is missing; the client itself looks around after 2 s."""

_LOOK_S: Final = 0.5


def run_client(
    operator: Path,
    work: Callable[[Client], Awaitable[T]],
    *,
    is_patient: bool = True,
    has_picture: bool = False,
) -> T:
    """Connect as `operator`, do `work`, disconnect, and return its result.

    On the way stderr hears what is missing (unless not `is_patient`); a command that paints the terminal itself
    `has_picture`, and then nothing else moves there. Raises `CommandFailed` for every
    `ClientError`, so that the exit code is 1.
    """

    async def run() -> T:
        async with connect(operator) as client:
            watching = asyncio.create_task(_watch(client, spins=not has_picture)) if is_patient else None
            try:
                return await work(client)
            finally:
                if watching is not None:
                    watching.cancel()
                    await asyncio.gather(watching, return_exceptions=True)

    try:
        return asyncio.run(run())
    except ClientError as error:
        raise CommandFailed(str(error)) from None


async def _watch(client: Client, *, spins: bool) -> None:
    """Say on stderr what is missing, each time it changes; on a terminal something moves meanwhile."""
    await asyncio.sleep(QUIET_S)
    said = ""
    with _spinner() if spins else contextlib.nullcontext():
        while True:
            trouble = client.trouble() or ""
            if trouble != said:
                if trouble:
                    tell(f"waiting: {trouble}", LogLevel.WARNING)
                else:
                    tell("a quorum answers again")
                said = trouble
            await asyncio.sleep(_LOOK_S)


@contextlib.contextmanager
def _spinner() -> Iterator[None]:
    if is_json() or not sys.stderr.isatty():
        yield
        return
    # Only here: whoever pipes the output does not pay for a terminal library.
    from rich.console import Console

    with Console(stderr=True).status("waiting for the swarm"):
        yield


def read_timeout_s(text: str) -> float:
    """Return the seconds of `--timeout`; raises `ConfigError` for zero or nonsense."""
    timeout_ms = parse_duration_ms(text, "--timeout")
    if timeout_ms == 0:
        raise ConfigError("must be longer than zero", where="--timeout")
    return timeout_ms / 1000


def write_proof(proof: bytes, target: Path) -> None:
    """Write the bytes of a proof to a file; raises `ConfigError` when that cannot be done."""
    try:
        target.write_bytes(proof)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", where=str(target)) from None


def check_proof_target(target: Path | None) -> None:
    """Raise `ConfigError` before anything is sent when the proof could not be written in the end."""
    if target is not None and not target.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {target.parent}", where="--proof")


def report_content(content: Entry | Outcome) -> dict[str, Any]:
    """Return what `--json` writes about an entry of the log, as `swarm verify` does."""
    return _report_outcome(content) if isinstance(content, Outcome) else _report_entry(content)
