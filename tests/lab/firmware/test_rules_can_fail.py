"""The rules over a whole run can fail: each mistake, planted in the product, is found by its number."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from swarm.apps.rollout import permit, plan, report
from swarm.apps.rollout.gate import end_member
from swarm.apps.rollout.state import Here, Permit
from swarm.device.firmware import updater
from swarm.device.firmware.operations import Confirm
from swarm.device.firmware.reports import make_report
from swarm.device.firmware.trial import Trial
from swarm.device.firmware.view import View
from swarm.device.firmware.voter import Voter
from swarm.lab.scenario.parse import parse_scenario
from swarm.lab.scenario.result import HELD, exit_code
from swarm.lab.sim.run import run_sim
from tests.support.firmware_runs import QUICK, swarm


def broken(text: str) -> set[str]:
    result = run_sim(parse_scenario(text, "test"), version="x")
    found = {name for name, state in result.invariants.items() if state != HELD}
    assert exit_code(result) == int(bool(found))
    return found


TWO_CLASSES = swarm(
    observers=0,
    firmware="classes: {even: [dev-0, dev-2], odd: [dev-1, dev-3]}",
    release="v2: {class: even, behaves: brick}, w2: {class: odd, behaves: brick}",
    orders=(
        "at: 1s, firmware: {propose: w2}",
        "at: 2s, firmware: {approve: w2}",
        f"at: 3s, firmware: {{plan: {{release: w2, {QUICK}}}}}",
    ),
    duration="30s",
)


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert broken(TWO_CLASSES) == set()


def test_2_a_permit_beyond_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permit, "leaves_room", lambda *_: True)
    assert "rollout-risk-is-bounded" in broken(TWO_CLASSES)


def test_3_a_permit_that_ends_before_its_trial_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "ENDING", (*report.ENDING, "healthy"))
    assert "rollout-one-intent" in broken(swarm(duration="20s"))


def test_4_an_acceptance_after_a_freeze(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "accepts", lambda *_: "")
    found: set[str] = set()
    for at_ms in range(3_200, 5_200, 200):
        found |= broken(
            swarm(observers=0, duration="20s", orders=(f"at: {at_ms}ms, firmware: {{halt: v2}}",))
        )
    assert found == {"rollout-freeze-holds"}


def test_5_an_opening_by_one_voter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Here, "quorum", property(lambda _: 1))
    assert "rollout-honest-votes" in broken(swarm(duration="20s"))


def test_10_the_log_believes_what_is_not_true(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that runs v2 and says at its end that it has the factory's image."""

    def lie(*arguments: Any, **named: Any) -> Any:
        made = make_report(*arguments, **named)
        return msgspec.structs.replace(made, digest=b"x" * 32) if made.result == "confirmed" else made

    monkeypatch.setattr(updater, "make_report", lie)
    assert "rollout-belief-is-true" in broken(swarm(duration="40s"))


def test_6_a_confirmation_without_acceptance(monkeypatch: pytest.MonkeyPatch) -> None:
    def eager(_self: Trial, _view: View, _permit: Permit | None, *rest: Any, is_mute: bool) -> Confirm | None:
        del is_mute
        return Confirm() if rest[1].is_passed else None

    monkeypatch.setattr(Trial, "next_operation", eager)
    assert "rollout-no-confirm-without-acceptance" in broken(swarm(duration="20s"))


def test_7_a_failure_that_counts_as_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    def kind(*arguments: Any, failed: bool, reason: str) -> None:
        del failed
        end_member(*arguments, failed=False, reason=reason)

    monkeypatch.setattr(report, "end_member", kind)
    assert "rollout-good-stages-are-good" in broken(swarm(release="v2: {behaves: crash}", duration="20s"))


def test_9_a_brick_that_nobody_calls_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Voter, "_late", lambda *_: None)
    assert broken(swarm(release="v2: {behaves: brick}", duration="70s")) == {"rollout-ends"}


def test_w8_nobody_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "moved", lambda *_: [])
    assert "rollout-hold-back" in broken(swarm(duration="30s"))
