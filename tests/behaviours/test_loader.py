"""Loading behaviours: built-ins, plug-ins, and mistakes named by their key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from swarm.behaviours.behaviour import Behaviour, BehaviourContext
from swarm.behaviours.loader import BUILT_IN, load_behaviours
from swarm.behaviours.thermostat import Thermostat
from swarm.primitives.errors import ConfigError
from swarm.primitives.limits import BEHAVIOURS_MAX

PLUGIN = """
class Inverter:
    in_simulator = True
    def __init__(self, context, options):
        self.context, self.options = context, options
        if options.get("broken"):
            raise RuntimeError("no sensor")
    def on_open(self, decision, now_ms):
        return 1
    def on_outcome(self, outcome, now_ms):
        pass

class Outside(Inverter):
    in_simulator = False

class Half:
    in_simulator = True
    def on_open(self, decision, now_ms):
        return 1

number = 7
"""


def context(*, simulated: bool = True) -> BehaviourContext:
    return BehaviourContext(device="dev-0", seed=7, simulated=simulated, now_ms=0)


def load(*blocks: dict[str, object], simulated: bool = True) -> Any:
    return load_behaviours(blocks, context(simulated=simulated))


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Return the name of a module that only this test can import."""
    name = f"plugin_of_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(PLUGIN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_built_ins_are_behaviours(tmp_path: Path) -> None:
    recording = tmp_path / "t.csv"
    recording.write_text("t\n1\n", encoding="utf-8")
    for kind, options in {"thermostat": {}, "csv": {"path": str(recording)}, "file": {"path": "t"}}.items():
        loaded = load({"kind": kind, **options}, simulated=False).loaded
        assert isinstance(loaded[0].behaviour, Behaviour)
    assert set(BUILT_IN) == {"thermostat", "csv", "file"}


def test_behaviours_keep_the_order_of_the_file_and_filter_by_subject() -> None:
    behaviours = load(
        {"kind": "thermostat", "subject": "temperature", "mean": 1},
        {"kind": "thermostat", "mean": 2},
        {"kind": "thermostat", "subject": "door", "choice": "open"},
    )

    assert [loaded.subject for loaded in behaviours.loaded] == ["temperature", None, "door"]
    assert [loaded.subject for loaded in behaviours.for_subject("temperature")] == ["temperature", None]
    assert [loaded.subject for loaded in behaviours.for_subject("door")] == [None, "door"]
    assert [loaded.subject for loaded in behaviours.for_subject("other")] == [None]


def test_no_behaviour_is_fine() -> None:
    assert load().loaded == ()


def test_a_class_of_a_module_gets_context_and_options(plugin: str) -> None:
    (loaded,) = load({"kind": f"{plugin}:Inverter", "subject": "door", "gain": 2}).loaded

    assert loaded.kind == f"{plugin}:Inverter"
    assert loaded.behaviour.context == context()
    assert loaded.behaviour.options == {"gain": 2}


@pytest.mark.parametrize(
    ("block", "where", "message", "hint"),
    [
        ({}, "behaviours[0].kind", "is missing", "module:Class"),
        (
            {"kind": "termostat"},
            "behaviours[0].kind",
            "unknown behaviour 'termostat'",
            "did you mean 'thermostat'? or module:Class",
        ),
        ({"kind": "thermostat", "subject": "A b"}, "behaviours[0].subject", "'A b'", ""),
        ({"kind": "thermostat", "subject": 5}, "behaviours[0].subject", "must be text", ""),
        ({"kind": "thermostat", "noize": 1}, "behaviours[0].noize", "unknown option 'noize'", "'noise'"),
        ({"kind": "thermostat", "mean": "hot"}, "behaviours[0].mean", "must be a number", ""),
        ({"kind": "thermostat", "mean": True}, "behaviours[0].mean", "must be a number", ""),
        ({"kind": "thermostat", "mean": float("nan")}, "behaviours[0].mean", "must be a number", ""),
        (
            {"kind": "thermostat", "noise": -1},
            "behaviours[0].noise",
            "a standard deviation is not negative, got -1",
            "",
        ),
        ({"kind": "csv"}, "behaviours[0].path", "is missing", ""),
        (
            {"kind": "no_such_module_here:X"},
            "behaviours[0].kind",
            "cannot import no_such_module_here: there is no module 'no_such_module_here'",
            "PYTHONPATH",
        ),
    ],
    ids=str,
)
def test_a_mistake_is_named(block: Mapping[str, object], where: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_behaviours([block], context())
    assert caught.value.where == where
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("name", "options", "where", "message"),
    [
        ("Invertor", {}, "behaviours[0].kind", "has no class 'Invertor'"),
        ("Half", {}, "behaviours[0].kind", "has no on_outcome"),
        ("number", {}, "behaviours[0].kind", "is no behaviour"),
        ("Outside", {}, "behaviours[0].kind", "cannot run in the simulator"),
        ("Inverter", {"broken": True}, "behaviours[0]", "cannot be built: RuntimeError: no sensor"),
    ],
)
def test_a_mistake_of_a_plug_in_is_named(
    plugin: str, name: str, options: dict[str, object], where: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"kind": f"{plugin}:{name}", **options})
    assert caught.value.where == where
    assert message in caught.value.message


def test_a_module_that_fails_while_it_is_imported_is_the_users_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin_that_fails.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="cannot import plugin_that_fails: ZeroDivisionError"):
        load({"kind": "plugin_that_fails:X"})


def test_what_reads_this_machine_is_refused_in_the_simulator_by_name() -> None:
    with pytest.raises(ConfigError, match="'file'"):
        load({"kind": "file", "path": "t"})
    assert load({"kind": "file", "path": "t"}, simulated=False).loaded[0].kind == "file"


def test_there_are_not_more_behaviours_than_a_device_can_ask() -> None:
    with pytest.raises(ConfigError, match=f"at most {BEHAVIOURS_MAX}"):
        load_behaviours([{"kind": "thermostat"}] * (BEHAVIOURS_MAX + 1), context())


def test_a_built_in_says_whether_it_may_be_simulated() -> None:
    flags = {kind: getattr(make, "in_simulator", None) for kind, make in BUILT_IN.items()}
    assert flags == {"thermostat": True, "csv": True, "file": False}
    assert BUILT_IN["thermostat"] is Thermostat
