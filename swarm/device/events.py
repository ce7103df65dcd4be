"""Names of what a device reports as it happens: for screens, results, metrics and tests. Data, never log text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from swarm.apps.decisions.rules import Outcome
from swarm.device.turn import DeviceEvent
from swarm.primitives.errors import DecodeError
from swarm.primitives.limits import FRAME_BYTES_MAX
from swarm.wire.codec import Codec, encode

_OUTCOME: Final[Codec[Outcome]] = Codec(Outcome, bytes_max=FRAME_BYTES_MAX)

STARTED: Final = "started"
"""view, height, log_size, boot."""
HEARD: Final = "heard"
"""device: the first verified word of a peer since the start, or since it was silent."""
SILENT: Final = "silent"
"""devices: peers without a verified word for `SILENT_BEATS` heartbeats; each once until it is heard again."""
ENTERED: Final = "entered"
"""view."""
SKIPPED: Final = "skipped"
"""view, reason."""
CLEARED_BY_SKIP: Final = "cleared-by-skip"
"""view: it ended with a skip certificate."""
FINALIZED: Final = "finalized"
"""height, view, submissions, commands, log_size, hash."""
SUBMITTED: Final = "submitted"
"""id, sequence, commands, tags: an own submission was signed."""
COMMITTED: Final = "committed"
"""id, height, position, latency_ms, tags: an own submission is in the log."""
LOST: Final = "lost"
"""id, reason: an own submission will never count."""
REFUSED: Final = "refused"
"""tag, reason: the command can never be put on the log."""
DROPPED: Final = "dropped"
"""counts: frames and items refused at the door since the last such event, as (reason, number)."""
BUSY: Final = "busy"
"""tag: the command was not taken; try again later."""
REJECTED: Final = "rejected"
"""app, reason, own: an application refused a command."""
OPENED: Final = "opened"
"""decisions, height."""
CLOSED: Final = "closed"
"""outcome, height."""
CHECKPOINT: Final = "checkpoint"
"""height, log_size."""
EVIDENCE: Final = "evidence"
"""voter, kinds."""
STANDSTILL: Final = "standstill"
"""view."""
FIRMWARE: Final = "firmware"
"""what, and by it: `fetching` (release, number, chunks), `copied` (release, chunks), `sealed` (release),
`bad-chunk`, `bad-leaves`, `left-slow`, `left-silent`, `used-up` (peer, chunk, release), `ready` and `asked` (plan,
stage), `permitted` (permit, target), `armed` (permit, release), `declined` (permit, reason), `rebooting` (after),
`self-test` (passed, reason, detail), `confirmed`, `withdrawn`, `discarded`, `counter-raised`, `revocation-written`,
`refused` (operation, reason), `unreadable` (reason), `reported` (result, permit, reason), `voted` (entry)."""
ALARM: Final = "alarm"
"""what: attestations that differ, two live devices with one key."""


def event_to_json(event: DeviceEvent) -> dict[str, object]:
    """Return an event as JSON data: bytes and outcomes become tagged hexadecimal, tuples become lists."""
    return {"kind": event.kind, "at_ms": event.at_ms, "data": {k: _to_json(v) for k, v in event.data}}


def event_from_json(value: Mapping[str, Any]) -> DeviceEvent:
    """Return the event of what `event_to_json` gave; raises `DecodeError` for anything else."""
    try:
        data = tuple((key, _from_json(item)) for key, item in value["data"].items())
        return DeviceEvent(str(value["kind"]), int(value["at_ms"]), data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DecodeError("malformed", f"event: {error}") from None


def _to_json(value: object) -> object:
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, Outcome):
        return {"outcome": encode(value).hex()}
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    return value


def _from_json(value: object) -> object:
    if isinstance(value, dict):
        if "hex" in value:
            return bytes.fromhex(value["hex"])
        return _OUTCOME.decode(bytes.fromhex(value["outcome"]))
    if isinstance(value, list):
        return tuple(_from_json(item) for item in value)
    return value
