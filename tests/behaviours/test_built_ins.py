"""The built-in behaviours: what each senses, and that a repeated run senses the same."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from swarm.apps.decisions.rules import DecisionView, decide
from swarm.behaviours.behaviour import BehaviourContext
from swarm.behaviours.recording import Recording
from swarm.behaviours.sensor_file import SENSOR_BYTES_MAX, SensorFile
from swarm.behaviours.thermostat import Thermostat
from swarm.crypto.digest import sha256
from swarm.primitives.errors import ConfigError
from tests.support.vectors import DOOR, VIEW


def context(seed: int = 7, *, simulated: bool = True) -> BehaviourContext:
    return BehaviourContext(device="dev-0", seed=seed, simulated=simulated, now_ms=0)


def decision(number: int) -> DecisionView:
    return msgspec.structs.replace(VIEW, id=sha256(number.to_bytes(4, "big")))


def readings(thermostat: Thermostat, count: int) -> list[float]:
    values = [thermostat.on_open(decision(number), 0) for number in range(count)]
    assert all(isinstance(value, float) for value in values)
    return [value for value in values if isinstance(value, float)]


# ------------------------------------------------------------------------------------------ thermostat


def test_a_thermostat_without_noise_says_mean_and_bias() -> None:
    assert readings(Thermostat(context(), {"mean": 21, "bias": -0.5}), 3) == [20.5] * 3


def test_a_liar_says_its_lie() -> None:
    assert readings(Thermostat(context(), {"mean": 21, "noise": 5, "lie": 40.0}), 3) == [40.0] * 3
    assert readings(Thermostat(context(), {"lie": 0}), 1) == [0.0], "zero is a lie too"


def test_noise_has_the_mean_and_deviation_asked_for() -> None:
    values = readings(Thermostat(context(), {"mean": 21.0, "noise": 0.4}), 4000)

    mean = sum(values) / len(values)
    deviation = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
    assert mean == pytest.approx(21.0, abs=0.03)
    assert deviation == pytest.approx(0.4, rel=0.05)
    assert max(abs(value - 21.0) for value in values) <= 6 * 0.4


def test_one_seed_gives_the_same_readings_and_another_seed_others() -> None:
    options = {"noise": 1.0}
    one = readings(Thermostat(context(7), options), 20)

    assert readings(Thermostat(context(7), options), 20) == one
    assert readings(Thermostat(context(8), options), 20) != one
    assert len(set(one)) == 20


def test_asked_again_after_a_crash_it_says_the_same_in_any_order() -> None:
    options = {"noise": 1.0}
    forwards = readings(Thermostat(context(), options), 5)
    thermostat = Thermostat(context(), options)

    assert [thermostat.on_open(decision(number), 9) for number in reversed(range(5))] == forwards[::-1]


def test_the_first_reading_is_pinned() -> None:
    """The simulator's digest must be the same on every machine: integers, and one exact division."""
    assert readings(Thermostat(context(), {"mean": 0.0, "noise": 1.0}), 1) == [-0.34678268199786544]


@pytest.mark.parametrize(("choice", "answer"), [("closed", "closed"), ("ajar", None), (None, None)])
def test_for_options_it_says_its_choice_where_it_is_offered(choice: str | None, answer: str | None) -> None:
    options = {} if choice is None else {"choice": choice}
    assert Thermostat(context(), options).on_open(DOOR, 0) == answer


def test_it_keeps_the_last_outcome() -> None:
    thermostat = Thermostat(context(), {})
    outcome = decide(VIEW, 9)
    thermostat.on_outcome(outcome, 0)
    thermostat.on_outcome(outcome, 0)
    assert thermostat.last_outcome == outcome


# ------------------------------------------------------------------------------------------ csv


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "week.csv"
    path.write_text("time, indoor,door\n0,21.5,open\n1,,closed\n2,22.25,ajar\n3,n/a\n", encoding="utf-8")
    return path


def test_a_recording_replays_its_column_and_starts_again(recording: Path) -> None:
    behaviour = Recording(context(), {"path": str(recording), "column": "indoor"})

    assert [behaviour.on_open(decision(n), 0) for n in range(6)] == [21.5, None, 22.25, None, 21.5, None]


