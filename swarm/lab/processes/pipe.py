"""What supervisor and worker say to each other: one JSON line a message, commands down and reports up.

Standard input of the worker carries commands, its standard output reports; both ends are ours, so a line that cannot
be read is a bug. The end of the worker's input is a command too: stop, whoever has died.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from swarm.lab.scenario.schema import Cut, Network, Partition
from swarm.primitives.errors import InvariantError

LINE_BYTES_MAX: Final = 16 * 1024 * 1024
"""One line: a full bundle of commands in base64 is 1.4 MB."""


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="is"):
    """What both directions share."""


# ------------------------------------------------------------------------------------------ commands


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that stands between this worker and the others, as of now."""

    partition: Partition | None = None
    cuts: tuple[Cut, ...] = ()


class Start(_Message, frozen=True, tag="start"):
    """Build the agent of `config` and run it; the first command, and sent once.

    `network` and `seed` drive the impairments, `behaviour_seed` the noise of its sensors; with `attack` the device
    is an attacker's from its first turn.
    """

    config: str
    network: Network
    seed: int
    behaviour_seed: int
    weather: Weather
    attack: str | None = None


class Impair(_Message, frozen=True, tag="impair"):
    """Replace the partition and the cuts by these."""

    weather: Weather


class Attack(_Message, frozen=True, tag="attack"):
    """Let the attack of this name change every turn from now on."""

    name: str


class Submit(_Message, frozen=True, tag="submit"):
    """Put these (application, command) pairs on the log, in one submission where they fit."""

    commands: tuple[tuple[str, bytes], ...]


class AskStatus(_Message, frozen=True, tag="status"):
    """Answer with a `Status`."""


class Stop(_Message, frozen=True, tag="stop"):
    """Finish the turn, say goodbye to the broker, close the store, answer `Bye`, end."""


Command = Start | Impair | Attack | Submit | AskStatus | Stop

# ------------------------------------------------------------------------------------------ reports


class Ready(_Message, frozen=True, tag="ready"):
    """The agent is connected to the broker and has subscribed."""


class Offline(_Message, frozen=True, tag="offline"):
    """The connection is gone or cannot be made; the agent keeps trying."""

    reason: str


class Happened(_Message, frozen=True, tag="event"):
    """A device event as `event_to_json` gives it; its time is this machine's monotonic clock."""

    event: Mapping[str, Any]


class Status(_Message, frozen=True, tag="status"):
    """Where the device is. `log_root` belongs to `height` and `log_size`; frames count from the worker's start."""

    view: int
    height: int
    log_size: int
    log_root: bytes
    pending: int
    delivered: int
    """Frames received that nothing on the way to the inbox threw away."""
    dropped: int
    """Frames that the impairments, a full queue or the adapter threw away."""


class Failed(_Message, frozen=True, tag="failed"):
    """The worker ends because of this error: `kind` is the name of the class, `hint` the way out."""

    kind: str
    message: str
    where: str = ""
    hint: str = ""


class Bye(_Message, frozen=True, tag="bye"):
    """The last line of a worker that stopped in order, with where it ended."""

    status: Status


Report = Ready | Offline | Happened | Status | Failed | Bye

_COMMANDS: Final[msgspec.json.Decoder[Command]] = msgspec.json.Decoder(Command)
_REPORTS: Final[msgspec.json.Decoder[Report]] = msgspec.json.Decoder(Report)


def encode_line(message: Command | Report) -> bytes:
    """Return a message as one line with its newline."""
    return msgspec.json.encode(message) + b"\n"


def decode_command(line: bytes) -> Command:
    """Return the command in a line; raises `InvariantError` for anything else."""
    try:
        return _COMMANDS.decode(line)
    except msgspec.DecodeError as error:
        raise InvariantError(f"no command of a supervisor: {line[:200]!r}: {error}") from None


def decode_report(line: bytes) -> Report:
    """Return the report in a line; raises `InvariantError` for anything else."""
    try:
        return _REPORTS.decode(line)
    except msgspec.DecodeError as error:
        raise InvariantError(f"no report of a worker: {line[:200]!r}: {error}") from None
