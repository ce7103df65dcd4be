"""One conversation with a swarm about firmware: connect, replay the log, log a wish, wait for what comes of it.

Everything that is printed of releases, plans and devices comes from the replay, so nobody is believed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from swarm.agent.client.connect import Client
from swarm.agent.client.replay import (
    Logged,
    Replay,
    follow_log,
    keep_replay,
    kept_replay,
    new_replay,
    read_log,
)
from swarm.apps.rollout.app import Rollout
from swarm.apps.rollout.entries import Command, encode_command
from swarm.apps.rollout.manifest import Manifest
from swarm.apps.rollout.state import Plan, Release, State
from swarm.cli.boundary import CommandFailed
from swarm.cli.firmware.screen import Lines, reading
from swarm.cli.firmware.words import describe_event
from swarm.cli.light import run_client
from swarm.primitives.errors import ConfigError, check
from swarm.primitives.ids import short
from swarm.wire.genesis import Genesis

T = TypeVar("T")

ROLLOUT_APP: Final = f"{Rollout.name}@{Rollout.version}"
_ID_DIGITS_MIN: Final = 4
_HEX: Final = frozenset("0123456789abcdef")

ReleaseArgument = Annotated[
    str,
    typer.Argument(
        metavar="RELEASE",
        show_default=False,
        help="Its number, or the beginning of its id (4 digits or more).",
    ),
]
PlanArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[PLAN]",
        show_default=False,
        help="The beginning of its id; left out: the one that is running.",
    ),
]
WaitOption = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="How long to wait for the voters.")
]


@dataclass(slots=True)
class Session:
    """A connected operator whose replay has reached the end of the log."""

    client: Client
    replay: Replay
    logged: list[Logged] = field(default_factory=list)
    """Every event about firmware so far, in the order of the log."""

    @property
    def genesis(self) -> Genesis:
        """The swarm's genesis."""
        return self.client.genesis

    @property
    def state(self) -> State:
        """What the log says about firmware."""
        return self.replay.rollout.state

    def release(self, id: bytes) -> Release | None:
        """Return a release of the log."""
        return self.replay.rollout.release(id)

    def plan(self, id: bytes) -> Plan:
        """Return a plan that is known to be there."""
        plan = self.replay.rollout.plan(id)
        if plan is None:
            raise CommandFailed(f"plan {short(id)} is no longer known: newer ones have taken its place")
        return plan

    def manifest(self, plan: Plan) -> Manifest:
        """Return the manifest of a plan's release."""
        return self.state.releases[plan.release].manifest

    # ------------------------------------------------------------------------------ names

    def find_release(self, text: str) -> Release:
        """Return the release that `text` names; raises `ConfigError` with what there is instead."""
        known = list(self.state.releases.values())
        if is_id(text):
            found = [release for release in known if release.id.hex().startswith(text)]
        else:
            found = [release for release in known if text.isdigit() and release.manifest.number == int(text)]
        return _only(found, text, "release", [_release_name(release) for release in known])

    def find_plan(self, text: str | None, *, states: tuple[str, ...] = ()) -> Plan:
        """Return the plan that `text` names, or the only one in one of `states`; raises `ConfigError`."""
        known = list(self.state.plans.values())
        names = [f"{short(plan.id)} ({plan.state})" for plan in known]
        if text is None:
            fitting = [plan for plan in known if not states or plan.state in states]
            started = [plan for plan in fitting if plan.started]
            what = "plan that is " + " or ".join(states) if states else "plan"
            return _only(started or fitting, "", what, names)
        return _only([plan for plan in known if plan.id.hex().startswith(text)], text, "plan", names)

    # ------------------------------------------------------------------------------ the log

    async def submit(self, command: Command, timeout_s: float) -> bytes:
        """Put a command on the log and read on until it is applied here; return the submission's id."""
        receipt = await self.client.submit(encode_command(command), app=Rollout.name, timeout=timeout_s)
        async with asyncio.timeout(timeout_s):
            async with aclosing(follow_log(self.client, self.replay)) as batches:
                while self.replay.log_size <= receipt.position:
                    self.logged.extend(await anext(batches))
        return receipt.entry.submission

    async def wait_until(
        self,
        is_done: Callable[[], bool],
        waiting: Callable[[], str],
        timeout_s: float,
        *,
        note: Callable[[Logged], None] = lambda _logged: None,
    ) -> None:
        """Read on until `is_done`; say now and then what is awaited. Raises `CommandFailed` at the time-out."""
        lines = Lines()
        try:
            async with asyncio.timeout(timeout_s):
                async with aclosing(follow_log(self.client, self.replay)) as batches:
                    while not is_done():
                        lines.say(waiting())
                        for logged in await anext(batches):
                            self.logged.append(logged)
                            note(logged)
        except TimeoutError:
            raise CommandFailed(
                f"not done within {timeout_s:g} s: {waiting()}; the wish stands on the log, and voters may still"
                " follow it"
            ) from None

    async def ask(
        self,
        command: Command,
        *,
        is_done: Callable[[], bool],
        waiting: Callable[[], str],
        timeout_s: float,
    ) -> None:
        """Log a wish of the operator and wait until the voters have followed it."""
        before = len(self.logged)
        await self.submit(command, timeout_s)
        await self.wait_until(is_done, waiting, timeout_s)
        for logged in self.logged[before:]:
            print(f"{logged.position:>8}  {describe_event(logged.event)}", flush=True)


