"""The fault budget: the table of PROTOCOL section 1, and the arithmetic behind it for every n."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.primitives.errors import ConfigError
from swarm.primitives.quorum import PRESETS, Budget, budget_of

# PROTOCOL section 1: preset -> n -> (u, r, q).
TABLE = {
    "balanced": {3: (0, 2, 3), 4: (1, 1, 3), 5: (1, 2, 4), 7: (2, 2, 5), 10: (3, 3, 7), 20: (6, 7, 14)},
    "majority": {3: (0, 2, 3), 4: (0, 3, 4), 5: (1, 2, 4), 7: (1, 4, 6), 10: (2, 5, 8), 20: (4, 11, 16)},
    "crash": {3: (1, 0, 2), 4: (1, 1, 3), 5: (2, 0, 3), 7: (3, 0, 4), 10: (4, 1, 6), 20: (9, 1, 11)},
}
ROWS = [(preset, n, *numbers) for preset, row in TABLE.items() for n, numbers in row.items()]

VOTERS = st.integers(1, 256)


@pytest.mark.parametrize(("preset", "n", "u", "r", "q"), ROWS)
def test_the_table(preset: str, n: int, u: int, r: int, q: int) -> None:
    budget = budget_of(n, preset)
    assert (budget.n, budget.u, budget.r, budget.q) == (n, u, r, q)


def test_the_table_names_every_preset() -> None:
    assert set(TABLE) == set(PRESETS)


@settings(deadline=None)
@given(VOTERS, st.sampled_from(PRESETS))
def test_every_preset_is_possible_for_every_n(n: int, preset: str) -> None:
    budget = budget_of(n, preset)
    assert budget.u >= 0
    assert budget.r >= 0
    assert 1 <= budget.q <= n


@settings(deadline=None)
@given(VOTERS)
def test_each_preset_is_the_largest_u_of_its_promise(n: int) -> None:
    possible = [Budget(n, u) for u in range((n - 1) // 2 + 1)]
    assert budget_of(n, "crash") == possible[-1]
    assert budget_of(n, "balanced") == [budget for budget in possible if budget.r >= budget.u][-1]
    assert budget_of(n, "majority") == [budget for budget in possible if budget.r >= n // 2][-1]


@pytest.mark.parametrize("n", range(1, 8))
def test_two_quorums_share_more_voters_than_may_lie(n: int) -> None:
    for u in range((n - 1) // 2 + 1):
        budget = Budget(n, u)
        quorums = list(itertools.combinations(range(n), budget.q))
        smallest = min(len(set(one) & set(other)) for one in quorums for other in quorums)
        assert smallest == budget.r + 1, "at least one correct voter in common, and r is not understated"


@settings(deadline=None)
@given(st.integers(-5, 300), st.integers(-5, 300))
def test_an_impossible_budget_is_refused_with_its_numbers(n: int, u: int) -> None:
    possible = n >= 1 and u >= 0 and n - 2 * u - 1 >= 0
    if possible:
        assert budget_of(n, u) == Budget(n, u)
        return
    with pytest.raises(ConfigError) as caught:
        budget_of(n, u, where="genesis.json: u")
    assert str(caught.value).startswith("genesis.json: u: ")
    assert str(n) in str(caught.value)
    if n >= 1:
        assert f"u may be 0 to {(n - 1) // 2}" in str(caught.value)
    with pytest.raises(ConfigError):
        Budget(n, u)


@pytest.mark.parametrize("n", [0, -1])
@pytest.mark.parametrize("choice", [*PRESETS, "unknown", 0])
def test_no_voters_are_refused(n: int, choice: str | int) -> None:
    with pytest.raises(ConfigError, match="at least one voter"):
        budget_of(n, choice)


@pytest.mark.parametrize("choice", ["", "Balanced", "fast"])
def test_an_unknown_preset_is_refused_with_the_known_ones(choice: str) -> None:
    with pytest.raises(ConfigError, match="unknown budget") as caught:
        budget_of(4, choice, where="a.yaml: budget")
    assert str(caught.value).startswith("a.yaml: budget: ")
    assert all(preset in caught.value.hint for preset in PRESETS)


@pytest.mark.parametrize(
    ("budget", "parts"),
    [
        (
            Budget(4, 1),
            ["n=4 u=1 r=1 q=3", "up to 1 voter may fail", "up to 1 voter may lie", "2 liars can break it"],
        ),
        (Budget(3, 1), ["n=3 u=1 r=0 q=2", "one lying voter can break agreement"]),
        (
            Budget(3, 0),
            ["n=3 u=0 r=2 q=3", "any single silent voter stops progress", "up to 2 voters may lie"],
        ),
    ],
)
def test_a_budget_in_words_names_both_thresholds(budget: Budget, parts: list[str]) -> None:
    for part in parts:
        assert part in budget.in_words()
