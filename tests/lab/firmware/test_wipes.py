"""Wiped devices (R12) in a rollout: the recovery records are written by hand, as epochs and convictions will be."""

from __future__ import annotations

from swarm.apps.rollout.events import Permitted, Refused
from tests.support.rollouts import RolloutLog


def test_wipe_after_confirm_before_its_report() -> None:
    """Confirmed, wiped, and back in a new incarnation: at risk until it reports, its old permit is a failure."""
    log = RolloutLog(4)
    log.planned(hold_back=2)
    log.go()
    (member,) = log.members()
    permit = log.permit(member)
    log.report(member, "healthy", permit=permit, number=2, confirmed=False)
    log.truth(member, "trial", new=True)
    log.truth(member, "idle", new=True, ever=True)
    log.recovered(member)
    assert member in log.app.at_risk()
    assert log.log(member, log.make_report(member, "confirmed", permit=permit, number=2, incarnation=0)) == ()
    assert member in log.app.at_risk(), "a report of the old incarnation frees nobody"
    log.report(member, "started", number=2)
    assert log.app.at_risk() == ()
    assert log.device(member).permit is None
    assert log.rules.verdict() == "held"


def test_wipe_while_another_holds_a_permit_stops_further_permits() -> None:
    """A recovery may lift the set at risk above u; then nobody gets a permit until it falls."""
    log = RolloutLog(7)
    log.planned(hold_back=3, reserve=1)
    log.go()
    (member,) = log.members()
    other = next(voter for voter in log.voters if voter != member)
    log.recovered(other)
    (refused,) = log.arm(member)
    assert isinstance(refused, Refused)
    assert refused.reason == "at-risk"
    log.report(other, "started")
    (permitted,) = log.arm(member)
    assert isinstance(permitted, Permitted)


def test_wipe_of_both_slots_is_eligible_again() -> None:
    log = RolloutLog(4)
    log.recovered("dev-1")
    log.report("dev-1", "started")
    log.planned()
    log.run_all()
    assert log.state == "completed"
    assert log.device("dev-1").number == 2
