"""What a turn publishes: signed items packed into as few frames as fit, one publish per topic and turn (ADR 0010)."""

from __future__ import annotations

import msgspec

from swarm.crypto.keys import KeyPair
from swarm.crypto.signing import sign
from swarm.device.counters import Counter
from swarm.device.turn import OutFrame
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import FRAME_BYTES_MAX
from swarm.transport.topics import Scope
from swarm.wire.codec import encode
from swarm.wire.messages import (
    Answer,
    AnswerChunk,
    Answered,
    AnswerLeaves,
    Ask,
    AskChunks,
    ChunkItem,
    Envelope,
    Heartbeat,
    Item,
    Request,
    encode_frame,
    without_data,
)
from swarm.wire.statements import Kind, envelope_bytes

_FRAME_ITEMS_MAX = 4096
_HEADER_BYTES = 8


class Outbox:
    """Collects the items of one turn by destination. Envelopes are signed here: they carry claims, not votes.

    Only statements and submissions can hurt anybody, and those come out of the guard.
    """

    def __init__(self, swarm_id: bytes, me: DeviceId, keypair: KeyPair, counter: Counter) -> None:
        """Sign envelopes as `me`."""
        self._swarm_id = swarm_id
        self._me = me
        self._keypair = keypair
        self._counter = counter
        self._items: dict[tuple[Scope, DeviceId | None], dict[bytes, None]] = {}
        self._repeated: list[OutFrame] = []
        self._bulk: list[OutFrame] = []

    @property
    def counter(self) -> Counter:
        """The counter of this device."""
        return self._counter

    def put(self, item: Item, to: DeviceId | None = None, scope: Scope | None = None) -> None:
        """Queue an item for everybody or for one member; an equal item for the same topic goes once."""
        chosen = scope if scope is not None else (Scope.ALL if to is None else Scope.TO)
        self._items.setdefault((chosen, to), {})[encode(item)] = None

    def ask(self, to: DeviceId, ask: Ask) -> tuple[int, int]:
        """Queue a signed request; returns its counter. Questions for chunks go in frames of their own, unacknowledged."""
        boot, n = self._counter.next()
        item = self._envelope(Kind.REQUEST, encode(Request(boot=boot, n=n, to=to, ask=ask)))
        if isinstance(ask, AskChunks):
            self._repeated.append(OutFrame(Scope.TO, to, encode_frame((item,)), repeated=True))
        else:
            self.put(item, to)
        return boot, n

    def answer(self, to: DeviceId, request: Request, content: Answered) -> None:
        """Queue a signed answer to a member's request; chunks and their leaves go as bulk, each in its own frame."""
        boot, n = self._counter.next()
        body = Answer(boot=boot, n=n, to=to, re_boot=request.boot, re_n=request.n, content=content)
        if isinstance(content, AnswerChunk):
            signed, data = without_data(body)
            item: Item = ChunkItem(self._envelope(Kind.ANSWER, encode(signed)), data)
        else:
            item = self._envelope(Kind.ANSWER, encode(body))
        if isinstance(content, AnswerChunk | AnswerLeaves):
            self._bulk.append(OutFrame(Scope.TO, to, encode_frame((item,)), bulk=True))
        else:
            self.put(item, to)

    def beat(self, heartbeat: Heartbeat) -> None:
        """Queue a signed heartbeat."""
        self.put(self._envelope(Kind.HEARTBEAT, encode(heartbeat)), None, Scope.BEAT)

    def take(self) -> tuple[OutFrame, ...]:
        """Return the frames of everything queued, bulk last, and start anew."""
        frames: list[OutFrame] = []
        for (scope, to), encoded in self._items.items():
            frames.extend(OutFrame(scope, to, payload) for payload in _pack(list(encoded)))
        frames.extend(self._repeated)
        frames.extend(self._bulk)
        self.discard()
        return tuple(frames)

    def discard(self) -> None:
        """Forget everything queued: the turn's transaction failed, so nothing of it may leave."""
        self._items.clear()
        self._repeated.clear()
        self._bulk.clear()

    def _envelope(self, kind: Kind, body: bytes) -> Envelope:
        signature = sign(self._keypair, envelope_bytes(self._swarm_id, kind, body))
        return Envelope(kind=kind, sender=self._me, body=body, signature=signature)


def _pack(encoded: list[bytes]) -> list[bytes]:
    payloads: list[bytes] = []
    current: list[msgspec.Raw] = []
    size = _HEADER_BYTES
    for item in encoded:
        if current and (size + len(item) > FRAME_BYTES_MAX or len(current) == _FRAME_ITEMS_MAX):
            payloads.append(encode(current))
            current, size = [], _HEADER_BYTES
        current.append(msgspec.Raw(item))
        size += len(item)
    if current:
        payloads.append(encode(current))
    return payloads
