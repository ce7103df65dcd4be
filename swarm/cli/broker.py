"""`swarm broker`: the embedded broker in the foreground, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Final

import typer

from swarm.cli.boundary import CommandFailed
from swarm.cli.logs import tell
from swarm.transport.broker import PORT_DEFAULT, EmbeddedBroker

_LOOK_S: Final = 0.5
"""How often the broker's process is looked at."""


def broker(
    port: Annotated[
        int, typer.Option("--port", help="TCP port on 127.0.0.1; 0 takes a free one.")
    ] = PORT_DEFAULT,
) -> None:
    """Run the embedded MQTT broker in the foreground, reachable from this machine only."""
    with _stop_signal() as stop, EmbeddedBroker(port) as running:
        tell(f"listening on {running.url} (loopback only)", on_stdout=True)
        while not stop.wait(_LOOK_S):
            if not running.running:
                raise CommandFailed(
                    f"the embedded broker on port {running.port} has ended by itself; start it again"
                )


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """Give an event that SIGINT and SIGTERM set, for as long as the block runs."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
