"""One worker process as its supervisor sees it: commands in, reports out, and an end that is always noticed."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path
from typing import Self

from swarm.lab.processes.pipe import (
    LINE_BYTES_MAX,
    Bye,
    Command,
    Failed,
    Report,
    Status,
    decode_report,
    encode_line,
)
from swarm.primitives.errors import ConfigError, InvariantError, StoreError

_LAST_WORDS_BYTES = 4096


class Child:
    """A running worker. Every one ends in `kill` or `wait`, both of which leave no zombie."""

    def __init__(self, device: str, process: Process, errors: Path) -> None:
        """Take over a process that was just started; use `spawn`."""
        self.device = device
        self.connected = False
        self.heard: dict[str, None] = {}
        """Voters whose own verified word it has heard."""
        self.trouble = ""
        """Why there is no connection to the broker, in words."""
        self.status: Status | None = None
        """The last one reported."""
        self.said_bye = False
        self.is_ending = False
        """Whether its end is wanted: by a crash of the scenario, or at the end of the run."""
        self._process = process
        self._errors = errors
        self._failed: Failed | None = None
        self._fault: Exception | None = None
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def spawn(
        cls,
        device: str,
        errors: Path,
        *,
        on_report: Callable[[Child, Report], None],
        on_end: Callable[[Child], None],
    ) -> Self:
        """Start a worker; the callbacks run in this event loop and must not raise.

        It has a session of its own: Ctrl-C in a terminal goes to the supervisor alone, which ends the others.
        """
        with errors.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "swarm.lab.processes.worker",
                str(os.getpid()),
                stdin=PIPE,
                stdout=PIPE,
                stderr=stderr,
                limit=LINE_BYTES_MAX,
                env=_environment(),
                start_new_session=True,
            )
        child = cls(device, process, errors)
        child._reading = asyncio.create_task(child._read(on_report, on_end))
        return child

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process lives and is to live on."""
        return self._process.returncode is None and not self.is_ending

    def send(self, command: Command) -> None:
        """Give the worker a command; one that has just ended hears nothing."""
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(encode_line(command))

    def kill(self) -> None:
        """End the process as a power cut would; `wait` for it afterwards."""
        self.is_ending = True
        self.connected = False
        if self._process.returncode is None:
            self._process.kill()

    async def wait(self) -> None:
        """Return when the process is gone and all that it had reported was heard."""
        if self._reading is not None:
            await asyncio.wait({self._reading})
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()

    def error(self) -> Exception:
        """Return what to tell a person about an end that nobody wanted."""
        if self._fault is not None:
            return self._fault
        failed, code = self._failed, self._process.returncode
        if failed is not None and failed.kind == ConfigError.__name__:
            return ConfigError(failed.message, where=failed.where, hint=failed.hint)
        if failed is not None and failed.kind.startswith("Store"):
            return StoreError(f"{self.device}: {failed.message}", hint=failed.hint)
        if failed is not None:
            return InvariantError(f"{self.device}: {failed.kind}: {failed.message}")
        if code is not None and code < 0:
            return ConfigError(f"the process of {self.device} was killed from outside, by signal {-code}")
        return InvariantError(f"{self.device} ended with {code}: {self._last_words()}")

    def _last_words(self) -> str:
        with self._errors.open("rb") as file:
            file.seek(max(0, self._errors.stat().st_size - _LAST_WORDS_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no reason given"

    async def _read(
        self, on_report: Callable[[Child, Report], None], on_end: Callable[[Child], None]
    ) -> None:
        try:
            await self._hear(on_report)
        except Exception as error:  # noqa: BLE001  -- whatever it is, it ends the run instead of only this task
            self._fault = error
            self._process.kill()
        await self._process.wait()
        self.connected = False
        on_end(self)

    async def _hear(self, on_report: Callable[[Child, Report], None]) -> None:
        reports = self._process.stdout
        while reports is not None and (line := await reports.readline()):
            # A process that is killed while it writes leaves half a line.
            if not line.endswith(b"\n"):
                return
            report = decode_report(line)
            match report:
                case Status():
                    self.status = report
                case Bye(status=status):
                    self.status = status
                    self.said_bye = True
                case Failed():
                    self._failed = report
                case _:
                    pass
            on_report(self, report)


def _environment() -> dict[str, str]:
    """Return our environment, in which a worker finds the modules that we find (plug-ins of a notebook, a source tree)."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
