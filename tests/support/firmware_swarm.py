"""A swarm of real agent processes under real launchers: made by `swarm init`, updated by `swarm firmware`."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.commands import ROOT, command_line

DEVICES = tuple(f"dev-{number}" for number in range(4))
PATIENCE_S = 180.0
ROLLOUT_S = 240.0
"""Four stages, each with a soak of a second and then a heartbeat of whoever was confirmed: some fifty seconds."""


@dataclass
class Installed:
    """One device's folder and the launcher that runs it."""

    id: str
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> Path:
        return self.folder / "events.jsonl"

    def start(self) -> None:
        """Start the launcher with nothing but the standard library, as a supervisor would."""
        agent = ["agent", str(self.folder / "agent.yaml"), "--json-events"]
        root = str(self.folder / "install")
        command = [sys.executable, "-I", str(self.folder / "launch.pyz"), "--root", root, "--pause-ms", "200"]
        with self.output.open("ab") as out, (self.folder / "errors.txt").open("ab") as errors:
            self.process = subprocess.Popen(
                [*command, "--", *agent], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=errors
            )

    def stop(self) -> None:
        """End the launcher, and with it the agent."""
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def happened(self, kind: str) -> list[dict[str, Any]]:
        """Return every event of one kind, of all starts so far, in order."""
        lines = self.output.read_text(encoding="utf-8").splitlines() if self.output.exists() else []
        events = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [event for event in events if event["event"] == kind]

    def told(self, what: str) -> list[dict[str, Any]]:
        return [event for event in self.happened("firmware") if event["what"] == what]

    @property
    def height(self) -> int:
        return max((event["height"] for event in self.happened("finalized")), default=0)

    @property
    def words(self) -> str:
        return (self.folder / "errors.txt").read_text(encoding="utf-8")


@dataclass
class FirmwareSwarm:
    """Folder, broker and devices."""

    folder: Path
    devices: dict[str, Installed] = field(default_factory=dict)

    @property
    def operator(self) -> Path:
        return self.folder / "operator" / "operator.yaml"

    def run(self, *words: object, timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        """Run `swarm WORDS` to the end."""
        return subprocess.run(
            command_line(*words), cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def ask(self, *words: object) -> str:
        """Run `swarm WORDS` as the operator; it must go well."""
        done = self.run(*words, "--as", self.operator)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def pack(self, number: int, changes: dict[str, Callable[[str], str]]) -> Path:
        """Make a release of what dev-0 runs, with some files changed, signed by two keys and approved."""
        image = self.folder / f"image-{number}"
        shutil.copytree(self.folder / "dev-0" / "install" / "slots" / self.slot("dev-0"), image)
        for name, change in changes.items():
            path = image / name
            text = path.read_text(encoding="utf-8")
            changed = change(text)
            assert changed != text, f"{name} of the release is as before"
            path.write_text(changed, encoding="utf-8")
        file = self.folder / f"{number}.swfw"
        keys = [self.folder / "release" / f"release-{index}.key" for index in (0, 1)]
        done = self.run(
            *("firmware", "pack", image, "--genesis", self.folder / "operator" / "genesis.json"),
            *("--number", number, "--version", f"{number}.0.0", "--out", file),
            *("--key", keys[0], "--key", keys[1]),
        )
        assert done.returncode == 0, done.stderr
        self.ask("firmware", "propose", file)
        self.ask("firmware", "approve", str(number))
        return file

    def roll_out(self, file: Path) -> subprocess.CompletedProcess[str]:
        """Plan the rollout and watch it to its end, serving the image meanwhile."""
        return self.run(
            *("firmware", "rollout", file, "--as", self.operator, "--soak", "1s", "--deadline", "90s"),
            *("--trial", "30s", "--hold-back", "0"),
            timeout_s=ROLLOUT_S,
        )

    def status(self) -> dict[str, Any]:
        out = self.folder / "status.json"
        self.ask("firmware", "status", "--json", out)
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return found

    def slot(self, device: str) -> str:
        """Return the slot that is selected on a device."""
        return (self.folder / device / "install" / "current").readlink().name

    def seal(self, device: str) -> dict[str, Any]:
        """Return what the selected slot of a device was sealed as."""
        data = (self.folder / device / "install" / "slots" / f"{self.slot(device)}.sealed").read_bytes()
        found: dict[str, Any] = json.loads(data[40:])
        return found

    def until(self, what: Callable[[], object], *, within_s: float = PATIENCE_S) -> None:
        """Wait until something holds; fail with every device's words when it does not in time."""
        end = time.monotonic() + within_s
        while not what():
            if time.monotonic() > end:
                said = "\n".join(f"{id}: {device.words}" for id, device in self.devices.items())
                raise AssertionError(f"waited in vain\n{said}")
            time.sleep(0.05)


@contextmanager
def firmware_swarm(folder: Path, url: str) -> Iterator[FirmwareSwarm]:
    """Run four devices from sealed slots; every launcher is ended at the end of the block."""
    swarm = FirmwareSwarm(folder)
    done = swarm.run("init", folder, "--devices", 4, "--firmware", "2/3", "--broker", url, "--name", "real")
    assert done.returncode == 0, done.stderr
    swarm.devices = {id: Installed(id, folder / id) for id in DEVICES}
    try:
        for device in swarm.devices.values():
            device.start()
        yield swarm
    finally:
        for device in swarm.devices.values():
            device.stop()
