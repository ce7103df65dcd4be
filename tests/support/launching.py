"""A packed launcher on a real folder, with releases that are little programs, all bounded and ended by their number."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from swarm.install.directory import DirectoryBackend
from swarm.install.filesystem import RealFileSystem
from swarm.install.package import pack_launcher
from swarm.install.setup import set_up
from tests.support.install import CLASS, VENDOR, Release, directory_release, stage

PATIENCE_S = 60.0
"""After this a test has failed; nothing here takes a tenth of it."""

PROGRAM = """
import os, sys, time

slot, root, fd = os.environ["SWARM_SLOT"], os.environ["SWARM_INSTALL_ROOT"], int(os.environ["SWARM_LIFELINE_FD"])
with open(root + "/starts.txt", "a") as file:
    file.write(f"{VERSION} {slot} {os.getpid()} {os.environ['SWARM_BOOTS']}\\n")

def say(word):
    os.write(fd, word)

def live(words=b"."):
    while True:
        say(words)
        time.sleep(0.02)

"""


def program(number: int, body: str) -> Release:
    """Return a release whose program notes its start and then does `body` (with `say`, `live`, `root`, `slot`)."""
    main = f"VERSION = {number}\n{PROGRAM}\n{body}\n"
    return directory_release(number, main=main.encode(), size=100)


LIVE = 'live(b"+")'
SILENT = "time.sleep(60)"
HANG = "live()"
CRASH = "sys.exit(1)"
REFUSE = "sys.exit(2)"


class Device:
    """A root folder and its launcher process."""

    def __init__(self, folder: Path, body: str = LIVE) -> None:
        self.folder = folder
        self.root = folder / "install"
        self.root.mkdir()
        self.disk = RealFileSystem()
        release = program(1, body)
        set_up(self.disk, str(self.root), release.plan, release.data)
        self.launch = folder / "launch.pyz"
        self.launch.write_bytes(pack_launcher())
        self.process: subprocess.Popen[bytes] | None = None

    def backend(self, slot: str = "a") -> DirectoryBackend:
        """Return a back end as the agent in `slot` would have it."""
        return DirectoryBackend(self.disk, str(self.root), booted=slot, vendor=VENDOR, device_class=CLASS)

    def arm(self, release: Release, *, attempts: int = 3, trial_ms: int = 30_000) -> None:
        """Stage and arm a release while no launcher runs."""
        backend = self.backend()
        backend.arm(replace(stage(backend, release), attempts=attempts, trial_ms=trial_ms))

    def confirm(self) -> None:
        self.backend("b").confirm()

    def start(self, *options: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start the launcher where no `swarm` can be imported: without site-packages (-S) too."""
        command = [sys.executable, "-I", "-S", str(self.launch), "--root", str(self.root)]
        command += ["--pause-ms", "30", "--grace-ms", "2000", *options]
        # A file and no pipe: an agent that outlives its launcher would hold a pipe open.
        with (self.folder / "errors.txt").open("w") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], **(environment or {})},
                stdin=subprocess.DEVNULL,
                stderr=errors,
            )
        return self.process

    def starts(self) -> list[tuple[int, str, int]]:
        """Return (version, slot, process) of every start of a program so far."""
        try:
            lines = (self.root / "starts.txt").read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            return []
        return [(int(version), slot, int(pid)) for version, slot, pid, _ in map(str.split, lines)]

    def versions(self) -> list[int]:
        return [version for version, _, _ in self.starts()]

    def wait_for(self, what: Callable[[], object]) -> None:
        """Wait until something holds; fail with the launcher's words when it does not in time."""
        until = time.monotonic() + PATIENCE_S
        while not what():
            if time.monotonic() > until:
                raise AssertionError(f"waited in vain; starts: {self.starts()}; {self.stop()}")
            time.sleep(0.01)

    def ended(self) -> tuple[int, str]:
        """Wait for the launcher's own end; return exit code and stderr."""
        assert self.process is not None
        code = self.process.wait(PATIENCE_S)
        return code, (self.folder / "errors.txt").read_text()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Ask the launcher to end, and make sure of it."""
        if self.process is None:
            return 0, ""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.ended()
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.ended()

    def clean_up(self) -> None:
        """End what this device started, each by its number, if it still is what it was."""
        self.stop()
        for _, slot, pid in self.starts():
            if is_program(pid, f"{self.root}/slots/{slot}"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def is_program(pid: int, path: str) -> bool:
    """Answer whether a process still is the one that was started from `path`."""
    try:
        return path.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False


class NotifySocket:
    """What systemd would listen on."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)

    def words(self, during_s: float) -> list[str]:
        """Return what was said within a time."""
        said = []
        until = time.monotonic() + during_s
        while (left := until - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                said.append(self._socket.recv(4096).decode())
        return said

    def close(self) -> None:
        self._socket.close()
