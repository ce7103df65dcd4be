"""Bad weather around a transport, in virtual time: what arrives, when, how often, and what is counted."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable, Mapping

import pytest

from swarm.lab.processes.impaired import ImpairedTransport
from swarm.lab.processes.pipe import Weather
from swarm.lab.scenario.schema import Cut, Latency, Network, Partition
from swarm.primitives.limits import INBOX_FRAMES_MAX
from swarm.transport.topics import Scope
from swarm.transport.transport import FULL_FRAMES, Frame, Inbox, Outgoing

CALM = Network(latency=Latency(median_ms=0, p99_ms=0))
SLOW = Network(latency=Latency(median_ms=20, p99_ms=200))


class Handle:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when = when
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class VirtualLoop:
    """The two methods of an event loop that the weather needs."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.heap: list[tuple[float, int, Handle]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> Handle:
        handle = Handle(when, call)
        heapq.heappush(self.heap, (when, len(self.heap), handle))
        return handle

    def run_until(self, time: float) -> None:
        while self.heap and self.heap[0][0] <= time:
            self.now, _, handle = heapq.heappop(self.heap)
            if not handle.cancelled:
                handle.call()
        self.now = time


class Wire:
    """A real transport's place: what is given to `arrive` comes from the broker."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.published: list[Outgoing] = []
        self.closed = False

    def arrive(self, sender: str, payload: bytes = b"x") -> None:
        self.inbox.offer(Frame(sender, Scope.ALL, payload))

    async def run(self) -> None:
        return

    def publish(self, outgoing: Outgoing) -> bool:
        self.published.append(outgoing)
        return True

    def listen_to(self, members: Iterable[str]) -> None:
        pass

    async def close(self) -> None:
        self.closed = True

    def counters(self) -> Mapping[str, int]:
        return {"received": 7, FULL_FRAMES: 0}


class Stage:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, network: Network, seed: int = 1) -> None:
        self.loop = VirtualLoop()
        self.inbox = Inbox()
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: self.loop)
        made: list[Wire] = []

        def connect(inbox: Inbox) -> Wire:
            made.append(Wire(inbox))
            return made[0]

        self.impaired = ImpairedTransport(connect, self.inbox, me="dev-2", network=network, seed=seed)
        self.wire = made[0]

    def received(self) -> list[tuple[str, bytes]]:
        return [(frame.topic_sender, frame.payload) for frame in self.inbox.take_all(10_000)]


def test_without_weather_a_frame_arrives_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, CALM)
    stage.wire.arrive("dev-0", b"a")
    stage.wire.arrive("dev-1", b"b")
    assert stage.received() == [("dev-0", b"a"), ("dev-1", b"b")]


def test_latency_delays_and_keeps_the_order_of_a_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, SLOW)
    payloads = [bytes([number]) for number in range(50)]
    for payload in payloads:
        stage.wire.arrive("dev-0", payload)
    assert stage.received() == []
    stage.loop.run_until(1_000.002)
    assert len(stage.received()) < 5
    stage.loop.run_until(1_010.0)
    late = [payload for _, payload in stage.received()]
    assert late == payloads[-len(late) :]
    assert len(late) > 40


def test_reordering_lets_frames_of_one_sender_overtake(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(latency=SLOW.latency, reorder_ppm=1_000_000)
    stage = Stage(monkeypatch, network)
    payloads = [bytes([number]) for number in range(50)]
    for payload in payloads:
        stage.wire.arrive("dev-0", payload)
    stage.loop.run_until(1_100.0)
    arrived = [payload for _, payload in stage.received()]
    assert arrived != payloads
    assert sorted(arrived) == payloads


def test_loss_and_duplication_are_drawn_from_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(latency=CALM.latency, loss_ppm=300_000, duplicate_ppm=300_000)

    def outcome(seed: int) -> list[tuple[str, bytes]]:
        stage = Stage(monkeypatch, network, seed)
        for number in range(100):
            stage.wire.arrive("dev-0", bytes([number]))
        stage.loop.run_until(1_001.0)
        received = stage.received()
        assert stage.impaired.dropped == 100 - len({payload for _, payload in received})
        assert stage.impaired.counters()["impaired_dropped"] == stage.impaired.dropped
        return received

    assert outcome(1) == outcome(1) != outcome(2)
    assert 50 < len({payload for _, payload in outcome(1)}) < 90
    assert len(outcome(1)) > len(set(outcome(1)))


def test_partition_cut_and_heal_go_by_the_topics_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, CALM)

    def heard() -> list[str]:
        for sender in ("dev-0", "dev-1", "dev-3"):
            stage.wire.arrive(sender)
        # Two frames of one sender are a microsecond apart at least.
        stage.loop.run_until(stage.loop.now + 0.001)
        return [sender for sender, _ in stage.received()]

    partition = Partition(at_ms=0, order=0, groups=(("dev-0", "dev-1"), ("dev-2", "dev-3")))
    stage.impaired.change_weather(Weather(partition=partition))
    assert heard() == ["dev-3"]
    cut = Cut(at_ms=0, order=1, sender="dev-3", receivers=("dev-2",))
    stage.impaired.change_weather(Weather(partition=partition, cuts=(cut,)))
    assert heard() == []
    stage.impaired.change_weather(Weather(cuts=(cut,)))
    assert heard() == ["dev-0", "dev-1"]
    other_way = Cut(at_ms=0, order=1, sender="dev-2", receivers=("dev-3",))
    stage.impaired.change_weather(Weather(cuts=(other_way,)))
    assert heard() == ["dev-0", "dev-1", "dev-3"]
    stage.impaired.change_weather(Weather())
    assert heard() == ["dev-0", "dev-1", "dev-3"]


def test_frames_on_their_way_are_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, SLOW)
    for _ in range(INBOX_FRAMES_MAX + 3):
        stage.wire.arrive("dev-0")
    assert stage.impaired.counters()[FULL_FRAMES] == 3
    stage.loop.run_until(1_100.0)
    assert len(stage.received()) == INBOX_FRAMES_MAX
    stage.wire.arrive("dev-0")
    stage.loop.run_until(1_200.0)
    assert len(stage.received()) == 1


async def test_publishing_is_not_touched_and_closing_forgets_what_flies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        stage = Stage(patched, Network(latency=SLOW.latency, loss_ppm=0))
        stage.wire.arrive("dev-0")
    outgoing = Outgoing(Scope.ALL, None, b"out")
    assert stage.impaired.publish(outgoing)
    await stage.impaired.run()
    await stage.impaired.close()
    assert stage.wire.published == [outgoing]
    assert stage.wire.closed
    stage.loop.run_until(1_100.0)
    assert stage.received() == []
