"""What the bench and an agent under measurement say to each other: one JSON line a message."""

from __future__ import annotations

from typing import Final

import msgspec

LINE_BYTES_MAX: Final = 16 * 1024 * 1024
"""One line: the times of a hundred thousand commits are 1 MB."""


class _Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="is"):
    """What both directions share."""


# ------------------------------------------------------------------------------------------ orders


class OneByOne(_Line, frozen=True, tag="one-by-one"):
    """Submit one command after another, each when the one before is in the log, for `seconds`."""

    seconds: float
    warm_up: int
    """The first submissions, whose times are not told."""


class Flood(_Line, frozen=True, tag="flood"):
    """Keep `window` submissions of `bundle` commands on the way for `seconds`."""

    seconds: float
    window: int
    bundle: int
    warm_up_s: float
    """At the beginning, not counted."""


class Paced(_Line, frozen=True, tag="paced"):
    """Submit `per_s` commands a second for `seconds`, whatever became of those before."""

    seconds: float
    per_s: int


class Look(_Line, frozen=True, tag="look"):
    """Say what you cost and how far you are."""


class Offer(_Line, frozen=True, tag="offer"):
    """Serve release `number` of the common image of `size` bytes from now on, with a rate cap where one is given."""

    size: int
    number: int
    bytes_per_s: int | None


class Fetch(_Line, frozen=True, tag="fetch"):
    """Fetch that release from `peer`, for `seconds` at most."""

    size: int
    number: int
    peer: str
    seconds: float


class SendStick(_Line, frozen=True, tag="send-stick"):
    """Send frames as large as a chunk's, `size` bytes to each of `peers`: the measuring stick of a fetch."""

    size: int
    peers: tuple[str, ...]


class Prepare(_Line, frozen=True, tag="prepare"):
    """Make an image of `size` bytes, and room for one, before anything is timed."""

    size: int


class Check(_Line, frozen=True, tag="check"):
    """Compare what the last fetch left with the image of `size` bytes, after everything was timed."""

    size: int


class TakeStick(_Line, frozen=True, tag="take-stick"):
    """Wait for `size` bytes of it."""

    size: int


Order = OneByOne | Flood | Paced | Look | Prepare | Offer | Fetch | Check | SendStick | TakeStick

# ------------------------------------------------------------------------------------------ answers


class Ready(_Line, frozen=True, tag="ready"):
    """Connected to the broker and subscribed."""


class Times(_Line, frozen=True, tag="times"):
    """Answer to `OneByOne` and `Paced`: microseconds from the call of `submit` to the event of the commit."""

    commits_us: tuple[int, ...]


class Flooded(_Line, frozen=True, tag="flooded"):
    """Answer to `Flood`: own submissions that were in the log after the warm-up and before the end."""

    submissions: int
    seconds: float


class Cost(_Line, frozen=True, tag="cost"):
    """Answer to `Look`; processor time and resident memory of the whole process."""

    rss_bytes: int
    cpu_s: float
    height: int
    log_size: int


class Done(_Line, frozen=True, tag="done"):
    """Answer to `Prepare`, `Offer`, `Check` and `SendStick`."""


class Moved(_Line, frozen=True, tag="moved"):
    """Answer to `Fetch` and `TakeStick`: what came, all of it checked in a fetch, and how long it took."""

    size: int
    seconds: float


class Broken(_Line, frozen=True, tag="broken"):
    """The process ends because of this."""

    reason: str


Answer = Ready | Times | Flooded | Cost | Done | Moved | Broken

ORDERS: Final[msgspec.json.Decoder[Order]] = msgspec.json.Decoder(Order)
ANSWERS: Final[msgspec.json.Decoder[Answer]] = msgspec.json.Decoder(Answer)


def line_of(message: Order | Answer) -> bytes:
    """Return a message as one line with its newline."""
    return msgspec.json.encode(message) + b"\n"
