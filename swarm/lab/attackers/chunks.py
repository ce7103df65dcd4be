"""Peers that serve badly: wrong bytes, bytes without end, or bytes at a snail's pace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import ClassVar, Final

import msgspec

from swarm.crypto.merkle import leaf_hash
from swarm.crypto.signing import sign
from swarm.device.device import Device
from swarm.device.turn import OutFrame, Turn, TurnInput
from swarm.lab.attackers.insider import Insider
from swarm.transport.topics import Scope
from swarm.wire.codec import encode
from swarm.wire.messages import ChunkItem, Envelope, decode_answer, decode_frame, encode_frame
from swarm.wire.statements import Kind, envelope_bytes

ENDLESS: Final = 25
"""Frames for each one that was asked for."""

SLOW_EVERY: Final = 40
"""A slow peer gives one chunk of so many, and none of the others."""


_Change = Callable[[bytes], bytes]


class BadChunks:
    """Answers every question for a chunk with other bytes of the right length."""

    name: ClassVar[str] = "bad-chunks"
    keeps_firmware: ClassVar[bool] = True

    def __init__(self, insider: Insider) -> None:
        """Sign with the device's key."""
        self._insider = insider

    def change(self, turn: Turn) -> Turn:
        """Change every chunk that leaves."""
        frames: list[OutFrame] = []
        for frame in turn.frames:
            frames.extend(self.serve(frame) if _has_chunk(frame) else (frame,))
        return replace(turn, frames=tuple(frames))

    def act(self, device: Device, now_ms: int) -> tuple[tuple[TurnInput, ...], int | None]:
        """Say nothing of its own."""
        del device, now_ms
        return (), None

    def serve(self, frame: OutFrame) -> tuple[OutFrame, ...]:
        """Return what is sent instead of a frame with a chunk."""
        return (self.forge(frame, lambda data: bytes(byte ^ 0x5A for byte in data)),)

    def forge(self, frame: OutFrame, change: _Change) -> OutFrame:
        """Return the frame with other bytes, signed anew."""
        (item,) = decode_frame(frame.payload)
        if not isinstance(item, ChunkItem):
            return frame
        answer, data = decode_answer(item.envelope.body), change(item.data)
        content = msgspec.structs.replace(answer.content, leaf=leaf_hash(data))
        body = encode(msgspec.structs.replace(answer, content=content))
        message = envelope_bytes(self._insider.genesis.id, Kind.ANSWER, body)
        signature = sign(self._insider.keypair, message)
        envelope = Envelope(kind=Kind.ANSWER, sender=self._insider.id, body=body, signature=signature)
        return replace(frame, payload=encode_frame((ChunkItem(envelope=envelope, data=data),)))


class EndlessChunks(BadChunks):
    """Sends each chunk again and again."""

    name: ClassVar[str] = "endless-chunks"

    def serve(self, frame: OutFrame) -> tuple[OutFrame, ...]:
        """Return the frame many times, the copies with other bytes."""
        return (*(self.forge(frame, partial(_renumbered, number)) for number in range(ENDLESS)), frame)


class SlowChunks(BadChunks):
    """Gives a chunk now and then, so that nobody takes it for dead."""

    name: ClassVar[str] = "slow-chunks"

    def __init__(self, insider: Insider) -> None:
        """Count the chunks."""
        super().__init__(insider)
        self._asked = 0

    def serve(self, frame: OutFrame) -> tuple[OutFrame, ...]:
        """Return the frame, or nothing."""
        self._asked += 1
        return (frame,) if self._asked % SLOW_EVERY == 1 else ()


def _renumbered(number: int, data: bytes) -> bytes:
    return bytes([number]) + data[1:]


def _has_chunk(frame: OutFrame) -> bool:
    if frame.scope is not Scope.TO:
        return False
    return any(isinstance(item, ChunkItem) for item in decode_frame(frame.payload))
