"""`swarm bench` as a user runs it: every figure, no process left, one line for a mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swarm.lab.bench.measure import SECONDS_DEFAULT, SECONDS_MAX, SECONDS_MIN, Shares, measure
from swarm.lab.bench.primitives import ask_broker_kind
from swarm.primitives.errors import ConfigError, TransportError
from tests.support.brokers import MosquittoBroker, broker_url, free_port
from tests.support.commands import ROOT

__all__ = ["broker_url"]

COMMAND = [sys.executable, "-m", "swarm.cli.main", "bench"]
PATIENCE_S = 120


def processes_below(folder: Path) -> list[str]:
    """Return the command lines of processes whose folder for temporary files is `folder`."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and process.name != str(os.getpid()):
            try:
                environment = (process / "environ").read_bytes().split(b"\0")
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if f"TMPDIR={folder}".encode() in environment:
                found.append(command.replace(b"\0", b" ").decode())
    return found


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}


@pytest.mark.broker
@pytest.mark.processes
@pytest.mark.slow
def test_a_tiny_run_has_every_figure_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    target = tmp_path / "bench.json"
    done = subprocess.run(
        [*COMMAND, "--seconds", "4", "--json", str(target)],
        env=environment(tmp_path / "temporary"),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    data = json.loads(target.read_text())
    assert data["broker"]["kind"] == "embedded"
    assert data["broker"]["url"].startswith("mqtt://127.0.0.1:")
    positive = (
        *data["primitives"].values(),
        *data["bare_loop"].values(),
        *data["commit"].values(),
        *data["simulator"].values(),
        data["agent"]["rss_mb"],
        *data["agent"]["restart_s_at_entries"].values(),
    )
    assert all(figure > 0 for figure in positive), data
    assert data["commit"]["devices"] == 4
    assert data["commit"]["low_load_p50_ms"] <= data["commit"]["low_load_p99_ms"]
    assert "bare loops (p50)" in done.stdout
    assert "bench:  35% 64 submissions of one command" in done.stderr
    assert list((tmp_path / "temporary").iterdir()) == []
    assert processes_below(tmp_path / "temporary") == []


@pytest.mark.broker
@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", ["bare loop", "one submission at a time"])
def test_an_interrupt_leaves_no_process_and_no_file(
    tmp_path: Path, number: signal.Signals, step: str
) -> None:
    with subprocess.Popen(
        COMMAND, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if step in line:
                break
        time.sleep(0.2)  # into the step, wherever that is
        running.send_signal(number)
        rest = running.stderr.read()
        assert running.wait(PATIENCE_S) == 128 + number, rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []
    assert processes_below(tmp_path) == []


@pytest.mark.parametrize("seconds", [SECONDS_MIN, 5.0, SECONDS_DEFAULT, SECONDS_MAX])
def test_progress_rises_to_one_however_short_the_run_is(seconds: float) -> None:
    shares = Shares(seconds)
    done = [shares.done_after(steps) for steps in range(7)]
    assert done == sorted(set(done))
    assert (done[0], done[6]) == (0.0, 1.0)


async def test_a_broker_that_is_not_there_is_named() -> None:
    port = free_port()
    with pytest.raises(TransportError, match=f"no broker at mqtt://127.0.0.1:{port}"):
        await measure(f"mqtt://127.0.0.1:{port}", seconds=SECONDS_MIN)


@pytest.mark.parametrize("seconds", [0.0, -1.0, SECONDS_MAX + 1, float("nan")])
async def test_a_time_that_measures_nothing_is_the_users_mistake(seconds: float) -> None:
    with pytest.raises(ConfigError, match="cannot measure"):
        await measure(None, seconds=seconds)


async def test_a_url_that_is_none_is_the_users_mistake() -> None:
    with pytest.raises(ConfigError, match="--broker"):
        await measure("http://127.0.0.1", seconds=SECONDS_MIN)


@pytest.mark.broker
async def test_mosquitto_tells_its_version(tmp_path: Path) -> None:
    mosquitto = MosquittoBroker(tmp_path).start()
    try:
        assert (await ask_broker_kind(mosquitto.url)).startswith("mosquitto ")
    finally:
        mosquitto.stop()


async def test_who_says_nothing_is_unknown() -> None:
    assert await ask_broker_kind(f"mqtt://127.0.0.1:{free_port()}") == "unknown"