def run_session(operator: Path, work: Callable[[Session], Awaitable[T]], *, whole: bool = False) -> T:
    """Connect as `operator`, replay the log, do `work`, and return its result. Errors as in `run_client`.

    The replay goes on from where the last command left it; `whole` reads everything anew, with all its events.
    """

    async def run(client: Client) -> T:
        genesis = client.genesis
        if ROLLOUT_APP not in genesis.apps or genesis.release is None:
            raise ConfigError(
                f"swarm {genesis.swarm} takes no firmware: its genesis names no release keys",
                where=str(operator),
                hint="make one with `swarm init --firmware K/N`",
            )
        replay = new_replay(client) if whole else kept_replay(client)
        began = replay.height
        with reading("reading the log") as on_progress:
            logged = await read_log(client, replay, on_progress)
        try:
            return await work(Session(client, replay, list(logged)))
        finally:
            if replay.height > began:
                keep_replay(client, replay)

    return run_client(operator, run, has_picture=True)


def is_id(text: str) -> bool:
    """Answer whether `text` is the beginning of an id rather than a number."""
    return _ID_DIGITS_MIN <= len(text) <= 64 and _HEX.issuperset(text)


def count_of(names: list[str], genesis: Genesis) -> str:
    """Return `2 of 3 voters needed` for a tally."""
    have = len(set(names) & set(genesis.voter_ids))
    return f"{have} of the {genesis.budget.q} voters that are needed"


def brake_of(genesis: Genesis) -> int:
    """Return how many voters a brake needs: min(u, r) + 1 (FIRMWARE section 1)."""
    return min(genesis.budget.u, genesis.budget.r) + 1


def say(line: str) -> None:
    """Print one line of a command's result."""
    print(line, file=sys.stdout, flush=True)


def _release_name(release: Release) -> str:
    manifest = release.manifest
    return f"{manifest.number} = {short(release.id)} ({manifest.version}, {release.state})"


def _only(found: list[T], text: str, what: str, known: list[str]) -> T:
    check(len(known) >= len(found), "more found than there is")
    there = "; ".join(known[-8:]) if known else "none at all"
    if not found:
        raise ConfigError(f"no {what} {text!r}" if text else f"no {what}", hint=f"there are: {there}")
    if len(found) > 1:
        raise ConfigError(f"more than one {what}{f' {text!r}' if text else ''}", hint=f"say which: {there}")
    return found[0]
