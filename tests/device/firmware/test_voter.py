"""A voter's soaks, timers and answers (W6, W7, section 1): by its own clock, by its owner's policy, once each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from swarm.apps.rollout.duties import Duties, GoDuty, LateDuty, Wish
from swarm.apps.rollout.entries import ChangeKeys, Command, decode_command
from swarm.apps.rollout.state import Plan
from swarm.device.firmware.policy import FirmwarePolicy
from swarm.device.firmware.step import Entries, Step
from swarm.device.firmware.view import View
from swarm.device.firmware.voter import Voter
from swarm.wire.genesis import Member
from tests.support.rollouts import RolloutLog
from tests.support.swarms import keypair


class Seat:
    """One voter of a log with a plan; its clock is set by hand."""

    def __init__(self, **policy: Any) -> None:
        self.log = RolloutLog()
        self.log.planned(hold_back=2)
        self.genesis = self.log.genesis
        self.entries = Entries()
        self.voter = Voter(FirmwarePolicy(**policy), self.entries)
        self.heard: dict[str, int] = {}

    def cast(self, duties: Duties, now_ms: int) -> list[Command]:
        step = Step()
        self.voter.advance(self.view(now_ms), duties, step)
        self.wake_at_ms = step.wake_at_ms
        for _, tag in step.entries:
            self.entries.settled(tag)
        return [decode_command(body) for body, _ in step.entries]

    def view(self, now_ms: int) -> View:
        return View(
            now_ms=now_ms,
            genesis=self.genesis,
            me="dev-0",
            rollout=self.log.app,
            height=self.log.height,
            log_root=lambda: b"",
            digests=lambda _: None,
            attests=dict,
            checkpoint_height=0,
            peers_heard=self.heard,
            leaf=lambda _: None,
            has_voted=True,
        )

    @property
    def plan(self) -> Plan:
        return self.log.plan

    def go(self, **fields: Any) -> Duties:
        values: dict[str, Any] = {
            "plan": self.log.plan_id,
            "stage": 1,
            "generation": 0,
            "kind": "voters",
            "soak_ms": 5_000,
            "listen_to": ("dev-2",),
            "paused": False,
            "again": False,
        }
        return Duties(task=None, permit=None, gos=(GoDuty(**{**values, **fields}),))

    def late(self, **fields: Any) -> Duties:
        values = {"plan": self.log.plan_id, "stage": 0, "generation": 0, "round": 1, "deadline_ms": 9_000}
        return Duties(task=None, permit=None, lates=(LateDuty(**{**values, **fields}),))

    def wish(self, asked: Any, *by: str) -> Duties:
        subject = self.log.release_id if asked in ("approve", "revoke") else self.log.plan_id
        return Duties(task=None, permit=None, wishes=(Wish(asked=asked, subject=subject, device="", by=by),))


def test_w6_the_soak_runs_by_the_own_clock_and_the_confirmed_are_heard_after_it() -> None:
    seat = Seat()
    seat.heard["dev-2"] = 1_000
    assert seat.cast(seat.go(), 1_000) == []
    assert seat.wake_at_ms == 6_000
    assert seat.cast(seat.go(), 5_999) == []
    assert seat.cast(seat.go(), 6_000) == [], "last heard before the soak had ended"
    seat.heard["dev-2"] = 5_999
    assert seat.cast(seat.go(), 7_000) == []
    seat.heard["dev-2"] = 6_000
    assert len(seat.cast(seat.go(), 7_000)) == 1
    assert seat.cast(seat.go(), 7_000) == [], "once"


def test_w6_a_restart_begins_the_soak_anew() -> None:
    seat = Seat()
    seat.heard["dev-2"] = 100_000
    assert seat.cast(seat.go(), 0) == []
    seat.voter = Voter(FirmwarePolicy(), seat.entries)
    assert seat.cast(seat.go(), 4_999) == []
    assert seat.cast(seat.go(), 6_000) == [], "late, never early"
    assert len(seat.cast(seat.go(), 9_999)) == 1


def test_w6_a_pause_waits_for_an_operator() -> None:
    seat = Seat()
    seat.heard["dev-2"] = 100_000
    seat.cast(seat.go(paused=True), 0)
    assert seat.cast(seat.go(paused=True), 50_000) == []
    assert len(seat.cast(seat.go(), 50_000)) == 1


def test_w6_a_second_go_is_cast_where_the_draw_was_not_known() -> None:
    seat = Seat()
    first = seat.go(stage=0, soak_ms=0, listen_to=())
    assert len(seat.cast(first, 0)) == 1
    assert len(seat.cast(seat.go(stage=0, soak_ms=0, listen_to=(), again=True), 10)) == 1


def test_w7_each_round_has_its_own_timer() -> None:
    seat = Seat()
    assert seat.cast(seat.late(), 0) == []
    assert seat.cast(seat.late(), 8_999) == []
    assert len(seat.cast(seat.late(), 9_000)) == 1
    assert seat.cast(seat.late(), 9_000) == []
    assert seat.cast(seat.late(round=2), 10_000) == [], "of this round nothing is seen yet"
    assert len(seat.cast(seat.late(round=2), 19_000)) == 1


def test_w7_a_restart_begins_the_timer_anew() -> None:
    seat = Seat()
    seat.cast(seat.late(), 0)
    seat.voter = Voter(FirmwarePolicy(), seat.entries)
    assert seat.cast(seat.late(), 8_000) == []
    assert seat.cast(seat.late(), 16_999) == []
    assert len(seat.cast(seat.late(), 17_000)) == 1


@pytest.mark.parametrize(
    ("policy", "asked", "by", "follows"),
    [
        ({"approve": 1}, "approve", (), False),
        ({"approve": 1}, "approve", ("ops",), True),
        ({"approve": 2}, "approve", ("ops",), False),
        ({"approve": "auto"}, "approve", (), True),
        ({"approve": 1}, "halt", ("ops",), True),
        ({"approve": 2}, "halt", ("ops",), True),
        ({"approve": 1, "obey_halt": False}, "halt", ("ops",), False),
        ({"approve": 1}, "halt", ("dev-3",), False),
        ({"approve": "auto"}, "rollback", ("ops",), True),
        ({"approve": "auto"}, "rollback", (), False),
        ({"approve": 2}, "rollback", ("ops",), False),
    ],
)
def test_an_operator_asks_and_the_owners_policy_answers(
    policy: dict[str, Any], asked: str, by: tuple[str, ...], follows: bool
) -> None:
    seat = Seat(**policy)
    assert (len(seat.cast(seat.wish(asked, *by), 0)) == 1) is follows


@pytest.mark.parametrize(
    ("approve", "operators", "follows"),
    [(1, ("ops",), False), (1, ("ops", "ops-2"), True), ("auto", ("ops", "ops-2"), False)],
)
def test_an_emergency_rotation_takes_two_operators(
    approve: Any, operators: tuple[str, ...], follows: bool
) -> None:
    """None of the old keys signed it. With one stolen operator key alone nobody gets his own keys into force."""
    seat = Seat(approve=approve)
    seat.genesis = replace(
        seat.genesis, members=(*seat.genesis.members, Member("ops-2", "operator", keypair("ops-2").public))
    )
    new = ("release-7", "release-8", "release-9")
    seat.log.change_keys(2, new, new[:2], operators)
    duties = Duties(task=None, permit=None, wishes=seat.log.duties("dev-0").wishes)
    assert [wish.asked for wish in duties.wishes] == ["keys-emergency"]
    assert [type(command) for command in seat.cast(duties, 0)] == [ChangeKeys] * follows


def test_a_wish_that_comes_back_is_answered_again() -> None:
    """What was voted in vain, because another entry was first, may be asked for later."""
    seat = Seat()
    assert len(seat.cast(seat.wish("halt", "ops"), 0)) == 1
    assert seat.cast(seat.wish("halt", "ops"), 60_000) == []
    seat.cast(Duties(task=None, permit=None), 61_000)
    assert len(seat.cast(seat.wish("halt", "ops"), 120_000)) == 1
