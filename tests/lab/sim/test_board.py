"""The board under a simulated device: what an image does to it, what a cut costs, what a restart forgets."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from swarm.device.firmware.operations import (
    ArmBoot,
    Begin,
    Confirm,
    Inspect,
    Inspection,
    Install,
    InstallDone,
    Seal,
    WriteChunks,
)
from swarm.install.image import ImageRules
from swarm.install.port import BootNonce, Intent, Outcome
from swarm.lab.install_simulated.backend import SimulatedBackend
from swarm.lab.install_simulated.medium import SimulatedMedium
from swarm.lab.scenario.firmware import During, class_ids
from swarm.lab.scenario.parse import parse_scenario
from swarm.lab.sim.board import BOOT_US, Cut, SimBoard
from swarm.lab.sim.releases import Releases
from swarm.lab.sim.scheduler import Scheduler
from tests.support.firmware_runs import swarm


@dataclass
class Bench:
    """One board with its clock; what it told."""

    releases: Releases
    scheduler: Scheduler = field(default_factory=Scheduler)
    told: list[str] = field(default_factory=list)
    done: list[InstallDone] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        vendor, device_class = class_ids("device")
        rules = ImageRules(keys=(self.releases.image_key.public,), vendor=vendor, device_class=device_class)
        medium = SimulatedMedium(rules)
        factory = self.releases.factory("device")
        medium.set_up(factory.plan, factory.file)
        self.board = SimBoard(
            medium,
            SimulatedBackend,
            self.scheduler,
            seed=1,
            on_start=self.told.append,
            on_stop=lambda: self.told.append("stop"),
            on_truth=self._look,
            on_result=lambda _: None,
        )

    def _look(self, board: SimBoard) -> None:
        truth = board.truth(lambda _: "")
        if truth is not None:
            self.phases.append(truth.phase)

    @property
    def pending(self) -> Cut | None:
        """The cut that waits for its step; not narrowed by an assignment before."""
        return self.board.cut

    def wait(self, duration_ms: int) -> None:
        self.scheduler.run_until(self.scheduler.now_us + duration_ms * 1000)

    def run(self, operation: object) -> InstallDone | None:
        """Order an operation and wait for its end, None where the power went."""
        before = len(self.done)
        self.board.run(Install(operation, 1), self.done.append)  # type: ignore[arg-type]
        self.wait(300)
        return self.done[-1] if len(self.done) > before else None

    def stage(self, name: str) -> None:
        """Fetch, seal and arm a release."""
        made = self.releases.made[name]
        plan = made.plan
        assert self.run(Begin(plan))
        size = plan.chunk_bytes
        chunks = tuple((i, made.file[i * size :][: plan.length_of(i)]) for i in range(plan.chunk_count))
        assert self.run(WriteChunks(chunks, checkpoint=True))
        done = self.run(Seal())
        assert done
        assert done.error is None
        assert self.run(self.arming(name))

    def arming(self, name: str) -> ArmBoot:
        made = self.releases.made[name]
        nonce = BootNonce(height=1, root=b"r" * 32)
        return ArmBoot(Intent(release=made.id, permit=7, nonce=nonce, attempts=1, trial_ms=10_000))

    def inspect(self) -> Inspection:
        done = self.run(Inspect())
        assert done
        assert isinstance(done.answer, Inspection)
        return done.answer


@pytest.fixture
def bench() -> Bench:
    text = swarm(
        release="v2: {behaves: healthy}, crash: {behaves: crash}, hang: {behaves: hang}, "
        "brick: {behaves: brick}, bomb: {behaves: {bomb: 3s}}"
    )
    scenario = parse_scenario(text, "test")
    assert scenario.firmware is not None
    releases = Releases(scenario, scenario.firmware)
    releases.make(b"s" * 32)
    made = Bench(releases)
    made.board.power_on()
    made.wait(1_000)
    made.told.clear()
    return made


def test_a_device_takes_its_first_turn_after_the_boot(bench: Bench) -> None:
    bench.board.power_off()
    bench.board.power_on()
    bench.told.clear()
    bench.wait(BOOT_US // 1000 - 1)
    assert bench.told == []
    bench.wait(200)
    assert bench.told == ["healthy"]


def test_healthy_is_tried_and_confirmed(bench: Bench) -> None:
    bench.stage("v2")
    bench.board.reset()
    bench.wait(2_000)
    assert bench.told == ["stop", "healthy"]
    assert bench.inspect().outcome.outcome is Outcome.TRIAL
    assert bench.run(Confirm())
    bench.wait(60_000)
    assert bench.inspect().outcome.outcome is Outcome.CONFIRMED
    assert bench.phases[-1] == "idle"
    assert {"armed", "trial"} <= set(bench.phases)


def test_a_trial_that_nobody_confirms_is_ended_by_its_timer(bench: Bench) -> None:
    bench.stage("v2")
    bench.board.reset()
    bench.wait(30_000)
    found = bench.inspect()
    assert found.outcome.outcome is Outcome.REVERTED
    assert found.status.running.number == 1


@pytest.mark.parametrize("name", ["crash", "hang"])
def test_an_image_that_crashes_or_hangs_is_left_without_a_turn_of_it(bench: Bench, name: str) -> None:
    bench.stage(name)
    bench.board.reset()
    bench.wait(30_000)
    assert [word for word in bench.told if word != "stop"] == ["healthy"], "the old one, once"
    assert bench.inspect().outcome.outcome is Outcome.REVERTED


def test_a_brick_stays_until_its_power_is_taken(bench: Bench) -> None:
    bench.stage("brick")
    bench.board.reset()
    bench.told.clear()
    bench.wait(600_000)
    assert bench.told == []
    assert bench.phases[-1] == "bricked"
    bench.board.power_off()
    bench.board.power_on()
    bench.wait(2_000)
    assert bench.told[-1] == "healthy"
    assert bench.inspect().outcome.outcome is Outcome.REVERTED


def test_a_bomb_is_healthy_until_its_time(bench: Bench) -> None:
    bench.stage("bomb")
    bench.board.reset()
    bench.wait(2_000)
    assert bench.told == ["stop", "healthy"]
    assert bench.run(Confirm())
    bench.wait(1_500)
    assert bench.told[-1] == "stop"
    bench.wait(60_000)
    assert bench.told[-1] == "stop"
    bench.board.power_off()
    bench.board.power_on()
    bench.told.clear()
    bench.wait(5_000)
    assert bench.told == ["healthy", "stop"], "and again after each start"


@pytest.mark.parametrize("during", ["fetch", "arm", "confirm"])
def test_a_cut_in_an_operation_takes_the_power_and_gives_it_back(bench: Bench, during: During) -> None:
    if during == "confirm":
        bench.stage("v2")
        bench.board.reset()
        bench.wait(1_000)
    made = bench.releases.made["v2"]
    bench.board.cut = Cut(during, off_ms=2_000)
    bench.told.clear()
    if during == "confirm":
        assert bench.run(Confirm()) is None
    else:
        assert bench.run(Begin(made.plan))
        plan = made.plan
        size = plan.chunk_bytes
        chunks = tuple((i, made.file[i * size :][: plan.length_of(i)]) for i in range(plan.chunk_count))
        done = bench.run(WriteChunks(chunks, checkpoint=True))
        assert (done is None) == (during == "fetch")
        if during == "arm":
            assert bench.run(Seal())
            assert bench.run(bench.arming("v2")) is None
    assert bench.told == ["stop"]
    bench.wait(5_000)
    assert "healthy" in bench.told
    assert bench.pending is None
    assert bench.inspect().status.booted == "primary"


def test_a_cut_in_a_swap_waits_for_one(bench: Bench) -> None:
    bench.board.cut = Cut("swap", off_ms=1_000)
    bench.board.power_off()
    bench.board.power_on()
    bench.wait(1_000)
    waits = bench.pending is not None
    assert waits, "a plain start is no swap"
    bench.stage("v2")
    bench.board.reset()
    bench.wait(5_000)
    assert bench.pending is None
    assert bench.inspect().status.running.number in (1, 2)


def test_a_result_of_an_earlier_life_is_never_told(bench: Bench) -> None:
    bench.board.run(Install(Begin(bench.releases.made["v2"].plan), 1), bench.done.append)
    bench.board.power_off()
    bench.board.power_on()
    bench.wait(5_000)
    assert bench.done == []
