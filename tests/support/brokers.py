"""Real brokers for tests: each test starts its own, on a free loopback port, and stops it by process id.

Use the fixtures `broker` (can be stopped and started again) and `broker_url` by importing them in a conftest:
`from tests.support.brokers import broker, broker_url`. Both run once per kind of broker: the embedded one always,
Mosquitto where it is installed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from swarm.transport.broker import EmbeddedBroker, answers_connect


class RestartableBroker(Protocol):
    """A broker of a test. `start` after `stop` or `kill` uses the same port."""

    @property
    def url(self) -> str: ...
    def start(self) -> object: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


def mosquitto_path() -> str | None:
    """Find Mosquitto; Debian installs it where a user's PATH does not look."""
    return shutil.which("mosquitto", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class MosquittoBroker:
    """A Mosquitto of its own. With `login` (name, password) anonymous clients are refused.

    `tls` is a folder with ca.crt, broker.crt and broker.key; clients then need a certificate of that authority.
    """

    def __init__(
        self,
        folder: Path,
        *,
        login: tuple[str, str] | None = None,
        nodelay: bool = True,
        tls: Path | None = None,
    ) -> None:
        binary = mosquitto_path()
        if binary is None:
            pytest.skip("mosquitto is not installed")
        self._binary = binary
        self._folder = folder
        self._login = login
        self._nodelay = nodelay
        self._tls = tls
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{'mqtt' if self._tls is None else 'mqtts'}://127.0.0.1:{self.port}"

    def start(self) -> MosquittoBroker:
        config = self._folder / "mosquitto.conf"
        config.write_text("\n".join(self._config()) + "\n")
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, "-c", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            if self._accepts():
                return self
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(
            "mosquitto did not start:\n" + (self._folder / "mosquitto.log").read_text()[-2000:]
        )

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _accepts(self) -> bool:
        if self._login is None and self._tls is None:
            return answers_connect("127.0.0.1", self.port)
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _config(self) -> list[str]:
        config = [
            f"listener {self.port} 127.0.0.1",
            "persistence false",
            f"set_tcp_nodelay {str(self._nodelay).lower()}",
            "max_inflight_messages 1000",
            "max_queued_messages 20000",
            "log_type error",
            "log_type warning",
        ]
        if os.geteuid() == 0:
            # Without it a Mosquitto started by root becomes a user who cannot read this folder.
            config.append("user root")
        if self._login is None:
            config.append("allow_anonymous true")
        else:
            config += ["allow_anonymous false", f"password_file {self._passwords()}"]
        if self._tls is not None:
            config += [
                f"cafile {self._tls / 'ca.crt'}",
                f"certfile {self._tls / 'broker.crt'}",
                f"keyfile {self._tls / 'broker.key'}",
                "require_certificate true",
            ]
        return config

    def _passwords(self) -> Path:
        assert self._login is not None
        passwords = self._folder / "passwords"
        passwords.unlink(missing_ok=True)
        passwords.touch(mode=0o600)
        tool = shutil.which("mosquitto_passwd")
        if tool is None:
            pytest.skip("mosquitto_passwd is not installed")
        subprocess.run([tool, "-b", str(passwords), *self._login], check=True, capture_output=True)
        return passwords


@pytest.fixture(params=["embedded", "mosquitto"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RestartableBroker]:
    """Yield a running broker of each kind."""
    started: RestartableBroker
    started = EmbeddedBroker() if request.param == "embedded" else MosquittoBroker(tmp_path)
    try:
        started.start()
        yield started
    finally:
        started.stop()


@pytest.fixture
def broker_url(broker: RestartableBroker) -> str:
    """Return the URL of a running broker of each kind."""
    return broker.url
