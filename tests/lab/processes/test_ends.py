"""However a run ends, no process of it is left: Ctrl-C, SIGTERM, SIGKILL, and a worker whose input ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.lab.processes.run import FOLDER_PREFIX
from swarm.lab.processes.scratch import remove_orphans
from tests.support.processes import all_gone, children_of, is_gone, kill_all, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.broker]

SCENARIO = """
name: ends
duration: 60s
devices: {voters: 4, behaviour: {kind: thermostat, noise: 0.4}}
workload:
  - {every: 500ms, decide: {subject: temperature, rule: median, scale: 2, deadline: 2s}}
"""

PROGRAM = """
import sys
from pathlib import Path
from swarm.lab.processes.run import run_mqtt
from swarm.lab.scenario.parse import parse_scenario

scenario = parse_scenario(Path(sys.argv[1]).read_text(), "ends.yaml")
told = []

def tell(progress):
    if progress.closed and not told:
        told.append(print("decided", flush=True))

run_mqtt(scenario, version="0", on_progress=tell)
"""


class Run:
    """A program with a run in it, in a session of its own, and all processes that it started."""

    def __init__(self, folder: Path) -> None:
        file = folder / "ends.yaml"
        file.write_text(SCENARIO)
        temporary = folder / "tmp"
        temporary.mkdir()
        self.temporary = temporary
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": str(temporary)},
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"decided\n"
        self.pids = children_of(self.process.pid)

    def end(self) -> None:
        kill_all((self.process.pid, *self.pids))
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    try:
        assert len(run.pids) == 5, "a broker and four workers"
        yield run
    finally:
        run.end()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_everything_in_order(running: Run, number: signal.Signals, code: int) -> None:
    os.killpg(running.process.pid, number)
    assert running.process.wait(10) == code
    assert all(is_gone(pid) for pid in running.pids), "all were gone before the program was"
    assert list(running.temporary.iterdir()) == [], "keys and stores are gone too"


def test_sigkill_of_the_supervisor_leaves_no_process(running: Run) -> None:
    # The first worker reads nothing any more; the kernel ends it all the same. The broker was started last.
    os.kill(running.pids[0], signal.SIGSTOP)
    running.process.kill()
    running.process.wait()
    assert all_gone(running.pids, 5.0)
    # Nobody was left to remove keys and stores; whoever runs next does it, and no sooner than its owner is gone.
    assert len(list(running.temporary.iterdir())) == 1
    remove_orphans(running.temporary, FOLDER_PREFIX)
    assert list(running.temporary.iterdir()) == []


def test_a_run_that_goes_on_keeps_its_folder(running: Run) -> None:
    remove_orphans(running.temporary, FOLDER_PREFIX)
    assert len(list(running.temporary.iterdir())) == 1


def worker(supervisor: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "swarm.lab.processes.worker", str(supervisor)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_worker_ends_at_the_end_of_its_input() -> None:
    with worker(os.getpid()) as process:
        out, err = process.communicate(b"", timeout=10)
        assert (process.returncode, out, err) == (0, b"", b"")


def test_a_worker_whose_supervisor_is_somebody_else_ends_at_once() -> None:
    with worker(os.getppid()) as process:
        assert wait_until(lambda: process.poll() is not None, 10), "it has an orphan's parent and stays"
        assert process.returncode == 0


def test_a_command_that_is_none_is_reported_as_a_bug() -> None:
    with worker(os.getpid()) as process:
        out, _ = process.communicate(b'{"is":"dance"}\n', timeout=10)
        assert process.returncode == 2
        assert b'"kind":"InvariantError"' in out
