"""Running actions: every question gets one answer, and no plug-in can stop a device."""

from __future__ import annotations

import math
from typing import ClassVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.apps.decisions.rules import DecisionView, Outcome, decide
from swarm.behaviours.actions import AskBallot, BallotReady, SelfTest, SelfTested, TellOutcome
from swarm.behaviours.behaviour import Ballot
from swarm.behaviours.loader import Behaviours, LoadedBehaviour
from swarm.behaviours.runner import ballot_from, run_actions
from swarm.primitives.limits import NUMBER_MAX
from tests.support.vectors import DOOR, VIEW

Answer = Ballot | float | None | Exception


class Scripted:
    """Answers what a test says, and remembers what it was told."""

    in_simulator: ClassVar[bool] = True

    def __init__(self, answer: Answer, *, raises_on_outcome: bool = False) -> None:
        self.answer = answer
        self.raises_on_outcome = raises_on_outcome
        self.asked: list[tuple[DecisionView, int]] = []
        self.told: list[tuple[Outcome, int]] = []

    def on_open(self, decision: DecisionView, now_ms: int) -> Ballot | float | None:
        self.asked.append((decision, now_ms))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def on_outcome(self, outcome: Outcome, now_ms: int) -> None:
        self.told.append((outcome, now_ms))
        if self.raises_on_outcome:
            raise RuntimeError("valve stuck")


def behaviours(*scripted: Scripted, subject: str | None = None) -> Behaviours:
    return Behaviours(
        tuple(LoadedBehaviour(kind="scripted", subject=subject, behaviour=one) for one in scripted)
    )


def test_a_question_is_answered_by_a_ballot() -> None:
    sensor = Scripted(21.354)

    results = run_actions(behaviours(sensor), [AskBallot(VIEW)], 500)

    assert results.ballots == (BallotReady(VIEW.id, 2135),)
    assert results.faults == ()
    assert sensor.asked == [(VIEW, 500)]


def test_without_a_behaviour_a_device_abstains_at_once() -> None:
    assert run_actions(Behaviours(), [AskBallot(VIEW)], 0).ballots == (BallotReady(VIEW.id, None),)
    other = behaviours(Scripted(5), subject="other")
    assert run_actions(other, [AskBallot(VIEW)], 0).ballots == (BallotReady(VIEW.id, None),)


def test_the_first_that_has_something_to_say_gives_the_ballot() -> None:
    silent, first, second = Scripted(None), Scripted(1), Scripted(2)

    results = run_actions(behaviours(silent, first, second), [AskBallot(VIEW)], 0)

    assert results.ballots == (BallotReady(VIEW.id, 1),)
    assert (len(silent.asked), len(first.asked), len(second.asked)) == (1, 1, 0)


def test_answers_come_in_the_order_of_the_questions() -> None:
    results = run_actions(behaviours(Scripted("closed"), Scripted(7)), [AskBallot(VIEW), AskBallot(DOOR)], 0)

    assert results.ballots == (BallotReady(VIEW.id, 7), BallotReady(DOOR.id, 1))
    assert len(results.faults) == 1, "`closed` is no number"


def test_every_behaviour_of_the_subject_is_told_the_outcome() -> None:
    outcome = decide(VIEW, 9)
    one, other, deaf = Scripted(1), Scripted(2), Scripted(3)
    both = Behaviours((*behaviours(one, other).loaded, *behaviours(deaf, subject="door").loaded))

    results = run_actions(both, [TellOutcome(outcome)], 77)

    assert results.ballots == ()
    assert one.told == other.told == [(outcome, 77)]
    assert deaf.told == []


def test_a_behaviour_that_raises_abstains_and_is_reported() -> None:
    results = run_actions(behaviours(Scripted(OSError("sensor unplugged"))), [AskBallot(VIEW)], 0)

    assert results.ballots == (BallotReady(VIEW.id, None),)
    (fault,) = results.faults
    assert (fault.kind, fault.subject) == ("scripted", "temperature")
    assert fault.message == f"on_open of {VIEW.id[:4].hex()}: OSError: sensor unplugged"


def test_the_next_behaviour_answers_for_one_that_raises() -> None:
    results = run_actions(behaviours(Scripted(OSError()), Scripted(3)), [AskBallot(VIEW)], 0)

    assert results.ballots == (BallotReady(VIEW.id, 3),)
    assert len(results.faults) == 1


