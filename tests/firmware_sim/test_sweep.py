"""The sweeps find nothing in the bootloader and something in each seeded mistake, and can be reproduced."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_sim import bugs, cuts, sweep
from firmware_sim.bugs import BUGS
from firmware_sim.cuts import Sweep, Tally
from firmware_sim.decay import decay
from firmware_sim.scenarios import ALL, BY_NAME
from firmware_sim.slots import DeviceLayout
from firmware_sim.torn import Shape
from firmware_sim.world import World

ROOT = Path(__file__).resolve().parents[2]
SMALL = DeviceLayout(image_sectors=2, sector=1024)


def run(scenario: str, *, layout: DeviceLayout = SMALL, shapes: int = 24, depth: int = 1) -> Tally:
    return Sweep(World(layout=layout), BY_NAME[scenario], shape_count=shapes, depth=depth).run()


@pytest.mark.parametrize("scenario", [scenario.name for scenario in ALL])
def test_every_transaction_survives_every_cut(scenario: str) -> None:
    tally = run(scenario)
    assert tally.failures == []
    assert tally.failed == 0
    assert tally.ops >= 1
    assert tally.cuts == 25 * tally.ops


@pytest.mark.parametrize(("align", "erased"), [(1, 0x00), (4, 0xFF), (8, 0x00)])
def test_other_parts_survive_too(align: int, erased: int) -> None:
    layout = DeviceLayout(image_sectors=1, sector=512, align=align, erased=erased)
    assert run("bad-update", layout=layout).failures == []


@pytest.mark.parametrize("scenario", ["confirm", "counter", "revert"])
def test_a_second_cut_in_the_recovery_is_survived(scenario: str) -> None:
    tally = run(scenario, layout=DeviceLayout(image_sectors=1, sector=512), shapes=4, depth=2)
    assert tally.failures == []
    assert tally.merged > 0, "a recovery reaches states that were cut before"


def test_a_status_area_that_loses_writes_is_survived() -> None:
    options = sweep.Options(layout=SMALL, levels=(5,), scenarios=("bad-update",), shapes=4)
    lines = list(sweep.sweep(options))
    assert len(lines) == len(sweep.FAILING_RATES)
    assert sum(line.tally.failed for line in lines) == 0


def test_one_rotten_bit_is_survived() -> None:
    tally = decay(World(layout=SMALL), stride=7)
    assert tally.failures == []
    assert tally.cuts > 800


def test_rot_is_noticed_where_nothing_guards_against_it() -> None:
    world = sweep.make_world(sweep.Options(layout=SMALL, bug="hash-ignored"))
    assert {failure.invariant for failure in decay(world, stride=7).failures} & {"I1", "I12"}


@pytest.mark.parametrize("name", sorted(BUGS))
def test_a_seeded_mistake_is_found_and_its_command_shows_it_again(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bug = BUGS[name]
    options = sweep.Options(layout=SMALL, bug=name)
    failing = sweep.failing_areas(SMALL, 0.5, 1) if bug.failing else ()
    shapes = 24 if bug.torn else 0
    tally = Sweep(sweep.make_world(options, failing), BY_NAME[bug.scenario], shape_count=shapes).run()
    assert bug.breaks in {failure.invariant for failure in tally.failures}
    failure = next(failure for failure in tally.failures if failure.invariant == bug.breaks)
    command = sweep.reproduce(failure, options, "0.5:1" if failing else "").split()
    assert command[:3] == ["python", "-m", "firmware_sim.sweep"]
    assert sweep.main(command[3:]) == 1
    assert f"{bug.breaks}: {failure.detail}" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(name for name, bug in BUGS.items() if bug.torn))
def test_a_mistake_that_needs_torn_operations_is_missed_by_clean_cuts(name: str) -> None:
    world = sweep.make_world(sweep.Options(layout=SMALL, bug=name))
    assert Sweep(world, BY_NAME[BUGS[name].scenario]).run().failures == []


def test_every_invariant_is_broken_by_some_mistake() -> None:
    broken = {bug.breaks for bug in BUGS.values()}
    assert broken >= {f"I{number}" for number in range(2, 13)}
    assert {bug.code.__name__ for bug in BUGS.values()} == {
        name
        for name, value in vars(bugs).items()
        if isinstance(value, type) and value.__module__ == bugs.__name__
    } - {"Bug"}


def test_a_broken_primary_slot_is_the_first_invariant() -> None:
    world = sweep.make_world(sweep.Options(layout=SMALL, bug="copy-done-first"))
    failures = Sweep(world, BY_NAME["update"]).run().failures
    assert "the primary slot is broken and no swap is under way" in {
        f.detail for f in failures if f.invariant == "I1"
    }


def test_two_sweeps_are_equal() -> None:
    first, second = run("update", shapes=6), run("update", shapes=6)
    assert (first.ops, first.cuts, first.states) == (second.ops, second.cuts, second.states)
    other = Sweep(World(layout=SMALL), BY_NAME["update"], shape_count=6, seed=1).run()
    assert other.failures == []
    assert other.states != first.states


# ----------------------------------------------------------------------------- the command


def test_the_table_and_the_json_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--level", "2", "--sectors", "1", "--sector-size", "512", "--shapes", "3"]
    assert sweep.main(arguments) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == [
        "level",
        "scenario",
        "failing",
        "ops",
        "cuts",
        "states",
        "merged",
        "failures",
        "seconds",
    ]
    assert table[-1] == "no failures"
    assert sweep.main([*arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert table[1].split()[2:6] == [str(data[key]) for key in ("ops", "cuts", "states", "merged")]
    assert data["failures"] == []


def test_a_failing_sweep_exits_with_1_and_names_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--level", "1", "--sectors", "1", "--sector-size", "512", "--bug", "status-before-copy"]
    assert sweep.main(arguments) == 1
    out = capsys.readouterr().out
    assert "python -m firmware_sim.sweep --scenario update --sectors 1 --sector-size 512" in out
    assert "--bug status-before-copy --cut " in out
    assert sweep.main([*arguments, "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["failed"] > 0
    assert {"invariant", "detail", "command"} == set(data["failures"][0])


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--cut", "x"], "OP or OP:SHAPE:SEED"),
        (["--cut", "3:half"], "OP or OP:SHAPE:SEED"),
        (["--cut", "3:wobble:0"], "shapes are"),
        (["--failing", "often"], "RATE or RATE:SEED"),
        (["--sectors", "0"], "at least one sector"),
        (["--sector-size", "100"], "does not fit"),
        (["--level", "9"], "invalid choice"),
        (["--scenario", "party"], "invalid choice"),
    ],
)
def test_a_wrong_option_is_explained(
    arguments: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        sweep.main(arguments)
    assert caught.value.code == 2
    assert what in capsys.readouterr().err


@pytest.mark.parametrize(("text", "step"), [("7", (7, None)), ("7:half:3", (7, ("half", 3)))])
def test_a_cut_is_read_as_a_failure_prints_it(text: str, step: tuple[int, Shape | None]) -> None:
    assert sweep.parse_cut(text) == step
    failure = cuts.Failure(scenario="update", invariant="I1", detail="", path=(step,))
    assert failure.cuts() == [text]


def test_the_module_runs_as_a_command() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "firmware_sim.sweep",
            "--level",
            "0",
            "--sectors",
            "1",
            "--sector-size",
            "512",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("no failures\n")
