"""The log's leaves: an applied submission, then the events its application produced (PROTOCOL section 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from swarm.primitives.errors import DecodeError
from swarm.primitives.limits import SUBMISSION_BYTES_MAX
from swarm.wire.codec import U16, U63, Bytes32, Codec, Name, encode
from swarm.wire.messages import Submission, decode_submission

SUBMISSION_LEAF: Final = 1
EVENT_LEAF: Final = 2


class EventBody(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """One event: where it happened, by which command, of which application, and that application's bytes."""

    height: U63
    submission: Bytes32
    command: U16
    app: Name
    body: Annotated[bytes, msgspec.Meta(max_length=SUBMISSION_BYTES_MAX // 2)]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A decoded leaf: exactly one of `submission` and `event` is set."""

    submission: Submission | None
    event: EventBody | None


_EVENT: Codec[EventBody] = Codec(EventBody, bytes_max=SUBMISSION_BYTES_MAX)


def submission_leaf(raw: bytes) -> bytes:
    """Return the leaf data of an applied submission, as received."""
    return bytes((SUBMISSION_LEAF,)) + raw


def event_leaf(event: EventBody) -> bytes:
    """Return the leaf data of an event."""
    return bytes((EVENT_LEAF,)) + encode(event)


def decode_leaf(data: bytes) -> Leaf:
    """Return what the leaf data says, or raise `DecodeError`."""
    if data[:1] == b"\x01":
        return Leaf(decode_submission(data[1:]), None)
    if data[:1] == b"\x02":
        return Leaf(None, _EVENT.decode(data[1:]))
    raise DecodeError("malformed", "unknown kind of leaf")
