"""The strict YAML reader: what it refuses, and that every refusal names file, line and key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.primitives.errors import ConfigError
from swarm.primitives.limits import DURATION_MS_MAX, SETTINGS_BYTES_MAX
from swarm.primitives.settings import (
    Between,
    DurationMs,
    Names,
    Node,
    Options,
    PositiveMs,
    Ppm,
    RateMilli,
    SignedMs,
    convert,
    format_duration_ms,
    parse_duration_ms,
    read_mapping,
)


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    at_ms: DurationMs = msgspec.field(name="at")
    crash: Names | None = None


class Outer(msgspec.Struct, frozen=True, kw_only=True):
    name: str = "none"
    count: Annotated[int, Between(1, 9)] = 1
    share: float = 0.5
    on: bool = False
    kind: Literal["red", "green"] = "red"
    loss: Ppm = 0
    rate: RateMilli = 1
    wait: PositiveMs = 1
    jump: SignedMs = 0
    options: Options = {}
    choice: str | Inner = "plain"
    faults: tuple[Inner, ...] = ()
    each: Mapping[str, Inner] = {}
    raw: Node | None = None


def read(text: str) -> Outer:
    return convert(read_mapping(text, "f.yaml"), Outer)


def message_of(text: str) -> str | None:
    """Return the complaint about `text`, None if it is read; any other exception fails the test."""
    try:
        read(text)
    except ConfigError as error:
        return str(error)
    return None


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    return message


def test_every_kind_of_value_is_read() -> None:
    text = """
