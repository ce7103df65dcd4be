"""What a bad image does to the frames of the device that runs it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from swarm.device.turn import OutFrame, Turn
from swarm.transport.topics import Scope
from swarm.wire.messages import SubmissionItem, decode_frame, encode_frame


class LyingImage:
    """Says what an image says that is well, and does none of its work: no vote and no proposal leaves the device."""

    name: ClassVar[str] = "lie"

    def change(self, turn: Turn) -> Turn:
        """Keep heartbeats, questions and the device's own entries."""
        frames: list[OutFrame] = []
        for frame in turn.frames:
            if frame.scope is not Scope.ALL:
                frames.append(frame)
                continue
            kept = tuple(item for item in decode_frame(frame.payload) if isinstance(item, SubmissionItem))
            if kept:
                frames.append(replace(frame, payload=encode_frame(kept)))
        return replace(turn, frames=tuple(frames))
