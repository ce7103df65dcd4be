"""Real devices over an in-memory bus in virtual time, with every power cut and every lost frame in the test's hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from swarm.apps.router import Router
from swarm.behaviours.actions import AskBallot, BallotReady
from swarm.crypto.signing import verify
from swarm.device.device import Device, DeviceConfig
from swarm.device.turn import DeviceEvent, FrameIn, OutFrame, Submit, TurnInput
from swarm.storage.memory import MemoryStore, PowerCut
from swarm.transport.topics import Scope
from swarm.wire.genesis import Genesis
from swarm.wire.messages import Item, decode_frame
from tests.support.swarms import keypair, make_genesis

START_MS = 1_000_000
DELTA_MS = 50


@dataclass
class Member:
    """One device, its medium, and what waits for it."""

    id: str
    store: MemoryStore
    device: Device | None = None
    inbox: list[TurnInput] = field(default_factory=list)
    wake_at_ms: int | None = None
    events: list[DeviceEvent] = field(default_factory=list)
    ballot: int | None = None

    def happened(self, kind: str) -> list[dict[str, object]]:
        """Return the data of all events of one kind."""
        return [dict(event.data) for event in self.events if event.kind == kind]

    @property
    def running(self) -> Device:
        assert self.device is not None
        return self.device


Filter = Callable[[str, str, Item], bool]
"""(sender, receiver, item) -> whether it arrives."""


class Fleet:
    """n voters and one observer-less swarm; frames arrive in the next round, time moves only by `advance`."""

    def __init__(
        self, voters: int = 4, *, budget: str | int = "balanced", genesis: Genesis | None = None
    ) -> None:
        self.genesis = make_genesis(voters, budget=budget) if genesis is None else genesis
        self.now_ms = START_MS
        self.passes: Filter = lambda _sender, _receiver, _item: True
        self.published: list[tuple[str, OutFrame]] = []
        self.members = {
            m.id: Member(m.id, MemoryStore(swarm_id=self.genesis.id, device=m.id, key_public=m.key))
            for m in (*self.genesis.voters, *self.genesis.observers)
        }
        self._first_start: set[str] = set()
        for id in self.members:
            self.start(id)

    def __getitem__(self, id: str) -> Member:
        return self.members[id]

    # ------------------------------------------------------------------------------ power

    def start(self, id: str) -> None:
        member = self.members[id]
        if id in self._first_start:
            member.store = member.store.reopen()
        self._first_start.add(id)
        config = DeviceConfig(genesis=self.genesis, me=id, keypair=keypair(id), delta_floor_ms=DELTA_MS)
        member.device = Device(config, member.store, Router(self.genesis.apps), verify, self.now_ms)
        member.inbox = []
        member.wake_at_ms = self.now_ms

    def crash(self, id: str) -> None:
        member = self.members[id]
        member.device = None
        member.inbox = []
        member.wake_at_ms = None

    # ------------------------------------------------------------------------------ driving

    def put(self, id: str, *inputs: TurnInput) -> None:
        self.members[id].inbox.extend(inputs)
        self.members[id].wake_at_ms = self.now_ms

    def note(self, id: str, text: bytes = b"hello", tag: int = 1) -> None:
        self.put(id, Submit("notes", text, tag))

    def turn(self, id: str) -> tuple[OutFrame, ...]:
        """One turn of one device; a power cut in its commit switches it off. Returns what it published."""
        member = self.members[id]
        if member.device is None:
            return ()
        inputs, member.inbox = member.inbox, []
        try:
            turn = member.device.turn(inputs, self.now_ms)
        except PowerCut:
            self.crash(id)
            return ()
        member.events.extend(turn.events)
        member.wake_at_ms = turn.wake_at_ms
        for action in turn.actions:
            if isinstance(action, AskBallot):
                self.put(id, BallotReady(action.decision.id, member.ballot))
        self.published.extend((id, frame) for frame in turn.frames)
        return turn.frames

    def deliver(self, sender: str, frames: Iterable[OutFrame]) -> None:
        """Carry frames to their receivers' inboxes, item by item through the filter."""
        from swarm.wire.messages import encode_frame

        for frame in frames:
            items = decode_frame(frame.payload)
            for id, member in self.members.items():
                if id == sender or member.device is None or (frame.scope is Scope.TO and frame.to != id):
                    continue
                kept = tuple(item for item in items if self.passes(sender, id, item))
                if kept:
                    self.put(id, FrameIn(sender, frame.scope, encode_frame(kept)))

    def round(self) -> bool:
        """Let every device that has something to do take one turn, then carry the frames; False when all rest."""
        busy = False
        frames: list[tuple[str, tuple[OutFrame, ...]]] = []
        for id, member in self.members.items():
            due = member.wake_at_ms is not None and member.wake_at_ms <= self.now_ms
            if member.device is not None and (member.inbox or due):
                busy = True
                frames.append((id, self.turn(id)))
        for id, sent in frames:
            self.deliver(id, sent)
        return busy

    def settle(self, rounds: int = 200) -> None:
        """Run rounds at one instant until nobody has anything to do."""
        for _ in range(rounds):
            if not self.round():
                return
        raise AssertionError("the fleet does not come to rest at one instant")

    def advance(self, ms: int, step_ms: int = 5) -> None:
        """Let time pass."""
        end = self.now_ms + ms
        while self.now_ms < end:
            self.settle()
            self.now_ms += step_ms
        self.settle()

    # ------------------------------------------------------------------------------ looking

    def heights(self) -> dict[str, int]:
        return {id: m.device.ledger.height for id, m in self.members.items() if m.device is not None}

    def roots(self) -> set[bytes]:
        return {m.device.ledger.frontier.root() for m in self.members.values() if m.device is not None}
