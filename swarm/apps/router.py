"""Hands every command of an applied submission to its application, and keeps all of them as one state.

The body of an event leaf begins with a tag that the router writes, so that nobody takes a refusal for an event:
0 | reason in ASCII = the command was rejected; 1 | the application's own bytes = one of its events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Final, NamedTuple

import msgspec

from swarm.apps.application import (
    Application,
    BlockContext,
    BlockFollower,
    Context,
    Event,
    Rejected,
    SwarmFollower,
)
from swarm.apps.decisions.app import Decisions
from swarm.apps.decisions.rules import decision_id
from swarm.apps.notes import Notes
from swarm.apps.rollout.app import Rollout
from swarm.crypto.digest import DIGEST_BYTES, sha256
from swarm.primitives.errors import ConfigError, DecodeError, InvariantError, check
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import (
    EVENT_BYTES_MAX,
    EVENTS_PER_COMMAND_MAX,
    GENESIS_APPS_MAX,
    MEMBERS_MAX,
    SNAPSHOT_BYTES_MAX,
)
from swarm.wire.codec import U16, Codec, Name, encode
from swarm.wire.genesis import Genesis
from swarm.wire.messages import Submission
from swarm.wire.sequence import Sequences, Window

Factory = Callable[[], Application]

BUILT_IN: Final[Mapping[str, Factory]] = MappingProxyType(
    {"notes": Notes, "decisions": Decisions, "rollout": Rollout}
)

REJECTED_TAG: Final = b"\x00"
EVENT_TAG: Final = b"\x01"


class Applied(NamedTuple):
    """One event of an applied submission; `event.body` begins with the router's tag, ready for `EventBody.body`."""

    command: int
    app: str
    event: Event


@dataclass(frozen=True, slots=True)
class Refusal:
    """The content of a tagged body that says that a command was rejected."""

    reason: str


