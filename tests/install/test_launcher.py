"""The launcher with real child processes: hangs, crashes, timers, locks, signals, the watchdog."""

from __future__ import annotations

import ast
import io
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.install import launcher
from swarm.install.directory import RESTART_CODE
from swarm.install.lifeline import Lifeline
from swarm.install.package import PARTS, pack_launcher
from swarm.install.port import Outcome
from swarm.install.records import Starts, read_record
from tests.support.launching import (
    CRASH,
    HANG,
    LIVE,
    REFUSE,
    SILENT,
    Device,
    NotifySocket,
    is_program,
    program,
)

pytestmark = pytest.mark.processes


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path)
    yield made
    made.clean_up()


def confirmed_by_hand(device: Device, body: str) -> None:
    """Bring version 2 with `body` into slot b as the confirmed image, without any process."""
    from swarm.install.selection import choose_slot

    device.arm(program(2, body))
    choose_slot(device.disk, str(device.root))
    device.confirm()


# ----------------------------------------------------------------------------- standalone


def test_the_parts_import_only_the_standard_library_and_each_other() -> None:
    own = {f"swarm.install.{part}" for part in PARTS}
    for part in PARTS:
        source = Path(launcher.__file__).with_name(f"{part}.py").read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for name in names:
                assert name in own or name.split(".")[0] in sys.stdlib_module_names, f"{part} imports {name}"


def test_the_pack_is_one_file_that_does_not_change() -> None:
    data = pack_launcher()
    assert data == pack_launcher()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        packages = ["swarm/__init__.py", "swarm/install/__init__.py"]
        assert archive.namelist() == [
            "__main__.py",
            *packages,
            *(f"swarm/install/{part}.py" for part in PARTS),
        ]


def test_it_runs_where_there_is_no_swarm(device: Device) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(device.launch), "--help"],
        cwd=device.folder,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--root" in done.stdout


def test_agent_and_launcher_mean_the_same_restart() -> None:
    assert RESTART_CODE == launcher.RESTART_CODE


# ----------------------------------------------------------------------------- the usual


def test_it_starts_the_confirmed_slot_and_passes_sigterm(device: Device) -> None:
    device.start()
    device.wait_for(device.starts)
    ((version, slot, pid),) = device.starts()
    assert (version, slot) == (1, "a")
    code, errors = device.stop()
    assert code == 0
    assert f"slot a, process {pid}" in errors
    assert not is_program(pid, f"{device.root}/slots/a"), "the child ended with it"


