"""`swarm agent` as a process: what it loads, what it says without a broker, how it ends."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests.support.agents import PATIENCE_S, write_device
from tests.support.commands import ROOT, command_line, modules_after, swarm
from tests.support.swarms import make_genesis

pytestmark = pytest.mark.processes

GENESIS = make_genesis(4)
URL = "mqtt://127.0.0.1:1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_device(tmp_path, GENESIS, "dev-0", URL)


def lines_until_stopped(
    path: Path, wait_for: str, stop: signal.Signals, *options: str
) -> tuple[int, str, str]:
    """Start the agent, wait for words on stderr, send `stop`; return exit code, stdout and stderr."""
    with Popen(
        command_line("agent", path, *options), cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True
    ) as process:
        assert process.stderr is not None
        heard = ""
        try:
            while wait_for not in heard:
                line = process.stderr.readline()
                assert line, f"the agent ended: {heard}"
                heard += line
            process.send_signal(stop)
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    return process.returncode, out, heard + err


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_without_a_broker_it_says_so_once_and_ends_in_order(path: Path, stop: signal.Signals) -> None:
    code, out, err = lines_until_stopped(path, "cannot be reached", stop)
    assert code == 0
    assert out == f"dev-0 of test: voter; {GENESIS.budget.in_words()}\n"
    assert err.count("\n") == 1
    assert err.startswith("dev-0 of test: the broker cannot be reached: ")
    assert err.endswith("; trying again\n")


def test_events_as_json(path: Path) -> None:
    code, out, err = lines_until_stopped(path, "cannot be reached", signal.SIGTERM, "--json-events")
    assert code == 0
    events = [json.loads(line) for line in out.splitlines()]
    assert {"started", "link"} <= {event["event"] for event in events}
    started = next(event for event in events if event["event"] == "started")
    assert (started["boot"], started["height"]) == (1, 0)
    assert GENESIS.budget.in_words() in err


def test_every_line_is_an_object(path: Path) -> None:
    code, out, err = lines_until_stopped(path, "cannot be reached", signal.SIGTERM, "--log-json")
    assert (code, out) == (0, "")
    lines = [json.loads(line) for line in err.splitlines()]
    assert [line["level"] for line in lines] == ["info", "warning"]
    assert lines[0]["message"] == f"dev-0 of test: voter; {GENESIS.budget.in_words()}"
    assert lines[1]["message"].startswith("dev-0 of test: the broker cannot be reached: ")


def test_the_level_filters_what_goes_as_it_should(path: Path) -> None:
    code, out, err = lines_until_stopped(
        path, "cannot be reached", signal.SIGTERM, "--log-level", "warning", "--json-events", "--log-json"
    )
    assert code == 0
    assert all("event" in json.loads(line) for line in out.splitlines())
    assert [json.loads(line)["level"] for line in err.splitlines()] == ["warning"]


def test_a_running_agent_has_loaded_neither_lab_nor_numpy_nor_a_broker(path: Path) -> None:
    """A device pays in memory for every module; help or an import alone would prove nothing."""
    words = ["agent", str(path)]
    code = f"""
import os, signal, threading
from swarm.agent.lines import Announcer
on_link = Announcer.on_link
def stop_when_told(self, state):
    on_link(self, state)
    os.kill(os.getpid(), signal.SIGTERM)
Announcer.on_link = stop_when_told
sys.argv = ["swarm", *{words!r}]
from swarm.cli.main import main
try:
    main()
except SystemExit as stop:
    assert stop.code == 0, stop.code
"""
    loaded = modules_after(code)
    assert "swarm.agent.agent" in loaded
    assert "aiomqtt" in loaded
    unwanted = ("swarm.lab", "numpy", "iotcore", "matplotlib", "rich.progress")
    assert [name for name in loaded if name.startswith(unwanted)] == []


def test_a_mistake_is_one_line_and_two(path: Path) -> None:
    path.write_text(path.read_text().replace("dev-0.key", "dev-1.key"))
    done = swarm("agent", path)
    assert (done.code, done.out) == (2, "")
    assert "no such key file" in done.error_line


def test_a_missing_store_is_two_with_the_way_out(path: Path) -> None:
    (path.parent / "dev-0.sqlite").unlink()
    done = swarm("agent", path)
    assert (done.code, done.out) == (2, "")
    assert "dev-0.sqlite" in done.error_line