def test_one_that_raises_on_an_outcome_does_not_keep_it_from_the_others() -> None:
    outcome = decide(VIEW, 9)
    bad, good = Scripted(1, raises_on_outcome=True), Scripted(2)

    results = run_actions(behaviours(bad, good), [TellOutcome(outcome), AskBallot(VIEW)], 0)

    assert good.told == [(outcome, 0)]
    assert results.ballots == (BallotReady(VIEW.id, 1),)
    assert "valve stuck" in results.faults[0].message


@pytest.mark.parametrize(
    ("answer", "scale", "ballot"),
    [
        (2135, 2, 2135),
        (21.35, 2, 2135),
        (21.005, 2, 2100),
        (21.015, 2, 2102),
        (-21.005, 2, -2100),
        (0.5, 0, 0),
        (1.5, 0, 2),
        (2.5, 0, 2),
        (-0.0, 2, 0),
        (1e-12, 9, 0),
        (9e9, 9, 9 * 10**18),
    ],
)
def test_a_float_is_rounded_half_to_even_at_the_border(answer: float, scale: int, ballot: int) -> None:
    assert ballot_from(answer, msgspec.structs.replace(VIEW, scale=scale)) == ballot


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (math.nan, "no finite number"),
        (math.inf, "no finite number"),
        (True, "no number"),
        ("21.35", "no number"),
        ([1], "no number"),
        (NUMBER_MAX + 1, "too large"),
        (1e300, "too large"),
    ],
)
def test_what_is_no_number_is_a_fault(answer: object, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        ballot_from(answer, VIEW)


@pytest.mark.parametrize("answer", ["ajar", "", 0, 1.0, True, None])
def test_what_is_no_option_is_a_fault(answer: object) -> None:
    with pytest.raises(ValueError, match="none of the options open, closed"):
        ballot_from(answer, DOOR)


@settings(deadline=None)
@given(value=st.floats(-1e9, 1e9), scale=st.integers(0, 9))
def test_a_ballot_is_within_half_a_unit_of_the_reading(value: float, scale: int) -> None:
    ballot = ballot_from(value, msgspec.structs.replace(VIEW, scale=scale))

    assert abs(ballot - value * 10**scale) <= 0.5 + abs(value) * 10**scale * 1e-15


@settings(deadline=None)
@given(
    answer=st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.binary(max_size=3)
)
def test_whatever_a_behaviour_returns_the_device_goes_on(answer: object) -> None:
    for view in (VIEW, DOOR):
        results = run_actions(behaviours(Scripted(answer)), [AskBallot(view)], 0)  # type: ignore[arg-type]
        (ready,) = results.ballots
        assert ready.decision == view.id
        assert ready.ballot is None or abs(ready.ballot) <= NUMBER_MAX
        assert (answer is not None and ready.ballot is None) == bool(results.faults)


# ------------------------------------------------------------------------------------------ self tests


class Checked(Scripted):
    """A behaviour that says how it is."""

    def __init__(self, says: object) -> None:
        super().__init__(None)
        self.says = says

    def check_health(self, now_ms: int) -> str | None:
        if isinstance(self.says, Exception):
            raise self.says
        return self.says  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (None, ""),
        ("no-sensor", "no-sensor"),
        ("", "self-test"),
        ("The sensor is gone", "self-test"),
        ("x" * 33, "self-test"),
        (7, "self-test"),
        (OSError("unplugged"), "self-test-raised"),
    ],
)
def test_a_self_test_is_a_code_for_the_log_and_words_for_people(says: object, reason: str) -> None:
    results = run_actions(behaviours(Scripted(1), Checked(None), Checked(says)), [SelfTest(4)], 0)
    (test,) = results.tests
    assert (test.tag, test.reason) == (4, reason)
    if says is not None and reason:
        assert str(says) in test.detail
    assert len(results.faults) == (reason == "self-test-raised")


def test_a_device_without_such_behaviours_is_well() -> None:
    assert run_actions(Behaviours(), [SelfTest(1)], 0).tests == (SelfTested(1, ""),)
    assert run_actions(behaviours(Scripted(1)), [SelfTest(2)], 0).tests == (SelfTested(2, ""),)


def test_the_first_that_is_not_well_gives_the_reason() -> None:
    (test,) = run_actions(behaviours(Checked("first"), Checked("second")), [SelfTest(1)], 0).tests
    assert test.reason == "first"
