"""The section `firmware` of an agent.yaml, and the agent that it makes under a launcher and without one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from swarm.agent.agent import Agent
from swarm.agent.build import build_agent
from swarm.agent.config import load_agent_config, parse_agent_config
from swarm.device.firmware.policy import Firmware, FirmwarePolicy
from swarm.install.filesystem import RealFileSystem
from swarm.install.identity import class_id, vendor_id
from swarm.install.lifeline import Lifeline
from swarm.install.setup import set_up
from swarm.primitives.errors import ConfigError
from tests.agent.test_config import AGENT
from tests.support.agents import write_device
from tests.support.install import directory_release
from tests.support.rollouts import make_rollout_genesis
from tests.support.swarms import make_genesis

WHOLE = "firmware: {backend: directory, root: install, vendor: acme.example, class: gateway"


def settings(line: str) -> Any:
    config = parse_agent_config(AGENT + line + "\n", "fleet/dev-0/agent.yaml")
    assert config.firmware is not None
    return config.firmware


def refusal(line: str) -> str:
    with pytest.raises(ConfigError) as caught:
        settings(line)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix("fleet/dev-0/agent.yaml:6: ")


def test_a_section_with_its_defaults() -> None:
    found = settings(f"{WHOLE}}}")
    vendor = vendor_id("acme.example")
    assert found.root == Path("fleet/dev-0/install")
    assert found.firmware == Firmware(class_id=vendor + class_id(vendor, "gateway"))
    assert found.firmware.policy == FirmwarePolicy(approve=1, obey_halt=True)


def test_everything_that_may_be_said() -> None:
    found = settings(f"{WHOLE}, approve: auto, obey_halt: false, chunk_rate: 1MiB/s}}")
    assert found.policy == FirmwarePolicy(approve="auto", obey_halt=False)
    assert found.firmware.chunk_bytes_per_s == 1024 * 1024
    assert settings("firmware: {backend: directory, vendor: a.example, class: b, approve: 3}").root is None


def test_a_file_without_the_section_means_no_firmware() -> None:
    assert parse_agent_config(AGENT, "agent.yaml").firmware is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("firmware: {vendor: a.example, class: b}", "firmware.backend: is missing"),
        ("firmware: {backend: rauc, vendor: a.example, class: b}", "firmware.backend: "),
        ("firmware: {backend: directory, class: b}", "firmware.vendor: is missing"),
        ("firmware: {backend: directory, vendor: a.example}", "firmware.class: is missing"),
        (
            "firmware: {backend: directory, vendor: Acme, class: b}",
            "firmware.vendor: 'Acme' has capital letters",
        ),
        ("firmware: {backend: directory, vendor: a.example, class: a b}", "firmware.class: "),
        (f"{WHOLE}, approve: 0}}", "firmware.approve: must be auto or 1 to"),
        (f"{WHOLE}, approve: true}}", "firmware.approve: must be auto or a number of operators"),
        (f"{WHOLE}, approve: all}}", "firmware.approve: must be auto or a number of operators"),
        (f"{WHOLE}, obey_halt: sometimes}}", "firmware.obey_halt: "),
        (f"{WHOLE}, chunk_rate: 1}}", "firmware.chunk_rate: "),
        (f"{WHOLE}, chunk_rate: 100B/s}}", "firmware.chunk_rate: "),
        (f"{WHOLE}, chunk_rate: 9999999MiB/s}}", "firmware.chunk_rate: "),
        (f"{WHOLE}, chunks: 3}}", "firmware.chunks: unknown key"),
        (
            'firmware: {backend: directory, root: "", vendor: a.example, class: b}',
            "firmware.root: must be a path",
        ),
        ("firmware: yes please", "firmware: "),
    ],
)
def test_every_mistake_names_its_key(line: str, words: str) -> None:
    assert refusal(line).startswith(words)


# ------------------------------------------------------------------------------------------ building


def outfit(folder: Path, *, rollout: bool = True, line: str = f"{WHOLE}}}") -> Path:
    """Make a device's folder with slots; returns its agent.yaml."""
    genesis = make_rollout_genesis() if rollout else make_genesis(4)
    path = write_device(folder, genesis, "dev-0", "mqtt://127.0.0.1:1883")
    path.write_text(path.read_text() + line + "\n")
    root = path.parent / "install"
    root.mkdir()
    release = directory_release(1)
    set_up(RealFileSystem(), str(root), release.plan, release.data)
    return path


@contextmanager
def lifeline(root: Path) -> Iterator[Lifeline]:
    read_end, write_end = os.pipe()
    line = Lifeline(write_end, str(root), "a")
    try:
        yield line
    finally:
        os.close(read_end)
        line.close()


def built(path: Path, line: Lifeline | None = None) -> Agent:
    return build_agent(load_agent_config(path), source=str(path), random=lambda: 0.5, lifeline=line)


def test_under_a_launcher_the_agent_has_its_slots(tmp_path: Path) -> None:
    path = outfit(tmp_path)
    with lifeline(path.parent / "install") as line:
        agent = built(path, line)
        assert agent.device.keeper is not None
        assert agent._machine._installer is not None
        assert agent._machine._installer.backend.status().running.number == 1
        agent._store.close()


def test_without_a_launcher_it_votes_and_has_no_slots(tmp_path: Path) -> None:
    agent = built(outfit(tmp_path))
    assert agent.device.keeper is not None
    assert agent._machine._installer is None
    agent._store.close()


def test_a_root_that_is_not_the_launchers_is_refused(tmp_path: Path) -> None:
    path = outfit(tmp_path)
    with (
        lifeline(tmp_path) as line,
        pytest.raises(ConfigError, match="is not where the launcher's slots are") as caught,
    ):
        built(path, line)
    assert caught.value.where == f"{path}: firmware.root"


def test_a_swarm_without_release_keys_takes_no_firmware(tmp_path: Path) -> None:
    path = outfit(tmp_path, rollout=False)
    with pytest.raises(ConfigError, match="genesis has no release keys"):
        built(path)


def test_without_the_section_a_swarm_with_release_keys_has_devices_that_are_not_updated(
    tmp_path: Path,
) -> None:
    agent = built(outfit(tmp_path, line=""))
    assert agent.device.keeper is None
    assert not agent._machine._has_self_test
    agent._store.close()
