"""A simulated operator: a member without a device that signs entries, sends them until they are in the log, and serves.

Its machine is where a release comes from, so it answers questions for chunks as any peer that holds the image does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from swarm.crypto.keys import KeyPair
from swarm.crypto.merkle import leaf_hash
from swarm.crypto.signing import sign
from swarm.device.counters import Counter
from swarm.device.delivery.server import ChunkServer
from swarm.device.firmware.operations import ReadChunk, ReadLeaves
from swarm.device.outbox import Outbox
from swarm.device.turn import FrameIn, OutFrame
from swarm.lab.sim.releases import MadeRelease
from swarm.lab.sim.scheduler import Scheduler
from swarm.transport.topics import Scope
from swarm.wire.codec import encode
from swarm.wire.genesis import Genesis
from swarm.wire.messages import (
    AskChunks,
    AskLeaves,
    Command,
    Envelope,
    Submission,
    SubmissionBody,
    SubmissionItem,
    decode_frame,
    decode_request,
    encode_frame,
    seal_submission,
)
from swarm.wire.statements import Kind, envelope_bytes

RESEND_US: Final = 2_000_000
"""Pause before an entry that nobody has in the log is published again."""

BASE_MS: Final = 500_000
"""The operator's own clock at the world's start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorPorts:
    """What an operator reaches: the network, and one reader of the log that it trusts."""

    publish: Callable[[str, OutFrame], None]
    is_logged: Callable[[bytes], bool]
    """Whether the submission with this id is in the log."""


@dataclass(frozen=True, slots=True)
class _Held:
    file: bytes
    server: ChunkServer


class SimOperator:
    """One operator. Nothing of it fails: people try again until it works."""

    def __init__(
        self, id: str, keypair: KeyPair, genesis: Genesis, scheduler: Scheduler, ports: OperatorPorts
    ) -> None:
        """Be `id`, with its key."""
        self.id = id
        self._keypair = keypair
        self._genesis = genesis
        self._scheduler = scheduler
        self._ports = ports
        self._sequence = 0
        self._outbox = Outbox(genesis.id, id, keypair, Counter(1))
        self._held: dict[bytes, _Held] = {}

    @property
    def _now_ms(self) -> int:
        return BASE_MS + self._scheduler.now_us // 1000

    # ------------------------------------------------------------------------------ entries

    def submit(self, commands: Sequence[tuple[str, bytes]]) -> Submission:
        """Sign commands as one submission, and send it until it is in the log."""
        self._sequence += 1
        body = SubmissionBody(
            origin=self.id,
            incarnation=0,
            sequence=self._sequence,
            expiry=0,
            commands=tuple(Command(app=app, body=command) for app, command in commands),
        )
        signed = encode(body)
        message = envelope_bytes(self._genesis.id, Kind.SUBMISSION, signed)
        submission = seal_submission(body, signed, sign(self._keypair, message))
        self._send(submission)
        return submission

    def _send(self, submission: Submission) -> None:
        if self._ports.is_logged(submission.id):
            return
        payload = encode_frame((SubmissionItem(raw=submission.raw),))
        self._ports.publish(self.id, OutFrame(Scope.ALL, None, payload))
        self._scheduler.after(RESEND_US, lambda: self._send(submission))

    # ------------------------------------------------------------------------------ serving

    def hold(self, made: MadeRelease) -> None:
        """Serve a release from now on; a server each, because a read names no release."""
        if made.id not in self._held:
            server = ChunkServer(bytes_per_s=None, now_ms=self._now_ms)
            server.offer(made.id, "sealed", made.plan)
            self._held[made.id] = _Held(made.file, server)

    def receive(self, frame: FrameIn) -> None:
        """Answer a question for chunks; everything else is for devices."""
        if frame.scope is not Scope.TO or not self._held:
            return
        for item in decode_frame(frame.payload):
            if not isinstance(item, Envelope) or item.kind != Kind.REQUEST or item.sender != frame.sender:
                continue
            request = decode_request(item.body)
            if isinstance(request.ask, AskChunks | AskLeaves) and request.ask.release in self._held:
                held = self._held[request.ask.release]
                held.server.ask(frame.sender, request, self._now_ms)
                self._serve(held)

    def _serve(self, held: _Held) -> None:
        while True:
            step = held.server.advance(self._now_ms)
            for to, request, content in step.answers:
                self._outbox.answer(to, request, content)
            for frame in self._outbox.take():
                self._ports.publish(self.id, frame)
            if not step.reads:
                break
            for read in step.reads:
                held.server.on_read(read, _read(held.file, read), self._now_ms)
        if step.wake_at_ms is not None:
            at_us = max((step.wake_at_ms - BASE_MS) * 1000, self._scheduler.now_us + 1)
            self._scheduler.at(at_us, lambda: self._serve(held))


def _read(file: bytes, read: ReadChunk | ReadLeaves) -> bytes | tuple[bytes, ...]:
    if isinstance(read, ReadChunk):
        return file[read.offset : read.offset + read.count]
    chunk = read.chunk_bytes
    return tuple(leaf_hash(file[at : at + chunk]) for at in range(0, len(file), chunk))