def test_a_child_that_will_not_end_is_killed(tmp_path: Path) -> None:
    device = Device(tmp_path, "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + LIVE)
    device.start("--grace-ms", "200")
    device.wait_for(device.starts)
    pid = device.starts()[0][2]
    device.stop()
    assert not is_program(pid, f"{device.root}/slots/a")


def test_what_the_child_started_ends_with_it(tmp_path: Path) -> None:
    body = (
        "import subprocess\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)  # grandchild'])\n"
        "open(root + '/grandchild', 'w').write(str(child.pid))\n" + LIVE
    )
    device = Device(tmp_path, body)
    device.start()
    device.wait_for(
        lambda: (device.root / "grandchild").exists() and (device.root / "grandchild").read_text()
    )
    pid = int((device.root / "grandchild").read_text())
    assert Path(f"/proc/{pid}").exists()
    device.stop()
    device.wait_for(lambda: not Path(f"/proc/{pid}").exists() or "Z" in state_of(pid))


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "Z"


def test_arguments_reach_the_child(tmp_path: Path) -> None:
    device = Device(tmp_path, "open(root + '/arguments', 'w').write(repr(sys.argv[1:]))\nsys.exit(0)")
    device.start("--", "agent", "--json", "x y")
    assert device.ended()[0] == 0
    assert (device.root / "arguments").read_text() == "['agent', '--json', 'x y']"


def test_a_confirmed_child_that_crashes_is_started_again(tmp_path: Path) -> None:
    device = Device(tmp_path, CRASH)
    device.start()
    device.wait_for(lambda: len(device.starts()) >= 8)
    assert set(device.versions()) == {1}
    device.stop()


def test_a_child_that_refuses_for_good_ends_the_launcher(tmp_path: Path) -> None:
    device = Device(tmp_path, REFUSE)
    device.start()
    assert device.ended()[0] == launcher.REFUSED_CODE
    assert len(device.starts()) == 6


def test_the_slot_stays_as_it_was_sealed(device: Device) -> None:
    """Byte code in the slot would change its digest, and the next start would refuse it."""
    before = sorted((device.root / "slots/a").rglob("*"))
    device.start()
    device.wait_for(device.starts)
    device.stop()
    assert sorted((device.root / "slots/a").rglob("*")) == before


# ----------------------------------------------------------------------------- trials


def test_a_trial_that_is_confirmed_stays(device: Device) -> None:
    device.arm(program(2, LIVE), trial_ms=1500)
    device.start()
    device.wait_for(lambda: device.versions() == [2])
    device.confirm()
    device.wait_for(lambda: health(device) == 0)
    pid = device.starts()[0][2]
    # Longer than the trial: the timer is off.
    with pytest.raises(subprocess.TimeoutExpired):
        assert device.process is not None
        device.process.wait(2)
    assert device.starts() == [(2, "b", pid)]
    device.stop()
    assert device.backend("b").outcome().outcome is Outcome.CONFIRMED


def health(device: Device) -> int:
    starts = read_record(device.disk, f"{device.root}/boot", Starts)
    return -1 if starts is None else starts.unhealthy


def test_a_hang_in_the_trial_runs_into_the_timer(device: Device) -> None:
    """It beats and is never healthy: only the launcher's own timer ends it, and one attempt is all it gets."""
    device.arm(program(2, HANG), attempts=3, trial_ms=400)
    device.start()
    device.wait_for(lambda: device.versions() == [2, 1])
    outcome = device.backend().outcome()
    assert (outcome.outcome, outcome.reason, outcome.attempts) == (Outcome.REVERTED, "trial-timer", 1)
    assert device.backend().status().settled
    device.stop()


def test_a_silent_trial_costs_attempts(device: Device) -> None:
    device.arm(program(2, SILENT), attempts=2)
    device.start("--silence-ms", "300")
    device.wait_for(lambda: device.versions() == [2, 2, 1])
    assert device.backend().outcome().reason == "attempts-used-up"
    device.stop()


@pytest.mark.parametrize("body", [CRASH, REFUSE, "sys.exit(0)", "sys.exit(75)", "os.abort()"])
def test_a_trial_that_ends_in_any_way_costs_an_attempt(device: Device, body: str) -> None:
    device.arm(program(2, body), attempts=3)
    device.start()
    device.wait_for(lambda: device.versions() == [2, 2, 2, 1])
    outcome = device.backend().outcome()
    assert (outcome.outcome, outcome.reason, outcome.attempts) == (Outcome.REVERTED, "attempts-used-up", 3)
    device.stop()


def test_attempts_count_over_kills_of_the_launcher(device: Device) -> None:
    device.arm(program(2, LIVE), attempts=2)
    for count in (1, 2):
        device.start()
        device.wait_for(lambda count=count: device.versions() == [2] * count)  # type: ignore[misc]
        device.stop(signal.SIGKILL)
        pid = device.starts()[-1][2]
        os.kill(pid, signal.SIGKILL)
    device.start()
    device.wait_for(lambda: device.versions() == [2, 2, 1])
    device.stop()


def test_corrupt_records_run_the_last_confirmed_slot(device: Device) -> None:
    device.arm(program(2, LIVE), attempts=3)
    for copy in (0, 1):
        (device.root / f"boot/trial.{copy}").write_bytes(b"\0" * 100)
    device.start()
    device.wait_for(lambda: device.versions() == [1])
    outcome = device.backend().outcome()
    assert (outcome.outcome, outcome.reason, outcome.permit) == (Outcome.REVERTED, "records-broken", 102)
    device.stop()


def test_a_damaged_image_is_not_even_started(device: Device) -> None:
    device.arm(program(2, LIVE))
    (device.root / "slots/b/__main__.py").write_text("raise SystemExit")
    device.start()
    device.wait_for(lambda: device.versions() == [1])
    assert device.backend().outcome().reason == "slot-damaged"
    device.stop()


def test_nothing_to_start_is_a_line_and_a_code(device: Device) -> None:
    (device.root / "slots/a/__main__.py").write_text("raise SystemExit")
    device.start()
    code, errors = device.ended()
    assert code == launcher.NOTHING_CODE
    assert "slot-damaged" in errors
    assert "Traceback" not in errors
    assert device.starts() == []


def test_a_folder_that_is_no_root_is_a_line_and_a_code(device: Device) -> None:
    device.start("--root", str(device.folder / "nowhere"))
    code, errors = device.ended()
    assert code == launcher.REFUSED_CODE
    assert errors.count("\n") == 1


# ----------------------------------------------------------------------------- after the confirmation


def test_five_starts_without_health_fall_back(device: Device) -> None:
    confirmed_by_hand(device, CRASH)
    device.start()
    device.wait_for(lambda: 1 in device.versions())
    assert device.versions() == [2] * 5 + [1]
    outcome = device.backend().outcome()
    assert (outcome.outcome, outcome.reason, outcome.permit) == (Outcome.FELL_BACK, "no-health", 102)
    device.stop()


def test_beats_alone_are_no_health(device: Device) -> None:
    confirmed_by_hand(device, "say(b'.')\nsys.exit(1)")
    device.start()
    device.wait_for(lambda: 1 in device.versions())
    assert device.versions() == [2] * 5 + [1]
    device.stop()


def test_a_healthy_image_that_crashes_later_keeps_its_slot(device: Device) -> None:
    confirmed_by_hand(device, "say(b'+')\ntime.sleep(0.1)\nsys.exit(1)")
    device.start()
    device.wait_for(lambda: len(device.starts()) >= 7)
    assert set(device.versions()) == {2}
    device.stop()


# ----------------------------------------------------------------------------- one launcher, one agent


def test_a_second_launcher_refuses(device: Device) -> None:
    first = device.start()
    device.wait_for(device.starts)
    device.start()
    code, errors = device.ended()
    assert code == launcher.LOCKED_CODE
    assert "holds" in errors
    assert len(device.starts()) == 1
    device.process = first
    device.stop()


def test_an_agent_whose_launcher_was_killed_keeps_others_out(tmp_path: Path) -> None:
    """Two processes with one store are two devices with one key."""
    device = Device(tmp_path, "time.sleep(30)")
    device.start()
    device.wait_for(device.starts)
    device.stop(signal.SIGKILL)
    pid = device.starts()[0][2]
    assert is_program(pid, f"{device.root}/slots/a")
    device.start()
    assert device.ended()[0] == launcher.LOCKED_CODE
    os.kill(pid, signal.SIGKILL)
    device.wait_for(lambda: not is_program(pid, f"{device.root}/slots/a"))
    device.start()
    device.wait_for(lambda: len(device.starts()) == 2)
    device.stop()


def test_a_child_starts_only_after_the_last_one_ended(tmp_path: Path) -> None:
    body = (
        "import glob\n"
        "alive = [p for p in glob.glob(root + '/alive.*')]\n"
        "assert not alive, alive\n"
        "mine = root + f'/alive.{os.getpid()}'\n"
        "open(mine, 'w').close()\n"
        "import signal\n"
        "def slowly(*_):\n"
        "    time.sleep(0.3)\n"
        "    os.unlink(mine)\n"
        "    os._exit(75)\n"
        "signal.signal(signal.SIGTERM, slowly)\n" + SILENT
    )
    device = Device(tmp_path, body)
    device.start("--silence-ms", "100")
    device.wait_for(lambda: len(device.starts()) >= 4)
    device.stop()
    assert not list(device.root.glob("alive.*"))


# ----------------------------------------------------------------------------- systemd and the lifeline


def test_systemd_is_fed_only_while_the_child_beats(tmp_path: Path) -> None:
    device = Device(tmp_path, "assert 'NOTIFY_SOCKET' not in os.environ\nsay(b'+')\ntime.sleep(60)")
    notify = NotifySocket(tmp_path / "notify")
    try:
        device.start(
            "--silence-ms", "20000", environment={"NOTIFY_SOCKET": notify.path, "WATCHDOG_USEC": "1"}
        )
        device.wait_for(device.starts)
        first = notify.words(0.5)
        assert first[0].startswith("READY=1\nWATCHDOG=1\nMAINPID=")
        assert first[1:] == ["WATCHDOG=1"]
        assert notify.words(0.7) == [], "a silent child is not covered up"
    finally:
        device.stop()
        notify.close()


def test_a_beating_child_feeds_systemd(device: Device, tmp_path: Path) -> None:
    notify = NotifySocket(tmp_path / "notify")
    try:
        device.start(environment={"NOTIFY_SOCKET": notify.path})
        device.wait_for(device.starts)
        assert notify.words(0.5).count("WATCHDOG=1") > 5
    finally:
        device.stop()
        notify.close()


def test_lifeline_of_the_agent() -> None:
    read_end, write_end = os.pipe()
    environment = {
        launcher.ENV_LIFELINE: str(write_end),
        launcher.ENV_ROOT: "/somewhere",
        launcher.ENV_SLOT: "b",
    }
    line = Lifeline.from_environment(environment)
    assert line is not None
    assert (line.root, line.slot) == ("/somewhere", "b")
    assert line.beat()
    assert line.healthy()
    assert os.read(read_end, 10) == b".+"
    assert not os.get_inheritable(write_end)
    while line.beat() and os.fstat(write_end):
        try:
            os.write(write_end, b"." * 65536)
        except BlockingIOError:
            break
    assert line.beat(), "a full pipe holds nobody up"
    os.close(read_end)
    assert not line.beat(), "the launcher is gone"
    line.close()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SWARM_LIFELINE_FD": "x", "SWARM_INSTALL_ROOT": "/r", "SWARM_SLOT": "a"},
        {"SWARM_LIFELINE_FD": "9999", "SWARM_INSTALL_ROOT": "/r", "SWARM_SLOT": "a"},
        {"SWARM_LIFELINE_FD": "9" * 30, "SWARM_INSTALL_ROOT": "/r", "SWARM_SLOT": "a"},
        {"SWARM_LIFELINE_FD": "0", "SWARM_INSTALL_ROOT": "/r", "SWARM_SLOT": "c"},
        {"SWARM_LIFELINE_FD": "0", "SWARM_INSTALL_ROOT": "", "SWARM_SLOT": "a"},
    ],
)
def test_no_lifeline_where_nobody_left_one(environment: dict[str, str]) -> None:
    assert Lifeline.from_environment(environment) is None


