"""`make demo`: what it shows, what it leaves on the disk, and that it leaves nothing running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.cli.demo import GREENHOUSE
from swarm.lab.scenario.parse import load_scenario
from swarm.lab.scenario.schema import check_engine
from tests.support.processes import all_gone, children_of, kill_all, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.broker]

SCENARIO = """
name: small
description: a small greenhouse
duration: {duration}
devices:
  voters: 4
  behaviour: {{kind: thermostat, mean: 21.0, noise: 0.4}}
  each: {{dev-3: {{behaviour: {{kind: thermostat, lie: 40.0}}}}}}
network: {{latency: {{median: 2ms, p99: 8ms}}}}
faults:
  - {{at: 1500ms, crash: [dev-1]}}
  - {{at: 2500ms, restart: [dev-1]}}
workload:
  - {{every: 250ms, decide: {{subject: temperature, rule: median, scale: 2, deadline: 1s}}}}
expect: {{decisions: {{temperature: {{min: 19, max: 23, closed_min: 3}}}}}}
"""


def start(folder: Path, *, duration: str, parent: str = "", make: bool = False) -> subprocess.Popen[str]:
    scenario = folder / "small.yaml"
    scenario.write_text(SCENARIO.format(duration=duration))
    words = [
        sys.executable,
        "-m",
        "swarm.cli.demo",
        "--scenario",
        str(scenario),
        "--runs",
        str(folder / "runs"),
    ]
    # What a killed run cannot tidy up goes away with the test's own folder.
    environment = {**os.environ, "TMPDIR": str(folder)}
    environment.pop("MAKELEVEL", None)
    if make:
        environment["MAKELEVEL"] = "1"
    return subprocess.Popen(
        [sys.executable, "-c", parent, *words] if parent else words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )


@pytest.fixture
def long_demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with start(tmp_path, duration="60s") as demo:
        try:
            yield demo
        finally:
            kill_all((*children_of(demo.pid), demo.pid))


def all_started(demo: int) -> tuple[int, ...]:
    assert wait_until(lambda: len(children_of(demo)) == 5, 20), "a broker and four workers"
    return children_of(demo)


def test_the_demonstration_names_the_liar_and_shows_a_proof(tmp_path: Path) -> None:
    (tmp_path / "runs" / "demo-1").mkdir(parents=True)
    with start(tmp_path, duration="5s") as demo:
        shown, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0, shown
    folder = tmp_path / "runs" / "demo-2"
    assert "it says 40 because it lies" in shown
    assert "dev-1 was killed at 1500ms." in shown
    assert "dev-1 came back with its store at 2500ms." in shown
    assert "PROVED for swarm small" in shown
    assert "REJECTED" in shown
    assert shown.splitlines()[-1].endswith("no process left behind")
    result = json.loads((folder / "result.json").read_text())
    proof = folder / next(row["proof"] for row in reversed(result["decisions"]) if row["proof"])
    for path in (folder / "result.json", proof, folder / "genesis.json"):
        assert str(path) in shown
    again = subprocess.run(
        [
            sys.executable,
            "-m",
            "swarm.cli.main",
            "verify",
            str(proof),
            "--genesis",
            str(folder / "genesis.json"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert "PROVED" in again.stdout


def test_ctrl_c_ends_everything(long_demo: subprocess.Popen[str]) -> None:
    pids = all_started(long_demo.pid)
    os.killpg(long_demo.pid, signal.SIGINT)
    shown, _ = long_demo.communicate(timeout=10)
    assert long_demo.returncode == 130
    assert "Traceback" not in shown
    assert shown.splitlines()[-1] == "interrupted; no process left behind"
    assert all_gone(pids, 0.0)


def test_sigkill_ends_everything(long_demo: subprocess.Popen[str]) -> None:
    pids = all_started(long_demo.pid)
    long_demo.kill()
    assert all_gone(pids, 5.0)


def test_it_ends_with_a_make_that_is_killed(tmp_path: Path) -> None:
    make = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    with start(tmp_path, duration="60s", parent=make, make=True) as parent:
        pids: tuple[int, ...] = ()
        try:
            assert wait_until(lambda: len(children_of(parent.pid)) == 1, 20)
            (demo,) = children_of(parent.pid)
            pids = (demo, *all_started(demo))
            parent.kill()
            assert all_gone(pids, 5.0)
        finally:
            kill_all((parent.pid, *pids))


def test_a_scenario_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: 7\n")
    words = ["--scenario", str(tmp_path / "bad.yaml"), "--runs", str(tmp_path / "runs")]
    done = subprocess.run(
        [sys.executable, "-m", "swarm.cli.demo", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_the_greenhouse_lies_where_the_demonstration_looks_for_it() -> None:
    scenario = load_scenario(GREENHOUSE)
    check_engine(scenario, "mqtt")
    assert len(scenario.faults) == 2
