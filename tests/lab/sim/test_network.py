"""The simulated network does what the scenario says, and nothing else."""

from __future__ import annotations

from swarm.lab.scenario.schema import Cut, Latency, Network, Partition
from swarm.lab.sim.network import SimNetwork

CALM = Latency(median_ms=10, p99_ms=10)


def make(**changes: int) -> SimNetwork:
    return SimNetwork(Network(latency=CALM, **changes), seed=1)


def test_a_frame_arrives_once_after_its_latency() -> None:
    (arrival,) = make().arrivals_us("a", "b", 1000)
    assert 10_900 <= arrival <= 11_100


def test_loss_is_counted() -> None:
    network = make(loss_ppm=300_000)
    arrived = sum(len(network.arrivals_us("a", "b", 0)) for _ in range(2000))
    assert 1300 < arrived < 1500
    assert network.dropped == 2000 - arrived
    assert network.delivered == arrived


def test_duplicates_arrive_twice() -> None:
    network = make(duplicate_ppm=1_000_000)
    assert len(network.arrivals_us("a", "b", 0)) == 2


def test_a_pair_keeps_its_order_unless_reorder_says_otherwise() -> None:
    wild = Latency(median_ms=10, p99_ms=200)
    calm = SimNetwork(Network(latency=wild), seed=3)
    times = [calm.arrivals_us("a", "b", t)[0] for t in range(0, 50_000, 1000)]
    assert times == sorted(times)
    mixed = SimNetwork(Network(latency=wild, reorder_ppm=500_000), seed=3)
    times = [mixed.arrivals_us("a", "b", t)[0] for t in range(0, 50_000, 1000)]
    assert times != sorted(times)


def test_partition_lets_only_groups_through_and_who_is_in_none_is_alone() -> None:
    network = make()
    network.partition(Partition(at_ms=0, order=0, groups=(("a", "b"), ("c",))))
    reached = {(s, r) for s in "abcd" for r in "abcd" if s != r and network.reaches(s, r)}
    assert reached == {("a", "b"), ("b", "a")}
    network.heal()
    assert network.reaches("a", "d")


def test_cut_is_one_direction_only() -> None:
    network = make()
    network.cut(Cut(at_ms=0, order=0, sender="a", receivers=("b",)))
    assert network.arrivals_us("a", "b", 0) == []
    assert len(network.arrivals_us("b", "a", 0)) == 1
    assert network.reaches("a", "c")


def test_the_weather_follows_the_seed() -> None:
    wild = Network(latency=Latency(median_ms=10, p99_ms=200))

    def draw(seed: int) -> list[list[int]]:
        network = SimNetwork(wild, seed)
        return [network.arrivals_us("a", "b", 0) for _ in range(20)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
