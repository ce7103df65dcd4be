"""n replicas in one process: virtual time, a list of messages, and explicit or scheduled delivery.

Two ways of use. *By hand* (`network=None`): messages wait in `pending` until `deliver`, `drop` or `duplicate` names them,
time moves with `tick`. *Scheduled*: a `Network` decides when each copy arrives, `run_until` plays the events in order.
Nothing is random but the network's seeded generator, and everything is iterated in a fixed order.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from swarm.consensus.fetch import next_due_ms
from swarm.consensus.inputs import SubmissionIn, Tick
from swarm.consensus.state import Config
from swarm.primitives.ids import DeviceId
from swarm.primitives.quorum import budget_of
from swarm.wire.messages import Blocks, Proposal, Submission, SubmissionItem
from swarm.wire.statements import Certificate, Kind, SignedStatement, header_hash
from tests.support.fake_signatures import SWARM_ID, make_submission
from tests.support.mini_device import Beat, Leaving, MiniDevice, Payload

BEAT_MS = 10_000
EVENTS_MAX = 400_000


@dataclass(frozen=True, slots=True)
class Message:
    """One copy on its way."""

    number: int
    source: int
    target: int
    payload: Payload
    broadcast: bool = True


@dataclass(slots=True)
class Network:
    """How long each copy takes; everything may be lost, doubled and reordered. `cut` answers for (source, target)."""

    rng: random.Random
    delay_ms: tuple[int, int] = (10, 10)
    loss: float = 0.0
    duplicate: float = 0.0
    cut: Callable[[int, int], bool] = lambda _source, _target: False

    def delays_ms(self, source: int, target: int) -> list[int]:
        """Return one delay per copy that arrives."""
        if self.cut(source, target):
            return []
        low, high = self.delay_ms
        copies = 2 if self.duplicate and self.rng.random() < self.duplicate else 1
        return [
            self.rng.randint(low, high) if high > low else low
            for _ in range(copies)
            if not (self.loss and self.rng.random() < self.loss)
        ]


@dataclass(slots=True)
class Cluster:
    """A swarm of mini devices; voters come first, then observers."""

    n: int
    budget: str | int = "balanced"
    observers: int = 0
    delta_ms: int = 50
    cap_ms: int = 10_000
    snapshot_every: int = 256
    network: Network | None = None
    beats: bool = False
    now_ms: int = 0
    devices: list[MiniDevice] = field(default_factory=list)
    pending: list[Message] = field(default_factory=list)
    byzantine: set[int] = field(default_factory=set)
    """Seats without a replica: tests speak for them."""
    published: int = 0
    """Publishes to everybody and to one, own statements included: what a broker would see."""
    dies_before_sending: Callable[[int], bool] | None = None
    """Asked after each turn's transaction: yes loses what would have left and crashes the device."""
    on_turn: Callable[[int, list[Leaving]], None] | None = None
    """Told after each turn who had it and what leaves: for scripts that print it."""
    on_byzantine: Callable[[Message], None] | None = None
    """What a byzantine seat does with a message to it; nothing by default."""
    _queue: list[tuple[int, int, Message | int]] = field(default_factory=list)
    _number: int = 0
    _sequences: dict[DeviceId, int] = field(default_factory=dict)
    final_at_ms: dict[bytes, dict[int, int]] = field(default_factory=dict)
    _logged: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = tuple(f"dev-{i}" for i in range(self.n))
        for i in range(self.n + self.observers):
            config = Config(
                swarm_id=SWARM_ID,
                epoch=0,
                voters=names,
                me=names[i] if i < self.n else f"obs-{i - self.n}",
                budget=budget_of(self.n, self.budget),
                snapshot_every=self.snapshot_every,
                delta_floor_ms=self.delta_ms,
                delta_cap_ms=self.cap_ms,
            )
            self.devices.append(MiniDevice(config, self.now_ms))
        if self.beats:
            for i in range(len(self.devices)):
                heapq.heappush(self._queue, (BEAT_MS + i * 7, self._next_number(), i))

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    @property
    def running(self) -> list[int]:
        """Return the numbers of the correct devices that are up."""
        return [i for i, d in enumerate(self.devices) if d.replica is not None and i not in self.byzantine]

    @property
    def correct(self) -> list[int]:
        """Return the numbers of all devices but the byzantine ones."""
        return [i for i in range(len(self.devices)) if i not in self.byzantine]

    def index(self, name: DeviceId) -> int:
        """Return a device's number."""
        return next(i for i, d in enumerate(self.devices) if d.name == name)

    # ------------------------------------------------------------------------------ what devices do

    def _emit(self, source: int, leaving: Iterable[Leaving]) -> None:
        leaving = list(leaving)
        log = self.devices[source].disk.log
        for block in log[self._logged.get(source, 0) :]:
            for submission in block.submissions:
                self.final_at_ms.setdefault(submission.id, {}).setdefault(source, self.now_ms)
        self._logged[source] = len(log)
        if self.on_turn is not None:
            self.on_turn(source, leaving)
        if leaving and self.dies_before_sending is not None and self.dies_before_sending(source):
            self.crash(source)
            return
        self.published += len(leaving)
        for left in leaving:
            targets = range(len(self.devices)) if left.to is None else [self.index(left.to)]
            for target in targets:
                if target != source:
                    self.post(source, target, left.payload, broadcast=left.to is None)

    def post(self, source: int, target: int, payload: Payload, *, broadcast: bool = False) -> None:
        """Put one copy on its way, also in the name of a byzantine seat."""
        message = Message(self._next_number(), source, target, payload, broadcast)
        if self.network is None:
            self.pending.append(message)
            return
        for delay in self.network.delays_ms(source, target):
            heapq.heappush(self._queue, (self.now_ms + delay, self._next_number(), message))

    def broadcast(self, source: int, payload: Payload) -> None:
        """Publish in the name of a byzantine seat."""
        for target in range(len(self.devices)):
            if target != source:
                self.post(source, target, payload, broadcast=True)

    def submit(self, origin: int, text: str) -> Submission:
        """Let a device submit under its own name."""
        name = self.devices[origin].name
        self._sequences[name] = self._sequences.get(name, 0) + 1
        submission = make_submission(name, self._sequences[name], text)
        self._emit(origin, self.devices[origin].turn([SubmissionIn(submission, own=True)], self.now_ms))
        return submission

    def submit_as(self, operator: DeviceId, text: str, targets: Iterable[int]) -> Submission:
        """Let an operator send its submission to these devices: to nobody else."""
        self._sequences[operator] = self._sequences.get(operator, 0) + 1
        submission = make_submission(operator, self._sequences[operator], text)
        for target in targets:
            self.post(target, target, SubmissionItem(raw=submission.raw), broadcast=True)
        return submission

    def beat(self, source: int) -> None:
        """Let a device publish its heartbeat."""
        device = self.devices[source]
        state = device.up.state
        beat = Beat(device.disk.final_view(), state.delivered_height, state.own_attest)
        self._emit(source, [Leaving(None, beat)])

    def crash(self, target: int) -> None:
        """Stop a device; what it did not store is lost, what is on its way still arrives."""
        self.devices[target].stop()

    def restart(self, target: int) -> None:
        """Start a device from its disk."""
        self._emit(target, self.devices[target].start(self.now_ms))

    # ------------------------------------------------------------------------------ by hand

    def take(self, message: Message) -> None:
        """Hand one message to its target; a device that is down loses it."""
        device = self.devices[message.target]
        if message.target in self.byzantine:
            if self.on_byzantine is not None:
                self.on_byzantine(message)
            return
        if device.replica is None:
            return
        sender = self.devices[message.source].name
        self._emit(
            message.target, device.receive(sender, message.payload, self.now_ms, broadcast=message.broadcast)
        )

    def select(
        self,
        *,
        source: int | None = None,
        target: int | None = None,
        kind: str | None = None,
        where: Callable[[Message], bool] = lambda _message: True,
    ) -> list[Message]:
        """Return the pending messages that match, oldest first; `kind` as in `kind_of`."""
        return [
            m
            for m in self.pending
            if (source is None or m.source == source)
            and (target is None or m.target == target)
            and (kind is None or kind_of(m.payload) == kind)
            and where(m)
        ]

    def deliver(
        self,
        *,
        source: int | None = None,
        target: int | None = None,
        kind: str | None = None,
        where: Callable[[Message], bool] = lambda _message: True,
    ) -> int:
        """Deliver the matching messages that are pending now; returns how many."""
        found = self.select(source=source, target=target, kind=kind, where=where)
        for message in found:
            self.pending.remove(message)
        for message in found:
            self.take(message)
        return len(found)

    def drop(
        self,
        *,
        source: int | None = None,
        target: int | None = None,
        kind: str | None = None,
        where: Callable[[Message], bool] = lambda _message: True,
    ) -> int:
        """Lose the matching messages; returns how many."""
        found = self.select(source=source, target=target, kind=kind, where=where)
        for message in found:
            self.pending.remove(message)
        return len(found)

    def wake_due(self) -> bool:
        """Wake every device whose time has come, once; answers whether there was one."""
        due = [i for i in self.running if (w := self.devices[i].wake_at_ms) is not None and w <= self.now_ms]
        for i in due:
            self._emit(i, self.devices[i].turn([Tick()], self.now_ms))
        return bool(due)

    def tick(self, duration_ms: int) -> None:
        """Let time pass, waking devices when they asked for it; delivers nothing."""
        end = self.now_ms + duration_ms
        while (wake := self.next_wake_ms()) is not None and wake <= end:
            self.now_ms = max(self.now_ms, wake)
            self.wake_due()
        self.now_ms = end

    def next_wake_ms(self) -> int | None:
        """Return the earliest time a device wants to be woken."""
        times = [w for i in self.running if (w := self.devices[i].wake_at_ms) is not None]
        return min(times, default=None)

    def stabilize(self, messages_max: int = 20_000, where: Callable[[Message], bool] | None = None) -> int:
        """Deliver everything, oldest first, without time passing; `where` drops what it does not answer for."""
        count = 0
        while self.pending:
            message = self.pending.pop(0)
            if where is not None and not where(message):
                continue
            self.take(message)
            count += 1
            assert count < messages_max, "the messages do not end"
        return count

    def settle(self, duration_ms: int, where: Callable[[Message], bool] | None = None) -> None:
        """Let time pass with every message delivered at once."""
        end = self.now_ms + duration_ms
        self.stabilize(where=where)
        while (wake := self.next_wake_ms()) is not None and wake <= end:
            self.now_ms = max(self.now_ms, wake)
            self.wake_due()
            self.stabilize(where=where)
        self.now_ms = end

    # ------------------------------------------------------------------------------ scheduled

    def run_until(self, end_ms: int, stop: Callable[[], bool] | None = None) -> None:
        """Play deliveries, wake-ups and heartbeats in order of time until `end_ms` or `stop` answers yes."""
        for _ in range(EVENTS_MAX):
            if stop is not None and stop():
                return
            wake = self.next_wake_ms()
            queued = self._queue[0][0] if self._queue else None
            times = [t for t in (wake, queued) if t is not None]
            if not times or min(times) > end_ms:
                self.now_ms = max(self.now_ms, end_ms)
                return
            if queued is not None and (wake is None or queued <= wake):
                self.now_ms = max(self.now_ms, queued)
                _, _, event = heapq.heappop(self._queue)
                if isinstance(event, Message):
                    self.take(event)
                else:
                    self._beat_again(event)
            else:
                self.now_ms = max(self.now_ms, wake or 0)
                self.wake_due()
        raise AssertionError(f"more than {EVENTS_MAX} events at {self.now_ms} ms")

    def _beat_again(self, source: int) -> None:
        if source in self.running:
            self.beat(source)
        heapq.heappush(self._queue, (self.now_ms + BEAT_MS, self._next_number(), source))

    def in_flight(self) -> int:
        """Return how many copies are on their way."""
        return len(self.pending) + sum(isinstance(event, Message) for _, _, event in self._queue)

    # ------------------------------------------------------------------------------ questions

    def has_final(self, submission: Submission, among: Iterable[int] | None = None) -> bool:
        """Answer whether the submission counts in the log of all these devices (default: all running)."""
        targets = self.running if among is None else among
        return all(submission.id in self.devices[i].disk.applied_ids() for i in targets)

    def is_quiet(self) -> bool:
        """Answer whether nothing is on its way and no device has a timer but a fetch."""
        return self.in_flight() == 0 and all(
            self.devices[i].wake_at_ms in (None, next_due_ms(self.devices[i].up.state)) for i in self.running
        )


def kind_of(payload: Payload) -> str:
    """Return a message's kind in one word: P N K F A, VC SC FC, S, block, blocks, beat, ask."""
    match payload:
        case SignedStatement():
            return chr(payload.kind)
        case Certificate():
            return {Kind.NOTARIZE: "VC", Kind.SKIP: "SC", Kind.FINALIZE: "FC"}[Kind(payload.kind)]
        case Proposal():
            return "P"
        case SubmissionItem():
            return "S"
        case Blocks():
            return "blocks"
        case Beat():
            return "beat"
        case _:
            name = type(payload).__name__
            return "ask" if name.startswith("Ask") else name.lower()


def digest_of(payload: Payload) -> bytes:
    """Return the block hash that a proposal, statement or certificate names."""
    if isinstance(payload, Proposal):
        return header_hash(payload.header)
    return payload.digest if isinstance(payload, SignedStatement | Certificate) else b""