class _AppState(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    name: Name
    version: U16
    state: bytes


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    apps: Annotated[tuple[_AppState, ...], msgspec.Meta(max_length=GENESIS_APPS_MAX)]
    windows: Annotated[tuple[Window, ...], msgspec.Meta(max_length=MEMBERS_MAX)]


_STATE: Final[Codec[_State]] = Codec(_State, bytes_max=SNAPSHOT_BYTES_MAX)


class Router:
    """All applications of one swarm, as genesis names them."""

    def __init__(self, genesis_apps: tuple[str, ...], extra: Mapping[str, Factory] | None = None) -> None:
        """Make the applications `name@version` of genesis: ours, and those of `extra` (name -> factory).

        Raises `ConfigError` when there is none of that name or it is of another version: a device without it could
        not follow the log.
        """
        factories: dict[str, Factory] = {**BUILT_IN, **(extra or {})}
        self._apps: dict[str, Application] = {}
        for entry in sorted(genesis_apps):
            name, _, version = entry.partition("@")
            if name not in factories:
                raise ConfigError(
                    f"genesis names the application {entry}, which this program does not have",
                    where="apps",
                    hint=f"add `{name}: module:Class` under apps in the agent's file",
                )
            app = factories[name]()
            if (app.name, str(app.version)) != (name, version):
                raise ConfigError(
                    f"genesis names the application {entry}, this program has {app.name}@{app.version}",
                    where="apps",
                )
            self._apps[name] = app
        # Asked once: what a class is does not change, and the question costs more than most answers.
        self._block_followers = tuple(app for app in self._apps.values() if isinstance(app, BlockFollower))

    def begin_swarm(self, genesis: Genesis) -> None:
        """Tell the applications that want it which swarm this is; once, before anything is applied or restored."""
        for app in self._apps.values():
            if isinstance(app, SwarmFollower):
                app.begin_swarm(genesis)

    def begin_block(self, block: BlockContext) -> None:
        """Tell the applications that want it that the commands of `block` follow, by name order."""
        for app in self._block_followers:
            app.begin_block(block)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the applications, sorted."""
        return tuple(self._apps)

    def app(self, name: str) -> Application:
        """Return the application `name`; raises `KeyError` when genesis does not name it."""
        return self._apps[name]

    @property
    def decisions(self) -> Decisions | None:
        """The application `decisions`, where genesis names it and it is ours."""
        app = self._apps.get(Decisions.name)
        return app if isinstance(app, Decisions) else None

    @property
    def rollout(self) -> Rollout | None:
        """The application `rollout`, where genesis names it and it is ours."""
        app = self._apps.get(Rollout.name)
        return app if isinstance(app, Rollout) else None

    def apply_submission(
        self,
        submission: Submission,
        *,
        height: int,
        epoch: int,
        role: str,
        voters: tuple[DeviceId, ...],
        observers: tuple[DeviceId, ...],
        r: int,
        position: int = 0,
    ) -> tuple[Applied, ...]:
        """Apply the commands of `submission` in order and return their events in order (PROTOCOL section 2).

        The caller has decided that the submission counts; `role` is its origin's, `position` that of the leaf
        of its first event. A refused command is an event
        that is found by SHA-256(submission id | command index), the id of the decision that it would have opened:
        so whoever waits for that decision learns why there is none. Raises `InvariantError` that names the
        application when it does anything else than return events or raise `Rejected`; the device must stop.
        """
        applied: list[Applied] = []
        for index, command in enumerate(submission.body.commands):
            context = Context(
                height=height,
                epoch=epoch,
                submission=submission.id,
                command=index,
                origin=submission.body.origin,
                role=role,
                voters=voters,
                observers=observers,
                r=r,
                position=position + len(applied),
            )
            events = self._apply(context, command.app, command.body)
            applied.extend(Applied(index, command.app, event) for event in events)
        return tuple(applied)

    def _apply(self, context: Context, name: str, body: bytes) -> tuple[Event, ...]:
        app = self._apps.get(name)
        if app is None:
            return (_rejected(context, f"unknown application {name}"),)
        try:
            events = tuple(app.apply(context, body))
        except Rejected as refusal:
            return (_rejected(context, refusal.reason),)
        except Exception as error:
            raise InvariantError(
                f"application {name}@{app.version} failed at height {context.height}, submission"
                f" {context.submission.hex()}, command {context.command}: {type(error).__name__}: {error}"
            ) from error
        check(
            len(events) <= EVENTS_PER_COMMAND_MAX,
            f"application {name} made {len(events)} events of one command",
        )
        for event in events:
            check(
                event.key is None or len(event.key) == DIGEST_BYTES,
                f"application {name} made a key of bad length",
            )
            check(
                len(event.body) < EVENT_BYTES_MAX,
                f"application {name} made an event of {len(event.body)} bytes, at most {EVENT_BYTES_MAX - 1} fit",
            )
        return tuple(Event(EVENT_TAG + event.body, event.key) for event in events)

    def snapshot(self, sequences: Sequences) -> bytes:
        """Return the state of all applications, sorted by name, and of all sequence windows in one canonical encoding.

        Its SHA-256 is the state root (`state_root`).
        """
        apps = tuple(_AppState(name, app.version, app.snapshot()) for name, app in self._apps.items())
        return encode(_State(apps, sequences.snapshot()))

    def restore(self, state: bytes) -> Sequences:
        """Replace the state of all applications by that of a snapshot and return its sequence windows.

        Raises `DecodeError` for bytes that are no snapshot of exactly these applications; an application that
        refuses its part raises its own `DecodeError`, and then this router is half restored: throw it away.
        """
        decoded = _STATE.decode(state)
        held = [(name, app.version) for name, app in self._apps.items()]
        if [(app.name, app.version) for app in decoded.apps] != held:
            raise DecodeError("malformed", "a snapshot of other applications")
        for app in decoded.apps:
            self._apps[app.name].restore(app.state)
        return Sequences.restore(decoded.windows)


def state_root(snapshot: bytes) -> bytes:
    """Return the state root of a snapshot: its SHA-256."""
    return sha256(snapshot)


def command_key(submission: bytes, command: int) -> bytes:
    """Return the key under which a rejected command is found: the id of the decision it would have opened."""
    return decision_id(submission, command)


def read_body(body: bytes) -> Refusal | bytes:
    """Return what a tagged event body holds: a `Refusal`, or the application's own bytes; else `DecodeError`."""
    if body[:1] == EVENT_TAG:
        return body[1:]
    if body[:1] == REJECTED_TAG and body[1:].isascii():
        return Refusal(body[1:].decode("ascii"))
    raise DecodeError("malformed", "an event body without the router's tag")


def _rejected(context: Context, reason: str) -> Event:
    # An application of a user may put anything into its reason; the log holds ASCII, on every device the same.
    text = reason.encode("ascii", "backslashreplace")
    return Event(REJECTED_TAG + text, key=command_key(context.submission, context.command))
