"""One simulated device: the real `Device` with a power switch, a clock that drifts, and a disk that takes time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from swarm.apps.router import Router
from swarm.behaviours.behaviour import BehaviourContext
from swarm.behaviours.loader import Behaviours, load_behaviours
from swarm.behaviours.runner import run_actions
from swarm.device.device import Device, DeviceConfig
from swarm.device.turn import FrameIn, Turn, TurnInput
from swarm.lab.attackers.attack import Attack
from swarm.lab.sim.scheduler import Scheduler
from swarm.primitives.limits import TURN_INPUTS_MAX
from swarm.storage.memory import MemoryStore
from swarm.wire.certificates import Verify

MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """What does not change over crashes."""

    device: DeviceConfig
    behaviours: tuple[Mapping[str, object], ...]
    seed: int
    sync_us: int
    drift_ppm: int
    base_ms: int
    """The device's monotonic clock at the world's start: no two devices agree on the time."""


class SimNode:
    """A device that can be switched off. Turns happen when something waits and the disk is free."""

    def __init__(
        self,
        config: NodeConfig,
        scheduler: Scheduler,
        verify: Verify,
        on_turn: Callable[[SimNode, Turn], None],
    ) -> None:
        """Make the device's medium; `start` switches it on."""
        self.config = config
        self.id = config.device.me
        self.device: Device | None = None
        self.attack: Attack | None = None
        self._scheduler = scheduler
        self._verify = verify
        self._on_turn = on_turn
        self._store = MemoryStore(
            swarm_id=config.device.genesis.id,
            device=self.id,
            key_public=config.device.keypair.public,
        )
        self._behaviours = Behaviours(())
        self._inbox: list[TurnInput] = []
        self._power = 0
        """Counts switch-ons, so that what an earlier life planned does not happen in a later one."""
        self._busy_until_us = 0
        self._planned_us: int | None = None

    @property
    def is_up(self) -> bool:
        """Whether the device runs."""
        return self.device is not None

    @property
    def store(self) -> MemoryStore:
        """The device's store."""
        return self._store

    # ------------------------------------------------------------------------------ power

    def start(self) -> None:
        """Switch on: everything is rebuilt from the medium, as after a power cut."""
        if self.device is not None:
            return
        self._power += 1
        self._inbox = []
        self._planned_us = None
        self._busy_until_us = self._scheduler.now_us
        if self._power > 1:
            self._store = self._store.reopen()
        genesis = self.config.device.genesis
        self.device = Device(
            self.config.device, self._store, Router(genesis.apps), self._verify, self._local_ms()
        )
        context = BehaviourContext(
            device=self.id, seed=self.config.seed, simulated=True, now_ms=self._local_ms()
        )
        self._behaviours = load_behaviours(
            self.config.behaviours, context, where=f"devices.{self.id}.behaviour"
        )
        self._plan(self._scheduler.now_us)

    def crash(self) -> None:
        """Switch off at once; what was synced stays."""
        self.device = None
        self._power += 1

    # ------------------------------------------------------------------------------ inputs

    def receive(self, frame: FrameIn) -> None:
        """A frame has arrived; a device that is off hears nothing, a full inbox drops."""
        self.put(frame)

    def put(self, message: TurnInput) -> None:
        """Give the device an input for its next turn."""
        if self.device is None:
            return
        self._inbox.append(message)
        self._plan(max(self._scheduler.now_us, self._busy_until_us))

    # ------------------------------------------------------------------------------ turns

    def _local_ms(self) -> int:
        drifted = self._scheduler.now_us * (MILLION + self.config.drift_ppm) // MILLION
        return self.config.base_ms + drifted // 1000

    def _world_us(self, local_ms: int) -> int:
        local_us = max(0, local_ms - self.config.base_ms) * 1000
        return -(-local_us * MILLION // (MILLION + self.config.drift_ppm))

    def _plan(self, time_us: int) -> None:
        """Make sure that a turn happens at `time_us` or earlier."""
        if self._planned_us is not None and self._planned_us <= time_us:
            return
        self._planned_us = time_us
        power = self._power
        self._scheduler.at(time_us, lambda: self._turn(power, time_us))

    def _turn(self, power: int, planned_us: int) -> None:
        if self.device is None or power != self._power or self._planned_us != planned_us:
            return
        self._planned_us = None
        if self._scheduler.now_us < self._busy_until_us:
            self._plan(self._busy_until_us)
            return
        inputs, self._inbox = self._inbox[:TURN_INPUTS_MAX], self._inbox[TURN_INPUTS_MAX:]
        turn = self.device.turn(inputs, self._local_ms())
        if self.attack is not None:
            turn = self.attack.change(turn)
        done_us = self._scheduler.now_us + (self.config.sync_us if turn.synced else 0)
        self._busy_until_us = done_us
        if turn.wake_at_ms is not None:
            self._plan(max(done_us, self._world_us(turn.wake_at_ms)))
        if self._inbox:
            self._plan(done_us)
        # Nothing of a turn leaves before its transaction is on the disk.
        if done_us == self._scheduler.now_us:
            self._finish(power, turn)
        else:
            self._scheduler.at(done_us, lambda: self._finish(power, turn))

    def _finish(self, power: int, turn: Turn) -> None:
        if power != self._power:
            return
        self._on_turn(self, turn)
        if turn.actions:
            results = run_actions(self._behaviours, turn.actions, self._local_ms())
            for ballot in results.ballots:
                self.put(ballot)
