"""Every broken line of the core is noticed by the test that names it; an unbroken core passes the same tests."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from swarm.primitives.errors import InvariantError
from tests.support.adversary import explore
from tests.support.mutations import MUTATIONS, Mutation, mutated

WORLDS = ((4, "balanced"), (2, "balanced"), (3, "crash"))
SEEDS = range(40)
STEPS = 250

for _file in sorted({m.caught_by.split(".")[0] for m in MUTATIONS}):
    # Before any mutation: a module that is imported inside of one would keep the broken functions.
    importlib.import_module(f"tests.consensus.{_file}")


def calls(name: str) -> Iterator[Callable[[], None]]:
    """Return the named test, once for every combination of its parameters."""
    file, test = name.split(".")
    function = getattr(importlib.import_module(f"tests.consensus.{file}"), test)
    axes = [
        [(mark.args[0], value) for value in mark.args[1]]
        for mark in getattr(function, "pytestmark", [])
        if mark.name == "parametrize"
    ]
    for chosen in itertools.product(*axes):
        yield partial(function, **dict(chosen))


def notices(name: str) -> bool:
    """Answer whether the named test fails."""
    for call in calls(name):
        try:
            call()
        except (AssertionError, InvariantError, LookupError, TypeError, AttributeError):
            return True
    return False


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_a_mutation_is_noticed(mutation: Mutation) -> None:
    with mutated(mutation):
        assert notices(mutation.caught_by), f"{mutation.caught_by} does not notice: {mutation.name}"


def test_the_core_is_whole_again_and_passes_the_same_tests() -> None:
    for name in sorted({m.caught_by for m in MUTATIONS}):
        for call in calls(name):
            call()


@pytest.mark.parametrize("mutation", [m for m in MUTATIONS if m.found], ids=lambda m: m.name)
def test_a_mutation_is_found_by_exploration(mutation: Mutation) -> None:
    """Without being told where to look: the adversary's schedules make the guard or a checker speak."""
    with mutated(mutation):
        for n, budget in WORLDS:
            try:
                if explore(n, budget, SEEDS, STEPS):
                    return
            except (AssertionError, InvariantError):
                return
    pytest.fail("no schedule shows it")


@pytest.mark.parametrize(("n", "budget"), [*WORLDS, (5, "balanced"), (7, "balanced")])
def test_an_unbroken_core_has_no_bad_schedule(n: int, budget: str) -> None:
    assert explore(n, budget, SEEDS, STEPS) == []


@pytest.mark.parametrize(("n", "budget", "liars"), [(4, "balanced", 2), (3, "crash", 1)])
def test_one_liar_too_many_forks(n: int, budget: str, liars: int) -> None:
    """n - 2u liars must be able to fork, else the adversary or the checkers are blind."""
    complaints: list[str] = []
    for seed in range(60):
        try:
            complaints += explore(n, budget, range(seed, seed + 1), 300, liars=liars)
        except InvariantError as error:
            complaints.append(str(error))
        if any("fork" in complaint for complaint in complaints):
            return
    pytest.fail("no fork in sixty schedules")
