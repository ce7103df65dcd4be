"""The own commands: bundled, signed in order, and followed until they are in the log."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from swarm.apps.decisions.commands import Cast, decode_command
from swarm.consensus.inputs import SubmissionIn
from swarm.device.guard import Guard
from swarm.primitives.errors import DecodeError
from swarm.primitives.ids import DeviceId, is_name
from swarm.primitives.limits import (
    COMMAND_BYTES_MAX,
    COMMANDS_WAITING_MAX,
    OUTSTANDING_MAX,
    PROTOCOL_COMMANDS_WAITING_MAX,
    SUBMISSION_BYTES_MAX,
    SUBMISSION_COMMANDS_MAX,
)
from swarm.storage.store import Batch
from swarm.wire.messages import Command, Submission

_ROOM_BYTES = SUBMISSION_BYTES_MAX - 512
"""What the commands of one submission may take; the rest is its frame and signature."""


@dataclass(slots=True)
class OwnSubmission:
    """One signed submission on its way into the log."""

    signed_at_ms: int
    tags: tuple[int, ...]
    casts: tuple[bytes, ...]
    is_restored: bool = False
    """Signed before this start."""


class OwnCommands:
    """Commands waiting to be signed, and submissions waiting to be final; both bounded."""

    def __init__(self, me: DeviceId, guard: Guard, unfinalized: Iterable[Submission], now_ms: int) -> None:
        """Go on with what the store says was signed and is not in the log yet."""
        self._me = me
        self._guard = guard
        self._waiting: deque[tuple[Command, int]] = deque()
        self._reserved: deque[tuple[Command, int]] = deque()
        self._sent: dict[bytes, OwnSubmission] = {}
        for submission in unfinalized:
            casts = tuple(c for command in submission.body.commands for c in _cast(command))
            self._sent[submission.id] = OwnSubmission(now_ms, (), casts, is_restored=True)

    @property
    def waiting(self) -> int:
        """Commands not signed yet."""
        return len(self._waiting) + len(self._reserved)

    @property
    def outstanding(self) -> int:
        """Submissions signed and not in the log yet."""
        return len(self._sent)

    def put(self, app: str, body: bytes, tag: int, *, reserved: bool = False) -> bool:
        """Queue a command; False when too many wait already (`busy`).

        `reserved` ones, ballots and deadlines, have room of their own and are signed first: a full queue must not
        make them late. After False the caller lets them be asked for again.
        """
        queue, room = (
            (self._reserved, PROTOCOL_COMMANDS_WAITING_MAX)
            if reserved
            else (self._waiting, COMMANDS_WAITING_MAX)
        )
        if len(queue) >= room:
            return False
        queue.append((Command(app=app, body=body), tag))
        return True

    def why_refused(self, app: str, body: bytes) -> str | None:
        """Say why a command can never be put on the log, None if it can: every peer would drop its submission."""
        if not is_name(app):
            return f"{app!r} is no name of an application"
        if len(body) > COMMAND_BYTES_MAX:
            return f"a command has at most {COMMAND_BYTES_MAX} bytes, {len(body)} given"
        return None

    def can_sign(self) -> bool:
        """Answer whether a waiting command could be signed now: fewer than 1,024 are outstanding."""
        return self.waiting > 0 and len(self._sent) < OUTSTANDING_MAX

    def sign_waiting(self, batch: Batch, now_ms: int) -> list[SubmissionIn]:
        """Bundle and sign what waits, as far as the window allows; returns the inputs for the core."""
        signed: list[SubmissionIn] = []
        while self.can_sign():
            bundle = self._take_bundle()
            submission = self._guard.sign_submission(self._me, [c for c, _ in bundle], batch)
            tags = tuple(tag for _, tag in bundle if tag)
            casts = tuple(c for command, _ in bundle for c in _cast(command))
            self._sent[submission.id] = OwnSubmission(now_ms, tags, casts)
            signed.append(SubmissionIn(submission, own=True))
        return signed

    def _take_bundle(self) -> list[tuple[Command, int]]:
        bundle: list[tuple[Command, int]] = []
        room = _ROOM_BYTES
        while len(bundle) < SUBMISSION_COMMANDS_MAX and (queue := self._reserved or self._waiting):
            size = len(queue[0][0].body) + 48
            if bundle and size > room:
                break
            room -= size
            bundle.append(queue.popleft())
        return bundle

    def tags_of(self, submission: bytes) -> tuple[int, ...]:
        """Return the tags of the commands in an own submission."""
        own = self._sent.get(submission)
        return () if own is None else own.tags

    def is_own(self, submission: bytes) -> bool:
        """Answer whether this device signed the submission and still follows it."""
        return submission in self._sent

    def settle(self, submission: bytes) -> OwnSubmission | None:
        """Stop following a submission that a block held; None if it is not an own one."""
        return self._sent.pop(submission, None)

    def has_cast(self, decision: bytes) -> bool:
        """Answer whether a ballot for the decision was signed before and is still on its way."""
        return any(decision in own.casts for own in self._sent.values())


def _cast(command: Command) -> tuple[bytes, ...]:
    if command.app != "decisions":
        return ()
    try:
        decoded = decode_command(command.body)
    except DecodeError:
        return ()
    return (decoded.decision,) if isinstance(decoded, Cast) else ()
