"""The certificate to act (W5): who counts, from which height on, and how old the own entry may be."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from swarm.apps.rollout.app import Rollout
from swarm.device.firmware.certificate import OwnEntry, PermitFacts, holds_certificate
from swarm.device.firmware.permits import PermitHolder
from swarm.device.firmware.view import View
from swarm.primitives.ids import DeviceId
from tests.support.rollouts import make_rollout_genesis

PERMIT_HEIGHT = 20
OWN = b"o" * 32
OTHER = b"x" * 32
Attests = Mapping[int, Mapping[int, bytes]]


def view(
    attests: Attests, *, voters: int = 4, me: DeviceId = "dev-0", now_ms: int = 0, known_to: int = 30
) -> View:
    """Return the view of `me`, which knows its own digests up to height `known_to`."""
    genesis = make_rollout_genesis(voters, observers=1)
    return View(
        now_ms=now_ms,
        genesis=genesis,
        me=me,
        rollout=Rollout(),
        height=known_to,
        log_root=lambda: OWN,
        digests=lambda height: OWN if height <= known_to else None,
        attests=lambda: attests,
        checkpoint_height=0,
        peers_heard={},
        leaf=lambda _: None,
        has_voted=True,
    )


def facts(*at_risk: DeviceId) -> PermitFacts:
    return PermitFacts(position=5, height=PERMIT_HEIGHT, at_risk=at_risk)


def holds(seen: View, *at_risk: DeviceId, fresh: int = PERMIT_HEIGHT, alone: bool = False) -> bool:
    return holds_certificate(seen, facts(*at_risk), OwnEntry(0, fresh), alone=alone)


def at(height: int, *voters: int, digest: bytes = OWN) -> dict[int, dict[int, bytes]]:
    return {voter: {height: digest} for voter in voters}


def test_w5_q_others_and_r_plus_1_that_match() -> None:
    assert holds(view(at(20, 1, 2, 3)))
    assert not holds(view(at(20, 1, 2))), "q = 3 others"
    assert holds(view(at(20, 1, 2) | at(99, 3, digest=OTHER))), (
        "one may be where this device has not been yet"
    )
    assert not holds(view(at(20, 1) | at(99, 2, 3, digest=OTHER))), "r+1 = 2 must match at one height"
    assert not holds(view(at(20, 1) | at(21, 2) | at(99, 3))), "at one height"


def test_w5_not_itself_and_nobody_at_risk() -> None:
    assert not holds(view(at(20, 0, 1, 2)))
    assert not holds(view(at(20, 1, 2, 3)), "dev-2")
    seven = at(20, 1, 2, 3, 4, 5, 6)
    assert holds(view(seven, voters=7), "dev-2")
    assert not holds(view(seven, voters=7), "dev-2", "dev-3")


def test_w5_only_from_the_permit_on() -> None:
    assert not holds(view(at(19, 1, 2, 3)))
    assert holds(view(at(20, 1, 2) | at(25, 3)))
    assert not holds(view(at(20, 1, 2) | at(19, 3))), "who has not applied the permit may not know of it"


def test_w5_attestations_cover_the_own_entry_of_this_boot() -> None:
    assert not holds(view(at(20, 1, 2, 3)), fresh=24)
    assert holds(view(at(24, 1, 2, 3)), fresh=24)


def test_w5_a_voter_of_another_log_does_not_count() -> None:
    assert not holds(view(at(20, 1, 2) | at(20, 3, digest=OTHER)))


def test_w5_observers_need_r_plus_1() -> None:
    assert holds(view(at(20, 0, 1), me="obs-0"))
    assert not holds(view(at(20, 0), me="obs-0"))


def test_w9_w5_asks_all_others_where_nobody_may_fail() -> None:
    assert holds(view(at(20, 1, 2), voters=3), alone=True)
    assert not holds(view(at(20, 1), voters=3), alone=True)
    assert not holds(view(at(20, 1, 2, 3, 4), voters=6), alone=True)


@pytest.mark.parametrize(("age_ms", "expected"), [(60_000, True), (60_001, False)])
def test_w5_an_own_entry_ages(age_ms: int, expected: bool) -> None:
    holder = PermitHolder(60_000)
    holder.take_own_entry(0, 20)
    assert (holder._freshest(age_ms) is not None) is expected


def test_w5_of_several_own_entries_the_lowest_that_is_young_counts() -> None:
    holder = PermitHolder(60_000)
    for signed_at_ms, height in ((0, 20), (30_000, 22), (50_000, 25)):
        holder.take_own_entry(signed_at_ms, height)
    assert holder._freshest(60_000) == OwnEntry(0, 20)
    assert holder._freshest(80_000) == OwnEntry(30_000, 22)
    assert holder._freshest(200_000) is None
