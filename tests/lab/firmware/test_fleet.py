"""What a rollout costs each device does not grow with the fleet, but for the log itself."""

from __future__ import annotations

from swarm.device.turn import OutFrame
from swarm.lab.sim.world import World
from swarm.transport.topics import Scope
from tests.support.firmware_runs import play, swarm


class Counting(World):
    """Counts what each member publishes, and what each of them hears beside the voters' words for everybody."""

    def _publish(self, sender: str, frame: OutFrame) -> None:
        self.published = getattr(self, "published", {})
        self.published[sender] = self.published.get(sender, 0) + 1
        if frame.to is not None or sender not in self.genesis.voter_ids:
            self.heard = getattr(self, "heard", {})
            for receiver in self._routes.receivers(sender, frame.to):
                key = frame.scope is not Scope.BEAT and receiver
                self.heard[key] = self.heard.get(key, 0) + 1
        super()._publish(sender, frame)


def costs(observers: int) -> tuple[float, float]:
    """Return (frames published, frames heard beside those of voters to all) of one observer on average."""
    run = play(swarm(observers=observers, duration="60s"), make=Counting)
    assert run.plan.state == "completed"
    assert len(run.running("v2")) == 4 + observers
    world = run.world
    assert isinstance(world, Counting)
    names = [f"obs-{number}" for number in range(observers)]
    return (
        sum(world.published.get(name, 0) for name in names) / observers,
        sum(world.heard.get(name, 0) for name in names) / observers,
    )


def test_messages_of_an_observer_do_not_grow_with_the_fleet() -> None:
    """Without ADR 0019 it is 1.2 times as many with four times the fleet."""
    small, large = costs(8), costs(32)
    assert large[0] < small[0], (small, large)
    assert large[1] < small[1], (small, large)
