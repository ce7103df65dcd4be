"""A broker that misbehaves on cue: the few packets of MQTT 3.1.1 that a client needs, and knobs to get them wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_CONNECT, _PUBLISH, _SUBSCRIBE, _UNSUBSCRIBE, _PING, _DISCONNECT = 1, 3, 8, 10, 12, 14


@dataclass
class ScriptedBroker:
    """What to do wrong, and what was seen; it routes nothing by itself."""

    connack: int | None = 0
    suback: int | None = None  # None grants what was asked
    pubacks: bool = True
    hang_up_after: int | None = None  # frames of one connection before the broker hangs up; 0: at the CONNECT
    connects: int = 0
    subscribed: list[str] = field(default_factory=list)
    unsubscribed: list[str] = field(default_factory=list)
    published: list[tuple[str, bytes, bool]] = field(default_factory=list)
    disconnects: int = 0
    port: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.remove(writer)
            writer.close()
            async with self.changed:
                self.changed.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = 0
        while True:
            first = (await reader.readexactly(1))[0]
            body = await reader.readexactly(await _length(reader))
            kind = first >> 4
            if kind == _CONNECT:
                self.connects += 1
                if self.hang_up_after == 0:
                    return
                if self.connack is not None:
                    writer.write(bytes((0x20, 2, 0, self.connack)))
                if self.connack:
                    return
            elif kind in (_SUBSCRIBE, _UNSUBSCRIBE):
                topics = _filters(body[2:], with_qos=kind == _SUBSCRIBE)
                if kind == _SUBSCRIBE:
                    self.subscribed += [topic for topic, _ in topics]
                    codes = bytes(qos if self.suback is None else self.suback for _, qos in topics)
                    writer.write(bytes((0x90,)) + _encoded(2 + len(codes)) + body[:2] + codes)
                else:
                    self.unsubscribed += [topic for topic, _ in topics]
                    writer.write(bytes((0xB0, 2)) + body[:2])
            elif kind == _PUBLISH:
                frames += 1
                self._note(first, body, writer)
                if frames == self.hang_up_after:
                    return
            elif kind == _PING:
                writer.write(b"\xd0\x00")
            elif kind == _DISCONNECT:
                self.disconnects += 1
                return
            async with self.changed:
                self.changed.notify_all()

    def _note(self, first: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        end = 2 + int.from_bytes(body[:2], "big")
        topic, rest = body[2:end].decode(), body[end:]
        if (first >> 1) & 3:
            if self.pubacks:
                writer.write(b"\x40\x02" + rest[:2])
            rest = rest[2:]
        self.published.append((topic, rest, bool(first & 1)))

    def inject(self, topic: bytes, payload: bytes) -> None:
        """Send a QoS 0 message to every client, wanted or not."""
        body = len(topic).to_bytes(2, "big") + topic + payload
        for writer in self._writers:
            writer.write(b"\x30" + _encoded(len(body)) + body)

    def hang_up(self) -> None:
        """Cut every connection."""
        for writer in self._writers:
            writer.transport.abort()


def _encoded(length: int) -> bytes:
    out = bytearray()
    while True:
        length, digit = divmod(length, 128)
        out.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(out)


async def _length(reader: asyncio.StreamReader) -> int:
    length, shift = 0, 0
    while True:
        digit = (await reader.readexactly(1))[0]
        length |= (digit & 0x7F) << shift
        shift += 7
        if digit < 0x80:
            return length


def _filters(rest: bytes, *, with_qos: bool) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    while rest:
        end = 2 + int.from_bytes(rest[:2], "big")
        topic = rest[2:end].decode()
        if with_qos:
            found.append((topic, rest[end]))
            end += 1
        else:
            found.append((topic, 0))
        rest = rest[end:]
    return found


@asynccontextmanager
async def scripted_broker(**script: int | bool | None) -> AsyncIterator[ScriptedBroker]:
    """Serve on a free loopback port until the block ends."""
    broker = ScriptedBroker(**script)  # type: ignore[arg-type]
    server = await asyncio.start_server(broker.serve_one, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
        broker.hang_up()
        await server.wait_closed()