def test_a_recording_answers_one_decision_with_one_row(recording: Path) -> None:
    behaviour = Recording(context(), {"path": str(recording), "factor": 0.5, "start": 5})

    assert [behaviour.on_open(decision(n), 0) for n in (0, 0, 1, 0)] == [0.5, 0.5, 1.0, 0.5]
    behaviour.on_outcome(msgspec.structs.replace(decide(VIEW, 9), decision=decision(0).id), 0)
    assert behaviour.on_open(decision(0), 0) == 1.5, "forgotten when the decision closed"


def test_a_recording_of_options(recording: Path) -> None:
    behaviour = Recording(context(), {"path": str(recording), "column": "door"})
    doors = [msgspec.structs.replace(DOOR, id=decision(n).id) for n in range(4)]

    assert [behaviour.on_open(door, 0) for door in doors] == ["open", "closed", None, None]


@pytest.mark.parametrize(
    ("text", "options", "where", "words"),
    [
        (None, {}, "path", "x.csv: No such file or directory"),
        ("", {}, "path", "is empty"),
        ("a,b\n", {}, "path", "no rows"),
        ("a,b\n1,2\n", {"column": "c"}, "column", "no column 'c'"),
        ("a,b\n1,2\n", {"start": 1.5}, "start", "whole number"),
        ("a\n\xff\n", {}, "path", "x.csv: it is no UTF-8 text"),
    ],
)
def test_a_bad_recording_is_named(
    tmp_path: Path, text: str | None, options: dict[str, object], where: str, words: str
) -> None:
    path = tmp_path / "x.csv"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        Recording(context(), {"path": str(path), **options})
    assert caught.value.where == where
    assert words in caught.value.message


# ------------------------------------------------------------------------------------------ file


@pytest.mark.parametrize(
    ("text", "options", "value"),
    [
        ("21500\n", {"factor": 0.001}, 21.5),
        ("  3.5 77\n", {}, 3.5),
        ("t= 7 9\n", {"field": 2}, 9.0),
        ('{"temp": 21.5, "unit": "C"}', {"field": "temp"}, 21.5),
        ('{"temp": "4"}', {"field": "temp"}, 4.0),
    ],
)
def test_a_sensor_file_is_read_each_time(
    tmp_path: Path, text: str, options: dict[str, object], value: float
) -> None:
    path = tmp_path / "temp"
    behaviour = SensorFile(context(simulated=False), {"path": str(path), **options})
    with pytest.raises(OSError, match="temp"):
        behaviour.on_open(VIEW, 0)
    path.write_text(text, encoding="utf-8")

    assert behaviour.on_open(VIEW, 0) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        ("warm", {}),
        ("nan", {}),
        ("1", {"field": 1}),
        ("1", {"field": "temp"}),
        ("[1]", {"field": "temp"}),
        ('{"other": 1}', {"field": "temp"}),
        ("1" * (SENSOR_BYTES_MAX + 1), {}),
    ],
)
def test_a_file_without_a_number_is_an_error_that_the_runner_reports(
    tmp_path: Path, text: str, options: dict[str, object]
) -> None:
    path = tmp_path / "temp"
    path.write_text(text, encoding="utf-8")
    behaviour = SensorFile(context(simulated=False), {"path": str(path), **options})
    with pytest.raises(ValueError, match=r"temp|convert|Expecting"):
        behaviour.on_open(VIEW, 0)


def test_a_sensor_file_can_hold_an_option(tmp_path: Path) -> None:
    path = tmp_path / "door"
    path.write_text("closed\n", encoding="utf-8")
    behaviour = SensorFile(context(simulated=False), {"path": str(path)})
    assert behaviour.on_open(DOOR, 0) == "closed"
    path.write_text("gone\n", encoding="utf-8")
    assert behaviour.on_open(DOOR, 0) is None


def test_a_sensor_file_is_refused_in_the_simulator_by_name() -> None:
    with pytest.raises(ConfigError, match="'file' reads this machine"):
        SensorFile(context(), {"path": "temp"})


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({}, "path"),
        ({"path": "t", "factor": "x"}, "factor"),
        ({"path": "t", "fild": 1}, "fild"),
        ({"path": "t", "field": 1.5}, "field"),
    ],
)
def test_bad_options_of_a_sensor_file_are_named(options: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SensorFile(context(simulated=False), options)
    assert caught.value.where == where
