"""Real agents under real launchers update themselves over a real broker, and refuse what fails its self test."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.transport.broker import EmbeddedBroker
from tests.support.brokers import MosquittoBroker, RestartableBroker, mosquitto_path
from tests.support.firmware_swarm import DEVICES, FirmwareSwarm, firmware_swarm

pytestmark = [pytest.mark.broker, pytest.mark.processes, pytest.mark.slow]

SICK = '''
    def check_health(self, now_ms: int) -> str | None:
        """Say that this release is none."""
        return "no-sensor"
'''


def decide(swarm: FirmwareSwarm) -> str:
    """Let the swarm agree on a temperature; returns what it agreed on."""
    return swarm.ask("decide", "temperature", "--rule", "median", "--scale", "2", "--timeout", "20s")


def versions(swarm: FirmwareSwarm) -> dict[str, int]:
    return {id: swarm.seal(id)["number"] for id in DEVICES}


def test_version_1_rolls_out_version_2_of_itself_and_takes_back_a_broken_version_3(tmp_path: Path) -> None:
    # Mosquitto where it is installed: once is enough, the transport has tests of its own over both.
    broker: RestartableBroker = MosquittoBroker(tmp_path) if mosquitto_path() else EmbeddedBroker()
    broker.start()
    try:
        with firmware_swarm(tmp_path / "swarm", broker.url) as swarm:
            swarm.until(lambda: all(device.height for device in swarm.devices.values()))
            decide(swarm)
            _version_2(swarm)
            _broken_version_3(swarm)
    finally:
        broker.stop()


def _version_2(swarm: FirmwareSwarm) -> None:
    number = "swarm/primitives/version.py"
    file = swarm.pack(2, {number: lambda text: text.replace('VERSION: Final = "', 'VERSION: Final = "2-')})
    done = swarm.roll_out(file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert versions(swarm) == dict.fromkeys(DEVICES, 2)
    (plan,) = swarm.status()["plans"]
    assert plan["state"] == "completed"
    stages = [stage for stage in plan["stages"] if stage["members"]]
    assert len(stages) == 4, "one voter after the other"
    for device in swarm.devices.values():
        assert [event["boot"] for event in device.happened("started")] == [1, 2]
        assert device.words.count("trial, attempt 1") == 1
        assert len(device.told("confirmed")) == 1
        (copied,) = device.told("copied")
        assert copied["chunks"] > 10, "what both versions have in common is not fetched"
    decide(swarm)


def _broken_version_3(swarm: FirmwareSwarm) -> None:
    thermostat = "swarm/behaviours/thermostat.py"
    file = swarm.pack(3, {thermostat: lambda text: text + SICK})
    before = {id: device.height for id, device in swarm.devices.items()}
    done = swarm.roll_out(file)
    assert done.returncode == 1, done.stdout + done.stderr
    swarm.until(lambda: set(versions(swarm).values()) == {2})
    plan = swarm.status()["plans"][-1]
    assert plan["state"] == "frozen"
    (stage,) = [stage for stage in plan["stages"] if stage["members"]]
    ((canary, member),) = [(m["device"], m) for m in stage["members"]]
    assert plan["halted_by"] == f"failed:{canary}"
    assert member["reason"] == "no-sensor"
    tried = {id: device.words.count("slot a, trial") for id, device in swarm.devices.items()}
    assert tried == {id: int(id == canary) for id in DEVICES}, "nobody else started it"
    (failed,) = [event for event in swarm.devices[canary].told("self-test") if not event["passed"]]
    assert failed["reason"] == "no-sensor"
    # The log went on while the canary was away, and goes on.
    decide(swarm)
    swarm.until(lambda: all(device.height > before[id] + 4 for id, device in swarm.devices.items()))
