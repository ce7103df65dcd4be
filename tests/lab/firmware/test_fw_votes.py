"""FIRMWARE section 9, what voters may try: to move, to stop, to grind, to race, and to fall silent."""

from __future__ import annotations

import pytest

from swarm.apps.rollout.events import Accepted, Denied, Frozen, Permitted, Refused
from swarm.crypto.digest import sha256
from swarm.lab.scenario.rollout_log import read_entries
from tests.support.firmware_runs import QUICK, Run, play, play_config, swarm
from tests.support.rollouts import RolloutLog


def liars(attack: str, *devices: str) -> tuple[str, ...]:
    return tuple(f"at: 0s, byzantine: {{device: {device}, attack: {attack}}}" for device in devices)


def events_of(run: Run) -> list[object]:
    """Return every event of the rollout in the log of a correct device, in order."""
    node = next(n for n in run.world.nodes.values() if n.device is not None and n.attack is None)
    assert node.device is not None
    entries = read_entries(node.store.leaf, 0, node.device.ledger.frontier.size)
    return [event for entry in entries for _, event in entry.events]


@pytest.mark.parametrize("voters", [4, 7])
def test_fw_liars_vote_for_everything(voters: int) -> None:
    """r liars approve, go, halt, call late and roll back at once and always: nothing moves, nothing stops."""
    names = [f"dev-{number}" for number in range(voters)]
    count = {4: 1, 7: 2}[voters]
    run = play(
        swarm(
            voters=voters,
            faults=liars("votes-always", *names[-count:]),
            duration="90s",
            plan="soak: 1s, deadline: 20s, trial: 8s, retries: 0",
            orders=("at: 30s, firmware: {propose: v3}",),
            release="v2: {behaves: healthy}, v3: {behaves: brick}",
        )
    )
    assert run.state_of("v3") == "proposed", "their approvals alone approve nothing"
    assert run.plan.state == "completed"
    assert run.plan.halted_by == ""
    assert set(run.running("v2")) >= set(names[:-count])


def test_fw_liars_refuse_to_brake_where_r_is_above_u() -> None:
    """b = min(u, r) + 1: the honest ones alone stop a bricked canary, as many liars as there may be."""
    run = play_config("brakes-refused")
    assert run.plan.halted_by.startswith("failed:")
    majority = play(
        swarm(
            voters=5,
            extra="budget: majority",
            release="v2: {behaves: brick}",
            duration="60s",
        )
    )
    assert majority.plan.state == "frozen"


def test_fw_liars_refuse_in_five_balanced_voters() -> None:
    """n = 5, u = 1, r = 2: two liars that keep the log alive and one bricked canary leave two honest brakes of two."""
    run = play(
        swarm(
            voters=5,
            release="v2: {behaves: brick}",
            faults=liars("refuses", "dev-3", "dev-4"),
            plan=None,
            orders=(
                "at: 1s, firmware: {propose: v2}",
                "at: 2s, firmware: {approve: v2}",
                "at: 2s, firmware: {approve: v2}, from: dev-3",
                "at: 2s, firmware: {approve: v2}, from: dev-4",
                f"at: 3s, firmware: {{plan: {{release: v2, {QUICK}}}}}",
                "at: 5s, firmware: {go: v2}, from: dev-3",
                "at: 5s, firmware: {go: v2}, from: dev-4",
            ),
            duration="90s",
        )
    )
    assert run.result.budget.r == 2
    assert run.plan.state == "frozen"
    assert run.plan.halted_by.startswith("failed:")


def test_fw_grind_the_draw() -> None:
    """A leader that tries blocks until its friend is drawn gets its friend drawn, and nothing with it (W8)."""
    log = RolloutLog(4, observers=40, liars=("dev-3",))
    log.planned()
    for attempt in range(1000):
        log.block_hash = sha256(b"grind", attempt.to_bytes(4, "big"))
        again = RolloutLog(4, observers=40, liars=("dev-3",))
        again.planned()
        again.block_hash = log.block_hash
        again.go()
        if again.members() == ("dev-3",):
            break
    else:
        pytest.fail("nobody can be that unlucky")
    again.update("dev-3")
    assert again.plan.spec.hold_back == 3
    sizes: list[tuple[tuple[str, ...], list[int]]] = []
    while again.state == "active" and len(sizes) < 3:
        members = again.run_stage()
        sizes.append((members, [again.device(id).number for id in ("dev-0", "dev-1", "dev-2")]))
    assert sizes[0][0] == (), "first the hold-back must end, which takes q voters and a soak"
    assert len(sizes[1][0]) == 1, "then one voter, an honest one"


