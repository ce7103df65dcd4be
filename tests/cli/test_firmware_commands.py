"""`swarm firmware propose` to `consent` against running agents whose firmware is played by puppets."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import ROOT, command_line, swarm
from tests.support.puppet_swarm import PuppetSwarm, puppet_swarm

pytestmark = [pytest.mark.broker, pytest.mark.processes]

PATIENCE_S = 180.0
"""After this a test has failed; alone on the machine nothing takes a tenth of it."""

QUICK = ("--soak", "50ms", "--deadline", "60s", "--trial", "5s")


@pytest.fixture(scope="module")
def happy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PuppetSwarm]:
    """Run a swarm in which release 2 was rolled out."""
    with puppet_swarm(tmp_path_factory.mktemp("happy"), observers=2) as running:
        settle(running, 6)
        running.release(2)
        done = running.firmware("rollout", 2, *QUICK)
        assert done.code == 0, done.err
        (running.folder / "rollout.txt").write_text(done.out)
        (running.folder / "warnings.txt").write_text(done.err)
        yield running


@pytest.fixture(scope="module")
def young(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PuppetSwarm]:
    """Run a swarm on whose log no release is."""
    with puppet_swarm(tmp_path_factory.mktemp("young")) as running:
        settle(running, 4)
        yield running


def settle(running: PuppetSwarm, devices: int) -> None:
    """Wait until every device has reported."""
    until = time.monotonic() + PATIENCE_S
    while len(state(running)["devices"]) < devices:
        assert time.monotonic() < until


def state(running: PuppetSwarm) -> dict[str, Any]:
    done = running.firmware("status", "--json", "-")
    assert done.code == 0, done.err
    return dict(json.loads(done.out))


# ------------------------------------------------------------------------------ the happy path


def test_a_rollout_is_watched_event_by_event_until_it_is_out(happy: PuppetSwarm) -> None:
    lines = (happy.folder / "rollout.txt").read_text().splitlines()
    assert re.fullmatch(r"plan [0-9a-f]{8} for release [0-9a-f]{8} \(number 2\)", lines[0])
    assert lines[1].startswith(
        "  steps: all voters, then all observers; soak 50ms; deadline 1m; trial 5s x 1"
    )
    assert any(re.search(r"stage 0 \(voters\) opened: dev-\d$", line) for line in lines)
    assert any("may start image" in line for line in lines)
    assert any("stage 0 closed good; confirmed: dev-" in line for line in lines)
    assert re.fullmatch(r"plan [0-9a-f]{8} is completed: number 2 is out", lines[-1])
    warnings = (happy.folder / "warnings.txt").read_text()
    assert "warning: a voter that falls silent by chance during a stage stops the log" in warnings
    # One line a second: a quick rollout may be over before one of them says "active".
    assert re.search(
        r"^(planned|active): \d of 6 devices run number 2; at risk: .*; height \d+$", warnings, re.MULTILINE
    )


def test_status_is_replayed_from_the_log(happy: PuppetSwarm) -> None:
    found = state(happy)
    assert found["verified"] is True
    assert found["at_risk"] == []
    assert found["at_risk_limit"] == 1
    (release,) = found["releases"]
    assert (release["number"], release["state"], release["completed"]) == (2, "approved", True)
    assert len(release["approvals"]) >= 3
    (plan,) = found["plans"]
    assert plan["state"] == "completed"
    named = [member["device"] for stage in plan["stages"] for member in stage["members"]]
    assert sorted(named) == ["dev-0", "dev-1", "dev-2", "dev-3", "obs-0", "obs-1"]
    devices = found["devices"]
    assert {device["version"] for device in devices.values()} == {"2.0"}
    words = happy.firmware("status").out
    assert "each verified and replayed here" in words
    assert "  2       " in words
    assert "at risk: nobody; up to u = 1 voters may be" in words


def test_history_says_what_ran_when_and_writes_proofs(happy: PuppetSwarm, tmp_path: Path) -> None:
    done = happy.firmware("history", "dev-1", "--json", tmp_path / "past.json", "--proofs", tmp_path)
    assert done.code == 0, done.err
    old, new = json.loads((tmp_path / "past.json").read_text())["intervals"]
    assert (old["number"], new["number"]) == (1, 2)
    assert (old["slot"], new["slot"]) == (0, 1)
    assert old["to_height"] == new["from_height"]
    assert new["to_height"] is None
    assert old["evidence"] == new["evidence"] == "self-reported"
    assert "self-reported: nothing but the device's own word" in done.out
    proofs = sorted(tmp_path.glob("dev-1-*.proof"))
    assert len(proofs) == len(old["positions"]) + len(new["positions"])
    checked = swarm("firmware", "verify", proofs[0], "--genesis", happy.genesis)
    assert checked.code == 0, checked.err
    assert "dev-1 reports started: runs number 1" in checked.out


def test_boots_without_a_report_are_unknown(happy: PuppetSwarm) -> None:
    happy.tell("restart obs-1 3")
    until = time.monotonic() + PATIENCE_S
    while True:
        done = happy.firmware("history", "obs-1", "--json", "-")
        intervals = json.loads(done.out)["intervals"]
        if len(intervals) > 2:
            break
        assert time.monotonic() < until
    assert [interval["evidence"] for interval in intervals] == [
        "self-reported",
        "self-reported",
        "unknown",
        "self-reported",
    ]
    assert intervals[2]["boots"] == [3, 4]
    assert intervals[1]["to_height"] == intervals[2]["from_height"]


def test_what_was_done_already_is_said_and_not_done_again(happy: PuppetSwarm) -> None:
    before = state(happy)["height"]
    again = happy.firmware("propose", happy.folder / "2.swfw")
    assert again.code == 0
    assert "is on the log already: approved" in again.out
    assert "is approved already" in happy.firmware("approve", 2).out
    out = happy.firmware("rollout", 2)
    assert out.code == 1
    assert "is rolled out already" in out.error_line
    assert state(happy)["height"] == before


def test_an_id_may_be_shortened(happy: PuppetSwarm) -> None:
    (release,) = state(happy)["releases"]
    assert "is approved already" in happy.firmware("approve", release["id"][:6]).out
    nothing = happy.firmware("approve", "ffff" if not release["id"].startswith("ffff") else "0000")
    assert nothing.code == 2
    assert nothing.error_line.startswith("no release 'ffff' (there are: 2 = ")


def test_proposals_that_the_log_would_ignore_are_refused_before(happy: PuppetSwarm) -> None:
    before = state(happy)["height"]
    cases = (
        (happy.pack(3, keys=(0,)), "1 of the 3 release keys in force signed it, 2 must"),
        (happy.pack(1), "number 1 is below 2, which is approved"),
        (happy.pack(2, text="b"), "has number 2 already: proposing this one would freeze its class"),
    )
    for path, line in cases:
        done = happy.firmware("propose", path)
        assert done.code == 2, done.out
        assert line in done.error_line
    torn = happy.folder / "torn.swfw"
    torn.write_bytes((happy.folder / "2.swfw").read_bytes()[:-1])
    assert "no usable release: truncated" in happy.firmware("propose", torn).error_line
    assert state(happy)["height"] == before


def test_a_release_for_another_class_moves_nobody_and_that_is_said(happy: PuppetSwarm) -> None:
    assert happy.firmware("propose", happy.pack(8, "--class", "acme.example/door")).code == 0
    assert happy.firmware("approve", 8).code == 0
    done = happy.firmware("rollout", 8, "--detach", "--deadline", "1h")
    assert done.code == 0, done.err
    assert "warning: no device of this class has reported yet, so the plan will wait" in done.err
    words = happy.firmware("status").out
    assert words.count("/") >= 2, "with two classes each release names its own"

    halted = happy.firmware("halt", "--class", "acme.example/door")
    assert halted.code == 0, halted.err
    assert "the class stands still" in halted.out
    assert "stands still: votes" in happy.firmware("status").out
    assert "stands still already" in happy.firmware("halt", "--class", "acme.example/door").out
    (plan,) = (p for p in state(happy)["plans"] if p["release"] == state(happy)["releases"][-1]["id"])
    resumed = happy.firmware("resume", plan["id"][:8])
    assert resumed.code == 0, resumed.err
    assert "goes on" in resumed.out
    assert state(happy)["frozen_classes"] == {}


def test_seed_serves_until_enough_devices_hold_the_image(happy: PuppetSwarm) -> None:
    done = happy.firmware("seed", happy.folder / "2.swfw", "--until", 3, "--rate", "1MiB")
    assert done.code == 0, done.err
    assert re.fullmatch(r"6 devices hold release [0-9a-f]{8}; served 0 chunks, 0 bytes\n", done.out)
    unknown = happy.firmware("seed", happy.pack(77))
    assert unknown.code == 1
    assert "is not on the log; first `swarm firmware propose`" in unknown.error_line
    slow = happy.firmware("seed", happy.folder / "2.swfw", "--rate", "100")
    assert slow.error_line == "--rate: below 1KiB a second every device would give up on it"


def test_a_rollout_of_a_file_serves_it_and_not_while_detached(happy: PuppetSwarm) -> None:
    done = happy.firmware("rollout", happy.folder / "2.swfw", "--detach")
    assert done.code == 2
    assert done.error_line == "--detach: with --detach nobody serves the file (use its number)"
    again = happy.firmware("rollout", happy.folder / "2.swfw")
    assert "is rolled out already" in again.error_line


def test_a_release_of_another_swarm_is_refused(happy: PuppetSwarm, young: PuppetSwarm) -> None:
    done = happy.firmware("propose", young.pack(9))
    assert done.code == 2
    assert "no usable release: other-swarm" in done.error_line


# ------------------------------------------------------------------------------ plans that nobody can carry out


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("rollout", 7), 2, "no release '7'"),
        (("rollout", 2, "--step", "robots=1"), 2, "--step: 'robots=1' is no step (voters=1, "),
        (("rollout", 2, "--step", "voters=0"), 2, "--step: 'voters=0' names nobody"),
        (("rollout", 2, "--step", "voters=101%"), 2, "--step: 'voters=101%' names nobody"),
        (("rollout", 2, "--trial", "0s"), 2, "--trial: must be longer than zero"),
        (("rollout", 2, "--soak", "soon"), 2, "--soak: "),
        (("rollout", 2, "--deadline", "1m", "--trial", "1m"), 2, "plan: deadline 60000 ms is not above"),
        (("rollout", 2, "--hold-back", 5), 2, "plan: hold_back 5 of 4 voters"),
        (("rollout", 2, "--reserve", 2), 2, "plan: reserve 2 of u = 1"),
        (("rollout", 2, "--pause-after", 1), 2, "--pause-after: there is no step 1, 0 given"),
        (("history", "dev-9"), 2, "DEVICE: 'dev-9' is no device of swarm fleet"),
        (("history", "operator"), 2, "DEVICE: 'operator' is no device of swarm fleet"),
        (("history", "dev-0", "--proofs", "no/where"), 2, "--proofs: is no folder"),
        (("consent", "dev-9"), 2, "DEVICE: 'dev-9' is no voter"),
        (("consent", "obs-0"), 2, "DEVICE: 'obs-0' is no voter"),
        (("resume", "--without", "dev-9"), 2, "no plan that is frozen or active or planned"),
        (("halt",), 2, "no plan that is planned or active"),
        (("halt", "--class", "acme.example/window"), 2, "--class: no release of this class is on the log"),
        (("halt", "abcd", "--class", "acme.example/door"), 2, "--class: give PLAN or --class, not both"),
        (("halt", "--reason", "x" * 101), 2, "--reason: at most 100 characters"),
        (("abandon",), 2, "no plan that is frozen"),
        (("status", "--follow", "--json", "-"), 2, "--json: --follow has no end"),
        (("approve", 2, "--timeout", "0s"), 2, "--timeout: must be longer than zero"),
        (("keys", "--change", "3/2"), 2, "--change: 3 of 2 keys cannot sign"),
        (("keys", "--change", "1/1"), 2, "--key: 1 different keys are needed, 0 given"),
        (("keys", "--key", "x"), 2, "--change: is missing"),
        (("keys", "--change", "1/1", "--key", "f" * 64, "--out", "a.swkeys"), 2, "--key: "),
        (("keys", "--propose", "nowhere.swkeys"), 2, "nowhere.swkeys: cannot be read"),
    ],
)
def test_bad_input_is_one_line(happy: PuppetSwarm, words: tuple[object, ...], code: int, line: str) -> None:
    done = happy.firmware(*words)
    assert done.code == code, done.err
    assert done.error_line.startswith(line)


def test_only_an_operator_may_ask(happy: PuppetSwarm, tmp_path: Path) -> None:
    folder = happy.fleet / "dev-0"
    text = (
        f"genesis: {folder}/genesis.json\ndevice: dev-0\nkey: {folder}/dev-0.key\n"
        "broker: {url: 'mqtt://127.0.0.1:1'}\n"
    )
    (tmp_path / "operator.yaml").write_text(text)
    done = swarm("firmware", "approve", 2, "--as", tmp_path / "operator.yaml")
    assert done.code == 2
    assert "dev-0 is a voter of swarm fleet, not an operator" in done.error_line


def test_a_swarm_without_firmware_says_so(tmp_path: Path) -> None:
    swarm("init", tmp_path / "plain", "--devices", 1, "--broker", "mqtt://127.0.0.1:1")
    done = swarm("firmware", "status", "--as", tmp_path / "plain" / "operator" / "operator.yaml")
    assert done.code == 2
    assert "swarm plain takes no firmware: its genesis names no release keys" in done.error_line


def test_without_a_broker_the_broker_is_named(tmp_path: Path) -> None:
    swarm("init", tmp_path / "s", "--devices", 1, "--firmware", "1/1", "--broker", "mqtt://127.0.0.1:1")
    done = swarm("firmware", "status", "--as", tmp_path / "s" / "operator" / "operator.yaml")
    assert done.code == 1
    assert "the broker cannot be reached" in done.error_line


# ------------------------------------------------------------------------------ when it goes wrong


def test_a_bad_canary_freezes_its_plan_and_people_decide(tmp_path: Path) -> None:
    with puppet_swarm(tmp_path) as running:
        settle(running, 4)
        running.release(2)
        for number in range(4):
            running.tell(f"bad dev-{number}")
        done = running.firmware("rollout", 2, *QUICK)
        assert done.code == 1
        failed = re.search(r"is frozen by failed:(dev-\d)", done.err)
        assert failed is not None, done.err
        assert "go on with `swarm firmware resume`, take it back with" in done.err
        assert f"{failed[1]} reports reverted (self-test): runs number 1" in done.out
        words = running.firmware("status").out
        assert f"{failed[1]} failed (self-test)" in words

        frozen = running.firmware("halt")
        assert frozen.code == 2
        resumed = running.firmware("resume", "--without", "dev-0")
        assert resumed.code == 0, resumed.err
        assert "goes on (generation 1) without" in resumed.out
        # The next canary fails as well.
        until = time.monotonic() + PATIENCE_S
        while state(running)["plans"][0]["state"] != "frozen":
            assert time.monotonic() < until
        given_up = running.firmware("abandon")
        assert given_up.code == 0, given_up.err
        assert "is given up; its class is free for another plan" in given_up.out


def test_an_image_is_halted_taken_back_and_revoked(tmp_path: Path) -> None:
    with puppet_swarm(tmp_path, observers=1) as running:
        settle(running, 5)
        running.release(2)
        plan = running.firmware("rollout", 2, *QUICK, "--step", "voters=1", "--pause-after", 1, "--detach")
        assert plan.code == 0, plan.err
        assert "look at it: swarm firmware status" in plan.out
        until = time.monotonic() + PATIENCE_S
        while "stage 1 waits" not in running.firmware("status").out:
            assert time.monotonic() < until
        # An operator answers the pause.
        on = running.firmware("resume")
        assert on.code == 0, on.err
        stopped = running.firmware("halt", "--reason", "smoke")
        if stopped.code == 0:
            assert "is frozen by votes" in stopped.out
            assert "go on with `swarm firmware resume`" in stopped.out
        back = running.firmware("rollback")
        assert back.code == 0, back.err
        assert "the image of plan" in back.out
        until = time.monotonic() + PATIENCE_S
        while {device["number"] for device in state(running)["devices"].values()} != {1}:
            assert time.monotonic() < until, running.firmware("status").out
        assert state(running)["plans"][0]["state"] == "rolled back"
        gone = running.firmware("revoke", 2, "--key", running.key(0), "--reason", "smoke")
        assert gone.code == 0, gone.err
        assert re.search(r"release [0-9a-f]{8} is revoked$", gone.out.strip())
        assert running.firmware("approve", 2).error_line.endswith("is revoked")


def test_ctrl_c_ends_the_watching_and_not_the_rollout(young: PuppetSwarm) -> None:
    young.release(4)
    young.tell("deaf")
    words = command_line("firmware", "rollout", 4, *QUICK, "--as", young.operator)
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("plan ")
        assert process.stdout.readline().startswith("  steps: ")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert out.startswith("the rollout goes on without you; look at it: swarm firmware status --follow --as ")
    young.tell("hearing")
    until = time.monotonic() + PATIENCE_S
    while state(young)["plans"][-1]["state"] != "completed":
        assert time.monotonic() < until


def test_voters_that_do_not_follow_are_counted_and_the_wait_ends(young: PuppetSwarm) -> None:
    young.tell("deaf")
    assert young.firmware("propose", young.pack(5)).code == 0
    done = young.firmware("approve", 5, "--timeout", "2s")
    young.tell("hearing")
    assert done.code == 1
    assert "is approved by 0 of the 3 voters that are needed" in done.err
    assert "not done within 2 s" in done.err
    assert "the wish stands on the log" in done.err
    # It does: the voters come to it later.
    until = time.monotonic() + PATIENCE_S
    while "is approved already" not in young.firmware("approve", 5).out:
        assert time.monotonic() < until


def test_release_keys_are_changed_by_old_and_new_holders(young: PuppetSwarm, tmp_path: Path) -> None:
    before = young.firmware("keys", "--json", "-")
    assert json.loads(before.out)["epoch"] == 0
    swarm("firmware", "keygen", tmp_path / "new.key")
    change = tmp_path / "change.swkeys"
    begun = young.firmware("keys", "--change", "1/1", "--key", tmp_path / "new.pub", "--out", change)
    assert begun.code == 0, begun.err
    unsigned = young.firmware("keys", "--propose", change)
    assert unsigned.code == 2
    assert "not signed by 1 of the new keys" in unsigned.error_line
    signed = swarm("firmware", "sign", change, "--key", tmp_path / "new.key", "--key", young.key(0))
    assert signed.code == 0, signed.err
    assert "to key epoch 1: 1 of 1 sign" in signed.out
    swarm("firmware", "sign", change, "--key", young.key(2))
    done = young.firmware("keys", "--propose", change)
    assert done.code == 0, done.err
    assert "release keys changed: 1 of 1 sign" in done.out
    assert "key epoch 1: 1 of these 1 sign a release" in done.out
    late = young.firmware("keys", "--propose", change)
    assert "leads to key epoch 1, the log is at 1" in late.error_line
    # What the old keys sign counts no more.
    old = young.firmware("propose", young.pack(6))
    assert "0 of the 1 release keys in force signed it, 1 must" in old.error_line


def test_where_nobody_may_be_away_a_voter_restarts_by_consent(tmp_path: Path) -> None:
    with puppet_swarm(tmp_path, voters=3, keys="1/1") as running:
        settle(running, 3)
        running.release(2)
        plan = running.firmware("rollout", 2, *QUICK, "--hold-back", 0, "--detach")
        assert "warning: no voter is updated without a consent" in plan.err
        assert "warning: a bomb stops this swarm: 0 voters are held back" in plan.err
        done = running.firmware("consent", "dev-1")
        assert done.code == 0, done.err
        assert "warning: the log stops while dev-1 restarts" in done.err
        assert "dev-1 may restart although nobody else may fail" in done.out
        until = time.monotonic() + PATIENCE_S
        while state(running)["devices"]["dev-1"]["number"] != 2:
            assert time.monotonic() < until
