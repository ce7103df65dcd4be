"""The device process on one event loop: everything that waits goes into a turn, what the turn gives goes out.

The device decides, this shell only carries: it reads the clock once a turn, publishes what the turn returned (which is
durable by then), lets the behaviours act, feeds their ballots back and arms one timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from swarm.agent.machine import Machine
from swarm.agent.presence import PresenceBoard, PresenceState
from swarm.agent.threads import BehaviourThread, DiskPace, WorkerThread
from swarm.behaviours.actions import BallotReady, SelfTested
from swarm.behaviours.loader import Behaviours
from swarm.behaviours.runner import BehaviourFault
from swarm.device import events
from swarm.device.delivery.ring import chunk_peers
from swarm.device.device import Device
from swarm.device.turn import DeviceEvent, FrameIn, InstallDone, Submit, Turn, TurnInput
from swarm.primitives.errors import InvariantError
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import COMMANDS_WAITING_MAX, TURN_INPUTS_MAX
from swarm.storage.store import Store
from swarm.transport.topics import Scope
from swarm.transport.transport import ConnectionState, Inbox, Link, Outgoing, Transport
from swarm.wire.genesis import Genesis

MakeTransport = Callable[[Inbox, Callable[[ConnectionState], None]], Transport]
"""Builds the transport that puts frames into the inbox and reports its connection."""

_OWN_INPUTS_MAX: Final = TURN_INPUTS_MAX // 2
"""Own commands and ballots of one turn: a flood of one's own must not shut out the votes of others."""

_BEAT_EVERY_MS: Final = 1_000
"""How often the births of others make this device beat at most."""

_BEAT_AFTER_BIRTH_MS: Final = 100
"""How long a birth waits for others to be answered together with it."""

_CHUNK_PEERS_MAX: Final = 8
"""Members beside the voters to which an observer listens because it asked them for chunks, the newest."""

_LOG: Final = logging.getLogger(__name__)


