"""What an agent runs on: the install back end, worked in a thread of its own, and the launcher that watches the process.

A beat goes to the launcher after a turn and from nowhere else: it says that event loop and consensus both advance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from swarm.agent.threads import WorkerThread
from swarm.device.firmware.installer import Installer
from swarm.device.firmware.operations import FirmwareAction, Healthy, Install, InstallDone, Reboot
from swarm.install.lifeline import Lifeline
from swarm.install.port import InstallError, InstallReason

BEAT_MS: Final = 1_000
"""Between two beats, and so between two turns of an idle agent under a launcher: its patience begins at seconds."""


class Machine:
    """Carries out what a device orders of its media and its process. All methods belong to one event loop.

    Without an installer every operation is refused, as on a device that was started by hand: it votes, and is not
    updated. Without a lifeline nobody watches.
    """

    def __init__(
        self,
        installer: Installer | None = None,
        lifeline: Lifeline | None = None,
        *,
        has_self_test: bool = True,
    ) -> None:
        """Take over the back end and the pipe to the launcher.

        Without `has_self_test` the first beat is the word of health too: no device says it later.
        """
        self._has_self_test = has_self_test
        self._installer = installer
        self._lifeline = lifeline
        self._worker = WorkerThread("swarm-install")
        self._beat_at_ms: int | None = None
        self._is_stopped = False
        self.exit_code = 0
        """What the process shall end with: the launcher reads a restart from it."""

    def carry_out(
        self,
        actions: Sequence[FirmwareAction],
        on_done: Callable[[InstallDone], None],
        on_failure: Callable[[BaseException], None],
    ) -> bool:
        """Start what was ordered, in order; results come to `on_done` later. True = the process is to end now.

        `on_failure` hears what is no refusal of the back end but a bug or a broken machine.
        """
        for action in actions:
            match action:
                case Install():
                    self._install(action, on_done, on_failure)
                case Healthy():
                    if self._lifeline is not None:
                        self._lifeline.healthy()
                case Reboot(restart=restart):
                    self.exit_code = restart.exit_code
                    return True
        return False

    def _install(
        self,
        order: Install,
        on_done: Callable[[InstallDone], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        installer = self._installer
        if installer is None:
            refusal = InstallError(InstallReason.NOTHING_BOOTABLE, "started without a launcher")
            on_done(InstallDone(order.tag, order.operation, None, refusal))
            return

        def finished(future: asyncio.Future[InstallDone]) -> None:
            if future.cancelled() or self._is_stopped:
                return
            error = future.exception()
            if error is None:
                on_done(future.result())
            else:
                on_failure(error)

        self._worker.run(lambda: installer.run(order.operation, order.tag)).add_done_callback(finished)

    def beat(self, now_ms: int) -> bool:
        """Say after a turn that the device advances; False when the launcher is gone, and then the agent must end."""
        if self._lifeline is None or (self._beat_at_ms is not None and now_ms < self._beat_at_ms):
            return True
        if self._beat_at_ms is None and not self._has_self_test:
            self._lifeline.healthy()
        self._beat_at_ms = now_ms + BEAT_MS
        return self._lifeline.beat()

    @property
    def wake_at_ms(self) -> int | None:
        """When the next turn must come for the next beat, None where nobody watches."""
        return self._beat_at_ms

    def stop(self) -> None:
        """Hear of no result any more; an operation under way is cut off with the process, as by a power cut."""
        self._is_stopped = True
        self._worker.stop()