name: greenhouse
count: 3
share: 1
on: true
kind: green
loss: 0.25
rate: 0.5/s
wait: 1.5s
jump: -1h
options: {kind: csv, factor: 0.001, lie: true}
choice: {at: 5s}
faults: [{at: 0s, crash: dev-1}, {at: 2m, crash: [dev-1, dev-2]}]
each: {dev-3: {at: 250ms}}
"""
    found = read(text)
    assert (found.name, found.count, found.share, found.on, found.kind) == (
        "greenhouse",
        3,
        1.0,
        True,
        "green",
    )
    assert (found.loss, found.rate, found.wait, found.jump) == (250_000, 500, 1_500, -3_600_000)
    assert found.options == {"kind": "csv", "factor": 0.001, "lie": True}
    assert found.choice == Inner(at_ms=5_000)
    assert found.faults == (Inner(at_ms=0, crash=("dev-1",)), Inner(at_ms=120_000, crash=("dev-1", "dev-2")))
    assert found.each == {"dev-3": Inner(at_ms=250)}


def test_defaults_apply_to_keys_left_out() -> None:
    assert read("name: x") == Outer(name="x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "f.yaml: is empty; a mapping of keys to values is needed"),
        ("# only a comment\n", "f.yaml: is empty; a mapping of keys to values is needed"),
        ("- a\n- b\n", "f.yaml:1: is no mapping; keys with values are needed (`name: greenhouse`)"),
        ("just text", "f.yaml:1: is no mapping; keys with values are needed (`name: greenhouse`)"),
        ("name: x\n\nname: y\n", "f.yaml:3: name: key 'name' stands twice, first in line 1"),
        ("1: x\n", "f.yaml:1: a key must be text"),
        ("[a]: x\n", "f.yaml:1: a key must be text"),
        ("name:\n", "f.yaml:1: name: has no value"),
        ("name: x\ncoutn: 3\n", "f.yaml:2: coutn: unknown key 'coutn' (did you mean 'count'?)"),
        ("count: four\n", "f.yaml:1: count: must be a whole number, got 'four'"),
        ("count: 1.5\n", "f.yaml:1: count: must be a whole number, got 1.5"),
        ("count: true\n", "f.yaml:1: count: must be a whole number, got true"),
        ("count: 010\n", "f.yaml:1: count: must be a whole number, got '010'"),
        ("count: 0x10\n", "f.yaml:1: count: must be a whole number, got '0x10'"),
        ("count: 1:30\n", "f.yaml:1: count: must be a whole number, got '1:30'"),
        ("count: 10\n", "f.yaml:1: count: must be 1 to 9, got 10"),
        (f"count: {2**63}\n", f"f.yaml:1: count: must be 1 to 9, got {2**63}"),
        (f"count: -{10**22}\n", f"f.yaml:1: count: must be 1 to 9, got -{10**22}"),
        (f"count: 1{'0' * 5000}\n", f"f.yaml:1: count: must be 1 to 9, got 1{'0' * 54}..."),
        ("share: .inf\n", "f.yaml:1: share: must be a number, got '.inf'"),
        ("share: .nan\n", "f.yaml:1: share: must be a number, got '.nan'"),
        ("on: yes\n", "f.yaml:1: on: must be true or false, got 'yes'"),
        ("name: 5\n", "f.yaml:1: name: must be text, got 5 (put it into quotes)"),
        ("name: [x]\n", "f.yaml:1: name: must be text, got a list"),
        ("kind: gren\n", "f.yaml:1: kind: unknown value 'gren' (did you mean 'green'?)"),
        ("kind: violet\n", "f.yaml:1: kind: unknown value 'violet' (known: green, red)"),
        ("loss: 1.5\n", "f.yaml:1: loss: a probability must be 0 to 1, got 1.5"),
        ("loss: -0.1\n", "f.yaml:1: loss: a probability must be 0 to 1, got -0.1"),
        ("loss: half\n", "f.yaml:1: loss: must be a number, got 'half'"),
        ("rate: 50\n", "f.yaml:1: rate: 50 is no rate above zero (events a second: 50/s, 0.5/s)"),
        ("rate: 0/s\n", "f.yaml:1: rate: '0/s' is no rate above zero (events a second: 50/s, 0.5/s)"),
        ("rate: -5/s\n", "f.yaml:1: rate: '-5/s' is no rate above zero (events a second: 50/s, 0.5/s)"),
        ("options: {a: [1]}\n", "f.yaml:1: options.a: must be text, a number, true or false, got a list"),
        ("options: 3\n", "f.yaml:1: options: must be a mapping of keys to values, got 3"),
        ("choice: [1]\n", "f.yaml:1: choice: got a list, which means nothing here"),
        ("faults: {at: 1s}\n", "f.yaml:1: faults: must be a list, got a mapping"),
        ("faults:\n  - {at: 1s}\n  - crash: dev-1\n", "f.yaml:3: faults[1].at: is missing"),
        (
            "faults:\n- {at: 1s}\n- at: 2s\n  crahs: x\n",
            "f.yaml:4: faults[1].crahs: unknown key 'crahs' (did you mean 'crash'?)",
        ),
        ("faults: [{at: 1s, crash: []}]\n", "f.yaml:1: faults[0].crash: is an empty list"),
        ("faults: [{at: 1s, crash: [a, a]}]\n", "f.yaml:1: faults[0].crash[1]: 'a' stands twice"),
        (
            "faults: [{at: 1s, crash: Dev_1}]\n",
            "f.yaml:1: faults[0].crash: name 'Dev_1' is not 1 to 32 of a-z, 0-9 and '-'",
        ),
        ("each: {dev-3: {at: 1}}\n", "f.yaml:1: each.dev-3.at: must be a duration, got 1"),
        (
            "name: &a x\nchoice: *a\n",
            "f.yaml:1: choice: anchors and aliases are not supported; write the value out",
        ),
        ('"a\\nb": 1\n', "f.yaml:1: 'a\\nb': unknown key 'a\\nb'"),
        ("<<: {name: x}\n", "f.yaml:1: <<: unknown key '<<'"),
        (
            "name: !!python/name:os.system\n",
            "f.yaml:1: name: the tag 'tag:yaml.org,2002:python/name:os.system'",
        ),
        ("options: !!set {a, b}\n", "f.yaml:1: options: the tag 'tag:yaml.org,2002:set' is not supported"),
        ("name: !mine x\n", "f.yaml:1: name: the tag '!mine' is not supported"),
        ("name: [x\nb: 1\n", "f.yaml:2: is not YAML: "),
        ("name: x: y\n", "f.yaml:1: is not YAML: mapping values are not allowed here"),
        ("a: 1\n--- \nb: 2\n", "f.yaml:2: is not YAML: but found another document"),
        ("name: 'a\n", "f.yaml:2: is not YAML: "),
        ("name: *nobody\n", "f.yaml:1: is not YAML: "),
        ("name: \x00\n", "f.yaml: is not YAML: "),
    ],
)
def test_bad_input_is_refused_with_its_place(text: str, expected: str) -> None:
    assert refusal(text).startswith(expected)


def test_an_alias_bomb_and_deep_nesting_are_refused_quickly() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    assert "aliases are not supported" in refusal(bomb)
    assert refusal("name: " + "[" * 20_000) == "f.yaml: is nested too deeply"
    assert (
        refusal("name: " + "x" * SETTINGS_BYTES_MAX) == f"f.yaml: is larger than {SETTINGS_BYTES_MAX} bytes"
    )


def test_a_date_and_a_quoted_number_are_text() -> None:
    assert read("name: 2024-01-02").name == "2024-01-02"
    assert read('name: "5"').name == "5"
    assert read("name: on").name == "on"


def test_locate_names_a_key_that_is_not_there_with_the_nearest_line() -> None:
    root = read_mapping("a: 1\nb:\n  - x\n  - {c: 2}\n", "f.yaml")
    assert root.where == "f.yaml:1"
    assert root.locate("b", 1, "c") == "f.yaml:4: b[1].c"
    assert root.locate("b", 1, "d", "e") == "f.yaml:4: b[1].d.e"
    assert root.locate("b", 7) == "f.yaml:2: b[7]"
    assert root.locate("b", 7, "c") == "f.yaml:2: b[7].c"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0s", 0),
        ("250ms", 250),
        ("5s", 5_000),
        ("2m", 120_000),
        ("1h", 3_600_000),
        ("1.5s", 1_500),
        ("0.001s", 1),
    ],
)
def test_durations(text: str, expected: int) -> None:
    assert parse_duration_ms(text, "--duration") == expected


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "-5s", "5 s", "5S", "1h30m", "1e3s", "five", "0.5ms", "5s\n", "1001h1", "99999999h", "٣s"],
)
def test_bad_durations_are_refused_with_their_place(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_duration_ms(text, "--duration")
    assert str(caught.value).startswith("--duration: ")
    assert "\n" not in str(caught.value)


def test_a_bad_duration_shows_how_one_is_written() -> None:
    assert refusal("wait: 5") == (
        "f.yaml:1: wait: must be a duration, got 5 (a duration is a number with its unit: 250ms, 5s, 2m, 1h)"
    )
    assert "the duration '-5s' is negative" in refusal("wait: -5s")
    assert "must be longer than zero" in refusal("wait: 0s")


def test_durations_are_shown_in_the_largest_whole_unit() -> None:
    shown = [format_duration_ms(duration_ms) for duration_ms in (0, 1, 1_000, 90_000, 120_000, 3_600_000)]
    assert shown == ["0s", "1ms", "1s", "90s", "2m", "1h"]


@given(st.integers(0, DURATION_MS_MAX))
@settings(deadline=None)
def test_a_formatted_duration_reads_back(duration_ms: int) -> None:
    assert parse_duration_ms(format_duration_ms(duration_ms), "x") == duration_ms


@given(st.text(max_size=200))
@settings(deadline=None, max_examples=300)
def test_garbage_is_read_or_refused_on_one_line(text: str) -> None:
    message = message_of(text)
    assert message is None or (message.startswith("f.yaml") and len(message.splitlines()) == 1)


_keys = st.sampled_from(["name", "count", "faults", "each", "choice", "loss", "nmae", "at", "crash", "raw"])
_trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["5s", "dev-1", "x", "-1h"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_keys, _trees, max_size=4))
@settings(deadline=None, max_examples=200)
def test_any_tree_is_converted_or_refused_on_one_line(tree: dict[str, object]) -> None:
    text = msgspec.json.encode(tree).decode()
    message = message_of(text)
    assert message is None or (message.startswith("f.yaml") and len(message.splitlines()) == 1)