class Agent:
    """Runs one device. All methods are called in the event loop of `run`, which is called once.

    `on_event` hears what the device reports, after it is durable and published; `on_link` each change of the
    connection. Neither may raise.
    """

    def __init__(
        self,
        *,
        device: Device,
        store: Store,
        genesis: Genesis,
        me: DeviceId,
        make_transport: MakeTransport,
        behaviours: Behaviours | None = None,
        pace: DiskPace | None = None,
        machine: Machine | None = None,
        on_event: Callable[[DeviceEvent], None] = lambda _event: None,
        on_link: Callable[[ConnectionState], None] = lambda _state: None,
    ) -> None:
        """Take over `device` and its `store`, which `run` closes at its end. `pace` is told the disk's times.

        `machine` carries out what the device orders of its media and its process; none by default.
        """
        self.device = device
        self.genesis = genesis
        self.me = me
        self.presence = PresenceBoard(genesis)
        self.pace = DiskPace() if pace is None else pace
        self._machine = Machine() if machine is None else machine
        self._failure: BaseException | None = None
        self._chunk_peers: dict[DeviceId, None] = {}
        self._store = store
        self._on_event = on_event
        self._on_link = on_link
        self._inbox = Inbox(wake=self._wake)
        self._own: deque[TurnInput] = deque()
        self._commands = 0
        self._tag = 0
        self._waiting = asyncio.Event()
        self._waiting.set()  # the first turn needs no input
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at_ms = 0
        self._due_ms: int | None = None
        """When the next turn is due without an input; the timer rings then or before."""
        self._beat_due = False
        self._beat_at_ms = 0
        self._beat_timer: asyncio.TimerHandle | None = None
        self._disk = WorkerThread("swarm-turns")
        self._behaviours = BehaviourThread(
            Behaviours() if behaviours is None else behaviours,
            on_answers=self._take_answers,
            on_fault=_report_fault,
        )
        self.transport = make_transport(self._inbox, self._take_link)
        self.change_turn: Callable[[Turn], Turn] = lambda turn: turn
        """What leaves in place of a turn; a laboratory makes attackers with it, a device leaves it alone."""

    # ------------------------------------------------------------------------------ for the caller

    async def run(self) -> None:
        """Run until `stop`, cancellation or a failure; then finish the turn, say goodbye, close the store.

        Raises `StoreError` when the disk failed and `InvariantError` for a bug: the device has stopped by then,
        and nothing that was not durable has left it. `exit_code` says what the process shall end with.
        """
        carrying = asyncio.create_task(self.transport.run())
        turns = asyncio.create_task(self._take_turns())
        try:
            await asyncio.wait({carrying, turns}, return_when=asyncio.FIRST_COMPLETED)
            if not turns.done():
                carrying.result()
                raise InvariantError("the transport ended before it was told to")
        finally:
            self.stop()
            try:
                await asyncio.wait({turns})
                await self._leave(carrying)
            finally:
                self._behaviours.stop()
                self._disk.stop()
                self._machine.stop()
                self._store.close()
        turns.result()
        if self._failure is not None:
            raise self._failure

    @property
    def exit_code(self) -> int:
        """0, or the code with which the launcher is asked for the next start."""
        return self._machine.exit_code

    def stop(self) -> None:
        """Ask `run` to end in order; returns at once, harmless at any time."""
        self._stopping = True
        self._wake()

    def submit(self, app: str, command: bytes) -> int:
        """Put a command on the log as this device's own; its fate comes as events with the returned tag.

        `busy` is reported at once when too many commands wait already.
        """
        self._tag += 1
        if self._commands >= COMMANDS_WAITING_MAX or self._stopping:
            self._on_event(DeviceEvent(events.BUSY, self._now_ms(), (("tag", self._tag),)))
            return self._tag
        self._commands += 1
        self._own.append(Submit(app, command, self._tag))
        self._wake()
        return self._tag

    # ------------------------------------------------------------------------------ turns

    async def _take_turns(self) -> None:
        # Commands that were taken before the stop are still signed and published.
        while not self._stopping or self._commands:
            await self._waiting.wait()
            self._waiting.clear()
            now_ms = self._now_ms()
            inputs = self._gather(now_ms)
            if self._beat_due:
                self._beat_due = False
                self.device.beat_soon()
            self._deliver(self.change_turn(await self._turn(inputs, now_ms)), now_ms)
            # Frames leave and arrive in other steps of the loop, also when the inbox never runs empty.
            await asyncio.sleep(0)

    async def _turn(self, inputs: Sequence[TurnInput], now_ms: int) -> Turn:
        if not self.pace.is_slow:
            return self.device.turn(inputs, now_ms)
        return await self._disk.run(lambda: self.device.turn(inputs, now_ms))

    def _gather(self, now_ms: int) -> list[TurnInput]:
        """Take what waits, up to the turn's limit."""
        inputs = [self._own.popleft() for _ in range(min(len(self._own), _OWN_INPUTS_MAX))]
        self._commands -= sum(isinstance(taken, Submit) for taken in inputs)
        for frame in self._inbox.take_all(TURN_INPUTS_MAX - len(inputs)):
            if frame.scope is Scope.STATUS:
                self._take_presence(frame.topic_sender, frame.payload, now_ms)
            else:
                inputs.append(FrameIn(frame.topic_sender, frame.scope, frame.payload))
        if self._own or len(self._inbox):
            self._waiting.set()
        return inputs

    def _deliver(self, turn: Turn, now_ms: int) -> None:
        """Let out what the turn returned, all of it durable."""
        for frame in turn.frames:
            if frame.scope is Scope.TO and frame.to is not None:
                self._hear(frame.to)
            out = Outgoing(frame.scope, frame.to, frame.payload, frame.bulk, frame.repeated)
            self.transport.publish(out)
        if turn.behaviour_actions:
            self._behaviours.put(turn.behaviour_actions, now_ms)
        for event in turn.events:
            self._on_event(event)
        if self._machine.carry_out(turn.firmware_actions, self._take_done, self._fail):
            self.stop()
        if not self._machine.beat(now_ms):
            _LOG.warning("the launcher is gone; an agent without one must not go on")
            self.stop()
        self._wake_at([turn.wake_at_ms, self._machine.wake_at_ms])

    def _wake_at(self, times_ms: Sequence[int | None]) -> None:
        """Arm the one timer for the earliest of these times; one that rings too early is left alone.

        Nearly every turn moves that time a little further away, and a timer costs more than a look at the clock.
        """
        at_ms = min((time for time in times_ms if time is not None), default=None)
        self._due_ms = at_ms
        if at_ms is None or (self._timer is not None and self._rings_at_ms <= at_ms):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at_ms = at_ms
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(loop.time() + max(0, at_ms - self._now_ms()) / 1000, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._due_ms is not None and self._due_ms > self._now_ms():
            self._wake_at([self._due_ms])
        elif self._due_ms is not None:
            self._wake()

    def _hear(self, peer: DeviceId) -> None:
        """Listen to a member that is asked for chunks: an observer hears only the voters by itself."""
        if self.genesis.voter_index(self.me) is not None or self.genesis.voter_index(peer) is not None:
            return
        known = peer in self._chunk_peers
        self._chunk_peers.pop(peer, None)
        self._chunk_peers[peer] = None
        if known:
            return
        while len(self._chunk_peers) > _CHUNK_PEERS_MAX:
            del self._chunk_peers[next(iter(self._chunk_peers))]
        neighbours = chunk_peers(self.genesis, self.me)
        self.transport.listen_to(dict.fromkeys((*self.genesis.voter_ids, *neighbours, *self._chunk_peers)))

    def _now_ms(self) -> int:
        # The loop's clock is the monotonic one; rounded down, so that a timer is late and never early.
        return int(asyncio.get_running_loop().time() * 1000)

    def _wake(self) -> None:
        self._waiting.set()

    # ------------------------------------------------------------------------------ what comes from elsewhere

    def _take_answers(self, answers: Sequence[BallotReady | SelfTested]) -> None:
        self._own.extend(answers)
        self._wake()

    def _take_done(self, done: InstallDone) -> None:
        self._own.append(done)
        self._wake()

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self.stop()

    def _beat(self) -> None:
        self._beat_due = True
        self._wake()

    def _take_link(self, state: ConnectionState) -> None:
        if state.link is Link.CONNECTED:
            self._beat()
        self._on_link(state)

    def _take_presence(self, sender: DeviceId, payload: bytes, now_ms: int) -> None:
        """Show a newcomer at once that we are here: it would wait up to one interval for our next heartbeat."""
        claim = self.presence.hear(sender, payload)
        if claim is None or claim.state is not PresenceState.ONLINE or self._beat_timer is not None:
            return
        # One beat for all that are born together, and none of them forgotten: the last one would wait ten seconds.
        at_ms = max(now_ms + _BEAT_AFTER_BIRTH_MS, self._beat_at_ms)
        self._beat_at_ms = at_ms + _BEAT_EVERY_MS
        self._beat_timer = asyncio.get_running_loop().call_later(
            (at_ms - now_ms) / 1000, self._beat_for_newcomers
        )

    def _beat_for_newcomers(self) -> None:
        self._beat_timer = None
        self._beat()

    # ------------------------------------------------------------------------------ the end

    async def _leave(self, carrying: asyncio.Task[None]) -> None:
        for timer in (self._timer, self._beat_timer):
            if timer is not None:
                timer.cancel()
        try:
            if not carrying.done():
                await self.transport.close()
        finally:
            carrying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await carrying


def _report_fault(fault: BehaviourFault) -> None:
    about = f" for {fault.subject}" if fault.subject else ""
    _LOG.warning("behaviour %s%s: %s", fault.kind, about, fault.message)
