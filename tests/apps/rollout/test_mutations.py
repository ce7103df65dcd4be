"""Every guard of the rollout, dropped, is noticed: by the model's worlds, or by the directed test that is named.

Which mutation is caught where stands in `tests/support/rollout_mutations.py`, one line each.
"""

from __future__ import annotations

import importlib
import itertools
from dataclasses import replace
from functools import partial

import pytest

from swarm.lab.modelcheck.rollout_model import explore
from swarm.primitives.errors import InvariantError
from tests.support.rollout_mutations import DEVICE_SIDE, HARMLESS, LOG_SIDE, Mutation, mutated
from tests.support.rollouts import RolloutLog

STATES = 40_000

for _file in sorted({m.caught_by.split(".")[0] for m in LOG_SIDE if m.caught_by} - {"test_mutations"}):
    importlib.import_module(f"tests.apps.rollout.{_file}")


def test_w4_nobody_reports_for_another() -> None:
    """The origin of a report is the device that it is about, whatever permit it names."""
    log = RolloutLog()
    log.planned(hold_back=2)
    log.go()
    (member,) = log.members()
    permit = log.permit(member)
    liar = next(id for id in log.voters if id != member)
    log.report(liar, "reverted", permit=permit)
    assert log.app.at_risk() == (member,)
    assert log.plan.stages[0].members[member].state == "armed"


def notices(name: str) -> bool:
    """Answer whether the named test fails, with any of its parameters."""
    file, test = name.split(".")
    module = (
        globals() if file == "test_mutations" else vars(importlib.import_module(f"tests.apps.rollout.{file}"))
    )
    axes = [
        [(mark.args[0], value) for value in mark.args[1]]
        for mark in getattr(module[test], "pytestmark", [])
        if mark.name == "parametrize"
    ]
    for chosen in itertools.product(*axes):
        try:
            partial(module[test], **dict(chosen))()
        except (AssertionError, InvariantError, LookupError, ValueError, TypeError, AttributeError):
            return True
    return False


DIRECTED = [m for m in LOG_SIDE if m.caught_by]
MODELLED = [m for m in (*LOG_SIDE, *DEVICE_SIDE) if m.world is not None]


def test_every_mutation_has_somebody_to_notice_it() -> None:
    assert all(m.caught_by or m.world for m in (*LOG_SIDE, *DEVICE_SIDE))
    assert len(LOG_SIDE) + len(DEVICE_SIDE) == 29


@pytest.mark.parametrize("mutation", DIRECTED, ids=lambda m: m.name)
def test_a_dropped_guard_is_noticed_by_its_test(mutation: Mutation) -> None:
    assert not notices(mutation.caught_by), "the test passes while the guard is there"
    with mutated(mutation):
        assert notices(mutation.caught_by), f"{mutation.caught_by} does not notice: {mutation.name}"


@pytest.mark.parametrize("mutation", MODELLED, ids=lambda m: m.name)
def test_a_dropped_guard_is_found_by_the_model(mutation: Mutation) -> None:
    assert mutation.world is not None
    world = replace(mutation.world, habits=frozenset({mutation.habit} if mutation.habit else ()))
    with mutated(mutation):
        found = explore(world, STATES)
    assert found.complaint.startswith(mutation.says), found.in_words()
    assert found.complaint


@pytest.mark.parametrize("mutation", HARMLESS, ids=lambda m: m.name)
def test_what_has_no_effect_on_safety_is_not_taken_for_a_fault(mutation: Mutation) -> None:
    assert mutation.world is not None
    with mutated(mutation):
        found = explore(mutation.world, 3_000)
    assert found.complaint == "", found.in_words()
