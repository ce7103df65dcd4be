"""The router: which application gets a command, what a refusal looks like, and one state of all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import ClassVar

import pytest

from swarm.apps.application import Application, Context, Event, Rejected
from swarm.apps.decisions.commands import cast_command, open_command
from swarm.apps.decisions.rules import decision_id
from swarm.apps.notes import Notes
from swarm.apps.router import Applied, Refusal, Router, command_key, read_body, state_root
from swarm.primitives.errors import ConfigError, DecodeError, InvariantError
from swarm.primitives.limits import EVENT_BYTES_MAX
from swarm.wire.messages import Submission
from swarm.wire.sequence import Sequences
from tests.support.swarms import make_genesis, make_submission

GENESIS = make_genesis(4, observers=1)
APPS = ("notes@1", "decisions@1")


def apply(router: Router, submission: Submission, height: int = 5) -> tuple[Applied, ...]:
    return router.apply_submission(
        submission,
        height=height,
        epoch=0,
        role="voter",
        voters=GENESIS.voter_ids,
        observers=("obs-0",),
        r=GENESIS.budget.r,
    )


class Scripted:
    """An application that does what a test says."""

    name: ClassVar[str] = "scripted"
    version: ClassVar[int] = 3

    def __init__(self, act: Callable[[Context, bytes], tuple[Event, ...]]) -> None:
        self._act = act
        self.seen: list[Context] = []

    def apply(self, context: Context, body: bytes) -> tuple[Event, ...]:
        self.seen.append(context)
        return self._act(context, body)

    def snapshot(self) -> bytes:
        return b"scripted"

    def restore(self, state: bytes) -> None:
        if state != b"scripted":
            raise DecodeError("malformed")

    def query(self, question: bytes) -> bytes:
        return question


def scripted_router(act: Callable[[Context, bytes], tuple[Event, ...]]) -> tuple[Router, Scripted]:
    app = Scripted(act)
    return Router((*APPS, "scripted@3"), {"scripted": lambda: app}), app


# ------------------------------------------------------------------------------------------ genesis and applications


def test_applications_are_those_of_genesis_sorted() -> None:
    router = Router(APPS)

    assert router.names == ("decisions", "notes")
    assert isinstance(router.app("notes"), Notes)
    assert router.decisions is router.app("decisions")
    assert Router(("notes@1",)).decisions is None


@pytest.mark.parametrize(
    ("apps", "words"),
    [
        (("notes@2",), "names the application notes@2, this program has notes@1"),
        (("inventory@1",), "names the application inventory@1, which this program does not have"),
    ],
)
def test_an_application_that_is_not_here_is_refused(apps: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Router(apps)


def test_an_application_of_the_user_runs_beside_ours() -> None:
    router, app = scripted_router(lambda _context, body: (Event(body),))
    submission = make_submission(GENESIS, "dev-2", 1, ("scripted", b"x"), ("notes", b"y"))

    applied = apply(router, submission, height=9)

    assert [(one.command, one.app, read_body(one.event.body)) for one in applied] == [
        (0, "scripted", b"x"),
        (1, "notes", b"\x91\x00"),
    ]
    (context,) = app.seen
    assert context == Context(
        height=9,
        epoch=0,
        submission=submission.id,
        command=0,
        origin="dev-2",
        role="voter",
        voters=GENESIS.voter_ids,
        observers=("obs-0",),
        r=1,
    )


# ------------------------------------------------------------------------------------------ events and refusals


def test_commands_are_applied_in_order_and_know_their_index() -> None:
    router = Router(APPS)
    opening = open_command(subject="x", rule="median", deadline_ms=1, eligible=("dev-0",))
    first = make_submission(GENESIS, "dev-0", 1, ("notes", b"a"), ("decisions", opening), ("notes", b"b"))
    decision = decision_id(first.id, 1)
    second = make_submission(GENESIS, "dev-0", 2, ("decisions", cast_command(decision, 5)))

    opened = apply(router, first)
    closed = apply(router, second)

    assert [(one.command, one.app) for one in opened] == [(0, "notes"), (1, "decisions"), (2, "notes")]
    assert [one.event.key for one in opened] == [None, None, None]
    assert [(one.command, one.app, one.event.key) for one in closed] == [(0, "decisions", decision)]


def test_a_refusal_is_an_event_and_the_next_command_is_applied() -> None:
    router = Router(APPS)
    submission = make_submission(GENESIS, "dev-0", 1, ("notes", b""), ("notes", b"b"))

    refused, noted = apply(router, submission)

    assert (refused.command, refused.app) == (0, "notes")
    assert refused.event.body == b"\x00a note has at least one byte"
    assert read_body(refused.event.body) == Refusal("a note has at least one byte")
    assert noted.event.body == b"\x01\x91\x00"


def test_who_waits_for_a_decision_finds_its_refusal() -> None:
    router = Router(APPS)
    opening = open_command(subject="x", rule="coin", deadline_ms=1)
    submission = make_submission(GENESIS, "dev-0", 1, ("notes", b"a"), ("decisions", opening))

    _, refused = apply(router, submission)

    assert refused.event.key == decision_id(submission.id, 1) == command_key(submission.id, 1)
    assert read_body(refused.event.body) == Refusal("unknown rule coin")


def test_an_unknown_application_is_a_refusal() -> None:
    (refused,) = apply(Router(APPS), make_submission(GENESIS, "dev-0", 1, ("firmware", b"x")))

    assert refused.app == "firmware"
    assert read_body(refused.event.body) == Refusal("unknown application firmware")


def test_a_reason_on_the_log_is_short_ascii() -> None:
    def act(_context: Context, _body: bytes) -> tuple[Event, ...]:
        raise Rejected("ä" * 300)

    (refused,) = apply(scripted_router(act)[0], make_submission(GENESIS, "dev-0", 1, ("scripted", b"")))

    assert refused.event.body == b"\x00" + b"\\xe4" * 200
    assert read_body(refused.event.body) == Refusal("\\xe4" * 200)


@pytest.mark.parametrize("body", [b"", b"\x02x", b"\x00\xff"], ids=repr)
def test_a_body_without_the_tag_is_nothing(body: bytes) -> None:
    with pytest.raises(DecodeError):
        read_body(body)


# ------------------------------------------------------------------------------------------ applications that fail


def test_an_application_that_raises_is_named_and_stops_the_device() -> None:
    def act(_context: Context, _body: bytes) -> tuple[Event, ...]:
        raise ZeroDivisionError("oops")

    router, _ = scripted_router(act)
    submission = make_submission(GENESIS, "dev-0", 1, ("notes", b"a"), ("scripted", b""))

    with pytest.raises(InvariantError) as caught:
        apply(router, submission, height=77)

    message = str(caught.value)
    assert "scripted@3" in message
    assert "height 77" in message
    assert submission.id.hex() in message
    assert "command 1" in message
    assert "ZeroDivisionError: oops" in message


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ((Event(bytes(EVENT_BYTES_MAX)),), "an event of 32768 bytes"),
        ((Event(b""),) * 65, "65 events of one command"),
        ((Event(b"", key=b"short"),), "a key of"),
    ],
)
def test_events_that_no_log_can_hold_stop_the_device(events: tuple[Event, ...], words: str) -> None:
    router, _ = scripted_router(lambda _context, _body: events)
    with pytest.raises(InvariantError, match=f"scripted made {words}"):
        apply(router, make_submission(GENESIS, "dev-0", 1, ("scripted", b"")))


def test_the_largest_event_fits() -> None:
    router, _ = scripted_router(lambda _context, _body: (Event(bytes(EVENT_BYTES_MAX - 1)),))
    (applied,) = apply(router, make_submission(GENESIS, "dev-0", 1, ("scripted", b"")))
    assert len(applied.event.body) == EVENT_BYTES_MAX


# ------------------------------------------------------------------------------------------ one state


def busy_router() -> tuple[Router, Sequences]:
    router, sequences = Router(APPS), Sequences()
    opening = open_command(subject="x", rule="median", deadline_ms=1)
    for origin in ("dev-3", "ops", "dev-0"):
        submission = make_submission(GENESIS, origin, 1, ("notes", b"a"), ("decisions", opening))
        sequences.apply(submission.body, 1)
        apply(router, submission)
    return router, sequences


def test_a_snapshot_holds_all_applications_and_windows() -> None:
    router, sequences = busy_router()
    state = router.snapshot(sequences)
    other = Router(APPS[::-1])

    restored = other.restore(state)

    assert other.snapshot(restored) == state
    assert restored.snapshot() == sequences.snapshot()
    notes = other.app("notes")
    assert isinstance(notes, Notes)
    assert notes.count == 3
    assert router.decisions is not None
    assert other.decisions is not None
    assert other.decisions.open_decisions() == router.decisions.open_decisions()


def test_the_state_root_covers_every_part() -> None:
    router, sequences = busy_router()
    root = state_root(router.snapshot(sequences))
    assert root == hashlib.sha256(router.snapshot(sequences)).digest()

    assert state_root(router.snapshot(Sequences())) != root
    apply(router, make_submission(GENESIS, "dev-0", 2, ("notes", b"a")))
    assert state_root(router.snapshot(sequences)) != root


def test_the_genesis_state_is_pinned() -> None:
    """Every device of a swarm begins with this root; a change is a new version of an application."""
    root = state_root(Router(APPS).snapshot(Sequences()))
    assert root.hex() == "ba99ef67cf65a2812d7b2650e9baded8b6b9130f82ef24fefd095c419e94411f"


def test_a_snapshot_of_other_applications_is_refused() -> None:
    router, sequences = busy_router()
    with pytest.raises(DecodeError, match="other applications"):
        Router(("notes@1",)).restore(router.snapshot(sequences))
    with pytest.raises(DecodeError):
        Router(APPS).restore(b"garbage")


def test_the_scripted_application_is_one() -> None:
    assert isinstance(Scripted(lambda _context, _body: ()), Application)
