"""Decisions on a log: who may ballot, when a decision closes, and that a snapshot is the whole truth."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.apps.application import Application, Rejected
from swarm.apps.decisions.app import Decisions
from swarm.apps.decisions.commands import (
    Closed,
    Opened,
    cast_command,
    deadline_command,
    decode_event,
    open_command,
)
from swarm.apps.decisions.rules import DecisionView, decision_id
from swarm.primitives.errors import DecodeError
from swarm.primitives.limits import (
    DECISION_ELIGIBLE_MAX,
    DECISIONS_CLOSED_KEPT,
    DECISIONS_OPEN_MAX,
    DECISIONS_OPEN_PER_ORIGIN_MAX,
    EVENT_BYTES_MAX,
)
from swarm.wire.codec import encode
from tests.support.logs import DecisionLog

TEMPERATURE = open_command(subject="temperature", rule="median", scale=2, deadline_ms=5000)
DOOR = open_command(subject="door", rule="majority", options=("open", "closed"), deadline_ms=5000)


def reason_of(log: DecisionLog, origin: str, body: bytes) -> str:
    """Return why a command is refused, after checking that the refusal changed nothing."""
    before = log.decisions.snapshot()
    with pytest.raises(Rejected) as caught:
        log.apply(origin, body)
    assert log.decisions.snapshot() == before
    assert caught.value.reason.isascii()
    return caught.value.reason


def test_it_is_an_application() -> None:
    assert isinstance(Decisions(), Application)


# ------------------------------------------------------------------------------------------ opening


def test_an_opening_fixes_what_the_decision_is() -> None:
    log = DecisionLog()

    (event,) = log.apply("ops", TEMPERATURE)

    opened = decode_event(event.body)
    assert isinstance(opened, Opened)
    assert opened.decision == DecisionView(
        id=decision_id(log.submission, 0),
        subject="temperature",
        rule="median",
        options=(),
        scale=2,
        eligible=("dev-0", "dev-1", "dev-2", "dev-3"),
        minimum=2,
        deadline_ms=5000,
        opened_height=1,
        opened_by="ops",
        ballots=(),
    )
    assert log.decisions.open_decisions() == (opened.decision,)
    assert log.decisions.view(opened.decision.id) == opened.decision


@pytest.mark.parametrize(
    ("eligible", "expected"),
    [
        ("voters", ("dev-0", "dev-1", "dev-2", "dev-3")),
        ("all", ("dev-0", "dev-1", "dev-2", "dev-3", "obs-0", "obs-1")),
        (("ops", "dev-2"), ("dev-2", "ops")),
    ],
)
def test_eligible_are_fixed_and_sorted_at_the_opening(eligible: Any, expected: tuple[str, ...]) -> None:
    log = DecisionLog(observers=2)
    command = open_command(subject="x", rule="median", deadline_ms=1, eligible=eligible)

    log.open(command)
    log.voters = (*log.voters, "dev-9")

    assert log.decisions.open_decisions()[0].eligible == expected


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"options": ("one",), "rule": "majority"}, "a decision has at least 2 options"),
        ({"options": ("a", "a"), "rule": "majority"}, "an option is listed twice"),
        (
            {"options": ("a", "b"), "rule": "majority", "scale": 1},
            "a decision has options or a scale, not both",
        ),
        ({"options": ("a", "b")}, "rule median is for numbers"),
        ({"rule": "majority"}, "rule majority is for options"),
        ({"rule": "plurality"}, "rule plurality is not supported yet"),
        ({"rule": "coin"}, "unknown rule coin"),
        ({"eligible": ()}, "nobody is eligible"),
        ({"minimum": 5}, "at least 5 ballots asked for, 4 are eligible"),
        ({"scale": 10}, "not a command of decisions@1: malformed"),
        ({"deadline_ms": 0}, "not a command of decisions@1: malformed"),
        ({"deadline_ms": 7 * 86_400_000 + 1}, "not a command of decisions@1: malformed"),
        ({"subject": "Two words"}, "not a command of decisions@1: malformed"),
        ({"options": ("a", "B")}, "not a command of decisions@1: malformed"),
        ({"eligible": ("dev-0", "dev-0")}, "the eligible ids are not sorted and distinct"),
    ],
    ids=str,
)
def test_an_opening_that_makes_no_sense_is_rejected(changes: dict[str, Any], reason: str) -> None:
    arguments: dict[str, Any] = {"subject": "x", "rule": "median", "deadline_ms": 1, **changes}
    assert reason_of(DecisionLog(), "ops", open_command(**arguments)) == reason


def test_ids_out_of_order_and_group_beside_ids_are_rejected() -> None:
    """Made by hand: our own encoder sorts."""
    unsorted = encode((1, "x", "median", (), 0, None, ("b", "a"), 1, 0))
    both = encode((1, "x", "median", (), 0, "all", ("a",), 1, 0))
    assert reason_of(DecisionLog(), "ops", unsorted) == "the eligible ids are not sorted and distinct"
    assert reason_of(DecisionLog(), "ops", both) == "eligible is a group or a list of ids, not both"


@pytest.mark.parametrize(
    "body", [b"", b"\x90", b"\xc0", b"garbage", TEMPERATURE[:-1], TEMPERATURE + b"\0"], ids=repr
)
def test_what_is_no_command_is_rejected(body: bytes) -> None:
    assert reason_of(DecisionLog(), "ops", body).startswith("not a command of decisions@1: ")


def test_one_opener_cannot_fill_the_table() -> None:
    log = DecisionLog()
    for _ in range(DECISIONS_OPEN_PER_ORIGIN_MAX):
        log.open(TEMPERATURE)

    assert (
        reason_of(log, "ops", TEMPERATURE)
        == f"ops has {DECISIONS_OPEN_PER_ORIGIN_MAX} decisions open already"
    )
    assert log.open(TEMPERATURE, "dev-0"), "others still can"


def test_the_table_of_open_decisions_ends() -> None:
    log = DecisionLog()
    for index in range(DECISIONS_OPEN_MAX):
        log.open(TEMPERATURE, f"dev-{index % 16}")

    assert reason_of(log, "dev-99", TEMPERATURE) == f"{DECISIONS_OPEN_MAX} decisions are open already"


def test_too_many_eligible_are_rejected_and_the_most_fit_their_events() -> None:
    everybody = open_command(subject="x", rule="median", deadline_ms=1, eligible="all")
    big = DecisionLog(voters=4, observers=DECISION_ELIGIBLE_MAX - 3)
    assert reason_of(big, "ops", everybody).startswith(f"{DECISION_ELIGIBLE_MAX + 1} are eligible")

    log = DecisionLog(voters=4, observers=DECISION_ELIGIBLE_MAX - 4)
    log.voters = tuple(f"{'v' * 28}{index:04}" for index in range(4))
    log.observers = tuple(f"{'w' * 28}{index:04}" for index in range(DECISION_ELIGIBLE_MAX - 4))
    (event,) = log.apply("ops", everybody)
    decision = log.decisions.open_decisions()[0].id
    for origin in (*log.voters, *log.observers):
        events = log.apply(origin, cast_command(decision, -(2**63 - 1)))

    assert len(event.body) < EVENT_BYTES_MAX
    assert len(events[0].body) < EVENT_BYTES_MAX


# ------------------------------------------------------------------------------------------ ballots


def test_a_decision_closes_when_all_eligible_have_balloted_or_abstained() -> None:
    log = DecisionLog()
    decision = log.open(TEMPERATURE)

    assert log.cast(decision, "dev-1", 2135) is None
    assert log.cast(decision, "dev-0", None) is None
    assert log.cast(decision, "dev-3", 4000) is None
    outcome = log.cast(decision, "dev-2", 2140)

    assert outcome is not None
    assert (outcome.value, outcome.margin, outcome.closed_height) == (2140, 1, 5)
    assert outcome.ballots == (("dev-1", 2135), ("dev-0", None), ("dev-3", 4000), ("dev-2", 2140)), (
        "in log order"
    )
    assert log.decisions.open_decisions() == ()
    assert log.decisions.is_closed(decision)


def test_only_the_first_ballot_of_an_identity_counts() -> None:
    log = DecisionLog()
    decision = log.open(DOOR)
    log.cast(decision, "dev-0", 0)

    reason = reason_of(log, "dev-0", cast_command(decision, 1))

    assert reason == "dev-0 has balloted already; the first ballot counts"
    assert log.decisions.open_decisions()[0].ballots == (("dev-0", 0),)


def test_an_abstention_is_final_too() -> None:
    log = DecisionLog()
    decision = log.open(DOOR)
    log.cast(decision, "dev-0", None)

    assert "already" in reason_of(log, "dev-0", cast_command(decision, 1))


@pytest.mark.parametrize(
    ("origin", "ballot", "reason"),
    [
        ("obs-0", 0, "obs-0 is not eligible"),
        ("ops", 0, "ops is not eligible"),
        ("dev-0", 2, "option 2 is not 0 to 1"),
        ("dev-0", -1, "option -1 is not 0 to 1"),
    ],
)
def test_a_ballot_that_does_not_fit_is_rejected(origin: str, ballot: int, reason: str) -> None:
    log = DecisionLog(observers=1)
    decision = log.open(DOOR)

    assert reason_of(log, origin, cast_command(decision, ballot)) == reason


def test_a_ballot_in_no_open_decision_is_rejected() -> None:
    log = DecisionLog(voters=1, r=0)
    assert reason_of(log, "dev-0", cast_command(bytes(32), 0)) == "unknown decision"
    assert reason_of(log, "dev-0", deadline_command(bytes(32))) == "unknown decision"

    decision = log.open(DOOR)
    log.cast(decision, "dev-0", 0)

    assert reason_of(log, "dev-0", cast_command(decision, 0)) == "the decision closed at height 4"
    assert reason_of(log, "dev-0", deadline_command(decision)) == "the decision closed at height 4"


def test_a_listed_operator_ballots() -> None:
    log = DecisionLog()
    decision = log.open(open_command(subject="x", rule="median", deadline_ms=1, eligible=("ops",)))

    outcome = log.cast(decision, "ops", 7)

    assert outcome is not None
    assert outcome.value == 7


# ------------------------------------------------------------------------------------------ deadlines


@pytest.mark.parametrize("r", [0, 1, 2])
def test_r_plus_one_distinct_voters_close_a_decision(r: int) -> None:
    log = DecisionLog(voters=5, r=r)
    decision = log.open(TEMPERATURE)
    for origin, ballot in (("dev-4", 10), ("dev-3", 30), ("dev-2", 20)):
        log.cast(decision, origin, ballot)

    for index in range(r):
        assert log.deadline(decision, f"dev-{index}") is None
    outcome = log.deadline(decision, f"dev-{r}")

    assert outcome is not None
    assert (outcome.value, outcome.counted, outcome.eligible) == (20, 3, 5)


def test_one_voter_counts_once_and_others_not_at_all() -> None:
    log = DecisionLog(observers=1)
    decision = log.open(TEMPERATURE)
    log.deadline(decision, "dev-0")

    assert reason_of(log, "dev-0", deadline_command(decision)) == "dev-0 has said so already"
    assert "only voters" in reason_of(log, "obs-0", deadline_command(decision))
    assert "only voters" in reason_of(log, "ops", deadline_command(decision))
    assert log.decisions.view(decision) is not None


def test_only_voters_of_the_epoch_in_force_count() -> None:
    """The word of a voter that was removed meanwhile no longer closes anything; if it returns, it does."""
    log = DecisionLog(voters=5, r=1)
    decision = log.open(TEMPERATURE)
    log.deadline(decision, "dev-0")
    everybody, log.voters, log.epoch = log.voters, log.voters[1:], 1

    assert log.deadline(decision, "dev-1") is None

    log.voters, log.epoch = everybody, 2
    assert log.deadline(decision, "dev-2") is not None


def test_a_deadline_without_enough_ballots_is_undecided() -> None:
    log = DecisionLog()
    decision = log.open(TEMPERATURE)
    log.cast(decision, "dev-0", 5)
    log.deadline(decision, "dev-1")
    outcome = log.deadline(decision, "dev-2")

    assert outcome is not None
    assert (outcome.kind, outcome.reason) == ("undecided", "too few ballots: 1 of at least 2")


def test_the_opening_may_ask_for_fewer_or_more_ballots() -> None:
    for minimum, kind in ((1, "number"), (2, "undecided")):
        log = DecisionLog()
        decision = log.open(open_command(subject="x", rule="median", deadline_ms=1, minimum=minimum))
        log.cast(decision, "dev-0", 5)
        log.deadline(decision, "dev-1")
        outcome = log.deadline(decision, "dev-2")
        assert outcome is not None
        assert outcome.kind == kind


# ------------------------------------------------------------------------------------------ state


def test_closed_decisions_are_remembered_for_a_while() -> None:
    log = DecisionLog(voters=1, r=0)
    first = log.open(DOOR)
    log.cast(first, "dev-0", 0)
    for _ in range(DECISIONS_CLOSED_KEPT):
        log.cast(log.open(DOOR), "dev-0", 0)

    assert not log.decisions.is_closed(first)
    assert reason_of(log, "dev-0", cast_command(first, 0)) == "unknown decision"


def test_a_question_is_answered_without_a_change() -> None:
    log = DecisionLog()
    decision = log.open(TEMPERATURE)
    before = log.decisions.snapshot()

    assert log.decisions.query(b"") == encode((decision,))
    assert log.decisions.query(decision) == encode(log.decisions.view(decision))
    assert log.decisions.query(bytes(32)) == encode(None)
    assert log.decisions.snapshot() == before


steps = st.tuples(
    st.sampled_from(["dev-0", "dev-1", "dev-2", "dev-3", "obs-0", "ops"]),
    st.sampled_from(["temperature", "door", "cast", "cast", "cast", "abstain", "deadline"]),
    st.integers(0, 3),
    st.integers(-1, 2),
)


def body_of(log: DecisionLog, what: str, which: int, ballot: int) -> bytes:
    ids = [view.id for view in log.decisions.open_decisions()]
    decision = ids[which % len(ids)] if ids else bytes(32)
    match what:
        case "temperature":
            return TEMPERATURE
        case "door":
            return DOOR
        case "deadline":
            return deadline_command(decision)
        case "abstain":
            return cast_command(decision, None)
        case _:
            return cast_command(decision, ballot)


@settings(deadline=None)
@given(plan=st.lists(steps, max_size=40))
def test_a_device_that_starts_from_a_snapshot_goes_on_alike(plan: list[tuple[str, str, int, int]]) -> None:
    """After every step a second device restores the snapshot and must answer the next command alike."""
    log = DecisionLog(observers=1)
    for origin, what, which, ballot in plan:
        body = body_of(log, what, which, ballot)
        twin = DecisionLog(observers=1)
        twin.height = log.height
        twin.decisions.restore(log.decisions.snapshot())
        results: list[object] = []
        for each in (log, twin):
            try:
                results.append(each.apply(origin, body))
            except Rejected as refusal:
                results.append(refusal.reason)

        assert results[0] == results[1]
        assert log.decisions.snapshot() == twin.decisions.snapshot()


@settings(deadline=None)
@given(plan=st.lists(steps, max_size=60))
def test_every_decision_closes_once_with_ballots_of_the_eligible_only(
    plan: list[tuple[str, str, int, int]],
) -> None:
    log = DecisionLog(observers=1)
    closed: list[bytes] = []
    for origin, what, which, ballot in plan:
        try:
            events = log.apply(origin, body_of(log, what, which, ballot))
        except Rejected:
            continue
        for event in events:
            decoded = decode_event(event.body)
            if isinstance(decoded, Closed):
                outcome = decoded.outcome
                closed.append(outcome.decision)
                devices = [device for device, _ in outcome.ballots]
                assert len(devices) == len(set(devices))
                assert set(devices) <= set(log.voters)
                assert log.decisions.view(outcome.decision) is None

    assert len(closed) == len(set(closed))


@pytest.mark.parametrize("state", [b"", b"garbage", encode(((), (), ()))], ids=repr)
def test_other_bytes_are_no_snapshot_and_change_nothing(state: bytes) -> None:
    log = DecisionLog()
    log.open(TEMPERATURE)
    before = log.decisions.snapshot()

    with pytest.raises(DecodeError):
        log.decisions.restore(state)

    assert log.decisions.snapshot() == before
