"""What an agent does with the orders of its device: a thread for the slots, words for the launcher, an end with a code."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest

from swarm.agent.firmware_lines import firmware_line
from swarm.agent.machine import BEAT_MS, Machine
from swarm.device.firmware.installer import Installer
from swarm.device.firmware.operations import (
    FirmwareAction,
    Healthy,
    Inspect,
    Inspection,
    Install,
    InstallDone,
    Reboot,
    Seal,
)
from swarm.install.launcher import BEAT, HEALTHY
from swarm.install.lifeline import Lifeline
from swarm.install.port import InstallReason, Restart
from tests.support.install import DirectoryRig, model_rig


class Heard:
    def __init__(self) -> None:
        self.done: list[InstallDone] = []
        self.failures: list[BaseException] = []
        self.came = asyncio.Event()

    def on_done(self, done: InstallDone) -> None:
        self.done.append(done)
        self.came.set()

    def on_failure(self, error: BaseException) -> None:
        self.failures.append(error)
        self.came.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.done) + len(self.failures) < count:
                self.came.clear()
                await self.came.wait()


class Watched(Installer):
    """Notes in which thread it works."""

    def __init__(self, rig: DirectoryRig) -> None:
        super().__init__(rig.start())
        self.threads: list[int] = []

    def run(self, operation: Any, tag: int) -> InstallDone:
        self.threads.append(threading.get_ident())
        if operation == Seal():
            raise RuntimeError("a bug")
        return super().run(operation, tag)


async def test_operations_run_in_order_in_a_thread_of_their_own() -> None:
    installer = Watched(model_rig())
    machine, heard = Machine(installer), Heard()
    assert not machine.carry_out(
        [Install(Inspect(), 1), Install(Inspect(), 2)], heard.on_done, heard.on_failure
    )
    assert heard.done == [], "nothing is done before the loop goes on"
    await heard.until(2)
    assert [done.tag for done in heard.done] == [1, 2]
    assert isinstance(heard.done[0].answer, Inspection)
    assert threading.get_ident() not in installer.threads
    assert len(set(installer.threads)) == 1
    machine.stop()


async def test_a_bug_of_a_back_end_is_no_refusal() -> None:
    machine, heard = Machine(Watched(model_rig())), Heard()
    machine.carry_out([Install(Seal(), 1)], heard.on_done, heard.on_failure)
    await heard.until(1)
    assert [str(error) for error in heard.failures] == ["a bug"]
    machine.stop()


async def test_without_slots_every_operation_is_refused() -> None:
    machine, heard = Machine(), Heard()
    machine.carry_out([Install(Inspect(), 1)], heard.on_done, heard.on_failure)
    (done,) = heard.done
    assert done.error is not None
    assert done.error.reason is InstallReason.NOTHING_BOOTABLE


async def test_nothing_is_heard_after_the_stop() -> None:
    machine, heard = Machine(Watched(model_rig())), Heard()
    machine.carry_out([Install(Inspect(), 1)], heard.on_done, heard.on_failure)
    machine.stop()
    await asyncio.sleep(0.05)
    assert heard.done == []


def test_a_reboot_ends_the_process_with_its_code_and_nothing_after_it() -> None:
    machine = Machine()
    done: list[InstallDone] = []
    before = machine.exit_code
    order: list[FirmwareAction] = [Reboot(Restart(exit_code=75)), Install(Inspect(), 1)]
    assert machine.carry_out(order, done.append, lambda _error: None)
    assert (before, machine.exit_code) == (0, 75)
    assert done == []


def test_beats_are_spaced_and_the_word_of_health_goes_at_once() -> None:
    read_end, write_end = os.pipe()
    machine = Machine(None, Lifeline(write_end, "/d", "a"))
    before = machine.wake_at_ms
    assert before is None
    assert machine.beat(1_000)
    assert machine.beat(1_000 + BEAT_MS - 1)
    assert machine.wake_at_ms == 1_000 + BEAT_MS
    machine.carry_out([Healthy()], lambda _done: None, lambda _error: None)
    assert machine.beat(1_000 + BEAT_MS)
    assert os.read(read_end, 100) == BEAT + HEALTHY + BEAT
    os.close(read_end)
    assert machine.beat(9_000) is False, "the launcher is gone"


def test_where_no_device_has_a_self_test_the_first_beat_is_the_word_of_health() -> None:
    read_end, write_end = os.pipe()
    lifeline = Lifeline(write_end, "/d", "a")
    machine = Machine(None, lifeline, has_self_test=False)
    assert machine.beat(0)
    assert machine.beat(BEAT_MS)
    assert os.read(read_end, 100) == HEALTHY + BEAT + BEAT
    os.close(read_end)
    lifeline.close()


def test_a_machine_that_nobody_watches_never_ends_an_agent() -> None:
    assert Machine().beat(0)
    assert Machine().wake_at_ms is None


@pytest.mark.parametrize(
    ("data", "line", "complaint"),
    [
        (
            {"what": "sealed", "release": b"\x12\x34\x56\x78" * 8},
            "release 12345678 is sealed in the other slot",
            False,
        ),
        (
            {"what": "fetching", "release": b"\x12\x34\x56\x78" * 8, "number": 2, "chunks": 9},
            "fetching release 2",
            False,
        ),
        (
            {"what": "armed", "release": b"\x12\x34\x56\x78" * 8, "permit": 5},
            "release 12345678 is armed",
            False,
        ),
        ({"what": "rebooting", "after": "activate"}, "restarting into the armed image", False),
        ({"what": "rebooting", "after": "revert"}, "going back to the old image", True),
        ({"what": "confirmed"}, "the new image is confirmed", False),
        ({"what": "declined", "permit": 5, "reason": "stale"}, "permit 5 is declined: stale", False),
        ({"what": "withdrawn"}, "the armed image is withdrawn", False),
        (
            {"what": "self-test", "passed": False, "reason": "x", "detail": "why"},
            "self test failed: x (why)",
            True,
        ),
        ({"what": "refused", "operation": "seal", "reason": "medium"}, "seal refused: medium", True),
        ({"what": "unreadable", "reason": "medium: gone"}, "its slots cannot be read: medium: gone", True),
        (
            {"what": "unreadable", "reason": "nothing-bootable: started without a launcher"},
            "started without its launcher: it votes on firmware and is not updated itself",
            False,
        ),
        (
            {"what": "reported", "result": "reverted", "reason": "x", "permit": 1},
            "reported reverted: x",
            True,
        ),
        (
            {"what": "bad-chunk", "peer": "dev-1", "release": b""},
            "dev-1 sent a wrong chunk of a release",
            True,
        ),
    ],
)
def test_what_is_said_of_the_own_firmware(data: dict[str, object], line: str, complaint: bool) -> None:
    said = firmware_line(data)
    assert said is not None
    assert said.text.startswith(line)
    assert said.is_complaint is complaint


@pytest.mark.parametrize(
    "data",
    [
        {"what": "self-test", "passed": True, "reason": "", "detail": ""},
        {"what": "reported", "result": "started", "reason": "", "permit": 0},
        {"what": "voted", "entry": "go"},
        {},
    ],
)
def test_what_only_programs_want_to_know_is_not_said(data: dict[str, object]) -> None:
    assert firmware_line(data) is None
