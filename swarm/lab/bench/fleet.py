"""The swarm under measurement: one process a voter, each an agent as it ships (`subject`), and none left behind."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from swarm.lab.bench.orders import ANSWERS, LINE_BYTES_MAX, Answer, Broken, Cost, Look, Order, Ready, line_of
from swarm.lab.processes.folder import RunFolder
from swarm.lab.scenario.parse import parse_scenario
from swarm.primitives.errors import TransportError

VOTERS: Final = 4

_START_TIMEOUT_S: Final = 40.0
_GRACE_S: Final = 20.0
_STOP_TIMEOUT_S: Final = 10.0

A = TypeVar("A", bound=Answer)


def new_folder(path: Path, broker_url: str, *, observers: int = 0) -> RunFolder:
    """Write genesis, keys and sealed stores of a fresh swarm into the empty folder `path`."""
    devices = f"{{voters: {VOTERS}, observers: {observers}}}"
    scenario = parse_scenario(
        f"{{name: bench, duration: 1s, devices: {devices}, budget: balanced}}", "swarm bench"
    )
    # The name gets a random end even on a broker of our own: nothing here depends on it.
    return RunFolder(path, scenario, broker_url=broker_url, shared_broker=True)


class Fleet:
    """The processes of some devices of a folder; use it with `async with`, which starts and stops them."""

    def __init__(self, folder: RunFolder, devices: Sequence[str] | None = None) -> None:
        """Prepare; None is all devices."""
        self._folder = folder
        self.devices = tuple(folder.identities) if devices is None else tuple(devices)
        self._processes: dict[str, Process] = {}
        self.start_s = 0.0
        """From the start of the first process until the last was connected."""

    async def __aenter__(self) -> Self:
        """Start all processes and wait until they are connected; raises `TransportError` with the reason."""
        began = time.monotonic()
        try:
            for device in self.devices:
                self._processes[device] = await self._spawn(device)
            for device in self.devices:
                await self._hear(device, Ready, _START_TIMEOUT_S)
        except BaseException:
            await self._stop()
            raise
        self.start_s = time.monotonic() - began
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Stop them in order, or kill what does not stop; their stores are closed afterwards."""
        await self._stop()

    async def ask(self, device: str, order: Order, kind: type[A], *, seconds: float = 0.0) -> A:
        """Give an order that takes `seconds` and return its answer; raises `TransportError` when none comes."""
        self._tell(device, order)
        return await self._hear(device, kind, seconds + _GRACE_S)

    async def ask_all(self, order: Order, kind: type[A], *, seconds: float = 0.0) -> list[A]:
        """Give all devices an order at once and return the answers."""
        for device in self.devices:
            self._tell(device, order)
        return [await self._hear(device, kind, seconds + _GRACE_S) for device in self.devices]

    async def look(self) -> list[Cost]:
        """Ask all devices what they cost."""
        return await self.ask_all(Look(), Cost)

    def pids(self) -> tuple[int, ...]:
        """Return the ids of the processes that were started."""
        return tuple(process.pid for process in self._processes.values())

    async def _spawn(self, device: str) -> Process:
        identity = self._folder.identities[device]
        with identity.errors.open("ab") as stderr:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "swarm.lab.bench.subject",
                str(identity.config),
                stdin=PIPE,
                stdout=PIPE,
                stderr=stderr,
                limit=LINE_BYTES_MAX,
                env=process_environment(),
                # Ctrl-C in a terminal goes to us alone, and we end the others.
                start_new_session=True,
            )

    def _tell(self, device: str, order: Order) -> None:
        stdin = self._processes[device].stdin
        if stdin is not None and not stdin.is_closing():
            stdin.write(line_of(order))

    async def _hear(self, device: str, kind: type[A], timeout_s: float) -> A:
        """Return the next answer of `kind`; a `Ready` in between tells of a connection that was lost and came back."""
        stdout = self._processes[device].stdout
        try:
            async with asyncio.timeout(timeout_s):
                while stdout is not None and (line := await stdout.readline()):
                    answer = ANSWERS.decode(line)
                    if isinstance(answer, kind):
                        return answer
                    if isinstance(answer, Broken):
                        raise TransportError(f"{device} cannot be measured: {answer.reason}")
        except TimeoutError:
            raise TransportError(f"{device} does not answer for {timeout_s:.0f} s") from None
        raise TransportError(f"{device} ended: {self._last_words(device)}")

    def _last_words(self, device: str) -> str:
        lines = self._folder.identities[device].errors.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no reason given"

    async def _stop(self) -> None:
        processes = tuple(self._processes.values())
        for process in processes:
            if process.stdin is not None:
                process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await asyncio.gather(*(process.wait() for process in processes))
        except (TimeoutError, asyncio.CancelledError) as error:
            for process in processes:
                if process.returncode is None:
                    process.kill()
            await asyncio.gather(*(process.wait() for process in processes))
            if isinstance(error, asyncio.CancelledError):
                raise


def process_environment() -> dict[str, str]:
    """Return our environment, in which a child finds the modules that we find."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