# ----------------------------------------------------------------------------- the unit file

UNIT = Path(__file__).resolve().parents[2] / "configs/systemd/swarm-agent.service"


def unit_settings() -> dict[str, str]:
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_the_unit_starts_this_launcher() -> None:
    """Its command line is one that the launcher takes, and its codes are the launcher's."""
    settings = unit_settings()
    interpreter, isolated, archive, *arguments = settings["ExecStart"].split()
    assert (interpreter, isolated, Path(archive).name) == ("/usr/bin/python3", "-I", "launch.pyz")
    given = launcher.parse(arguments)
    assert given.arguments == ["agent", "/srv/swarm/device/agent.yaml"]
    assert given.root in settings["ReadWritePaths"].split()
    codes = {int(code) for code in settings["RestartPreventExitStatus"].split()}
    assert codes == {launcher.REFUSED_CODE, launcher.NOTHING_CODE}
    assert (settings["Type"], settings["NotifyAccess"]) == ("notify", "main")


def test_the_unit_is_more_patient_than_the_launcher() -> None:
    settings = unit_settings()
    given = launcher.parse(settings["ExecStart"].split()[3:])
    assert int(settings["WatchdogSec"]) * 1000 > given.silence_ms + given.grace_ms
    assert int(settings["TimeoutStopSec"]) * 1000 > given.grace_ms
    assert settings["StartLimitIntervalSec"] == "0"
