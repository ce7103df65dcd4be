"""The embedded broker: rumqttd (package iotcore) in a child process, on loopback only.

`python -m swarm.transport.broker --port N` is that child. It ends when its standard input does, so it cannot
outlive its parent, however the parent dies. The kernel's parent-death signal is not used: it fires when the
*thread* that started the child ends, and we start it from a thread of an event loop's pool.

iotcore is imported in the child alone: a process that starts a broker does not pay for it, and an agent never does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from swarm.primitives import limits
from swarm.primitives.errors import ConfigError, TransportError

LOOPBACK: Final = "127.0.0.1"
PORT_DEFAULT: Final = 1883
PACKET_BYTES_MAX: Final = limits.FRAME_BYTES_MAX + 1024
"""A frame and its topic. rumqttd's own default of 20 KiB resets the connection of whoever sends a block."""

IN_FLIGHT_MAX: Final = 1000
"""QoS 1 messages to one client before its acknowledgements are waited for; 100 is the broker's default."""

_START_TIMEOUT_S: Final = 15.0
_STOP_TIMEOUT_S: Final = 3.0
_POLL_S: Final = 0.02
_FREE_PORT_TRIES: Final = 5

# CONNECT of MQTT 3.1.1, clean session, keep-alive 10 s, client id "probe"; the CONNACK that accepts it; DISCONNECT.
_CONNECT: Final = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x0a\x00\x05probe"
_ACCEPTED: Final = b"\x20\x02\x00\x00"
_DISCONNECT: Final = b"\xe0\x00"

_LISTENING: Final = b"listening\n"
"""What the child says when it may be connected to."""


class EmbeddedBroker:
    """One broker on 127.0.0.1. Use it with `with`, `async with`, or `start`/`stop` and their `_async` forms."""

    def __init__(self, port: int = 0) -> None:
        """Choose the port; 0 takes a free one when starting."""
        if not 0 <= port <= 65535:
            raise ConfigError(f"{port} is no port", where="port", hint="0 to 65535")
        self._asked = port
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    @property
    def port(self) -> int:
        """The port listened on; 0 before the start."""
        return self._port

    @property
    def url(self) -> str:
        """The broker's URL, for `parse_broker`."""
        return f"mqtt://{LOOPBACK}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process id of the running broker, else None."""
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        """Whether the broker's process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the broker and return when it has accepted an MQTT connection. Blocks, about 0.3 s.

        Raises `ConfigError` for a port that is busy or not ours to take, `TransportError` if the broker does not
        come up. Does nothing while it runs; a stopped one can be started again and keeps its port.
        """
        if self.running:
            return self
        self.stop()
        for attempt in range(_FREE_PORT_TRIES):
            port = _claim(self._asked or self._port)
            try:
                self._launch(port)
            except TransportError:
                self.stop()
                # Between our choice of a free port and the child's bind somebody else may have taken it.
                if self._asked or self._port or attempt == _FREE_PORT_TRIES - 1:
                    raise
            else:
                self._port = port
                break
        return self

    def stop(self) -> None:
        """Stop the broker and release its port; safe at any time. Blocks, some 10 ms."""
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def kill(self) -> None:
        """End the broker as a power cut would (for faults on purpose)."""
        if self._process is not None:
            self._process.kill()
        self.stop()

    async def start_async(self) -> Self:
        """Do `start` in a thread. If cancelled, the broker is stopped before the cancellation goes on."""
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait({starting})
            await asyncio.to_thread(self.stop)
            raise
        return self

    async def stop_async(self) -> None:
        """Do `stop` in a thread."""
        await asyncio.to_thread(self.stop)

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    async def __aenter__(self) -> Self:
        """Start."""
        return await self.start_async()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop_async()

    def _launch(self, port: int) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  -- closed in stop
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "swarm.transport.broker", "--port", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(),
            # Ctrl-C in a terminal goes to the whole group; the broker outlives the agents' farewells.
            start_new_session=True,
        )
        deadline = time.monotonic() + _START_TIMEOUT_S
        listening = False
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise TransportError(f"the embedded broker ended at its start: {self._last_words()}")
            listening = listening or _says_listening(process)
            if listening and answers_connect(LOOPBACK, port):
                return
            time.sleep(_POLL_S / 4)
        raise TransportError(f"the embedded broker was not ready within {_START_TIMEOUT_S:.0f} s")

    def _last_words(self) -> str:
        if self._errors is None:
            return "no reason given"
        self._errors.seek(0)
        lines = self._errors.read(65536).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no reason given"


