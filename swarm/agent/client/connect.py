"""`swarm.connect`: a light client over MQTT, as an async context manager.

The client believes only what it verified against genesis (`core`); this shell carries its frames, reads the
clock once a turn, and turns tickets into awaitables.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Final, TypeVar, cast

from swarm.agent.client.core import ClientCore
from swarm.agent.client.results import (
    ClientError,
    DecidedOutcome,
    NotProvedError,
    Progress,
    ProvedEntry,
    Receipt,
    SwarmStatus,
    VerifiedEntries,
)
from swarm.agent.client.state import Operator, load_operator, open_state
from swarm.agent.client.turn import (
    ClientInput,
    ClientTurn,
    Forget,
    Offer,
    Result,
    VerifiedBlocks,
    Want,
    WantBlocks,
    WantDecision,
    WantEntries,
    WantOutcome,
    WantProof,
    WantStatus,
    WantSubmit,
)
from swarm.agent.config import OperatorConfig
from swarm.agent.threads import WorkerThread
from swarm.apps.application import Rejected
from swarm.apps.decisions.commands import Group, open_command
from swarm.apps.decisions.rules import (
    NUMBER_RULES,
    OPTION_RULES,
    PLANNED_RULES,
    Outcome,
    check_question,
)
from swarm.apps.verify import DECISIONS_APP, Entry
from swarm.crypto.signing import verify
from swarm.device.delivery.server import ServeCounts
from swarm.device.turn import FrameIn
from swarm.install.port import InstallPlan
from swarm.primitives.errors import ConfigError
from swarm.primitives.ids import DeviceId, checked_name
from swarm.primitives.limits import COMMAND_BYTES_MAX, DECISION_SCALE_MAX, NUMBER_MAX, TURN_INPUTS_MAX
from swarm.primitives.settings import nearest_hint, parse_duration_ms
from swarm.storage.store import Store, StoredBlock
from swarm.transport.mqtt import MqttTransport
from swarm.transport.topics import Scope
from swarm.transport.transport import ConnectionState, Inbox, Link, Outgoing, Transport
from swarm.wire.genesis import Genesis
from swarm.wire.messages import Command

TIMEOUT_S: Final = 60.0
"""How long a call waits for its proof unless told otherwise."""

FOLLOW_PAUSE_S: Final = 0.5
"""Between two questions for new entries of the log when the last brought none."""

FOLLOW_COUNT: Final = 256
_FIRST_LOOK_S: Final = 3.0

R = TypeVar("R")

MakeTransport = Callable[[Inbox, Callable[[ConnectionState], None]], Transport]
"""Builds the transport that puts frames into the inbox and reports its connection."""


def connect(operator: str | os.PathLike[str] | OperatorConfig) -> AbstractAsyncContextManager[Client]:
    """Connect as the operator of an `operator.yaml`; use it as `async with swarm.connect(path) as s:`.

    Returns at once, whether the broker and the swarm are there or not; each call says what is missing when it times
    out. Raises `ConfigError` for files that do not fit, `StoreError` when another process uses this operator. What
    an earlier run submitted and did not see proved is sent again.
    """
    return _connect(load_operator(operator))


@asynccontextmanager
async def _connect(operator: Operator) -> AsyncIterator[Client]:
    def make_transport(inbox: Inbox, on_state: Callable[[ConnectionState], None]) -> Transport:
        return MqttTransport(
            broker=operator.broker,
            swarm=operator.genesis.swarm,
            me=operator.me,
            members=operator.genesis.voter_ids,
            inbox=inbox,
            random=random.random,
            on_state=on_state,
            scopes=(Scope.TO,),
        )

    client = Client(operator, open_state(operator), make_transport)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


class Client:
    """A running light client; made by `connect`. All methods are called in one event loop.

    Every call raises `ClientError` (its subclasses say why) when what was asked for did not come about, and
    `StoreError` when the operator's own disk failed.
    """

    def __init__(self, operator: Operator, store: Store, make_transport: MakeTransport) -> None:
        """Take over `store`, which `stop` closes."""
        self._genesis = operator.genesis
        self.operator: Final = operator
        self._me = operator.me
        self._store = store
        try:
            self._core = ClientCore(
                operator.genesis, operator.me, operator.keypair, store, verify, self._now_ms()
            )
            self._inbox = Inbox(wake=self._wake)
            self._transport = make_transport(self._inbox, self._take_link)
        except BaseException:
            store.close()
            raise
        self._inputs: list[ClientInput] = []
        self._waiting = asyncio.Event()
        self._waiting.set()
        self._stopping = False
        self._tickets = itertools.count(1)
        self._futures: dict[int, asyncio.Future[Result]] = {}
        self._progress: dict[int, Callable[[Progress], None]] = {}
        self._link: ConnectionState | None = None
        self._failure: Exception | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._disk = WorkerThread("swarm-client")

    @property
    def genesis(self) -> Genesis:
        """The genesis that everything is verified against."""
        return self._genesis

    @property
    def me(self) -> DeviceId:
        """The operator's id."""
        return self._me

    @property
    def outstanding(self) -> int:
        """Submissions signed and not proved yet, those of earlier runs included."""
        return self._core.outstanding

    def trouble(self) -> str | None:
        """Say what is missing for anything to become final, None when a quorum answered lately."""
        if self._failure is not None:
            return str(self._failure)
        if self._link is None:
            return "the broker has not answered yet"
        if self._link.link is not Link.CONNECTED:
            return self._link.reason or f"the connection to the broker is {self._link.link.value}"
        return None if self._core.has_quorum(self._now_ms()) else self._core.missing(self._now_ms())

    # ------------------------------------------------------------------------------ calls

    async def submit(self, body: bytes, *, app: str = "notes", timeout: float = TIMEOUT_S) -> Receipt:  # noqa: ASYNC109  -- part of the agreed API
        """Put one command for `app` on the log and return where it stands, when that is final and proved.

        `timeout` in seconds. Raises `SubmissionRejectedError` when the application refuses it, `SupersededError` or
        `ExpiredError` when it will never count, `NotProvedError` at the time-out: then it may still become final,
        and is sent again until it is, also after the next start.
        """
        if app not in [entry.partition("@")[0] for entry in self._genesis.apps]:
            raise ConfigError(f"swarm {self._genesis.swarm} has no application {app!r}", where="app")
        if len(body) > COMMAND_BYTES_MAX:
            raise ConfigError(f"{len(body)} bytes, at most {COMMAND_BYTES_MAX} fit", where="submit")
        command = Command(app=app, body=bytes(body))
        result = await self._call(partial(WantSubmit, command=command), timeout, is_sent=True)
        return cast("Receipt", result)

    async def decide(
        self,
        subject: str,
        *,
        rule: str,
        options: Iterable[str] = (),
        scale: int = 0,
        eligible: Group | Iterable[DeviceId] = "voters",
        deadline: str = "5s",
        value: str | float | Decimal | None = None,
        timeout: float = TIMEOUT_S,  # noqa: ASYNC109  -- part of the agreed API
        on_progress: Callable[[Progress], None] = lambda _step: None,
    ) -> DecidedOutcome:
        """Open a decision and return its proved outcome; `undecided` with a reason is one too.

        `options` are names; without them the decision is about a number with `scale` decimal places. `value` is the
        operator's own ballot (a name or a number in plain units), only where it is eligible itself. `deadline` such
        as `5s`, `timeout` in seconds. Raises `ConfigError` for what cannot be asked, `DecisionRejectedError` when
        the log refuses the opening, and otherwise as `submit`.
        """
        names = tuple(options)
        group: Group | tuple[DeviceId, ...] = (
            eligible if eligible == "voters" or eligible == "all" else tuple(eligible)
        )
        opening = self._opening(subject, rule, names, scale, group, deadline)
        ballot = None
        if value is not None:
            if isinstance(group, str) or self._me not in group:
                raise ConfigError(
                    f"{self._me} is not eligible, so it has no value to give",
                    where="value",
                    hint="an operator ballots only where it is listed among the eligible ids",
                )
            ballot = read_value(value, names, scale)
        result = await self._call(
            partial(WantDecision, opening=opening, ballot=ballot), timeout, on_progress, is_sent=True
        )
        return cast("DecidedOutcome", result)

    async def outcome(self, decision: bytes, *, timeout: float = TIMEOUT_S) -> DecidedOutcome:  # noqa: ASYNC109  -- as submit
        """Wait for the end of the decision with this id (32 bytes), whoever opened it."""
        return cast("DecidedOutcome", await self._call(partial(WantOutcome, decision=decision), timeout))

    async def entries(
        self,
        position: int = 0,
        count: int = FOLLOW_COUNT,
        *,
        timeout: float = TIMEOUT_S,  # noqa: ASYNC109  -- as submit
    ) -> VerifiedEntries:
        """Return at most `count` entries from `position`, all verified under one attested root; none at its end."""
        result = await self._call(partial(WantEntries, position=position, count=count), timeout)
        return cast("VerifiedEntries", result)

    async def proof(self, position: int, *, timeout: float = TIMEOUT_S) -> ProvedEntry:  # noqa: ASYNC109  -- as submit
        """Return the entry at `position` with its proof; waits for it when the log is not that long yet."""
        return cast("ProvedEntry", await self._call(partial(WantProof, position=position), timeout))

    async def blocks(self, height: int, parent: bytes, *, wait: float) -> tuple[StoredBlock, ...]:
        """Return blocks of the log from `height` on, which a quorum calls final; none where nobody had any in `wait` s.

        `parent` = hash of the block before (that of the genesis block for height 1).
        """
        make = partial(WantBlocks, height=height, parent=parent, wait_ms=int(wait * 1000))
        return cast("VerifiedBlocks", await self._call(make, wait + TIMEOUT_S)).blocks

    def serve(self, plan: InstallPlan, image: bytes, *, bytes_per_s: int | None = None) -> None:
        """Serve `image` as the release of `plan` to voters who ask for it, until the client stops; returns at once."""
        self._inputs.append(Offer(plan, image, bytes_per_s))
        self._wake()

    @property
    def served(self) -> ServeCounts:
        """What was served since `serve`."""
        return self._core.served

    async def status(self, *, timeout: float = 2.0) -> SwarmStatus:  # noqa: ASYNC109  -- as submit
        """Return every voter's own claim about itself; whoever does not answer within `timeout` has none."""
        wait_ms = int(timeout * 1000)
        result = await self._call(partial(WantStatus, wait_ms=wait_ms), timeout + TIMEOUT_S)
        return cast("SwarmStatus", result)

    async def follow(self, position: int) -> AsyncGenerator[tuple[int, Entry | Outcome], None]:
        """Yield (position, entry) from `position` on, for ever, each verified; waits through every outage."""
        while True:
            got = cast(
                "VerifiedEntries",
                await self._call(partial(WantEntries, position=position, count=FOLLOW_COUNT), None),
            )
            for offset, entry in enumerate(got.entries):
                yield position + offset, entry
            position = got.end
            if not got.entries:
                await asyncio.sleep(FOLLOW_PAUSE_S)

    async def outcomes(
        self, subject: str, *, position: int | None = None
    ) -> AsyncGenerator[DecidedOutcome, None]:
        """Yield every decision about `subject` that closes from now on (or from `position` on), proved."""
        checked_name(subject, where="subject", what="subject")
        if position is None:
            try:
                position = (await self.entries(0, 0, timeout=_FIRST_LOOK_S)).log_size
            except NotProvedError:
                # Nobody can prove that the log has any entry: it begins now.
                position = 0
        async with aclosing(self.follow(position)) as entries:
            async for at, entry in entries:
                if isinstance(entry, Outcome) and entry.subject == subject:
                    proved = cast("ProvedEntry", await self._call(partial(WantProof, position=at), None))
                    yield DecidedOutcome(outcome=entry, position=at, height=proved.height, proof=proved.proof)

    # ------------------------------------------------------------------------------ checks before anything is signed

    def _opening(
        self,
        subject: str,
        rule: str,
        options: tuple[str, ...],
        scale: int,
        eligible: Group | tuple[DeviceId, ...],
        deadline: str,
    ) -> bytes:
        if DECISIONS_APP not in self._genesis.apps:
            raise ConfigError(f"swarm {self._genesis.swarm} has no application {DECISIONS_APP}")
        for name, what in ((subject, "subject"), (rule, "rule"), *((o, "option") for o in options)):
            checked_name(name, where=what, what=what)
        if not 0 <= scale <= DECISION_SCALE_MAX:
            raise ConfigError(f"{scale} is not 0 to {DECISION_SCALE_MAX}", where="scale")
        if not isinstance(eligible, str):
            strangers = [id for id in eligible if self._genesis.member(id) is None]
            if strangers:
                raise ConfigError(f"{strangers[0]!r} is no member of the swarm", where="eligible")
        works = (*OPTION_RULES, *NUMBER_RULES)
        if rule not in (*works, *PLANNED_RULES):
            raise ConfigError(f"unknown rule {rule!r}", where="rule", hint=nearest_hint(rule, works))
        try:
            check_question(rule, options=options, scale=scale)
        except Rejected as refusal:
            # What every device would refuse needs no place on the log.
            raise ConfigError(refusal.reason, where="rule") from None
        deadline_ms = parse_duration_ms(deadline, "deadline") if isinstance(deadline, str) else 0
        if deadline_ms < 1:
            raise ConfigError(
                f"{deadline!r} is no duration above 0", where="deadline", hint="such as 5s or 250ms"
            )
        return open_command(
            subject=subject,
            rule=rule,
            options=options,
            scale=scale,
            eligible=eligible,
            deadline_ms=deadline_ms,
        )

    # ------------------------------------------------------------------------------ running

    async def start(self) -> None:
        """Begin to connect and to take turns."""
        self._tasks = [
            asyncio.create_task(self._transport.run()),
            asyncio.create_task(self._take_turns()),
        ]

    async def stop(self) -> None:
        """Finish the turn, send what waits, disconnect, and close the operator's state."""
        self._stopping = True
        self._wake()
        carrying, turns = self._tasks
        try:
            await asyncio.wait({turns})
            if not carrying.done():
                await self._transport.close()
        finally:
            carrying.cancel()
            await asyncio.gather(carrying, return_exceptions=True)
            self._disk.stop()
            self._store.close()
        turns.result()
        if self._failure is not None:
            raise self._failure

    async def _take_turns(self) -> None:
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None
        while not self._stopping:
            await self._waiting.wait()
            self._waiting.clear()
            inputs, self._inputs = self._inputs, []
            frames = self._inbox.take_all(TURN_INPUTS_MAX)
            inputs += [FrameIn(f.topic_sender, f.scope, f.payload) for f in frames]
            if len(self._inbox):
                self._waiting.set()
            now_ms = self._now_ms()
            try:
                # The disk may take its time; the caller's own tasks go on meanwhile.
                turn = await self._disk.run(partial(self._core.turn, inputs, now_ms))
            except Exception as error:  # noqa: BLE001  -- it is raised by every call, and by the end of the block
                self._fail(error)
                break
            self._deliver(turn)
            if timer is not None:
                timer.cancel()
            if turn.wake_at_ms is not None:
                pause_s = max(0, turn.wake_at_ms - self._now_ms()) / 1000
                timer = loop.call_at(loop.time() + pause_s, self._wake)
        if timer is not None:
            timer.cancel()

    def _deliver(self, turn: ClientTurn) -> None:
        for frame in turn.frames:
            self._transport.publish(
                Outgoing(frame.scope, frame.to, frame.payload, frame.bulk, frame.repeated)
            )
        for ticket, step in turn.progress:
            if ticket in self._progress:
                self._progress[ticket](step)
        for done in turn.finished:
            future = self._futures.get(done.ticket)
            if future is None or future.done():
                continue
            if isinstance(done.result, ClientError):
                future.set_exception(done.result)
            else:
                future.set_result(done.result)

    def _fail(self, error: Exception) -> None:
        """End every call: the operator's disk failed (or a bug did), nothing of the turn has left, and nothing will."""
        self._failure = error
        for future in self._futures.values():
            if not future.done():
                future.set_exception(error)

    async def _call(
        self,
        make: Callable[[int], Want],
        timeout_s: float | None,
        on_progress: Callable[[Progress], None] | None = None,
        *,
        is_sent: bool = False,
    ) -> Result:
        if self._failure is not None:
            raise self._failure
        ticket = next(self._tickets)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._futures[ticket] = future
        if on_progress is not None:
            self._progress[ticket] = on_progress
        self._inputs.append(make(ticket))
        self._wake()
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise NotProvedError(self._why_not(timeout_s, is_sent=is_sent)) from None
        finally:
            del self._futures[ticket]
            self._progress.pop(ticket, None)
            self._inputs.append(Forget(ticket))
            self._wake()

    def _why_not(self, timeout_s: float | None, *, is_sent: bool) -> str:
        why = self.trouble() or self._core.missing(self._now_ms())
        said = f"not proved within {timeout_s:g} s: {why}"
        if is_sent and self._core.outstanding:
            said += "; it may still become final, and is sent again the next time this operator connects"
        return said

    def _take_link(self, state: ConnectionState) -> None:
        self._link = state

    def _wake(self) -> None:
        self._waiting.set()

    @staticmethod
    def _now_ms() -> int:
        return int(asyncio.get_running_loop().time() * 1000)


def read_value(value: str | float | Decimal, options: tuple[str, ...], scale: int) -> int:
    """Return the ballot that a person's `value` means: the index of an option, or an integer of 10^-scale.

    Nothing is rounded: what the number of decimal places cannot hold is refused. Raises `ConfigError`.
    """
    if options:
        if value not in options:
            raise ConfigError(f"{value!r} is none of {', '.join(options)}", where="value")
        return options.index(str(value))
    try:
        units = Decimal(str(value)).scaleb(scale)
    except InvalidOperation:
        units = Decimal("NaN")
    if not units.is_finite():
        raise ConfigError(f"{value!r} is no number", where="value")
    if units != units.to_integral_value():
        raise ConfigError(f"{value} has more than {scale} decimal places", where="value", hint="--scale")
    if abs(units) > NUMBER_MAX:
        raise ConfigError(f"{value} is too large with {scale} decimal places", where="value")
    return int(units)
