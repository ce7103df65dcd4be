"""Real devices and a light client on one bus in memory: virtual time, real signatures, nothing random.

Every frame arrives `DELAY_MS` later. A test may put a `Liar` between a member and the client: it sees each answer and
returns what the client gets instead, signed with the member's own key.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from swarm.agent.client.core import ClientCore
from swarm.agent.client.results import ClientError
from swarm.agent.client.turn import ClientInput, Finished, Result, Want
from swarm.apps.decisions.rules import DecisionView
from swarm.apps.router import Router
from swarm.crypto.signing import sign, verify
from swarm.device.device import Device, DeviceConfig
from swarm.device.turn import AskBallot, BallotReady, FrameIn, OutFrame, Submit, TurnInput
from swarm.primitives.ids import DeviceId
from swarm.storage.memory import MemoryStore
from swarm.transport.topics import Scope
from swarm.wire.codec import encode
from swarm.wire.genesis import Genesis
from swarm.wire.messages import (
    Answer,
    Answered,
    Envelope,
    Request,
    Submission,
    SubmissionItem,
    decode_answer,
    decode_frame,
    decode_request,
    encode_frame,
)
from swarm.wire.statements import Kind, envelope_bytes
from tests.support.swarms import keypair, make_checkpoint, make_genesis

DELAY_MS = 5
EVENTS_MAX = 60_000

Liar = Callable[[Request | None, Answered], Answered | None]
"""Takes the question (None when it is not the newest) and the true answer; returns the answer sent, None for silence."""

BallotOf = Callable[[DeviceId, DecisionView], int | None]


def abstain(_device: DeviceId, _view: DecisionView) -> int | None:
    return None


@dataclass
class LightSwarm:
    """A swarm of devices with one operator's client."""

    genesis: Genesis = field(default_factory=make_genesis)
    ballot_of: BallotOf = abstain
    me: DeviceId = "ops"
    now_ms: int = 1_000
    devices: dict[DeviceId, Device] = field(default_factory=dict)
    stores: dict[DeviceId, MemoryStore] = field(default_factory=dict)
    down: set[DeviceId] = field(default_factory=set)
    liars: dict[DeviceId, Liar] = field(default_factory=dict)
    asked: list[tuple[DeviceId, Request]] = field(default_factory=list)
    """(member, question) of everything the client asked."""
    published: list[bytes] = field(default_factory=list)
    """What the client published for everybody."""
    drop_submissions: bool = False
    """Whether what the client publishes for everybody is lost."""
    deaf_to_client: set[DeviceId] = field(default_factory=set)
    """Members that never hear the client."""
    _queue: list[tuple[int, int, str, DeviceId, object]] = field(default_factory=list)
    _number: int = 0
    _tickets: int = 0
    _newest: dict[tuple[DeviceId, int, int], Request] = field(default_factory=dict)
    _wakes: dict[DeviceId, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for member in self.genesis.members:
            if member.role != "operator":
                self.stores[member.id] = MemoryStore(
                    swarm_id=self.genesis.id, device=member.id, key_public=member.key
                )
                self.start(member.id)
        self.store = MemoryStore(swarm_id=self.genesis.id, device=self.me, key_public=keypair(self.me).public)
        self.finished: dict[int, Result | ClientError] = {}
        self.progress: list[tuple[int, str]] = []
        self.client = self.new_client()

    # ------------------------------------------------------------------------------ parts

    def start(self, id: DeviceId) -> None:
        config = DeviceConfig(genesis=self.genesis, me=id, keypair=keypair(id), version="test")
        store = self.stores[id] = self.stores[id]
        self.devices[id] = Device(config, store, Router(self.genesis.apps), verify, self.now_ms)
        self.down.discard(id)
        self._wake(id, self.now_ms)

    def new_client(self) -> ClientCore:
        """Start the client (again) on what its store holds."""
        self.client = ClientCore(self.genesis, self.me, keypair(self.me), self.store, verify, self.now_ms)
        self._wake(self.me, self.now_ms)
        return self.client

    def restart_client(self) -> None:
        self.store = self.store.reopen()
        self.new_client()

    def lose_operator_file(self) -> None:
        self.store = MemoryStore(swarm_id=self.genesis.id, device=self.me, key_public=keypair(self.me).public)
        self.new_client()

    # ------------------------------------------------------------------------------ what a test does

    def ticket(self) -> int:
        self._tickets += 1
        return self._tickets

    def want(self, *wants: ClientInput) -> None:
        self._client_turn(list(wants))

    def submit_from(self, device: DeviceId, text: bytes) -> None:
        """Let a device submit a note under its own name."""
        self._device_turn(device, [Submit("notes", text)])

    def publish_as_client(self, submission: Submission) -> None:
        """Let a submission arrive as if the client had published it."""
        payload = encode_frame((SubmissionItem(raw=submission.raw),))
        for device in self.devices:
            self._push(self.now_ms + DELAY_MS, "frame", device, FrameIn(self.me, Scope.ALL, payload))

    def hear(self, source: DeviceId, scope: Scope, payload: bytes) -> None:
        """Let the client hear a frame now."""
        self._client_turn([FrameIn(source, scope, payload)])

    def pretend_height(self, height: int) -> None:
        """Let every voter attest the log it has at a height far above, as after thousands of empty blocks."""
        for store in self.stores.values():
            leaves = [leaf for at in range(10_000) if (leaf := store.leaf(at)) is not None]
            checkpoint = make_checkpoint(self.genesis, leaves, height=height)
            for device in self.devices.values():
                device._answers.newest = checkpoint

    def run(self, ms: int) -> None:
        """Play `ms` of virtual time."""
        self._play(lambda: False, ms)

    def until(self, want: Want, ms: int = 60_000) -> Result | ClientError:
        """Give the client a request and play until it is finished."""
        self.want(want)
        return self.until_finished(want.ticket, ms)

    def until_finished(self, ticket: int, ms: int = 60_000) -> Result | ClientError:
        self._play(lambda: ticket in self.finished, ms)
        assert ticket in self.finished, f"not finished in {ms} ms; {self.client.missing(self.now_ms)}"
        return self.finished[ticket]

    # ------------------------------------------------------------------------------ the bus

    def _push(self, at_ms: int, kind: str, to: DeviceId, payload: object) -> None:
        self._number += 1
        heapq.heappush(self._queue, (at_ms, self._number, kind, to, payload))

    def _wake(self, who: DeviceId, at_ms: int | None) -> None:
        if at_ms is not None and at_ms < self._wakes.get(who, 1 << 62):
            self._wakes[who] = at_ms
            self._push(max(at_ms, self.now_ms), "wake", who, None)

    def _play(self, done: Callable[[], bool], ms: int) -> None:
        end = self.now_ms + ms
        for _ in range(EVENTS_MAX):
            if done():
                return
            if not self._queue or self._queue[0][0] > end:
                self.now_ms = end
                return
            self.now_ms, _, kind, to, payload = heapq.heappop(self._queue)
            inputs: list[FrameIn] = []
            if kind == "wake":
                self._wakes.pop(to, None)
            elif isinstance(payload, FrameIn):
                inputs = [payload]
            if to == self.me:
                self._client_turn(inputs)
            elif to not in self.down:
                self._device_turn(to, inputs)
        raise AssertionError("the swarm does not come to rest")

    def _device_turn(self, id: DeviceId, inputs: Iterable[TurnInput]) -> None:
        turn = self.devices[id].turn(list(inputs), self.now_ms)
        for frame in turn.frames:
            self._carry(id, frame)
        ballots = [
            BallotReady(a.decision.id, self.ballot_of(id, a.decision))
            for a in turn.actions
            if isinstance(a, AskBallot)
        ]
        self._wake(id, turn.wake_at_ms)
        if ballots:
            self._device_turn(id, ballots)

    def _client_turn(self, inputs: list[ClientInput] | list[FrameIn]) -> None:
        turn = self.client.turn(inputs, self.now_ms)
        for frame in turn.frames:
            self._note(frame)
            self._carry(self.me, frame)
        for done in turn.finished:
            assert isinstance(done, Finished)
            self.finished[done.ticket] = done.result
        self.progress += [(ticket, step.step) for ticket, step in turn.progress]
        self._wake(self.me, turn.wake_at_ms)

    def _note(self, frame: OutFrame) -> None:
        if frame.scope is Scope.ALL:
            self.published.append(frame.payload)
        for item in decode_frame(frame.payload):
            if isinstance(item, Envelope) and item.kind == Kind.REQUEST and frame.to is not None:
                request = decode_request(item.body)
                self.asked.append((frame.to, request))
                self._newest[frame.to, request.boot, request.n] = request

    def _carry(self, source: DeviceId, frame: OutFrame) -> None:
        targets = [*self.devices, self.me] if frame.to is None else [frame.to]
        for target in targets:
            if target == source or (source == self.me and target in self.deaf_to_client):
                continue
            if source == self.me and frame.scope is Scope.ALL and self.drop_submissions:
                continue
            payload = frame.payload
            if target == self.me and source in self.liars and frame.scope is Scope.TO:
                for lie in self._lies(source, payload):
                    self._push(self.now_ms + DELAY_MS, "frame", target, FrameIn(source, frame.scope, lie))
                continue
            self._push(self.now_ms + DELAY_MS, "frame", target, FrameIn(source, frame.scope, payload))

    def _lies(self, source: DeviceId, payload: bytes) -> list[bytes]:
        lies: list[bytes] = []
        for item in decode_frame(payload):
            assert isinstance(item, Envelope)
            answer = decode_answer(item.body)
            request = self._newest.get((source, answer.re_boot, answer.re_n))
            content = self.liars[source](request, answer.content)
            if content is not None:
                lies.append(self.forge(source, answer, content))
        return lies

    def forge(self, source: DeviceId, answer: Answer, content: Answered, *, to: DeviceId = "") -> bytes:
        """Return a frame in which `source` itself signs another content."""
        body = encode(
            Answer(
                boot=answer.boot,
                n=answer.n,
                to=to or answer.to,
                re_boot=answer.re_boot,
                re_n=answer.re_n,
                content=content,
            )
        )
        signature = sign(keypair(source), envelope_bytes(self.genesis.id, Kind.ANSWER, body))
        return encode_frame((Envelope(kind=Kind.ANSWER, sender=source, body=body, signature=signature),))
