"""The rollout's checkers speak when a rule is broken: told by hand what no correct swarm does."""

from __future__ import annotations

from swarm.apps.rollout.entries import Consent, Go, Halt, Late
from swarm.apps.rollout.events import (
    Accepted,
    Closed,
    Deadline,
    Frozen,
    KeysChanged,
    Opened,
    Permitted,
    Planned,
    Proposed,
    Resumed,
    RollingBack,
    RolloutEvent,
)
from swarm.apps.rollout.keys import KeySet
from swarm.lab.checkers.rollout import RolloutRules, Setting, Truth
from swarm.primitives.ids import ZERO_DIGEST
from tests.support.rollouts import RolloutLog

PLAN, CLASS, NEW = b"p" * 32, b"c" * 32, b"n" * 32
VOTERS = ("a", "b", "c", "d")
HALT = Halt(PLAN, of_class=False, reason="")
FROZEN = Frozen(PLAN, CLASS, 0, "votes")
GO = Go(PLAN, 0, 0)


def rules() -> RolloutRules:
    return RolloutRules(Setting(voters=VOTERS, u=1, liars=frozenset("d")))


def permitted(device: str, stage: int = 0) -> Permitted:
    return Permitted(PLAN, stage, 0, device, 0, NEW, ())


def tell(checker: RolloutRules, speaker: str, *events: RolloutEvent, command: Go | Halt | Late = GO) -> None:
    checker.on_entry(speaker, command, list(enumerate(events, 10)))


def charged(checker: RolloutRules, device: str = "a") -> None:
    for voter in "abc":
        tell(checker, voter)
    tell(checker, "d", Opened(PLAN, 0, 0, "voters", (device,)))
    tell(checker, device, permitted(device))


def test_a_whole_rollout_holds() -> None:
    log = RolloutLog(7, observers=5, reserve=0)
    log.planned(reserve=0)
    log.run_all()
    log.rules.on_quiet({id: log.device(id).number == 2 for id in log.units}, [log.state])
    assert log.rules.verdict() == "held"


def test_1_armed_without_a_charge() -> None:
    checker = rules()
    checker.on_truth("a", Truth(phase="armed", new_image=False))
    assert "(1) a is armed" in checker.verdict()
    checker = rules()
    checker.on_truth("d", Truth(phase="armed", new_image=False))
    assert checker.verdict() == "held", "a liar may be anything"


def test_2_a_permit_above_the_limit() -> None:
    checker = rules()
    charged(checker)
    tell(checker, "b", permitted("b"))
    assert "(2)" in checker.verdict()


def test_2_where_nobody_may_fail_a_consent_lets_one_voter_reboot() -> None:
    log = RolloutLog(3)
    log.planned(hold_back=0)
    assert log.rules.setting.u == 0
    log.log("ops", Consent(log.plan_id, "dev-1"))
    log.consent("dev-1")
    log.update("dev-1")
    assert log.rules.verdict() == "held"
    tell(log.rules, "dev-2", Permitted(log.plan_id, 0, 0, "dev-2", 0, NEW, ()))
    assert "(2)" in log.rules.verdict(), "the consent named another"


def test_3_a_second_permit() -> None:
    checker = rules()
    charged(checker)
    tell(checker, "a", permitted("a"))
    assert "(3)" in checker.verdict()


def test_4_after_a_freeze() -> None:
    for event in (permitted("b"), Opened(PLAN, 1, 0, "voters", ()), Accepted(10, "a")):
        checker = rules()
        charged(checker)
        tell(checker, "b", FROZEN, command=HALT)
        assert checker.verdict() == "held"
        tell(checker, "a", event)
        assert "(4)" in checker.verdict(), event


