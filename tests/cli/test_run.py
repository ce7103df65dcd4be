"""`swarm run`: exit codes, where the result goes, and what is left after Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

from tests.support.commands import command_line, swarm, swarm_process

GREENHOUSE = Path("configs/scenarios/greenhouse.yaml")
SHORT = """
name: short
description: one decision a second
seed: 3
duration: 4s
devices: {voters: 4, behaviour: {kind: thermostat, mean: 21.0}}
workload: [{every: 1s, decide: {subject: temperature, rule: median, scale: 1, deadline: 1s}}]
"""


def written(folder: Path, more: str = "") -> Path:
    path = folder / "short.yaml"
    path.write_text(SHORT + more, encoding="utf-8")
    return path


def test_a_run_that_holds_is_exit_0_and_names_the_next_step(tmp_path: Path) -> None:
    done = swarm("run", written(tmp_path), "--out", tmp_path / "out", "--json", tmp_path / "result.json")
    assert done.code == 0, done.err
    assert "Everything held." in done.out
    assert "check a proof offline: swarm verify" in done.out
    assert (tmp_path / "result.json").read_bytes() == (tmp_path / "out" / "result.json").read_bytes()


def test_a_target_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    done = swarm("run", written(tmp_path), "--json", tmp_path / "no" / "x.json")
    assert (done.code, done.out) == (2, "")
    assert done.error_line == f"--json: there is no folder {tmp_path / 'no'}"


def test_json_may_stand_in_the_folder_of_the_run(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert swarm("run", written(tmp_path), "--out", out, "--json", out / "again.json").code == 0
    assert (out / "again.json").read_bytes() == (out / "result.json").read_bytes()


def test_a_broker_needs_the_engine_that_uses_one(tmp_path: Path) -> None:
    done = swarm("run", written(tmp_path), "--broker", "mqtt://127.0.0.1:1")
    assert (done.code, done.error_line) == (2, "--broker: needs --engine mqtt")


def test_json_to_stdout_is_json_alone(tmp_path: Path) -> None:
    done = swarm("run", written(tmp_path), "--json", "-")
    assert json.loads(done.out)["scenario"] == "short"
    assert "Everything held." in done.err


def test_an_expectation_that_fails_is_exit_1_with_the_line_that_replays_it(tmp_path: Path) -> None:
    done = swarm("run", written(tmp_path, "expect: {committed_min: 9999}\n"), "--seed", 8)
    assert done.code == 1
    assert "replay exactly this run: swarm run" in done.out
    assert "--seed 8" in done.out


def test_a_misspelt_key_is_one_line_with_its_place(tmp_path: Path) -> None:
    done = swarm("run", written(tmp_path, "fautls: []\n"))
    assert done.code == 2
    assert done.error_line == (
        f"{tmp_path}/short.yaml:8: fautls: unknown key 'fautls' (did you mean 'faults'?)"
    )


def test_a_misspelt_option_of_a_behaviour_names_the_file_and_its_key(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(SHORT.replace("mean:", "maen:"), encoding="utf-8")
    done = swarm("run", path)
    assert done.code == 2
    assert done.error_line.startswith(f"{path}:6: devices.behaviour.maen: unknown option 'maen'")


def test_a_behaviour_of_one_device_names_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    each = "\n  voters: 4\n  behaviour: {kind: thermostat, mean: 21.0}\n  each:\n    dev-3:\n      behaviour:\n        lei: 40.0"
    path.write_text(SHORT.replace(" {voters: 4, behaviour: {kind: thermostat, mean: 21.0}}", each), "utf-8")
    assert swarm("run", path).error_line.startswith(f"{path}:12: devices.each.dev-3.behaviour.lei: unknown")


def test_a_broker_needs_its_engine(tmp_path: Path) -> None:
    done = swarm("run", written(tmp_path), "--broker", "mqtt://127.0.0.1:1")
    assert (done.code, "--engine mqtt" in done.err) == (2, True)


def test_a_second_run_leaves_no_proof_of_the_first_beside_its_genesis(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert swarm("run", written(tmp_path), "--out", out).code == 0
    first = {path.name for path in (out / "proofs").iterdir()}
    path = written(tmp_path)
    path.write_text(SHORT.replace("subject: temperature", "subject: humidity"), encoding="utf-8")
    assert swarm("run", path, "--out", out).code == 0
    assert first.isdisjoint(path.name for path in (out / "proofs").iterdir())


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = subprocess.Popen(
        command_line("run", GREENHOUSE, "--duration", "30m", "--out", out),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stderr is not None
        first = running.stderr.readline()
        running.send_signal(signal.SIGINT)
        rest = running.communicate(timeout=30)[1]
    finally:
        running.kill()
        running.wait()
    assert first.startswith("greenhouse: running")
    assert running.returncode == 130
    assert "Traceback" not in rest
    assert f"interrupted, nothing judged; what happened so far lies in {out}/trace/events.jsonl" in rest
    lines = (out / "trace" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 50
    assert all(json.loads(line) for line in lines)


def test_the_command_works_as_a_process(tmp_path: Path) -> None:
    assert swarm_process("run", written(tmp_path)).code == 0
