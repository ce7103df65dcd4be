"""The embedded broker as a process: it comes up, says what is in the way, and never stays behind."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import time

import pytest

from swarm.primitives.errors import ConfigError, TransportError
from swarm.transport import broker as broker_module
from swarm.transport.broker import EmbeddedBroker, answers_connect
from tests.support.brokers import free_port

pytestmark = pytest.mark.broker


def gone(pid: int, *, within_s: float = 10.0) -> bool:
    """Wait until no process has this id; a pidfd tells it without polling."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], within_s)[0])
    finally:
        os.close(fd)


def test_it_accepts_mqtt_when_start_returns_and_nothing_after_stop() -> None:
    broker = EmbeddedBroker()
    with broker:
        pid = broker.pid
        assert pid is not None
        assert answers_connect("127.0.0.1", broker.port)
        assert broker.url == f"mqtt://127.0.0.1:{broker.port}"
    assert not broker.running
    assert gone(pid)
    assert not answers_connect("127.0.0.1", broker.port)


def test_it_listens_on_loopback_only() -> None:
    with EmbeddedBroker() as broker, socket.socket() as other:
        # Another loopback address: refused, or bindable, only if the broker does not listen on all addresses.
        other.bind(("127.0.0.2", broker.port))
        assert not answers_connect("127.0.0.2", broker.port)


def test_a_second_start_keeps_the_port_and_starting_twice_does_nothing() -> None:
    broker = EmbeddedBroker()
    try:
        broker.start()
        port, pid = broker.port, broker.pid
        broker.start()
        assert broker.pid == pid
        broker.stop()
        broker.stop()
        broker.start()
        assert broker.port == port
        broker.kill()
        assert not broker.running
        broker.start()
        assert broker.port == port
    finally:
        broker.stop()


def test_a_busy_port_is_named_with_both_ways_out() -> None:
    with EmbeddedBroker() as first:
        with pytest.raises(ConfigError) as caught:
            EmbeddedBroker(first.port).start()
        assert caught.value.message == f"port {first.port} is busy"
        assert "swarm broker --port N" in caught.value.hint
        assert "--broker" not in caught.value.hint, "`swarm broker` has no such option"
        assert "a broker runs there already" in caught.value.hint


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(ConfigError):
        EmbeddedBroker(port)


def test_a_chosen_port_is_used() -> None:
    port = free_port()
    with EmbeddedBroker(port) as broker:
        assert broker.port == port


def test_a_child_that_cannot_start_is_reported_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "_environment", lambda: {**os.environ, "PYTHONHOME": "/nowhere"})
    broker = EmbeddedBroker()
    with pytest.raises(TransportError, match=r"ended at its start: .+"):
        broker.start()
    assert not broker.running


async def test_it_can_be_used_from_an_event_loop() -> None:
    async with EmbeddedBroker() as broker:
        pid = broker.pid
        assert pid is not None
        assert await asyncio.to_thread(answers_connect, "127.0.0.1", broker.port)
    assert gone(pid)


async def test_a_cancelled_start_leaves_no_broker() -> None:
    broker = EmbeddedBroker()
    starting = asyncio.create_task(broker.start_async())
    while broker.pid is None:  # noqa: ASYNC110  -- a thread sets it
        await asyncio.sleep(0.001)
    pid = broker.pid
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert starting.cancelled()
    assert not broker.running
    assert gone(pid)


_PARENT = """
import time
from swarm.transport.broker import EmbeddedBroker
broker = EmbeddedBroker().start()
print(broker.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_its_parent_however_that_dies(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
        finally:
            parent.send_signal(number)
    assert gone(pid)


def test_importing_the_room_loads_no_broker_code() -> None:
    code = "import sys, swarm.transport.broker, swarm.transport.mqtt; sys.exit('iotcore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_answers_connect_is_not_fooled_by_something_else() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        began = time.monotonic()
        assert not answers_connect("127.0.0.1", sock.getsockname()[1], timeout_s=0.1)
        assert time.monotonic() - began < 5
