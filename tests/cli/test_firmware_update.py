"""The real thing: agents under their launchers update themselves, by the commands and lines that `swarm init` prints.

Four devices in folders of their own, over a broker on this machine. A broken release 2 is tried by one canary, which
comes back by itself, and the fleet stands still; a good release 3 is fetched from the operator and from each other.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarm.transport.broker import EmbeddedBroker
from tests.support.commands import ROOT, Done, swarm

pytestmark = [pytest.mark.broker, pytest.mark.processes]

PATIENCE_S = 180.0
QUICK = ("--soak", "200ms", "--deadline", "60s", "--trial", "30s")
DEVICES = 4


class Fleet:
    """Devices under launchers, started by the printed lines, ended by their numbers."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.folder = folder
        done = swarm("init", folder, "--devices", DEVICES, "--firmware", "2/3", "--broker", broker)
        assert done.code == 0, done.err
        lines = [line for line in done.out.splitlines() if "launch.pyz --root" in line]
        assert len(lines) == DEVICES
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.launchers = []
        for number, line in enumerate(lines):
            words = [sys.executable, *shlex.split(line)[1:]]
            with (folder / f"dev-{number}.log").open("w") as log:
                self.launchers.append(
                    subprocess.Popen(
                        words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=ROOT
                    )
                )

    @property
    def operator(self) -> Path:
        return self.folder / "operator" / "operator.yaml"

    def firmware(self, *words: object) -> Done:
        return swarm("firmware", *words, "--as", self.operator)

    def state(self) -> dict[str, Any]:
        done = self.firmware("status", "--json", "-")
        assert done.code == 0, done.err
        return dict(json.loads(done.out))

    def wait_for_reports(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            done = self.firmware("status", "--json", "-")
            if done.code == 0 and len(json.loads(done.out)["devices"]) == DEVICES:
                return
            time.sleep(0.2)
        raise AssertionError(self.logs())

    def release(self, number: int, first_line: str) -> Path:
        """Pack what dev-0 started from with another first line, propose it and have it approved."""
        program = self.folder / f"program-{number}"
        shutil.copytree(self.folder / "dev-0" / "install" / "slots" / "a", program)
        main = program / "__main__.py"
        main.write_text(f"{first_line}\n{main.read_text()}")
        out = self.folder / f"{number}.swfw"
        keys = [w for n in (0, 2) for w in ("--key", self.folder / "release" / f"release-{n}.key")]
        packed = swarm(
            "firmware", "pack", program, "--genesis", self.folder / "genesis.json", "--number", number,
            "--version", f"0.{number}.0", "--out", out, *keys,
        )  # fmt: skip
        assert packed.code == 0, packed.err
        for words in (("propose", out), ("approve", number)):
            done = self.firmware(*words)
            assert done.code == 0, done.err
        return out

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("dev-*.log")))

    def stop(self) -> None:
        for process in self.launchers:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.launchers:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with EmbeddedBroker() as broker, contextlib.ExitStack() as stack:
        made = Fleet(tmp_path / "fleet", broker.url)
        stack.callback(made.stop)
        yield made


def test_a_fleet_refuses_a_broken_release_and_takes_a_good_one(fleet: Fleet) -> None:
    fleet.wait_for_reports()

    broken = fleet.firmware("rollout", fleet.release(2, "raise SystemExit(1)"), *QUICK)
    assert broken.code == 1, broken.out + fleet.logs()
    canary = re.search(r"is frozen by failed:(dev-\d)", broken.err)
    assert canary is not None, broken.err
    state = fleet.state()
    assert {device["number"] for device in state["devices"].values()} == {1}
    assert state["devices"][canary[1]]["result"] == "reverted"
    assert state["at_risk"] == []
    # The log goes on meanwhile.
    assert swarm("submit", "hello", "--as", fleet.operator).code == 0
    assert fleet.firmware("abandon").code == 0

    good = fleet.firmware("rollout", fleet.release(3, "# a better one"), *QUICK)
    assert good.code == 0, good.out + good.err + fleet.logs()
    assert "is completed: number 3 is out" in good.out
    assert "; served " in good.err
    state = fleet.state()
    for device in state["devices"].values():
        assert (device["number"], device["version"], device["confirmed"]) == (3, "0.3.0", True)
    for number in range(DEVICES):
        slots = fleet.folder / f"dev-{number}" / "install"
        running = (slots / "current" / "__main__.py").read_text()
        assert running.startswith("# a better one")

    history = fleet.firmware("history", canary[1])
    assert history.code == 0
    assert "reverted (attempts-used-up)" in history.out
    assert swarm("submit", "again", "--as", fleet.operator).code == 0