def test_4_a_frozen_class_bars_every_plan_of_it() -> None:
    checker = rules()
    tell(checker, "a", Proposed(b"r" * 32, CLASS, 2, "2"), Planned(PLAN, b"r" * 32))
    tell(checker, "a", Frozen(ZERO_DIGEST, CLASS, 0, "contradiction"))
    other = b"q" * 32
    tell(checker, "b", Permitted(other, 0, 0, "a", 0, NEW, ()))
    assert "(4)" not in checker.verdict(), "of another class"
    tell(checker, "b", Opened(PLAN, 0, 0, "consent", ("b",)))
    assert "(4) stage 0" in checker.verdict()
    checker = rules()
    tell(checker, "a", Proposed(b"r" * 32, CLASS, 2, "2"), Planned(PLAN, b"r" * 32))
    tell(checker, "a", Frozen(ZERO_DIGEST, CLASS, 0, "contradiction"))
    tell(checker, "b", KeysChanged(KeySet(1, 1, (b"k" * 32,)), emergency=False, voided=()))
    tell(checker, "b", Opened(PLAN, 0, 0, "consent", ("b",)))
    assert checker.verdict() == "held", "other keys settle a contradiction"


def test_4_a_resume_and_a_rollback_tell_forward_from_back() -> None:
    checker = rules()
    charged(checker)
    tell(checker, "b", FROZEN, command=HALT)
    tell(checker, "b", Resumed(PLAN, 1, ()))
    tell(checker, "a", Accepted(10, "a"))
    assert checker.verdict() == "held"
    tell(checker, "b", RollingBack(PLAN, 1, 2))
    checker.on_truth("a", Truth(phase="trial", new_image=True))
    checker.on_truth("a", Truth(phase="idle", new_image=True, ever_confirmed=True))
    assert checker.verdict() == "held"


def test_5_votes_of_liars_alone() -> None:
    checker = rules()
    tell(checker, "a")
    tell(checker, "d", Opened(PLAN, 0, 0, "voters", ("a",)))
    assert "(5)" in checker.verdict()
    for event in (FROZEN, Deadline(PLAN, 0, 0, 1, (), (), ()), Frozen(PLAN, CLASS, 0, "late")):
        checker = rules()
        tell(checker, "d", event)
        assert "(5)" in checker.verdict(), event
    checker = rules()
    tell(checker, "a", command=Late(PLAN, 0, 0, 1))
    tell(checker, "d", Deadline(PLAN, 0, 0, 1, (), (), ()))
    assert checker.verdict() == "held"


def test_6_confirmed_without_acceptance() -> None:
    checker = rules()
    charged(checker)
    checker.on_truth("a", Truth(phase="trial", new_image=True))
    checker.on_truth("a", Truth(phase="idle", new_image=True, ever_confirmed=True))
    assert "(6)" in checker.verdict()


def test_7_counted_as_confirmed_and_is_not() -> None:
    checker = rules()
    charged(checker)
    checker.on_truth("a", Truth(phase="idle", new_image=False))
    tell(checker, "a", Closed(PLAN, 0, 0, ("a", "d"), ()))
    assert "(7) stage 0 closed good, a never" in checker.verdict()


def test_8_to_10_at_the_end() -> None:
    checker = rules()
    checker.on_start("a", revoked=True, other_slot_fits=False)
    assert checker.verdict() == "held"
    checker.on_start("a", revoked=True, other_slot_fits=True)
    assert "(8)" in checker.verdict()
    checker = rules()
    checker.on_truth("a", Truth(phase="idle", new_image=True))
    checker.on_quiet({"a": False}, [])
    assert "(10)" in checker.verdict()
    checker = rules()
    checker.on_quiet({}, ["completed", "active"])
    assert "(9)" in checker.verdict()


def test_marks_lift_the_set_at_risk() -> None:
    checker = rules()
    checker.on_recovered("b")
    tell(checker, "a", permitted("a"))
    assert "(2)" in checker.verdict()
    checker = rules()
    checker.on_convicted("c")
    tell(checker, "a", permitted("a"))
    assert "(2)" in checker.verdict()
