"""Scenario files: what they mean, and the key path of everything that they may not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.behaviours.behaviour import BehaviourContext
from swarm.behaviours.loader import load_behaviours
from swarm.lab.scenario import schema
from swarm.lab.scenario.parse import load_scenario, parse_scenario
from swarm.lab.scenario.schema import (
    BrokerDown,
    BrokerImpair,
    Byzantine,
    Clock,
    Clone,
    Crash,
    Cut,
    Decide,
    Disk,
    Heal,
    Latency,
    Partition,
    Restart,
    Scenario,
    Slow,
    SubmitShape,
    Wipe,
    check_engine,
)
from swarm.primitives.errors import ConfigError
from swarm.primitives.quorum import Budget

SCENARIOS = sorted((Path(__file__).resolve().parents[3] / "configs" / "scenarios").glob("*.yaml"))

FULL = """\
name: greenhouse
description: one sentence
seed: 7
duration: 30s
devices:
  voters: 4
  observers: 1
  behaviour: {kind: thermostat, mean: 21.0, noise: 0.4}
  each: {dev-3: {behaviour: {lie: 40.0}}}
budget: balanced
network: {latency: {median: 15ms, p99: 120ms}, loss: 0.1, duplicate: 0.0, reorder: 1}
disk: {sync: 3ms}
clock: {drift_ppm: 40}
cpu: none
faults:
  - {at: 5s, crash: [dev-1]}
  - {at: 9s, restart: dev-1}
  - {at: 10s, partition: [[dev-0, dev-1], [dev-2, dev-3]]}
  - {at: 12s, cut: {from: dev-0, to: [dev-2]}}
  - {at: 15s, heal: all}
  - {at: 0s, byzantine: {device: dev-3, attack: silent}}
workload:
  - {every: 500ms, decide: {subject: temperature, rule: median, scale: 2, deadline: 3s}}
  - {rate: 50/s, submit: {bytes: 200, commands: 1}, from: any}
  - {every: 2s, decide: {subject: door, rule: majority, options: [open, shut], deadline: 1s, eligible: all}, from: dev-2}
expect:
  committed_min: 20
  commit_p95_max: 800ms
  caught_up_within: 10s
  convicted: [dev-3]
  decisions: {temperature: {min: 20.5, max: 21.5, closed_min: 30}}
