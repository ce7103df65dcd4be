"""`swarm log`: the verified log, followed if wanted, and the proof of any entry of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from swarm.agent.client.connect import Client
from swarm.agent.client.results import ProvedEntry
from swarm.apps.decisions.rules import Outcome
from swarm.apps.verify import Entry
from swarm.cli.boundary import CommandFailed
from swarm.cli.files import JsonOption, words_beside, write_json
from swarm.cli.light import (
    AsOption,
    TimeoutOption,
    check_proof_target,
    read_timeout_s,
    report_content,
    run_client,
    write_proof,
)
from swarm.cli.logs import printable, tell
from swarm.cli.verify import count_words
from swarm.primitives.errors import ConfigError
from swarm.primitives.limits import CLIENT_ENTRIES_MAX, NUMBER_MAX

STATUS_S: Final = 2.0
"""How long to wait for the voters' claims about the length of the log."""


def log(
    *,
    as_: AsOption,
    start: Annotated[int, typer.Option("--from", min=0, help="Position of the first entry.")] = 0,
    count: Annotated[int | None, typer.Option("--count", min=1, help="At most so many entries.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on printing as the log grows.")] = False,
    proof: Annotated[
        tuple[int, Path] | None,
        typer.Option(
            "--proof", metavar="POSITION FILE", help="Write the proof of one entry, print nothing else."
        ),
    ] = None,
    timeout: TimeoutOption = "10s",
    json: JsonOption = None,
) -> None:
    """Print the entries of the log, each verified against genesis before it is printed."""
    timeout_s = read_timeout_s(timeout)
    if proof is not None:
        if follow or json is not None:
            raise ConfigError("--proof goes alone", where="--proof")
        _prove(as_, *proof, timeout_s)
        return
    if follow and json is not None:
        raise ConfigError("--follow has no end that could be written", where="--json")
    out = words_beside(json)
    shown: list[dict[str, Any]] = []

    def show(position: int, content: Entry | Outcome) -> None:
        if json is None:
            print(f"{position:>8}  {printable(content.in_words())}", file=out, flush=follow)
        else:
            shown.append({"position": position, **report_content(content)})

    async def work(client: Client) -> int:
        if follow:
            left = NUMBER_MAX if count is None else count
            async with aclosing(client.follow(start)) as entries:
                async for position, content in entries:
                    show(position, content)
                    left -= 1
                    if not left:
                        break
            return 0
        return await _read_all(client, start, NUMBER_MAX if count is None else count, timeout_s, show)

    log_size = run_client(as_, work)
    if json is not None:
        write_json({"log_size": log_size, "entries": shown}, json)


async def _read_all(
    client: Client,
    position: int,
    count: int,
    timeout_s: float,
    show: Callable[[int, Entry | Outcome], None],
) -> int:
    """Show what there is and return the length of the log, at its newest checkpoint."""
    if await _claimed_size(client, position, timeout_s) == 0:
        return 0
    while True:
        got = await client.entries(position, min(count, CLIENT_ENTRIES_MAX), timeout=timeout_s)
        for offset, content in enumerate(got.entries):
            show(position + offset, content)
        count -= len(got.entries)
        position = got.end
        if not got.entries or not count or position >= got.log_size:
            return got.log_size


async def _claimed_size(client: Client, position: int, timeout_s: float) -> int | None:
    """Return how long the log is by the voters' longest claim, None without a quorum.

    Raises `CommandFailed` for a position beyond it, which would else be waited for in silence.
    """
    status = await client.status(timeout=min(timeout_s, STATUS_S))
    if not status.has_quorum:
        return None
    size = max(member.claim.log_size for member in status.members if member.claim is not None)
    if position > 0 and position >= size:
        raise CommandFailed(
            f"there is no entry {position}: the log has {count_words(size, 'entry', 'entries')},"
            f" as {status.voters_up} voters claim"
        )
    if not size:
        tell(f"the log is empty, as {status.voters_up} voters claim")
    return size


def _prove(operator: Path, position: int, target: Path, timeout_s: float) -> None:
    check_proof_target(target)
    if not 0 <= position <= NUMBER_MAX:
        raise ConfigError(f"{position} is no position of a log", where="--proof")

    async def work(client: Client) -> ProvedEntry:
        if await _claimed_size(client, position, timeout_s) == 0:
            raise CommandFailed("nothing to prove: the log is empty")
        return await client.proof(position, timeout=timeout_s)

    proved = run_client(operator, work)
    write_proof(proved.proof, target)
    print(f"entry {position}, proved at height {proved.height}: {proved.entry.in_words()}")
    print(f"proof written to {target}")
