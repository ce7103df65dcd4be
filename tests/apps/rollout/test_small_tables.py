"""Random logs with tables of a few places: whatever is forgotten, no replica stumbles, and the rules hold."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest

from swarm.apps.application import Rejected
from swarm.apps.rollout import plan as plans
from swarm.apps.rollout import releases, rollback
from swarm.apps.rollout.app import Rollout
from swarm.apps.rollout.entries import TAIL, Approve, Consent, Go, Halt, Late, Ready
from swarm.apps.rollout.events import Completed, RolledBack
from swarm.apps.rollout.spec import Kind, Step
from tests.support.rollouts import RELEASE_SIGNERS, RolloutLog, image

PLACES = 4
STAGES = 6
OTHER_SIGNERS = ("release-7", "release-8", "release-9")
RESULTS = ("healthy", "confirmed", "reverted", "never_tried", "declined", "started", "fell_back")
KINDS: tuple[Kind, ...] = ("voters", "observers")


def number_of(target: bytes) -> int | None:
    return next((number for number in range(40) if image(number) == target), None)


class Life:
    """A log that lives at random; `calm` = how often somebody just does a duty."""

    def __init__(self, seed: int, calm: float) -> None:
        self.random = random.Random(seed)
        self.calm = calm
        self.log = RolloutLog(
            self.random.choice((3, 4, 5, 7)), observers=self.random.choice((0, 3)), reserve=0
        )
        self.names = (*self.log.voters, *self.log.observers)
        self.verbs: dict[str, Callable[[], object]] = {
            "propose": self.propose,
            "approve": self.approve,
            "plan": self.plan,
            "keys": self.change_keys,
            "arm": self.arm,
            "report": self.report,
            "vote": self.vote,
            "consent": self.consent,
            "happens": self.happens,
        }

    def step(self) -> None:
        log, pick = self.log, self.random
        if log.app.state.plans:
            log.plan_id = pick.choice(list(log.app.state.plans))
            log.release_id = log.plan.release
        verb = "" if pick.random() < self.calm else pick.choice([*self.verbs, "report", "vote", "vote"])
        with contextlib.suppress(Rejected):
            (self.verbs[verb] if verb else self.duty)()

    def some(self) -> tuple[str, ...]:
        return tuple(self.random.sample(self.log.voters, self.random.randint(1, len(self.log.voters))))

    def propose(self) -> None:
        self.log.propose(
            self.random.randint(1, 8),
            signers=self.random.choice((RELEASE_SIGNERS[:2], OTHER_SIGNERS[:2])),
            version=self.random.choice(("one", "other")),
            image_digest=image(self.random.randint(1, 8)),
            counter=self.random.randint(0, 2),
        )

    def approve(self) -> None:
        if self.log.app.state.releases:
            release = self.random.choice(list(self.log.app.state.releases))
            self.log.all(Approve(release), self.some())

    def plan(self) -> None:
        if not self.log.app.state.releases:
            return
        pick = self.random
        self.log.release_id = pick.choice(list(self.log.app.state.releases))
        self.log.make_plan(
            pick.choice(("ops", *self.log.voters)),
            hold_back=pick.randint(0, len(self.log.voters)),
            max_fail=pick.randint(0, 2),
            retries=pick.randint(0, 1),
            barrier=pick.random() < 0.2,
            reserve=pick.randint(0, self.log.genesis.budget.u),
            steps=tuple(Step(pick.choice(KINDS), 1, 0) for _ in range(pick.randint(0, 2))),
        )

    def change_keys(self) -> None:
        new = self.random.choice((RELEASE_SIGNERS, OTHER_SIGNERS))
        signers = (*RELEASE_SIGNERS[:2], *OTHER_SIGNERS[:2])
        if self.random.random() < 0.3:
            self.log.change_keys(2, new, signers, self.log.voters)

    def arm(self) -> None:
        if self.log.app.state.plans:
            stage = self.random.choice((None, TAIL, 0, 1))
            self.log.arm(self.random.choice(self.names), stage=stage, number=self.random.randint(1, 2))

    def report(self) -> None:
        id = self.random.choice(self.names)
        permit = self.log.device(id).permit
        number = None
        if permit is not None and self.random.random() < 0.7:
            number = number_of(permit.target)
        named = 0 if permit is None or self.random.random() < 0.2 else permit.id
        self.log.report(id, self.random.choice(RESULTS), permit=named, number=number)

    def vote(self) -> None:
        log = self.log
        if not log.app.state.plans:
            return
        some = self.some()
        self.random.choice(
            (
                lambda: log.go(some),
                lambda: log.late(some),
                lambda: log.halt(some),
                lambda: log.all(Halt(log.plan.class_id, of_class=True, reason=""), some),
                lambda: log.resume(some, without=tuple(self.random.sample(self.names, 1))),
                log.resume,
                lambda: log.rollback(some),
                lambda: log.rollback(some, stop=True),
                lambda: log.revoke(some),
                log.revoke_signed,
            )
        )()

    def consent(self) -> None:
        if self.log.app.state.plans:
            id = self.random.choice(self.log.voters)
            self.log.log("ops", Consent(self.log.plan_id, id))
            self.log.consent(id)

    def happens(self) -> None:
        what = self.random.random()
        if what < 0.3:
            self.log.epoch += 1
        elif what < 0.9:
            self.log.recovered(self.random.choice(self.names))
        elif what < 0.95:
            self.log.convicted(self.random.choice(self.names))

    def duty(self) -> None:
        log = self.log
        id = self.random.choice(self.names)
        duties = log.duties(id)
        permit, task = duties.permit, duties.task
        if permit is not None:
            number = number_of(permit.target)
            log.report(id, "confirmed" if permit.accepted else "healthy", permit=permit.id, number=number)
        elif task is not None and task.refusal is None:
            assert not log.app.state.is_image_revoked(log.device(id).class_id, task.arm.target)
            log.log(id, task.arm)
        elif task is not None and task.wants_ready:
            log.log(id, Ready(task.plan, task.arm.stage))
        elif duties.gos:
            log.all(Go(duties.gos[0].plan, duties.gos[0].stage, duties.gos[0].generation))
        elif not any(plan.holds_class for plan in log.app.state.plans.values()):
            numbers = [release.manifest.number for release in log.app.state.releases.values()]
            log.propose(max(numbers, default=1) + 1)
            log.approve()
            log.make_plan(hold_back=self.random.choice((None, 0, 1)), reserve=0)

    def settle(self) -> None:
        """Let everybody do its duty, and be late only when nothing else is left, until nothing changes any more."""
        for _ in range(300):
            before = self.log.app.snapshot()
            for id in self.names:
                self.do_own_part(id)
                for go in self.log.duties(id).gos:
                    self.log.log(id, Go(go.plan, go.stage, go.generation))
            if self.log.app.snapshot() == before:
                for id in self.names:
                    for late in self.log.duties(id).lates:
                        self.log.log(id, Late(late.plan, late.stage, late.generation, late.round))
            if self.log.app.snapshot() == before:
                return
        raise AssertionError("it goes on for ever")

    def do_own_part(self, id: str) -> None:
        log = self.log
        duties = log.duties(id)
        permit, task = duties.permit, duties.task
        if permit is not None:
            ended = permit.denied or permit.incarnation != log.units[id].incarnation
            result = "reverted" if ended else "confirmed" if permit.accepted else "healthy"
            log.report(id, result, permit=permit.id, number=None if ended else number_of(permit.target))
        elif log.device(id).recovering:
            log.report(id, "started")
        elif task is not None and task.wants_ready:
            log.log(id, Ready(task.plan, task.arm.stage))
        elif task is not None and task.refusal is None:
            log.log(id, task.arm)


@pytest.fixture(autouse=True)
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "RELEASES_KEPT", PLACES)
    monkeypatch.setattr(releases, "PLANS_KEPT", PLACES)
    for module in (plans, rollback, releases):
        monkeypatch.setattr(module, "STAGES_KEPT", STAGES)


@pytest.mark.parametrize("calm", [0.2, 0.6, 0.9])
def test_whatever_happened_every_rollout_ends(calm: float) -> None:
    """(9), for all that the model leaves out; a plan that only waits for consents waits for people."""
    for seed in range(20):
        life = Life(seed, calm)
        for _ in range(100):
            life.step()
        life.settle()
        state = life.log.app.state
        assert [device.id for device in state.devices.values() if device.permit is not None] == []
        for plan in state.plans.values():
            if life.log.genesis.budget.u > (plan.spec.reserve or 0):
                assert not plan.holds_class or plan.state == "frozen", f"seed {seed}: {plan.state}"


@pytest.mark.parametrize("calm", [0.2, 0.6, 0.9])
def test_whatever_is_forgotten_no_replica_stumbles(calm: float) -> None:
    ends: set[type] = set()
    for seed in range(40):
        life = Life(seed, calm)
        for _ in range(150):
            life.step()
            for name in (*life.names, "ops"):
                life.log.duties(name)
        state = life.log.app.state
        assert len(state.releases) <= PLACES
        assert len(state.plans) <= PLACES
        assert all(len(plan.stages) <= STAGES + 1 for plan in state.plans.values())
        restored = Rollout()
        restored.restore(life.log.app.snapshot())
        assert restored.snapshot() == life.log.app.snapshot()
        assert life.log.rules.verdict() == "held", f"seed {seed}"
        ends |= {type(event) for event in life.log.events}
    assert ends >= {Completed, RolledBack}, "the lives are too short to show anything"