"""


def parse(text: str) -> Scenario:
    return parse_scenario(text, "s.yaml")


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    message = str(caught.value)
    assert "\n" not in message
    return message


def changed(old: str, new: str) -> str:
    assert FULL.count(old) == 1, old
    return FULL.replace(old, new)


def with_fault(line: str) -> str:
    """Return a scenario of four voters and 30 s whose line 5 is the one fault."""
    return f"name: x\nduration: 30s\ndevices: {{voters: 4}}\nfaults:\n  - {line}\n"


def with_work(line: str) -> str:
    return f"name: x\nduration: 30s\ndevices: {{voters: 4}}\nworkload:\n  - {line}\n"


# ------------------------------------------------------------------------------------------ legal files


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: str(path.name))
def test_every_scenario_of_the_repository_is_legal(path: Path) -> None:
    scenario = load_scenario(path)
    assert scenario.name == path.stem
    assert scenario.description
    if scenario.firmware is None:
        check_engine(scenario, "mqtt")
    if scenario.name != "this-machine":
        check_engine(scenario, "sim")


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: str(path.name))
def test_every_behaviour_of_the_repository_takes_its_options(path: Path) -> None:
    devices = load_scenario(path).devices
    context = BehaviourContext(device="dev-0", seed=1, simulated=False, now_ms=0)
    for device in devices.ids:
        block = devices.behaviour_of(device)
        if block is not None:
            assert len(load_behaviours([block], context).loaded) == 1


def test_there_are_the_scenarios_that_the_readme_names() -> None:
    assert [path.stem for path in SCENARIOS if not path.stem.startswith("firmware-")] == [
        "greenhouse",
        "lossy",
        "majority",
        "partition",
        "silent",
        "submissions",
        "this-machine",
    ]


def test_a_full_file_is_read() -> None:
    scenario = parse(FULL)
    assert (scenario.name, scenario.description, scenario.seed) == ("greenhouse", "one sentence", 7)
    assert (scenario.duration_ms, scenario.source, scenario.cpu) == (30_000, "s.yaml", "none")
    assert scenario.budget == Budget(4, 1)
    assert scenario.devices.ids == ("dev-0", "dev-1", "dev-2", "dev-3", "obs-0")
    assert scenario.network.latency == Latency(median_ms=15, p99_ms=120)
    network = scenario.network
    assert (network.loss_ppm, network.duplicate_ppm, network.reorder_ppm) == (100_000, 0, 1_000_000)
    assert (scenario.disk.sync_ms, scenario.clock.drift_ppm) == (3, 40)
    assert scenario.byzantine == ("dev-3",)


def test_faults_are_sorted_by_time_and_keep_their_number() -> None:
    assert parse(FULL).faults == (
        Byzantine(at_ms=0, order=5, device="dev-3", attack="silent"),
        Crash(at_ms=5_000, order=0, devices=("dev-1",)),
        Restart(at_ms=9_000, order=1, devices=("dev-1",)),
        Partition(at_ms=10_000, order=2, groups=(("dev-0", "dev-1"), ("dev-2", "dev-3"))),
        Cut(at_ms=12_000, order=3, sender="dev-0", receivers=("dev-2",)),
        Heal(at_ms=15_000, order=4),
    )
    assert parse(FULL).last_fault_end_ms == 15_000


def test_faults_of_one_time_keep_the_order_of_the_file() -> None:
    lines = "[{at: 1s, crash: dev-2}, {at: 1s, crash: dev-0}, {at: 1s, restart: dev-2}]"
    faults = parse(f"name: x\nduration: 9s\ndevices: {{voters: 4}}\nfaults: {lines}\n").faults
    assert [fault.order for fault in faults] == [0, 1, 2]


def test_the_workload_is_read() -> None:
    temperature, notes, door = parse(FULL).workload
    assert (temperature.count, temperature.period_ms, temperature.origin) == (1, 500, None)
    assert temperature.action == Decide(subject="temperature", rule="median", scale=2, deadline_ms=3_000)
    assert (notes.count, notes.period_ms, notes.origin) == (50_000, 1_000_000, None)
    assert notes.action == SubmitShape(bytes=200, commands=1)
    assert door.origin == "dev-2"
    assert door.action == Decide(
        subject="door", rule="majority", options=("open", "shut"), deadline_ms=1_000, eligible="all"
    )


def test_expectations_are_read() -> None:
    expect = parse(FULL).expect
    assert (expect.committed_min, expect.commit_p95_max_ms, expect.caught_up_within_ms) == (20, 800, 10_000)
    assert expect.convicted == ("dev-3",)
    wanted = expect.decisions["temperature"]
    assert (wanted.min, wanted.max, wanted.closed_min, wanted.outcome) == (20.5, 21.5, 30, None)
    assert parse(changed("convicted: [dev-3]", "convicted: []")).expect.convicted == ()


def test_a_short_file_has_defaults() -> None:
    scenario = parse("name: x\nduration: 1s\ndevices: {voters: 1}\n")
    assert (scenario.seed, scenario.description, scenario.budget) == (1, "", Budget(1, 0))
    assert (scenario.faults, scenario.workload, scenario.last_fault_end_ms) == ((), (), 0)
    assert scenario.devices.behaviour_of("dev-0") is None


def test_seed_and_duration_of_the_command_line_win() -> None:
    scenario = parse_scenario(FULL, "s.yaml", seed=99, duration_ms=60_000)
    assert (scenario.seed, scenario.duration_ms) == (99, 60_000)
    with pytest.raises(
        ConfigError, match=r"^s\.yaml:18: faults\[2\]\.at: the fault at 10s is not within the run"
    ):
        parse_scenario(FULL, "s.yaml", duration_ms=10_000)
    with pytest.raises(ConfigError, match=r"^--seed: must be 0 to"):
        parse_scenario(FULL, "s.yaml", seed=-1)
    with pytest.raises(ConfigError, match=r"^--duration: must be longer than zero"):
        parse_scenario(FULL, "s.yaml", duration_ms=0)


def test_a_devices_own_behaviour_lies_over_the_common_one() -> None:
    devices = parse(FULL).devices
    common = {"kind": "thermostat", "mean": 21.0, "noise": 0.4}
    assert devices.behaviour_of("dev-0") == common
    assert devices.behaviour_of("obs-0") == common
    assert devices.behaviour_of("dev-3") == {**common, "lie": 40.0}
    other = parse(changed("{lie: 40.0}", "{kind: csv, path: a.csv}")).devices
    assert other.behaviour_of("dev-3") == {"kind": "csv", "path": "a.csv"}


def test_paths_of_behaviours_are_relative_to_the_scenario(tmp_path: Path) -> None:
    text = FULL.replace("{lie: 40.0}", "{kind: csv, path: a.csv}")
    (tmp_path / "s.yaml").write_text(text)
    block = load_scenario(tmp_path / "s.yaml").devices.behaviour_of("dev-3")
    assert block == {"kind": "csv", "path": f"{tmp_path}/a.csv"}


@pytest.mark.parametrize(
    ("budget", "u"), [("balanced", 1), ("majority", 0), ("crash", 1), ("{u: 0}", 0), ("{u: 1}", 1)]
)
def test_budgets(budget: str, u: int) -> None:
    assert parse(changed("budget: balanced", f"budget: {budget}")).budget == Budget(4, u)


def test_a_scenario_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file or directory$"):
        load_scenario(tmp_path / "none.yaml")


# ------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # unknown or misspelt key
        ("seed: 7", "sede: 7", "3: sede: unknown key 'sede' (did you mean 'seed'?)"),
        ("voters: 4", "voter: 4", "6: devices.voter: unknown key 'voter' (did you mean 'voters'?)"),
        ("loss: 0.1", "los: 0.1", "11: network.los: unknown key 'los' (did you mean 'loss'?)"),
        (
            "median: 15ms",
            "mean: 15ms",
            "11: network.latency.mean: unknown key 'mean' (did you mean 'median'?)",
        ),
        (
            "committed_min",
            "comitted_min",
            "27: expect.comitted_min: unknown key 'comitted_min' (did you mean 'commi",
        ),
        (
            "closed_min",
            "closd_min",
            "31: expect.decisions.temperature.closd_min: unknown key 'closd_min' (did",
        ),
        ("name: greenhouse", "name: a\nname: b", "2: name: key 'name' stands twice, first in line 1"),
        # missing
        ("name: greenhouse\n", "", "1: name: is missing"),
        ("duration: 30s\n", "", "1: duration: is missing"),
        ("  voters: 4\n", "", "5: devices.voters: is missing"),
        ("subject: temperature, ", "", "23: workload[0].decide.subject: is missing"),
        # wrong type
        ("seed: 7", "seed: seven", "3: seed: must be a whole number, got 'seven'"),
        ("seed: 7", "seed: -7", "3: seed: must be 0 to 9223372036854775807, got -7"),
        ("voters: 4", "voters: '4'", "6: devices.voters: must be a whole number, got '4'"),
        ("voters: 4", "voters: 257", "6: devices.voters: must be 1 to 256, got 257"),
        ("loss: 0.1", "loss: a lot", "11: network.loss: must be a number, got 'a lot'"),
        (
            "name: greenhouse",
            "name: Green House",
            "1: name: name 'Green House' is not 1 to 32 of a-z, 0-9 and '-'",
        ),
        ("{sync: 3ms}", "3ms", "12: disk: must be a mapping of keys to values, got '3ms'"),
        ("drift_ppm: 40", "drift_ppm: 0.5", "13: clock.drift_ppm: must be a whole number, got 0.5"),
        # durations
        (
            "duration: 30s",
            "duration: 30",
            "4: duration: must be a duration, got 30 (a duration is a number with",
        ),
        ("duration: 30s", "duration: -30s", "4: duration: the duration '-30s' is negative"),
        ("duration: 30s", "duration: 0s", "4: duration: must be longer than zero"),
        ("duration: 30s", "duration: soon", "4: duration: 'soon' is no duration"),
        ("at: 5s", "at: -5s", "16: faults[0].at: the duration '-5s' is negative"),
        ("every: 500ms", "every: 0s", "23: workload[0].every: must be longer than zero"),
        ("deadline: 3s", "deadline: 8000h", "23: workload[0].decide.deadline: is longer than 168h"),
        # budget and voters
        (
            "budget: balanced",
            "budget: ballanced",
            "10: budget: unknown budget 'ballanced' (balanced, majority, crash",
        ),
        (
            "budget: balanced",
            "budget: {u: 2}",
            "10: budget.u: u = 2 with n = 4 voters gives r = n - 2u - 1 = -1; both must be >= 0 (u may be 0 to 1)",
        ),
        ("budget: balanced", "budget: {u: -1}", "10: budget.u: u = -1 with n = 4 voters"),
        ("budget: balanced", "budget: {u: one}", "10: budget.u: must be a whole number, got 'one'"),
        ("budget: balanced", "budget: 1", "10: budget: must be text, got 1"),
        ("voters: 4", "voters: 0", "6: devices.voters: must be 1 to 256, got 0"),
        ("voters: 4", "voters: -1", "6: devices.voters: must be 1 to 256, got -1"),
        # devices that do not exist
        (
            "crash: [dev-1]",
            "crash: [dev-1, dev-4]",
            "16: faults[0].crash[1]: device 'dev-4' does not exist (devices",
        ),
        ("restart: dev-1", "restart: dev-9", "17: faults[1].restart: device 'dev-9' does not exist"),
        (
            "[dev-2, dev-3]]",
            "[dev-2, dev-7]]",
            "18: faults[2].partition[1][1]: device 'dev-7' does not exist",
        ),
        ("from: dev-0, to", "from: dev-5, to", "19: faults[3].cut.from: device 'dev-5' does not exist"),
        ("to: [dev-2]", "to: dev-5", "19: faults[3].cut.to: device 'dev-5' does not exist"),
        ("device: dev-3", "device: obs-1", "21: faults[5].byzantine.device: device 'obs-1' does not exist"),
        ("each: {dev-3", "each: {dev-4", "9: devices.each.dev-4: device 'dev-4' does not exist"),
        ("from: dev-2", "from: dev-8", "25: workload[2].from: device 'dev-8' does not exist"),
        (
            "eligible: all",
            "eligible: [dev-0, x]",
            "25: workload[2].decide.eligible[1]: device 'x' does not exist",
        ),
        (
            "convicted: [dev-3]",
            "convicted: [dev-6]",
            "30: expect.convicted[0]: device 'dev-6' does not exist",
        ),
        # probabilities and latencies
        ("loss: 0.1", "loss: 1.1", "11: network.loss: a probability must be 0 to 1, got 1.1"),
        ("loss: 0.1", "loss: -1", "11: network.loss: a probability must be 0 to 1, got -1"),
        ("median: 15ms", "median: 1s", "11: network.latency.median: median 1s is above p99 120ms"),
        # cpu
        ("cpu: none", "cpu: pi5", "14: cpu: cpu 'pi5' is not supported yet by this version"),
        ("cpu: none", "cpu: pi6", "14: cpu: unknown cpu 'pi6' (did you mean"),
        # behaviours
        (
            "{lie: 40.0}",
            "{lie: [1]}",
            "9: devices.each.dev-3.behaviour.lie: must be text, a number, true or false",
        ),
        ("{lie: 40.0}", "{seed: 4}", "9: devices.each.dev-3.behaviour.seed: 'seed' is reserved"),
        ("kind: thermostat, ", "", "8: devices.behaviour.kind: is missing (a built-in kind or module:Class)"),
        (
            "  behaviour: {kind: thermostat, mean: 21.0, noise: 0.4}\n",
            "",
            "8: devices.each.dev-3.behaviour.kind: is missing (there is no common behaviour to lay it over)",
        ),
        # expectations that no run could be judged by
        (
            "caught_up_within: 10s",
            "caught_up_within: 20s",
            "29: expect.caught_up_within: is due at 35s, after the",
        ),
        (
            "{temperature: {min",
            "{temprature: {min",
            "31: expect.decisions.temprature: no workload line decides 'tem",
        ),
        ("min: 20.5", "min: 22", "31: expect.decisions.temperature: min 22 is above max 21.5"),
        (
            "closed_min: 30",
            "outcome: hot",
            "31: expect.decisions.temperature.outcome: 'hot' is no option of 'temperature' (use min and max)",
        ),
    ],
)
def test_bad_input_is_refused_with_line_and_key(old: str, new: str, expected: str) -> None:
    assert refusal(changed(old, new)).startswith(f"s.yaml:{expected}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "s.yaml: is empty"),
        ("- name: x\n", "s.yaml:1: is no mapping"),
        ("name: [x\n", "s.yaml:2: is not YAML: "),
    ],
)
def test_what_is_no_mapping_is_refused(text: str, expected: str) -> None:
    assert refusal(text).startswith(expected)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{at: 5s, crsh: dev-1}", "faults[0].crsh: unknown fault or key 'crsh' (did you mean 'crash'?)"),
        (
            "{at: 5s, earthquake: all}",
            "faults[0].earthquake: unknown fault or key 'earthquake' (known: at, broker",
        ),
        ("{at: 5s}", "faults[0]: names no fault (known: crash, restart, "),
        ("{at: 5s, crash: dev-1, heal: all}", "faults[0]: two faults in one entry: crash and heal"),
        ("{crash: dev-1}", "faults[0].at: is missing (when it happens: at: 5s)"),
        ("{at: 5, crash: dev-1}", "faults[0].at: must be a duration, got 5"),
        (
            "{at: 30s, crash: dev-1}",
            "faults[0].at: the fault at 30s is not within the run, which ends at 30s",
        ),
        ("{at: 1s, crash: dev-1, for: 3s}", "faults[0].for: fault 'crash' takes no duration"),
        ("{at: 1s, crash: []}", "faults[0].crash: is an empty list"),
        ("{at: 1s, crash: [dev-1, dev-1]}", "faults[0].crash[1]: 'dev-1' stands twice"),
        ("{at: 1s, crash: {a: b}}", "faults[0].crash: must be text, got a mapping"),
        ("{at: 1s, restart: dev-1}", "faults[0].restart: device 'dev-1' has not crashed at that time"),
        ("{at: 1s, heal: dev-1}", "faults[0].heal: unknown value 'dev-1' (known: all)"),
        ("{at: 1s, partition: []}", "faults[0].partition: has no group"),
        (
            "{at: 1s, partition: [[dev-0], [dev-0]]}",
            "faults[0].partition[1]: device 'dev-0' is in two groups",
        ),
        ("{at: 1s, cut: {from: dev-0}}", "faults[0].cut.to: is missing"),
        (
            "{at: 1s, cut: {from: dev-0, to: [dev-0]}}",
            "faults[0].cut.to: 'dev-0' cannot be cut off from itself",
        ),
        (
            "{at: 1s, byzantine: {device: dev-0, attack: rude}}",
            "faults[0].byzantine.attack: attack 'rude' is not supported by this version (supported: bad-chunks, ",
        ),
        ("crash", "faults[0]: must be a mapping of keys to values, got 'crash'"),
    ],
)
def test_bad_faults_are_refused_with_their_key(line: str, expected: str) -> None:
    assert refusal(with_fault(line)).startswith(f"s.yaml:5: {expected}")


def test_what_cannot_happen_in_this_order_is_refused() -> None:
    text = with_fault("{at: 5s, crash: dev-1}\n  - {at: 8s, crash: [dev-0, dev-1]}")
    assert refusal(text) == "s.yaml:6: faults[1].crash[1]: device 'dev-1' is down already at that time"
    text = with_fault("{at: 5s, restart: dev-1}\n  - {at: 2s, crash: dev-1}")
    assert [type(fault) for fault in parse(text).faults] == [Crash, Restart]
    text = with_fault("{at: 5s, restart: dev-1}\n  - {at: 5s, crash: dev-1}")
    assert refusal(text) == "s.yaml:5: faults[0].restart: device 'dev-1' has not crashed at that time"
    text = with_fault("{at: 0s, byzantine: {device: dev-0, attack: silent}}")
    twice = text + "  - {at: 1s, byzantine: {device: dev-0, attack: silent}}\n"
    assert refusal(twice) == "s.yaml:6: faults[1].byzantine.device: device 'dev-0' has an attacker already"


LATER = [
    ("{at: 9s, wipe: [dev-2]}", "wipe", Wipe(at_ms=9_000, order=0, devices=("dev-2",))),
    ("{at: 9s, clone: dev-2}", "clone", Clone(at_ms=9_000, order=0, device="dev-2")),
    (
        "{at: 16s, slow: {devices: [dev-2], latency: {median: 800ms, p99: 3s}}, for: 5s}",
        "slow",
        Slow(
            at_ms=16_000,
            order=0,
            for_ms=5_000,
            devices=("dev-2",),
            latency=Latency(median_ms=800, p99_ms=3_000),
        ),
    ),
    (
        "{at: 17s, disk: {devices: [dev-0], fault: torn_write}, for: 3s}",
        "disk",
        Disk(at_ms=17_000, order=0, for_ms=3_000, devices=("dev-0",), fault="torn_write"),
    ),
    (
        "{at: 18s, clock: {devices: [dev-3], jump: -1h}}",
        "clock",
        Clock(at_ms=18_000, order=0, devices=("dev-3",), jump_ms=-3_600_000),
    ),
    ("{at: 20s, broker: {down: true}, for: 2s}", "broker", BrokerDown(at_ms=20_000, order=0, for_ms=2_000)),
    (
        "{at: 25s, broker: {drop: 0.2, duplicate: 0.1, reorder: 0.1, replay: 0.1}, for: 5s}",
        "broker",
        BrokerImpair(
            at_ms=25_000,
            order=0,
            for_ms=5_000,
            drop_ppm=200_000,
            duplicate_ppm=100_000,
            reorder_ppm=100_000,
            replay_ppm=100_000,
        ),
    ),
]


@pytest.mark.parametrize(("line", "key", "fault"), LATER, ids=[entry[1] for entry in LATER])
def test_faults_that_do_not_work_yet_are_refused_by_name(
    line: str, key: str, fault: schema.Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not any(key in supported for supported in schema.SUPPORTED_FAULTS.values()):
        assert refusal(with_fault(line)) == (
            f"s.yaml:5: faults[0].{key}: fault '{key}' is not supported yet by this version"
        )
    # the line's own shape is known already, so that supporting it is one word in one table
    table = {"sim": frozenset(schema.KNOWN_FAULTS), "mqtt": frozenset({"crash"})}
    monkeypatch.setattr(schema, "SUPPORTED_FAULTS", table)
    monkeypatch.setattr("swarm.lab.scenario.faults.SUPPORTED_FAULTS", table)
    scenario = parse(with_fault(line))
    assert scenario.faults == (fault,)
    assert scenario.last_fault_end_ms == fault.end_ms
    check_engine(scenario, "sim")
    with pytest.raises(ConfigError) as caught:
        check_engine(scenario, "mqtt")
    assert str(caught.value) == (
        f"s.yaml: faults[0].{key}: fault '{key}' is not supported by engine 'mqtt' (try --engine sim)"
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "{at: 1s, slow: {devices: dev-0, latency: {median: 2s, p99: 1s}}}",
            "slow.latency.median: median 2s is ab",
        ),
        ("{at: 1s, slow: {devices: dev-0}}", "slow.latency: is missing"),
        (
            "{at: 1s, disk: {devices: dev-0, fault: torn_wirte}}",
            "disk.fault: unknown disk fault 'torn_wirte' (did",
        ),
        ("{at: 1s, broker: {down: false}}", "broker: is either down or mistreats messages"),
        ("{at: 1s, broker: {down: true, drop: 0.1}}", "broker: is either down or mistreats messages"),
        ("{at: 1s, broker: {drop: 2}}", "broker.drop: a probability must be 0 to 1, got 2"),
        ("{at: 1s, broker: {down: true}, for: 0s}", "for: must be longer than zero"),
        ("{at: 1s, clone: dev-7}", "clone: device 'dev-7' does not exist"),
        ("{at: 1s, clock: {devices: dev-0, jump: soon}}", "clock.jump: 'soon' is no duration"),
    ],
)
def test_shapes_of_later_faults_are_checked_too(
    line: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {"sim": frozenset(schema.KNOWN_FAULTS)}
    monkeypatch.setattr("swarm.lab.scenario.faults.SUPPORTED_FAULTS", table)
    assert refusal(with_fault(line)).startswith(f"s.yaml:5: faults[0].{expected}")


DECIDE = "subject: t, deadline: 3s"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            f"{{every: 1s, decide: {{{DECIDE}, rule: medain, scale: 2}}}}",
            "decide.rule: unknown rule 'medain' (did yo",
        ),
        (
            f"{{every: 1s, decide: {{{DECIDE}, rule: trimmed-mean, scale: 2}}}}",
            "decide.rule: rule 'trimmed-mean' is not supported yet by this version (supported: majority, median)",
        ),
        (
            f"{{every: 1s, decide: {{{DECIDE}, rule: unanimity, options: [a, b]}}}}",
            "decide.rule: rule 'unanimity' is",
        ),
        (
            f"{{every: 1s, decide: {{{DECIDE}, rule: median}}}}",
            "decide.scale: is missing; rule 'median' needs it",
        ),
        (
            f"{{every: 1s, decide: {{{DECIDE}, rule: majority}}}}",
            "decide.options: is missing; rule 'majority' needs",
        ),
        (
            f"{{every: 1s, decide: {{{DECIDE}, rule: median, scale: 2, options: [a, b]}}}}",
            "decide.options: rule 'median' takes no 'options', only 'scale'",
        ),
        (
            f"{{every: 1s, decide: {{{DECIDE}, rule: majority, options: [a, b], scale: 0}}}}",
            "decide.scale: rule 'majority' takes no 'scale', only 'options'",
        ),
        (
            f"{{every: 1s, decide: {{{DECIDE}, rule: majority, options: [a]}}}}",
            "decide.options: must be 2 to 32 optio",
        ),
        (
            f"{{every: 1s, decide: {{{DECIDE}, rule: majority, options: []}}}}",
            "decide.options: must be 2 to 32 option",
        ),
        (
            f"{{every: 1s, decide: {{{DECIDE}, rule: majority, options: [a, a]}}}}",
            "decide.options[1]: option 'a' stands twice",
        ),
        (
            f"{{every: 1s, decide: {{{DECIDE}, rule: median, scale: 10}}}}",
            "decide.scale: must be 0 to 9, got 10",
        ),
        (
            "{every: 1s, decide: {subject: A b, rule: median, scale: 1, deadline: 1s}}",
            "decide.subject: name 'A b' is",
        ),
        ("{every: 1s}", ": needs either 'decide' or 'submit'"),
        ("{submit: {bytes: 1}}", ": needs either 'every' or 'rate'"),
        ("{every: 1s, rate: 1/s, submit: {bytes: 1}}", ": needs either 'every' or 'rate'"),
        (
            f"{{every: 1s, submit: {{bytes: 1}}, decide: {{{DECIDE}, rule: median, scale: 2}}}}",
            ": needs either 'decide' or 'submit', not both",
        ),
        ("{rate: 50, submit: {bytes: 1}}", "rate: 50 is no rate above zero"),
        ("{rate: -1/s, submit: {bytes: 1}}", "rate: '-1/s' is no rate above zero"),
        ("{rate: 5/s, submit: {bytes: 0}}", "submit.bytes: must be 1 to 16384, got 0"),
        ("{rate: 5/s, submit: {bytes: 20000}}", "submit.bytes: must be 1 to 16384, got 20000"),
        ("{rate: 5/s, submit: {bytes: 9, commands: 65}}", "submit.commands: must be 1 to 64, got 65"),
        (
            "{rate: 5/s, submit: {bytes: 9000, commands: 9}}",
            "submit: 9 commands of 9000 bytes are 81000, at most",
        ),
        ("{rate: 5/s, submit: {byte: 9}}", "submit.byte: unknown key 'byte' (did you mean 'bytes'?)"),
    ],
)
def test_bad_workloads_are_refused_with_their_key(line: str, expected: str) -> None:
    dot = "" if expected.startswith(":") else "."
    assert refusal(with_work(line)).startswith(f"s.yaml:5: workload[0]{dot}{expected}")


def test_every_rule_of_the_contract_is_known() -> None:
    rules = (*schema.OPTION_RULES, *schema.NUMBER_RULES)
    assert sorted(rules) == [
        "approval",
        "majority",
        "median",
        "plurality",
        "supermajority",
        "trimmed-mean",
        "unanimity",
    ]
    for rule in set(rules) - set(schema.SUPPORTED_RULES):
        message = refusal(with_work(f"{{every: 1s, decide: {{{DECIDE}, rule: {rule}}}}}"))
        assert f"rule '{rule}' is not supported yet by this version" in message


# ------------------------------------------------------------------------------------------ engines


def test_the_simulator_refuses_a_behaviour_that_reads_this_machine() -> None:
    own = parse(changed("{lie: 40.0}", "{kind: file, path: /proc/loadavg, field: 0, factor: 1}"))
    with pytest.raises(ConfigError) as caught:
        check_engine(own, "sim")
    assert str(caught.value) == (
        "s.yaml: devices.each.dev-3.behaviour.kind: behaviour 'file' reads this machine and is not supported "
        "by engine 'sim' (try --engine mqtt)"
    )
    check_engine(own, "mqtt")
    common = parse("name: x\nduration: 1s\ndevices: {voters: 1, behaviour: {kind: file}}\n")
    with pytest.raises(ConfigError, match=r"^s\.yaml: devices\.behaviour\.kind: "):
        check_engine(common, "sim")


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^--engine: unknown engine 'sin' \(sim or mqtt\)"):
        check_engine(parse(FULL), "sin")
