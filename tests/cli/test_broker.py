"""`swarm broker`: in the foreground, on loopback, and gone when it is told to."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from swarm.transport.broker import answers_connect
from tests.support.brokers import free_port
from tests.support.commands import PATIENCE_S, ROOT, command_line, swarm, swarm_process

LISTENING = re.compile(r"listening on mqtt://127\.0\.0\.1:([0-9]+) \(loopback only\)\n")


@contextmanager
def running(port: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command_line("broker", "--port", port),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.broker
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_listens_until_it_is_told_to_stop(number: signal.Signals) -> None:
    with running(0) as process:
        assert process.stdout is not None
        found = LISTENING.fullmatch(process.stdout.readline())
        assert found is not None
        port = int(found[1])
        assert answers_connect("127.0.0.1", port)

        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out, err) == (0, "", "")
        assert not answers_connect("127.0.0.1", port)


@pytest.mark.broker
def test_it_leaves_no_broker_behind_when_it_is_killed() -> None:
    with running(0) as process:
        assert process.stdout is not None
        found = LISTENING.fullmatch(process.stdout.readline())
        assert found is not None
        with socket.create_connection(("127.0.0.1", int(found[1])), timeout=PATIENCE_S) as watch:
            process.kill()
            # The end of the broker closes the connection: no sleep, no guess.
            watch.settimeout(PATIENCE_S)
            with suppress(ConnectionResetError):
                assert watch.recv(1) == b""


def test_a_busy_port_is_named_with_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = swarm_process("broker", "--port", port)
    assert (done.code, done.out) == (2, "")
    assert f"port {port} is busy" in done.error_line
    assert "`swarm broker --port N`" in done.error_line


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none(port: int) -> None:
    done = swarm("broker", "--port", port)
    assert done.code == 2
    assert f"{port} is no port" in done.error_line


@pytest.mark.broker
def test_a_broker_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from swarm.transport.broker import EmbeddedBroker

    monkeypatch.setattr(EmbeddedBroker, "running", property(lambda _self: False))
    port = free_port()
    done = swarm("broker", "--port", port)
    assert done.code == 1
    assert done.error_line == f"the embedded broker on port {port} has ended by itself; start it again"
    assert not answers_connect("127.0.0.1", port)
