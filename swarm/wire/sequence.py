"""Which submission counts: sequence windows and incarnations of every origin (PROTOCOL section 2).

What a submission does is decided when it is applied. A second one with the same (origin, incarnation, sequence), one
outside the window, or an expired one is a no-op without a leaf, never an invalid block.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import msgspec

from swarm.primitives.limits import SEQUENCE_WINDOW
from swarm.wire.codec import U32, U63, Name
from swarm.wire.messages import SubmissionBody

_MASK = (1 << SEQUENCE_WINDOW) - 1


class Verdict(Enum):
    """What applying a submission would do now."""

    COUNTS = "counts"
    DUPLICATE = "duplicate"
    OUT_OF_WINDOW = "out-of-window"
    EXPIRED = "expired"
    OTHER_INCARNATION = "other-incarnation"


class Window(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """One origin's window: bit i of `used` is set when `high - i` was used."""

    origin: Name
    incarnation: U32
    high: U63
    used: Annotated[bytes, msgspec.Meta(max_length=SEQUENCE_WINDOW // 8)]


class Sequences:
    """Windows of all origins at one applied height; mutable, copied cheaply for a look ahead."""

    __slots__ = ("_windows",)

    def __init__(self, windows: dict[str, tuple[int, int, int]] | None = None) -> None:
        """Start from `windows`: origin -> (incarnation, high, used bits)."""
        self._windows: dict[str, tuple[int, int, int]] = dict(windows or {})

    def copy(self) -> Sequences:
        """Return an independent copy."""
        return Sequences(self._windows)

    def high(self, origin: str) -> tuple[int, int]:
        """Return (incarnation, highest used sequence number) of `origin`; (0, 0) before its first."""
        incarnation, high, _ = self._windows.get(origin, (0, 0, 0))
        return incarnation, high

    def judge(self, body: SubmissionBody, height: int) -> Verdict:
        """Say what applying `body` in a block of `height` would do; changes nothing."""
        incarnation, high, used = self._windows.get(body.origin, (0, 0, 0))
        if body.incarnation != incarnation:
            return Verdict.OTHER_INCARNATION
        if not high - SEQUENCE_WINDOW < body.sequence <= high + SEQUENCE_WINDOW or body.sequence == 0:
            return Verdict.OUT_OF_WINDOW
        if body.sequence <= high and used >> (high - body.sequence) & 1:
            return Verdict.DUPLICATE
        if body.expiry and height > body.expiry:
            return Verdict.EXPIRED
        return Verdict.COUNTS

    def apply(self, body: SubmissionBody, height: int) -> Verdict:
        """Apply `body` in a block of `height`: marks its number used when it counts or is expired."""
        verdict = self.judge(body, height)
        if verdict in (Verdict.COUNTS, Verdict.EXPIRED):
            incarnation, high, used = self._windows.get(body.origin, (0, 0, 0))
            if body.sequence > high:
                used = (used << (body.sequence - high) | 1) & _MASK
                high = body.sequence
            else:
                used |= 1 << (high - body.sequence)
            self._windows[body.origin] = (incarnation, high, used)
        return verdict

    def snapshot(self) -> tuple[Window, ...]:
        """Return all windows sorted by origin, for the canonical snapshot."""
        return tuple(
            Window(
                origin=origin,
                incarnation=incarnation,
                high=high,
                used=used.to_bytes((used.bit_length() + 7) // 8, "big"),
            )
            for origin, (incarnation, high, used) in sorted(self._windows.items())
        )

    @classmethod
    def restore(cls, windows: tuple[Window, ...]) -> Sequences:
        """Return the sequences of a snapshot."""
        return cls({w.origin: (w.incarnation, w.high, int.from_bytes(w.used, "big")) for w in windows})
