"""Results: the fields of the contract, percentiles, the judgement, and who stands apart."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from swarm.lab.scenario.parse import parse_scenario
from swarm.lab.scenario.result import (
    BudgetRow,
    CommitMs,
    Committed,
    DecisionRow,
    DeviceRow,
    ExpectationRow,
    Messages,
    Result,
    Suspect,
    Views,
    check_expectations,
    commit_ms_of,
    exit_code,
    judged,
    name_suspects,
    percentile,
    plain_number,
    result_from_json,
)
from swarm.lab.scenario.schema import Scenario
from swarm.lab.scenario.table import render
from swarm.primitives.errors import ConfigError

SCENARIO = """\
name: greenhouse
duration: 30s
devices: {voters: 4}
faults:
  - {at: 12s, crash: [dev-1]}
  - {at: 18s, restart: [dev-1]}
  - {at: 0s, byzantine: {device: dev-2, attack: silent}}
workload:
  - {every: 500ms, decide: {subject: temperature, rule: median, scale: 2, deadline: 3s}}
  - {every: 500ms, decide: {subject: door, rule: majority, options: [open, shut], deadline: 3s}}
expect:
"""


def scenario(expect: str) -> Scenario:
    return parse_scenario(f"{SCENARIO}  {expect}\n", "s.yaml")


def decision(**changes: Any) -> DecisionRow:
    row = DecisionRow(
        subject="temperature",
        rule="median",
        outcome=21.1,
        margin=1,
        ballots={"dev-0": 21.1, "dev-1": 20.8, "dev-2": 21.3, "dev-3": 40.0},
        opened_ms=500,
        closed_ms=620,
        height=3,
        scale=2,
    )
    return msgspec.structs.replace(row, **changes)


def result(**changes: Any) -> Result:
    row = DeviceRow(role="voter", up=True, byzantine=False, height=9, log_size=31, log_root="ab" * 32)
    found = Result(
        scenario="greenhouse",
        engine="sim",
        seed=7,
        version="0.1.0",
        duration_ms=30_000,
        wall_s=1.5,
        trace_digest="cd" * 32,
        budget=BudgetRow(n=4, u=1, r=1, q=3),
        devices={f"dev-{number}": row for number in range(4)},
        agreement=True,
        forks=0,
        committed=Committed(submissions=25, commands=25, blocks=20),
        throughput_per_s=0.8,
        commit_ms=CommitMs(p50=80.0, p95=200.0, p99=300.0, max=310.0, count=25),
        messages=Messages(published=900, delivered=2_700, dropped=0, bytes_published=123_456),
        views=Views(entered=22, skipped=2),
        convicted=(),
        decisions=(decision(),),
        invariants={"agreement": "held", "one_vote": "held"},
        caught_up_ms=400,
    )
    return msgspec.structs.replace(found, **changes)


# ------------------------------------------------------------------------------------------ result.json


def test_the_json_has_the_fields_of_the_contract() -> None:
    found = json.loads(result().to_json())
    contract = """scenario engine seed version duration_ms wall_s trace_digest budget devices agreement forks committed
        throughput_per_s commit_ms messages views convicted decisions firmware invariants expectations"""
    assert set(contract.split()) <= set(found)
    assert set(found["budget"]) == {"n", "u", "r", "q"}
    assert set(found["devices"]["dev-0"]) == {"role", "up", "byzantine", "height", "log_size", "log_root"}
    assert set(found["committed"]) == {"submissions", "commands", "blocks"}
    assert set(found["commit_ms"]) == {"p50", "p95", "p99", "max", "count"}
    assert set(found["messages"]) == {"published", "delivered", "dropped", "bytes_published"}
    assert set(found["views"]) == {"entered", "skipped"}
    fields = {"subject", "rule", "outcome", "margin", "ballots", "opened_ms", "closed_ms", "height", "proof"}
    assert fields <= set(found["decisions"][0])


def test_the_json_reads_back_and_is_canonical() -> None:
    found = result(
        decisions=(decision(), decision(outcome=None, reason="tie", margin=None), decision(outcome="open"))
    )
    assert result_from_json(found.to_json(), "result.json") == found
    turned = msgspec.structs.replace(found, devices=dict(reversed(list(found.devices.items()))))
    assert turned.to_json() == found.to_json()
    assert found.to_json().endswith("}\n")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"scenario": 5}', "\x00"])
def test_what_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^result\.json: is no result: "):
        result_from_json(text, "result.json")


def test_plain_numbers() -> None:
    assert [plain_number(2110, 2), plain_number(-5, 1), plain_number(7, 0)] == [21.1, -0.5, 7.0]


# ------------------------------------------------------------------------------------------ percentiles


def test_percentiles_are_the_nearest_rank() -> None:
    # the example of every textbook on the nearest-rank method
    assert [percentile([15, 20, 35, 40, 50], percent) for percent in (0, 5, 30, 40, 50, 100)] == [
        15,
        15,
        20,
        20,
        35,
        50,
    ]
    assert percentile([], 50) is None
    assert percentile([7], 99) == 7
    assert percentile(list(range(1, 101)), 95) == 95


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 100))
@settings(deadline=None)
def test_a_percentile_is_the_smallest_value_with_enough_values_at_or_below(
    values: list[int], percent: int
) -> None:
    ordered = sorted(values)
    found = percentile(ordered, percent)
    enough = [v for v in ordered if 100 * sum(w <= v for w in ordered) >= percent * len(ordered)]
    assert found == enough[0]


def test_latencies_come_in_any_order() -> None:
    assert commit_ms_of([30.0, 10.0, 20.0]) == CommitMs(p50=20.0, p95=30.0, p99=30.0, max=30.0, count=3)
    assert commit_ms_of([]) == CommitMs(p50=None, p95=None, p99=None, max=None, count=0)


# ------------------------------------------------------------------------------------------ judgement


@pytest.mark.parametrize(
    ("expect", "changes", "actual", "held"),
    [
        ("committed_min: 25", {}, "25", True),
        ("committed_min: 26", {}, "25", False),
        ("commit_p95_max: 200ms", {}, "200ms", True),
        ("commit_p95_max: 199ms", {}, "200ms", False),
        ("commit_p95_max: 1s", {"commit_ms": commit_ms_of([])}, "no commit", False),
        ("caught_up_within: 400ms", {}, "400ms", True),
        ("caught_up_within: 399ms", {}, "400ms", False),
        ("caught_up_within: 10s", {"caught_up_ms": None}, "never", False),
        ("convicted: []", {}, "[]", True),
        ("convicted: [dev-2]", {}, "[]", False),
        ("convicted: [dev-2]", {"convicted": ("dev-2",)}, "[dev-2]", True),
        ("convicted: [dev-2]", {"convicted": ("dev-2", "dev-0")}, "[dev-0, dev-2]", False),
        ("convicted: []", {"convicted": ("dev-0",)}, "[dev-0]", False),
        ("decisions: {temperature: {closed_min: 1}}", {}, "1", True),
        ("decisions: {temperature: {closed_min: 2}}", {}, "1", False),
        ("decisions: {temperature: {closed_min: 1}}", {"decisions": (decision(outcome=None),)}, "0", False),
        ("decisions: {temperature: {min: 21.1}}", {}, "21.1", True),
        ("decisions: {temperature: {min: 21.2}}", {}, "21.1", False),
        (
            "decisions: {temperature: {min: 20}}",
            {"decisions": (decision(), decision(outcome=3.0))},
            "3",
            False,
        ),
        ("decisions: {temperature: {max: 21.1}}", {}, "21.1", True),
        ("decisions: {temperature: {max: 21}}", {}, "21.1", False),
        ("decisions: {temperature: {max: 50}}", {"decisions": ()}, "no outcome", False),
        ("decisions: {door: {outcome: open}}", {}, "no outcome", False),
        (
            "decisions: {door: {outcome: open}}",
            {"decisions": (decision(subject="door", outcome="open"),)},
            "open",
            True,
        ),
        (
            "decisions: {door: {outcome: open}}",
            {
                "decisions": (
                    decision(subject="door", outcome="open"),
                    decision(subject="door", outcome="shut"),
                )
            },
            "shut",
            False,
        ),
    ],
)
def test_expectations_are_judged(expect: str, changes: dict[str, Any], actual: str, held: bool) -> None:
    (row,) = check_expectations(result(**changes), scenario(expect))
    assert (row.actual, row.held) == (actual, held)
    assert re.split("[:.]", row.expect)[0] == re.split("[:.]", expect)[0]
    assert exit_code(judged(result(**changes), scenario(expect))) == (0 if held else 1)


def test_nothing_expected_is_nothing_judged() -> None:
    assert check_expectations(result(), scenario("{}")) == ()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"agreement": False}, 1),
        ({"forks": 1}, 1),
        ({"invariants": {"one_vote": "violated: dev-0 in view 3"}}, 1),
        ({"expectations": (ExpectationRow(expect="a: 1", actual="0", held=False),)}, 1),
        ({"expectations": (ExpectationRow(expect="a: 1", actual="1", held=True),)}, 0),
    ],
)
def test_the_exit_code(changes: dict[str, Any], code: int) -> None:
    assert exit_code(result(**changes)) == code


# ------------------------------------------------------------------------------------------ suspects


def test_the_liar_is_named() -> None:
    rows = [
        decision(),
        decision(),
        decision(outcome=20.9, ballots={"dev-0": 21.1, "dev-2": 20.9, "dev-3": 40.0}),
    ]
    assert name_suspects(rows) == (
        Suspect(subject="temperature", device="dev-3", apart=3, balloted=3, typical=40.0),
    )


@pytest.mark.parametrize(
    "rows",
    [
        [],
        # nobody far off
        [decision(ballots={"dev-0": 21.1, "dev-1": 20.8, "dev-2": 21.3})] * 9,
        # exactly three times as far is not more than three times
        [decision(outcome=21.0, ballots={"dev-0": 21.0, "dev-1": 20.9, "dev-2": 21.3})] * 9,
        # equal readings: a few units of the last place are no lie
        [decision(outcome=21.0, ballots={"dev-0": 21.0, "dev-1": 21.0, "dev-2": 21.03, "dev-3": 21.0})] * 9,
        # two ballots
        [decision(outcome=21.0, ballots={"dev-0": 21.0, "dev-3": 40.0, "dev-1": None})] * 9,
        # undecided, and options
        [decision(outcome=None)] * 9,
        [decision(outcome="open", ballots={"dev-0": "open", "dev-1": "open", "dev-2": "shut"})] * 9,
        # two who lie alike hide each other: it is a hint, no more
        [decision(outcome=21.3, ballots={"dev-0": 21.1, "dev-1": 21.3, "dev-2": 40.0, "dev-3": 40.0})] * 9,
        # twice may be chance
        [decision()] * 2,
        # three of seven decisions are bad readings
        [decision()] * 3 + [decision(ballots={"dev-0": 21.1, "dev-1": 20.9, "dev-3": 21.2})] * 4,
    ],
)
def test_nobody_is_named_without_reason(rows: list[DecisionRow]) -> None:
    assert name_suspects(rows) == ()


def test_half_of_the_decisions_that_it_took_part_in_are_enough() -> None:
    fair = decision(ballots={"dev-0": 21.1, "dev-1": 20.9, "dev-3": 21.2})
    away = decision(ballots={"dev-0": 21.1, "dev-1": 20.9, "dev-2": 21.2})
    (suspect,) = name_suspects([*[decision()] * 3, *[fair] * 3, *[away] * 9])
    assert (suspect.device, suspect.apart, suspect.balloted) == ("dev-3", 3, 6)


def test_subjects_are_judged_apart() -> None:
    rows = [decision()] * 3 + [decision(subject="humidity")] * 4
    assert [(s.subject, s.device, s.apart) for s in name_suspects(rows)] == [
        ("humidity", "dev-3", 4),
        ("temperature", "dev-3", 3),
    ]


# ------------------------------------------------------------------------------------------ table


def printed(found: Result, of: Scenario | None = None) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(render(found, of))
    return capture.get()


def test_the_table_names_the_liar_and_shows_kill_and_return() -> None:
    wanted = scenario("committed_min: 20")
    text = printed(judged(result(decisions=(decision(),) * 7), wanted), wanted)
    assert re.search(r"dev-3 +│ temperature +│ +7 of 7 +│ +40", text)
    assert "Suspects: a hint, no evidence" in text
    assert "Convicted by evidence: nobody" in text
    assert "killed at 12s, back at 18s" in text
    assert "byzantine from 0s: silent" in text
    assert re.search(r"temperature +│ +7 +│ median +│ +21\.10 +│ +1 +│ 120ms", text)
    assert "up to 1 voter may lie without breaking agreement" in text
    assert re.search(r"committed_min: 20 +│ 25 +│ yes", text)
    assert "Everything held." in text


def test_the_table_of_a_bad_run_says_so() -> None:
    wanted = scenario("committed_min: 99")
    bad = result(agreement=False, forks=1, invariants={"one_vote": "violated: dev-0 in view 3"}, decisions=())
    text = printed(judged(bad, wanted))
    assert re.search(r"committed_min: 99 +│ 25 +│ NO", text)
    assert "agreement violated: 1 forks" in text
    assert "one_vote violated: dev-0 in view 3" in text
    assert "Not everything held." in text
    assert "Suspects: none stood apart." in text


def test_text_of_devices_cannot_change_the_markup() -> None:
    row = decision(
        subject="[red]x[/red]", rule="[bold]", outcome=None, reason="[/] tie", ballots={"[blink]": None}
    )
    text = printed(result(decisions=(row,), convicted=("[b]dev",), scenario="[u]name"))
    for raw in ("[red]x[/red]", "[bold]", "undecided: [/] tie", "[blink]: abstained", "[b]dev", "[u]name"):
        assert raw in text