def test_fw_grind_by_a_malicious_planner() -> None:
    """A plan that holds nobody back and soaks nobody, made by one voter: without an operator no honest go comes."""
    run = play(
        swarm(
            plan=None,
            duration="30s",
            faults=liars("votes-always", "dev-3"),
            orders=(
                "at: 1s, firmware: {propose: v2}",
                "at: 2s, firmware: {approve: v2}",
                "at: 3s, firmware: {plan: {release: v2, soak: 0s, hold_back: 0, deadline: 1000s, trial: 10s}}, from: dev-3",
            ),
        )
    )
    assert run.state_of("v2") == "approved"
    assert run.plan.state == "planned"
    assert len(run.running("factory")) == 5


def test_fw_halt_races_arm_at_every_moment() -> None:
    """Wherever the halt lands: no permit and no acceptance after it, and the permit before it ends by a report alone."""
    seen: dict[str, int] = {}
    for offset_ms in range(3_200, 5_600, 150):
        run = play(
            swarm(
                observers=0,
                duration="40s",
                orders=(f"at: {offset_ms}ms, firmware: {{halt: v2}}",),
            )
        )
        events = events_of(run)
        assert run.plan.state == "frozen"
        assert run.plan.halted_by == "votes"
        frozen = next(i for i, event in enumerate(events) if isinstance(event, Frozen))
        after = events[frozen:]
        assert not [event for event in after if isinstance(event, Permitted | Accepted)]
        charged = [event for event in events[:frozen] if isinstance(event, Permitted)]
        accepted = [event for event in events[:frozen] if isinstance(event, Accepted)]
        if accepted:
            seen["after the acceptance"] = 1
        elif charged:
            seen["between permit and acceptance"] = 1
            assert len(run.running("v2")) == 0, "who was not accepted goes back"
        else:
            seen["before the permit"] = 1
        if any(isinstance(event, Denied) for event in after):
            seen["denied"] = 1
        assert run.rollout.at_risk() == ()
    assert set(seen) >= {"before the permit", "between permit and acceptance", "after the acceptance"}, seen


def test_fw_halt_races_arm_in_one_block() -> None:
    """Freeze beats open and arm by position alone, within one block too."""
    log = RolloutLog(4)
    log.planned()
    log.go()
    (member,) = log.members()
    log.halt(("dev-0", "dev-1"))
    (refused,) = log.arm(member)
    assert isinstance(refused, Refused)
    assert refused.reason == "frozen"
    assert log.state == "frozen"


def test_fw_liar_then_silent_at_u_1_is_two_failures() -> None:
    """dev-3 helps a canary into its trial and falls silent; the canary bricks: safe, and the log waits."""
    run = play(
        swarm(
            firmware="classes: {canary: [dev-0, obs-0], other: [dev-1, dev-2, dev-3]}",
            release="v2: {behaves: brick}",
            faults=liars("falls-silent", "dev-3"),
            duration="60s",
        )
    )
    height = run.result.devices["dev-1"].height
    assert run.plan.state == "active", "nobody is left who could call it late"
    later = play(
        swarm(
            firmware="classes: {canary: [dev-0, obs-0], other: [dev-1, dev-2, dev-3]}",
            release="v2: {behaves: brick}",
            faults=(*liars("falls-silent", "dev-3"), "at: 60s, crash: [dev-0]", "at: 61s, restart: [dev-0]"),
            duration="120s",
        )
    )
    assert later.result.devices["dev-1"].height > height, "with the canary's power taken the log goes on"
    assert later.running("v2") == []


def test_fw_liar_then_silent_with_a_reserve() -> None:
    """u = 2 leaves one failure to chance: the same two failures, and the plan is frozen on a live log."""
    run = play(
        swarm(
            voters=7,
            firmware="classes: {canary: [dev-0, obs-0], other: [dev-1, dev-2, dev-3, dev-4, dev-5, dev-6]}",
            release="v2: {behaves: brick}",
            faults=liars("falls-silent", "dev-6"),
            duration="90s",
        )
    )
    assert run.plan.state == "frozen"
    assert run.plan.halted_by == "failed:dev-0"
