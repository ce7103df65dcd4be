"""The rules: what ballots come to, in which words, and that order among ballots does not matter to the value."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.apps.application import Rejected
from swarm.apps.decisions.rules import (
    PLANNED_RULES,
    DecisionView,
    Outcome,
    ballot_in_words,
    check_rule,
    decide,
    decision_id,
    default_minimum,
)

NUMBER = DecisionView(
    id=bytes(32),
    subject="temperature",
    rule="median",
    options=(),
    scale=2,
    eligible=tuple(f"dev-{i}" for i in range(8)),
    minimum=4,
    deadline_ms=1000,
    opened_height=3,
    opened_by="ops",
    ballots=(),
)
DOOR = msgspec.structs.replace(
    NUMBER, subject="door", rule="majority", options=("open", "closed", "ajar"), scale=0
)


def outcome_of(view: DecisionView, *ballots: int | None) -> Outcome:
    named = tuple((f"dev-{index}", ballot) for index, ballot in enumerate(ballots))
    return decide(msgspec.structs.replace(view, ballots=named), 9)


@pytest.mark.parametrize(
    ("ballots", "value", "margin"),
    [
        ((5, 1, 9, 3), 3, 1),
        ((5, 1, 9, 3, 4), 4, 2),
        ((2135, 2140, 2130, 4000), 2135, 1),
        ((-7, -7, 0, 0), -7, 1),
        ((1, None, 2, None, 3, 4), 2, 1),
    ],
)
def test_the_median_is_the_lower_one(ballots: tuple[int | None, ...], value: int, margin: int) -> None:
    outcome = outcome_of(NUMBER, *ballots)

    assert (outcome.kind, outcome.value, outcome.margin, outcome.reason) == ("number", value, margin, "")


@pytest.mark.parametrize(
    ("ballots", "value", "margin"),
    [((0, 0, 0, 1), 0, 0), ((1, 1, 1, 1, 1), 1, 2), ((2, 2, 2, None, 0, None), 2, 0), ((0,) * 8, 0, 3)],
)
def test_a_majority_is_more_than_half_of_the_ballots_cast(
    ballots: tuple[int | None, ...], value: int, margin: int
) -> None:
    outcome = outcome_of(DOOR, *ballots)

    assert (outcome.kind, outcome.value, outcome.margin, outcome.reason) == ("option", value, margin, "")


@pytest.mark.parametrize(
    ("ballots", "reason"),
    [
        ((0, 0, 1, 1), "tie: 2 options with 2 ballots each"),
        ((0, 0, 1, 1, 2, 2), "tie: 3 options with 2 ballots each"),
        ((0, 0, 1, 2), "no majority: the first option has 2 of 4 ballots"),
        ((0, 0, 0), "too few ballots: 3 of at least 4"),
        ((0, 0, 0, None, None, None, None, None), "too few ballots: 3 of at least 4"),
        ((), "too few ballots: 0 of at least 4"),
        ((None,) * 8, "too few ballots: 0 of at least 4"),
    ],
)
def test_undecided_is_an_outcome_with_its_reason(ballots: tuple[int | None, ...], reason: str) -> None:
    outcome = outcome_of(DOOR, *ballots)

    assert (outcome.kind, outcome.value, outcome.margin, outcome.reason) == ("undecided", None, None, reason)


@settings(deadline=None)
@given(ballots=st.lists(st.none() | st.integers(0, 2), max_size=8), data=st.data())
def test_the_order_of_ballots_changes_neither_value_nor_margin(
    ballots: list[int | None], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(ballots))
    for view in (NUMBER, DOOR):
        one, other = outcome_of(view, *ballots), outcome_of(view, *shuffled)
        assert (one.kind, one.value, one.margin, one.reason) == (
            other.kind,
            other.value,
            other.margin,
            other.reason,
        )


@settings(deadline=None)
@given(ballots=st.lists(st.integers(-(2**63 - 1), 2**63 - 1), min_size=4, max_size=8))
def test_a_median_is_one_of_the_ballots_and_halves_them(ballots: list[int]) -> None:
    value = outcome_of(NUMBER, *ballots).value

    assert value in ballots
    assert sum(ballot < value for ballot in ballots) <= (len(ballots) - 1) // 2
    assert sum(ballot > value for ballot in ballots) <= len(ballots) // 2


def test_an_outcome_carries_what_a_proof_should_say() -> None:
    outcome = outcome_of(NUMBER, 4, None, 2, 3, 9)

    assert outcome.ballots == (("dev-0", 4), ("dev-1", None), ("dev-2", 2), ("dev-3", 3), ("dev-4", 9))
    assert (outcome.counted, outcome.eligible) == (4, 8)
    assert (outcome.opened_height, outcome.closed_height, outcome.opened_by) == (3, 9, "ops")


def test_half_rounded_up_is_the_fewest_by_default() -> None:
    assert [default_minimum(eligible) for eligible in range(1, 8)] == [1, 1, 2, 2, 3, 3, 4]
    for eligible in range(1, 50):
        fewest = default_minimum(eligible)
        assert 2 * fewest >= eligible, "not fewer than half"
        assert 2 * (fewest - 1) < eligible, "and no more than needed"


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (
            outcome_of(NUMBER, 2135, 2140, 2130, 4000),
            "temperature = 21.35 by median; 4 of 8 eligible balloted; 1 of the 4 may be lies without turning it",
        ),
        (
            outcome_of(DOOR, 0, 0, 0, 1, None),
            "door = open by majority; 4 of 8 eligible balloted; one lie could have turned it",
        ),
        (
            outcome_of(DOOR, 0, 0, 1, 1),
            "door is undecided by majority: tie: 2 options with 2 ballots each; 4 of 8 eligible balloted",
        ),
    ],
    ids=["number", "option", "undecided"],
)
def test_an_outcome_in_words(outcome: Outcome, words: str) -> None:
    assert outcome.in_words() == words


@pytest.mark.parametrize(
    ("ballot", "scale", "words"),
    [
        (2135, 2, "21.35"),
        (-5, 2, "-0.05"),
        (0, 3, "0.000"),
        (7, 0, "7"),
        (-120, 1, "-12.0"),
        (10**9, 9, "1.000000000"),
    ],
)
def test_a_number_in_words(ballot: int, scale: int, words: str) -> None:
    assert ballot_in_words(ballot, (), scale) == words


def test_an_option_in_words() -> None:
    assert ballot_in_words(1, ("a", "b"), 0) == "b"
    assert ballot_in_words(7, ("a", "b"), 0) == "option 7"


def test_the_id_of_a_decision_is_laid_out_as_the_protocol_says() -> None:
    assert decision_id(b"s" * 32, 258) == hashlib.sha256(b"s" * 32 + b"\x01\x02").digest()


@pytest.mark.parametrize("rule", PLANNED_RULES)
@pytest.mark.parametrize("options", [0, 2])
def test_a_planned_rule_is_refused_by_name(rule: str, options: int) -> None:
    with pytest.raises(Rejected, match=f"rule {rule} is not supported yet"):
        check_rule(rule, options=options)


@pytest.mark.parametrize(
    ("rule", "options", "words"),
    [
        ("median", 2, "rule median is for numbers"),
        ("majority", 0, "rule majority is for options"),
        ("dictator", 2, "unknown rule dictator"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(rule: str, options: int, words: str) -> None:
    with pytest.raises(Rejected, match=words):
        check_rule(rule, options=options)


def test_a_view_knows_who_has_balloted() -> None:
    view = msgspec.structs.replace(NUMBER, ballots=(("dev-1", 5), ("dev-2", None)))

    assert view.ballot_of("dev-1") == (5,)
    assert view.ballot_of("dev-2") == (None,)
    assert view.ballot_of("dev-3") is None
    assert [view.is_open_for(device) for device in ("dev-1", "dev-2", "dev-3", "ops")] == [
        False,
        False,
        True,
        False,
    ]
