"""One run over a real broker from beginning to end: the clock, the faults and the workload of a scenario."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Final

from swarm.device.events import event_to_json
from swarm.device.proofs import proof_of_key
from swarm.device.turn import DeviceEvent
from swarm.lab.processes.scratch import scratch_folder
from swarm.lab.processes.supervisor import Supervisor
from swarm.lab.scenario.collector import Collector, FinalState
from swarm.lab.scenario.output import OutputFolder, name_proofs
from swarm.lab.scenario.progress import DeviceNow, OnProgress, Progress, ignore_progress
from swarm.lab.scenario.result import Result
from swarm.lab.scenario.schema import (
    Byzantine,
    Crash,
    Cut,
    Fault,
    Heal,
    Partition,
    Restart,
    Scenario,
    check_engine,
    fault_key,
)
from swarm.lab.scenario.workload import WorkItem, plan
from swarm.primitives.errors import ConfigError, DecodeError
from swarm.transport.topics import Scope
from swarm.wire.messages import decode_frame

LOOK_MS: Final = 250
"""Time between two looks of the screen."""

LOOK_PER_DEVICE_MS: Final = 10
"""More devices are asked less often: being watched must not be their main work."""

FOLDER_PREFIX: Final = "swarm-processes-"
"""Begins the name of a run's folder among the temporary files."""


def run_mqtt(
    scenario: Scenario,
    *,
    version: str,
    output: OutputFolder | None = None,
    on_progress: OnProgress = ignore_progress,
    broker: str | None = None,
) -> Result:
    """Run `scenario` with one agent process a device over a real broker and return its judged result.

    `broker` is the URL of a broker to use, None for an embedded one on a free port. No process is left behind, also
    when this one is interrupted or killed; SIGTERM and SIGHUP end the run in order and then the program, with the exit
    code of a shell (`SystemExit`). Raises `ConfigError` for what this engine cannot perform or a device cannot be built
    of, `TransportError` for a broker that cannot be used.
    """
    check_engine(scenario, "mqtt")

    async def main() -> Result:
        with scratch_folder(FOLDER_PREFIX) as folder:
            run = _Run(scenario, folder, output, on_progress, broker)
            return await run.result(version)

    # A notebook's own loop runs in this thread already.
    return _run_in_thread(main) if _has_running_loop() else _run_here(main)


