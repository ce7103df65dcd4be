"""`swarm bench`: what this machine and broker can do, beside a loop that does nothing but what cannot be left out."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Annotated, Final, TypeVar

import typer
from rich.console import Console

from swarm.cli.files import JsonOption, words_beside, write_json
from swarm.cli.logs import is_json, tell
from swarm.lab.bench.delivery import SECONDS_DEFAULT as DELIVERY_SECONDS_DEFAULT
from swarm.lab.bench.delivery import measure_delivery
from swarm.lab.bench.figures import BenchResult, DeliveryResult
from swarm.lab.bench.measure import SECONDS_DEFAULT, OnStep, measure
from swarm.lab.bench.table import render, render_delivery

T = TypeVar("T")

_EXIT_TERMINATED: Final = 128 + signal.SIGTERM
"""A shell's own code for a program that SIGTERM ended."""


def bench(
    *,
    broker: Annotated[
        str | None, typer.Option(help="Broker URL; else an embedded one is started on loopback.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            help=f"How long to measure, {SECONDS_DEFAULT:g} or {DELIVERY_SECONDS_DEFAULT:g} by default; "
            "the starts of processes come on top."
        ),
    ] = None,
    delivery: Annotated[
        bool,
        typer.Option("--delivery", help="Measure instead how firmware travels, and what commits feel of it."),
    ] = False,
    json: JsonOption = None,
) -> None:
    """Measure commits, throughput, footprint and simulator; the stores lie in the folder for temporary files."""
    result: BenchResult | DeliveryResult
    with _telling() as on_step:
        if delivery:
            given = DELIVERY_SECONDS_DEFAULT if seconds is None else seconds
            result = _run(measure_delivery(broker, seconds=given, on_step=on_step))
            table = render_delivery(result)
        else:
            given = SECONDS_DEFAULT if seconds is None else seconds
            result = _run(measure(broker, seconds=given, on_step=on_step))
            table = render(result)
    Console(file=words_beside(json)).print(table)
    if json is not None:
        write_json(result.to_json(), json)


@contextmanager
def _telling() -> Iterator[OnStep]:
    """Give a callback that shows what is measured, on stderr: a spinner on a terminal, else one line a step."""
    console = Console(stderr=True)
    if is_json() or not console.is_terminal:
        yield lambda words, done: tell(f"bench: {done:4.0%} {words}")
        return
    with console.status("bench: starting") as status:
        yield lambda words, done: status.update(f"bench: {done:4.0%} {words}")


def _run(work: Coroutine[None, None, T]) -> T:
    """Run `work`; SIGTERM cancels it as Ctrl-C does, so that no process and no file is left behind."""

    async def interruptible() -> T:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end, task)
        return await task

    ended: list[bool] = []

    def end(task: asyncio.Future[T]) -> None:
        ended.append(True)
        task.cancel()

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        if not ended:
            raise
        raise typer.Exit(_EXIT_TERMINATED) from None
