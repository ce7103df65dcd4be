"""What goes wrong on a device: the power, a misuse of the medium, a refusal."""

from __future__ import annotations


class PowerLoss(BaseException):
    """The power went at a media operation; everything in memory is gone, only the media remain.

    Not an `Exception`, so that no handler of the code under test can swallow it.
    """

    def __init__(self, op: int) -> None:
        super().__init__(f"power lost at media operation {op}")
        self.op = op


class FlashError(Exception):
    """The code under test misused the medium: outside its area, unaligned, or not erased (I12). A defect."""


class Refused(Exception):  # noqa: N818  -- a refusal is an answer, not a failure
    """The device does not do what it was asked for and changed nothing; `reason` is a short code."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def check(condition: bool, message: str) -> None:
    """Raise FlashError with `message` unless `condition` holds."""
    if not condition:
        raise FlashError(message)