class _Run:
    """What one run needs while it lasts."""

    def __init__(
        self,
        scenario: Scenario,
        folder: Path,
        output: OutputFolder | None,
        on_progress: OnProgress,
        broker: str | None,
    ) -> None:
        self._scenario = scenario
        self._output = output
        self._on_progress = on_progress
        self._collector = Collector(scenario, "mqtt")
        self._began_s = time.monotonic()
        self._start_s: float | None = None
        """When the run's clock began: after all devices had met."""
        self._done: list[str] = []
        self._attacked: dict[str, None] = {}
        self._phase = "starting"
        self._supervisor = Supervisor(
            scenario, folder, broker=broker, on_event=self._on_event, on_frame=self._on_frame
        )

    async def result(self, version: str) -> Result:
        """Run from beginning to end and judge."""
        async with self._supervisor as supervisor:
            watching = asyncio.create_task(self._watch())
            try:
                await supervisor.start()
                self._start_s = time.monotonic()
                self._phase = "running"
                for at_ms, _, _, what in heapq.merge(self._faults(), self._work()):
                    await supervisor.sleep_until(self._start_s + at_ms / 1000)
                    await self._perform(what)
                await supervisor.sleep_until(self._start_s + self._scenario.duration_ms / 1000)
                self._phase = "collecting"
                up = {device for device, child in supervisor.children.items() if child.is_running}
                await supervisor.stop()
            finally:
                watching.cancel()
                await asyncio.wait({watching})
            if not watching.cancelled():
                watching.result()
            proofs = {} if self._output is None else self._write_proofs(self._output, up)
            self._collector.traffic.delivered, self._collector.traffic.dropped = supervisor.totals()
            result = self._collector.result(
                {device: self._final(device, device in up) for device in self._scenario.devices.ids},
                version=version,
                wall_s=time.monotonic() - self._began_s,
                trace_digest=None,
                proofs=proofs,
            )
            if self._output is not None:
                self._keep_logs(self._output)
                self._output.write_genesis(supervisor.folder.genesis)
                self._output.finish(result)
            return result

    # ------------------------------------------------------------------------------ what happens when

    def _faults(self) -> Iterator[_Entry]:
        for number, fault in enumerate(self._scenario.faults):
            yield fault.at_ms, 0, number, fault

    def _work(self) -> Iterator[_Entry]:
        for item in plan(self._scenario):
            yield item.at_ms, 1, item.index, item

    async def _perform(self, what: Fault | WorkItem) -> None:
        supervisor = self._supervisor
        match what:
            case WorkItem():
                self._submit(what)
                return
            case Crash(devices=devices):
                await supervisor.crash(devices)
            case Restart(devices=devices):
                await supervisor.restart(devices)
            case Partition():
                supervisor.partition(what)
            case Cut():
                supervisor.cut(what)
            case Heal():
                supervisor.heal()
            case Byzantine(device=device, attack=attack):
                supervisor.attack(device, attack)
                self._attacked[device] = None
            case _:
                raise ConfigError(f"engine mqtt cannot perform {fault_key(what)!r}", where="faults")
        self._done.append(fault_key(what))

    def _submit(self, item: WorkItem) -> None:
        origin = item.origin_among(self._supervisor.free_origins)
        if origin is not None:
            self._supervisor.submit(origin, item.commands())

    # ------------------------------------------------------------------------------ what is observed

    def _now_ms(self, at_s: float) -> int:
        """Return a moment of the monotonic clock as time of the run; what came before its start counts as 0."""
        return 0 if self._start_s is None else max(0, int((at_s - self._start_s) * 1000))

    def _on_event(self, device: str, event: DeviceEvent) -> None:
        # Monotonic time is one for all processes of a machine, and events carry it: nothing waits in a pipe here.
        at_ms = self._now_ms(event.at_ms / 1000)
        self._collector.on_event(device, event, at_ms)
        if self._output is not None:
            self._output.trace({**event_to_json(event), "at_ms": at_ms, "device": device})

    def _on_frame(self, sender: str, scope: Scope, payload: bytes) -> None:
        traffic = self._collector.traffic
        traffic.published += 1
        traffic.bytes_published += len(payload)
        if scope is Scope.ALL:
            # What does not decode is no statement of a correct device; the devices count it.
            with contextlib.suppress(DecodeError):
                items = decode_frame(payload)
                self._collector.on_published(sender, items, self._supervisor.folder.genesis.voter_ids)

    async def _watch(self) -> None:
        """Show the run to whoever looks on, until cancelled."""
        pause_s = max(LOOK_MS, LOOK_PER_DEVICE_MS * len(self._scenario.devices.ids)) / 1000
        while True:
            self._on_progress(self._progress())
            self._supervisor.refresh()
            await asyncio.sleep(pause_s)

    def _progress(self) -> Progress:
        devices = []
        for device in self._scenario.devices.ids:
            child = self._supervisor.children.get(device)
            status = None if child is None else child.status
            devices.append(
                DeviceNow(
                    id=device,
                    up=child is not None and (child.connected or child.said_bye),
                    byzantine=device in self._attacked,
                    view=0 if status is None else status.view,
                    height=0 if status is None else status.height,
                    pending=0 if status is None else status.pending,
                )
            )
        return Progress(
            at_ms=self._now_ms(time.monotonic()),
            duration_ms=self._scenario.duration_ms,
            phase=self._phase,
            devices=tuple(devices),
            closed=self._collector.closed,
            happened=tuple(self._done),
        )

    # ------------------------------------------------------------------------------ the end

    def _final(self, device: str, up: bool) -> FinalState:
        status = self._supervisor.last_status(device)
        if status is None:
            return FinalState(up=up, height=0, log_size=0, log_root=b"")
        return FinalState(
            up=up, height=status.height, log_size=status.log_size, log_root=status.log_root if up else b""
        )

    def _write_proofs(self, output: OutputFolder, up: set[str]) -> dict[bytes, str]:
        """Write a proof of each closed decision from the stores of correct devices, whose processes have ended."""
        folder = self._supervisor.folder
        missing = name_proofs(outcome for outcome, _, _ in self._collector.closed)
        written: dict[bytes, str] = {}
        for device in self._scenario.devices.ids:
            if not missing:
                break
            if device not in up or device in self._collector.byzantine:
                continue
            with contextlib.closing(folder.open_store(device)) as store:
                for decision, name in list(missing.items()):
                    proof = proof_of_key(store, folder.genesis, decision)
                    if proof is not None:
                        written[decision] = output.write_proof(name, proof)
                        del missing[decision]
        return written

    def _keep_logs(self, output: OutputFolder) -> None:
        """Keep what the devices complained about beside the trace."""
        for device, identity in self._supervisor.folder.identities.items():
            complaints = identity.errors.read_bytes()
            if complaints:
                (output.path / "trace" / f"{device}.log").write_bytes(complaints)


_Entry = tuple[int, int, int, Fault | WorkItem]
"""At ms, fault before work, number: the order in which things are done."""


def _has_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run_here(main: Callable[[], Coroutine[None, None, Result]]) -> Result:
    """Run in this thread. In the main thread a request to end becomes a cancellation, so that everything is cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        return asyncio.run(main())
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    async def interruptible() -> Result:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def end(number: int) -> None:
            received.append(number)
            if task is not None:
                task.cancel()

        for number in before:
            loop.add_signal_handler(number, end, number)
        return await main()

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        if not received:
            raise
        raise SystemExit(128 + received[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_in_thread(main: Callable[[], Coroutine[None, None, Result]]) -> Result:
    """Run in a thread of its own, and end it in order when this one is interrupted."""
    begun: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Result]]] = []
    outcome: list[Result | BaseException] = []

    async def cancellable() -> Result:
        task = asyncio.ensure_future(main())
        begun.append((asyncio.get_running_loop(), task))
        return await task

    def work() -> None:
        try:
            outcome.append(asyncio.run(cancellable()))
        except BaseException as error:  # noqa: BLE001  -- raised where the result is wanted
            outcome.append(error)

    thread = threading.Thread(target=work, name="swarm-run")
    thread.start()
    try:
        thread.join()
    finally:
        for loop, task in begun if thread.is_alive() else ():
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
    result = outcome[0]
    if isinstance(result, BaseException):
        raise result
    return result
