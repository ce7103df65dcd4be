"""The margin against an oracle that tries every choice of liars and every lie they can tell."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.apps.decisions.margin import majority_margin, median_margin
from swarm.apps.decisions.rules import NUMBER_RULES, OPTION_RULES
from swarm.primitives.errors import InvariantError

MAJORITY = OPTION_RULES["majority"]
MEDIAN = NUMBER_RULES["median"]


def majority_stands(ballots: Sequence[int], options: int, liars: tuple[int, ...]) -> bool:
    """Answer whether no lies of these liars give another outcome."""
    outcome = MAJORITY(ballots, options).value
    for lies in product(range(options), repeat=len(liars)):
        changed = list(ballots)
        for liar, lie in zip(liars, lies, strict=True):
            changed[liar] = lie
        if MAJORITY(changed, options).value != outcome:
            return False
    return True


def median_stands(ballots: Sequence[int], liars: tuple[int, ...], lies: Sequence[int]) -> bool:
    """Answer whether no `lies` of these liars move the outcome out of the range of the unchanged ballots."""
    unchanged = [ballot for index, ballot in enumerate(ballots) if index not in liars]
    if not unchanged:
        return False
    for told in product(lies, repeat=len(liars)):
        changed = list(ballots)
        for liar, lie in zip(liars, told, strict=True):
            changed[liar] = lie
        value = MEDIAN(changed, 0).value
        assert value is not None
        if not min(unchanged) <= value <= max(unchanged):
            return False
    return True


def oracle(count: int, stands: list[bool]) -> int:
    """Return the largest k that stands, given whether each k from 0 to count does; none stands after one that fails."""
    assert stands == sorted(stands, reverse=True), "fewer liars are never worse"
    assert len(stands) == count + 1
    return sum(stands) - 1


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_majority_margin_is_exact(data: st.DataObject) -> None:
    options = data.draw(st.integers(2, 3))
    ballots = data.draw(st.lists(st.integers(0, options - 1), min_size=1, max_size=6))
    result = MAJORITY(ballots, options)
    if result.value is None:
        assert result.margin is None
        return
    count = len(ballots)
    stands = [
        all(majority_stands(ballots, options, liars) for liars in combinations(range(count), k))
        for k in range(count + 1)
    ]

    assert result.margin == oracle(count, stands)


@settings(deadline=None, max_examples=150)
@given(ballots=st.lists(st.integers(0, 6), min_size=1, max_size=6))
def test_median_margin_is_exact(ballots: list[int]) -> None:
    # Lies below, above, and everywhere between: a lower median depends on order alone, so these are all there are.
    lies = sorted({-1, 7, *ballots})
    count = len(ballots)
    stands = [
        all(median_stands(ballots, liars, lies) for liars in combinations(range(count), k))
        for k in range(count + 1)
    ]

    assert MEDIAN(ballots, 0).margin == oracle(count, stands)


@pytest.mark.parametrize(
    ("winner", "counted", "margin"),
    [(1, 1, 0), (2, 2, 0), (2, 3, 0), (3, 3, 1), (3, 4, 0), (4, 4, 1), (20, 20, 9), (11, 20, 0), (7, 10, 1)],
)
def test_majority_margin_by_hand(winner: int, counted: int, margin: int) -> None:
    assert majority_margin(winner, counted) == margin


@pytest.mark.parametrize(
    ("counted", "margin"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (7, 3), (10, 4), (20, 9)]
)
def test_median_margin_by_hand(counted: int, margin: int) -> None:
    """A strict minority of liars cannot move a median out of the honest range: 9 of 20, not 10."""
    assert median_margin(counted) == margin


def test_there_is_no_margin_without_an_outcome() -> None:
    with pytest.raises(InvariantError):
        majority_margin(2, 4)
    with pytest.raises(InvariantError):
        median_margin(0)
