"""From a leaf or a proof to something that people and programs read: an outcome, or an entry of the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swarm.apps.decisions.app import Decisions
from swarm.apps.decisions.commands import Closed, Opened, decode_event
from swarm.apps.decisions.rules import Outcome
from swarm.apps.router import Refusal, read_body
from swarm.primitives.errors import DecodeError, ProofError
from swarm.primitives.ids import DeviceId, short
from swarm.wire.genesis import Genesis
from swarm.wire.leaves import EventBody, decode_leaf
from swarm.wire.messages import Submission
from swarm.wire.proof import VerifiedLeaf, verify

EntryKind = Literal["submission", "event", "rejected"]

DECISIONS_APP = f"{Decisions.name}@{Decisions.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One leaf of the log, decoded; fields that its kind does not have are None or empty."""

    position: int
    kind: EntryKind
    submission: bytes
    """Id of the submission, or of the one whose command made the event."""
    origin: DeviceId | None = None
    """Who signed the submission."""
    commands: tuple[tuple[str, bytes], ...] = ()
    """(application, body) of the submission's commands."""
    height: int | None = None
    """Height of the block, which only events name."""
    command: int | None = None
    app: str | None = None
    body: bytes = b""
    """An event's own bytes."""
    reason: str = ""
    """Why a command was rejected."""

    def in_words(self) -> str:
        """Say in one sentence what stands here."""
        if self.kind == "submission":
            commands = ", ".join(f"{app} ({len(body)} bytes)" for app, body in self.commands)
            return f"submission {short(self.submission)} of {self.origin}: {commands}"
        where = f"command {self.command} of submission {short(self.submission)} at height {self.height}"
        if self.kind == "rejected":
            return f"{self.app} rejected {where}: {self.reason}"
        return f"event of {self.app} by {where} ({len(self.body)} bytes)"


def read_leaf(data: bytes, position: int, genesis: Genesis) -> Entry | Outcome:
    """Return what the leaf `data` at `position` says: the outcome of a closed decision, or an entry.

    Only an event of our own `decisions`, as genesis names it, is read as an outcome. Raises `DecodeError` for bytes
    that are no leaf.
    """
    leaf = decode_leaf(data)
    if leaf.submission is not None:
        return submission_entry(leaf.submission, position)
    if leaf.event is None:
        raise DecodeError("malformed", "a leaf without content")
    content = read_body(leaf.event.body)
    if isinstance(content, Refusal):
        return _event_entry(leaf.event, position, kind="rejected", reason=content.reason)
    if leaf.event.app == Decisions.name and DECISIONS_APP in genesis.apps:
        match decode_event(content):
            case Closed(outcome):
                return outcome
            case Opened():
                pass
    return _event_entry(leaf.event, position, kind="event", body=content)


def verify_proof(proof: bytes, genesis: Genesis) -> Entry | Outcome:
    """Return what the bytes of a proof prove for the swarm of `genesis`, offline.

    Raises `ProofError` with the reason in words; then believe nothing of it. Who signed and for which height,
    `swarm.wire.proof.verify` returns.
    """
    return read_verified(verify(proof, genesis), genesis)


def read_verified(leaf: VerifiedLeaf, genesis: Genesis) -> Entry | Outcome:
    """Return what a verified leaf says; raises `ProofError` when this program cannot read it."""
    try:
        return read_leaf(leaf.leaf, leaf.position, genesis)
    except DecodeError as error:
        raise ProofError(
            f"leaf {leaf.position} is proved, but this program cannot read it: {error}"
        ) from None


def submission_entry(submission: Submission, position: int) -> Entry:
    """Return the entry of a submission whose leaf stands at `position`."""
    return Entry(
        position=position,
        kind="submission",
        submission=submission.id,
        origin=submission.body.origin,
        commands=tuple((command.app, command.body) for command in submission.body.commands),
    )


def _event_entry(
    event: EventBody, position: int, *, kind: EntryKind, body: bytes = b"", reason: str = ""
) -> Entry:
    return Entry(
        position=position,
        kind=kind,
        submission=event.submission,
        height=event.height,
        command=event.command,
        app=event.app,
        body=body,
        reason=reason,
    )
