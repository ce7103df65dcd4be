"""One simulated device: the real `Device` with a power switch, a clock that drifts, and a disk that takes time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from swarm.apps.router import Router
from swarm.behaviours.behaviour import BehaviourContext
from swarm.behaviours.loader import Behaviours, load_behaviours
from swarm.behaviours.runner import run_actions
from swarm.device.device import Device, DeviceConfig
from swarm.device.firmware.policy import Firmware
from swarm.device.turn import FrameIn, Healthy, Install, Reboot, SelfTested, Turn, TurnInput
from swarm.lab.attackers.attack import Attack, InsiderAttack
from swarm.lab.sim.board import SimBoard
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
    firmware: Firmware | None = None
    gather_us: int = 0
    """After something arrived, how long it waits for more before its turn."""


class SimNode:
    """A device that can be switched off. Turns happen when something waits and the disk is free."""

    def __init__(
        self,
        config: NodeConfig,
        scheduler: Scheduler,
        verify: Verify,
        on_turn: Callable[[SimNode, Turn], None],
        make_board: Callable[[SimNode], SimBoard] | None = None,
        make_image: Callable[[SimNode, str], Attack | None] | None = None,
    ) -> None:
        """Make the device's medium; `start` switches it on.

        `make_board` gives the board under a device with firmware, `make_image` what the image that it starts does
        to its frames.
        """
        self.config = config
        self.id = config.device.me
        self.device: Device | None = None
        self.attack: Attack | None = None
        self.insider: InsiderAttack | None = None
        """The same attacker, where it speaks for the device too."""
        self.image: Attack | None = None
        """What the running image does to whatever leaves the device."""
        self._scheduler = scheduler
        self._verify = verify
        self._on_turn = on_turn
        self._make_image = make_image
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
        self._places: dict[int, int] = {}
        """Times for which a turn was planned -> its place among what happens then, the first that was reserved."""
        self._calls: list[tuple[int, int]] = []
        """(time, place) at which the scheduler calls this life, whatever is planned by then."""
        self._has_booted = False
        self.board = None if make_board is None else make_board(self)

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
        if self.board is not None:
            self.board.power_on()
        else:
            self.boot()

    def crash(self) -> None:
        """Switch off at once; what was synced stays."""
        if self.board is not None:
            self.board.power_off()
        self.stop()

    def boot(self, behaves: str = "healthy") -> None:
        """Begin a process of the device, under an image that behaves so."""
        if self.device is not None:
            return
        self._power += 1
        self._inbox = []
        self._planned_us = None
        self._calls = []
        self._places = {}
        self._busy_until_us = self._scheduler.now_us
        if self._has_booted:
            self._store = self._store.reopen()
        self._has_booted = True
        self.image = None if self._make_image is None else self._make_image(self, behaves)
        self.device = self._make_device()
        context = BehaviourContext(
            device=self.id, seed=self.config.seed, simulated=True, now_ms=self._local_ms()
        )
        self._behaviours = load_behaviours(
            self.config.behaviours, context, where=f"devices.{self.id}.behaviour"
        )
        self._plan(self._scheduler.now_us)

    def stop(self) -> None:
        """End the process at once."""
        self.device = None
        self._power += 1

    def seize(self, attack: Attack, insider: InsiderAttack | None) -> None:
        """Let an attacker run the device from now on; one that speaks for its firmware replaces that part."""
        self.attack, self.insider = attack, insider
        if insider is not None and not insider.keeps_firmware and self.device is not None:
            self.stop()
            self.boot()

    def _make_device(self) -> Device:
        config = self.config.device
        router = Router(config.genesis.apps)
        if self.config.firmware is None or (self.insider is not None and not self.insider.keeps_firmware):
            return Device(config, self._store, router, self._verify, self._local_ms())
        return Device(
            config, self._store, router, self._verify, self._local_ms(), firmware=self.config.firmware
        )

    # ------------------------------------------------------------------------------ inputs

    def receive(self, frame: FrameIn) -> None:
        """A frame has arrived; a device that is off hears nothing, a full inbox drops."""
        self.put(frame)

    def put(self, message: TurnInput) -> None:
        """Give the device an input for its next turn."""
        if self.device is None:
            return
        self._inbox.append(message)
        self._plan(max(self._scheduler.now_us + self.config.gather_us, self._busy_until_us))

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
        place = self._places.get(time_us)
        if place is None or self._scheduler.has_passed(time_us, place):
            place = self._places[time_us] = self._scheduler.reserve()
        self._call(time_us, place)

    def _call(self, time_us: int, place: int) -> None:
        """Have the scheduler call for the planned turn, if no earlier call will look: most plans are overtaken."""
        if self._calls and min(self._calls) <= (time_us, place):
            return
        self._calls.append((time_us, place))
        power = self._power
        self._scheduler.at_place(time_us, place, lambda: self._on_call(power, time_us, place))

    def _on_call(self, power: int, time_us: int, place: int) -> None:
        if power != self._power:
            return
        self._calls.remove((time_us, place))
        planned_us = self._planned_us
        for passed_us in [at for at in self._places if at < time_us]:
            del self._places[passed_us]
        if planned_us == time_us:
            self._turn(power)
        elif planned_us is not None:
            self._call(planned_us, self._places[planned_us])

    def _turn(self, power: int) -> None:
        if self.device is None:
            return
        self._planned_us = None
        if self._scheduler.now_us < self._busy_until_us:
            self._plan(self._busy_until_us)
            return
        inputs, self._inbox = self._inbox[:TURN_INPUTS_MAX], self._inbox[TURN_INPUTS_MAX:]
        turn = self.device.turn(inputs, self._local_ms())
        if self.image is not None:
            turn = self.image.change(turn)
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
        if turn.behaviour_actions:
            results = run_actions(self._behaviours, turn.behaviour_actions, self._local_ms())
            tests = results.tests
            if self.image is not None and self.image.name == "lie":
                # An image that lies says that it is well, whatever its behaviours say.
                tests = tuple(SelfTested(test.tag, "") for test in tests)
            answers: list[TurnInput] = [*results.ballots, *tests]
            for answer in answers:
                self.put(answer)
        if self.board is not None:
            self._order(power, self.board, turn)
        if self.insider is not None and self.device is not None and power == self._power:
            inputs, wake_at_ms = self.insider.act(self.device, self._local_ms())
            for message in inputs:
                self.put(message)
            if wake_at_ms is not None:
                self._plan(max(self._busy_until_us, self._scheduler.now_us, self._world_us(wake_at_ms)))

    def _order(self, power: int, board: SimBoard, turn: Turn) -> None:
        """Carry out what the device ordered of its board; after a restart or a power cut the rest is void."""
        for action in turn.firmware_actions:
            if power != self._power:
                return
            match action:
                case Install():
                    board.run(action, self.put)
                case Reboot():
                    board.reset()
                case Healthy():
                    board.healthy()