def answers_connect(host: str, port: int, *, timeout_s: float = 1.0) -> bool:
    """Answer whether a broker there accepts an anonymous MQTT 3.1.1 connection. Blocks for at most `timeout_s`."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as sock:
            sock.sendall(_CONNECT)
            answer = b""
            while len(answer) < len(_ACCEPTED):
                part = sock.recv(len(_ACCEPTED) - len(answer))
                if not part:
                    return False
                answer += part
            with contextlib.suppress(OSError):
                sock.sendall(_DISCONNECT)
            return answer == _ACCEPTED
    except OSError:
        return False


def _says_listening(process: subprocess.Popen[bytes]) -> bool:
    """Wait a moment for the child's word that it listens; False if it has not come."""
    if process.stdout is None or not select.select([process.stdout], [], [], _POLL_S)[0]:
        return False
    return os.read(process.stdout.fileno(), len(_LISTENING)) == _LISTENING


def _claim(port: int) -> int:
    """Return `port`, or a free one for 0, after binding and releasing it; `ConfigError` if it cannot be had."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(
                    f"port {port} is busy",
                    hint="if a broker runs there already, use that one and start none;"
                    " else choose another port with `swarm broker --port N`"
                    f" and write mqtt://{LOOPBACK}:N into the yaml files",
                ) from None
            raise ConfigError(
                f"port {port} cannot be used: {error.strerror}", hint="a port above 1023"
            ) from None
        return int(sock.getsockname()[1])


def _environment() -> dict[str, str]:
    """Return our environment with this package importable, also when it runs from a source tree."""
    root = Path(__file__).resolve().parents[2]
    environment = dict(os.environ)
    if root.name not in ("site-packages", "dist-packages"):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), environment.get("PYTHONPATH"))))
    return environment


def _serve(port: int) -> None:
    """Be the broker until standard input ends."""
    import logging

    # rumqttd writes an ERROR record for every packet it routes; its words reach nobody here.
    logging.disable(logging.CRITICAL)
    from iotcore.iotcore import IotCoreBroker

    broker = IotCoreBroker(
        listen=LOOPBACK,
        port=port,
        max_payload_size=PACKET_BYTES_MAX,
        max_inflight_count=IN_FLIGHT_MAX,
    )
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    threading.Thread(target=_announce_when_listening, args=(port,), daemon=True).start()
    broker.run_forever()


def _announce_when_listening(port: int) -> None:
    """Turn Nagle's algorithm off for all connections to come, then tell the parent that we listen.

    rumqttd does not, and has no setting for it: a vote then waits 40 ms for the delayed acknowledgement of the
    PUBACK before it (a block of four devices took 44 ms instead of 7). Connections inherit the option from the
    listening socket, which is in this very process and can be found among its open files.
    """
    while not _set_nodelay_on_listener(port):
        time.sleep(_POLL_S / 4)
    os.write(1, _LISTENING)


def _set_nodelay_on_listener(port: int) -> bool:
    for entry in list(Path("/proc/self/fd").iterdir()):
        try:
            sock = socket.socket(fileno=os.dup(int(entry.name)))
        except OSError:
            continue
        with sock:
            try:
                if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and sock.getsockname()[:2] == (
                    LOOPBACK,
                    port,
                ):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return True
            except OSError:
                continue
    return False


def _end_with_stdin() -> None:
    try:
        while os.read(0, 4096):
            pass
    finally:
        # The Rust broker has no way to be asked to stop, and nothing that it would have to save.
        os._exit(0)


def main() -> None:
    """Run the child process."""
    parser = argparse.ArgumentParser(prog="python -m swarm.transport.broker", allow_abbrev=False)
    parser.add_argument("--port", type=int, required=True)
    _serve(parser.parse_args().port)


if __name__ == "__main__":
    main()
