"""Reaching, watching and leaving one connection of aiomqtt, where its own ways leave something behind.

Everything that this project knows about the inside of that library is in this module.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

import aiomqtt
import paho.mqtt.client as mqtt
from aiomqtt.exceptions import MqttConnectError

from swarm.transport.transport import ConnectionState, Link

CONNECT_TIMEOUT_S: Final = 5.0
"""For the TCP and TLS part, and again for the CONNACK."""

_INSTANT_S: Final = 0.05
_CORK: Final[int | None] = getattr(socket, "TCP_CORK", None)  # Linux only

# paho and aiomqtt log what `ConnectionState` says better; the library's words stay off people's terminals.
LIBRARY_LOG: Final = logging.getLogger("swarm.transport.library")
LIBRARY_LOG.setLevel(logging.CRITICAL)


def queue_into(deliver: Callable[[aiomqtt.Message], None]) -> type[asyncio.Queue[aiomqtt.Message]]:
    """Return a queue class that keeps nothing: what is put goes to `deliver`, and `get` waits for ever."""

    class _Sink(asyncio.Queue[aiomqtt.Message]):
        def put_nowait(self, item: aiomqtt.Message) -> None:
            deliver(item)

    return _Sink


class Client(aiomqtt.Client):
    """aiomqtt's client, which also tells when its socket was closed, and which writes without detours.

    The original notices a closed socket only once connected. And for each packet it writes a byte to wake its own
    loop, lets the selector watch for room in the socket, writes, and lets it stop watching: three steps of the loop
    and six system calls around the one that matters. Here a packet is written in the next step of the loop, all that
    wait by then together, and the selector is asked only when the socket is full.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take what `aiomqtt.Client` takes."""
        self.hung_up = asyncio.Event()
        self._thread = threading.get_ident()
        self._watched = False
        super().__init__(*arguments, **options)

    def _on_socket_close(self, client: mqtt.Client, userdata: Any, sock: Any) -> None:
        super()._on_socket_close(client, userdata, sock)
        # paho may call this in the thread that connects.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.hung_up.set)

    def _on_socket_register_write(self, client: mqtt.Client, userdata: Any, sock: Any) -> None:
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self._write, client, sock)
        else:
            self._watched = True
            super()._on_socket_register_write(client, userdata, sock)

    def _on_socket_unregister_write(self, client: mqtt.Client, userdata: Any, sock: Any) -> None:
        if self._watched:
            self._watched = False
            super()._on_socket_unregister_write(client, userdata, sock)

    def _write(self, client: mqtt.Client, sock: Any) -> None:
        # paho sends packet by packet, and each one alone would wake the broker: acknowledgements, mostly.
        many = len(client._out_packet) > 1 and _CORK is not None
        try:
            if many:
                sock.setsockopt(socket.IPPROTO_TCP, _CORK, 1)
            client.loop_write()
            if many and sock.fileno() >= 0:
                sock.setsockopt(socket.IPPROTO_TCP, _CORK, 0)
        except Exception as error:  # noqa: BLE001  -- as in the original: whatever it is, it ends the connection
            if not self._disconnected.done():
                self._disconnected.set_exception(error)
            return
        if client.want_write() and sock.fileno() >= 0:
            self._watched = True
            super()._on_socket_register_write(client, None, sock)


async def until_lost(client: Client) -> None:
    """Wait for the end of the connection, which the message iterator reports by raising `MqttError`."""
    async for _ in client.messages:
        pass


async def connect(client: Client) -> ConnectionState | None:
    """Connect; None on success, else what to tell people.

    The library opens the socket in a thread. Leaving that thread alone would leave its socket behind, so a
    cancellation waits for the socket, as long as a connection attempt takes at most. And it does not notice a
    broker that hangs up before the CONNACK (as one does that misses our certificate); `Client` does.
    """
    entering = asyncio.ensure_future(client.__aenter__())
    hung_up = asyncio.ensure_future(client.hung_up.wait())
    try:
        await asyncio.wait({entering, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        # A refused login is both, and its reason is the better one.
        if not (await asyncio.wait({entering}, timeout=_INSTANT_S))[0]:
            await _abandon(entering)
            return ConnectionState(Link.UNREACHABLE, "the broker hangs up before it accepts the connection")
        await entering
    except asyncio.CancelledError:
        deadline = asyncio.get_running_loop().time() + CONNECT_TIMEOUT_S
        while socket_of(client) is None and asyncio.get_running_loop().time() < deadline:
            if (await asyncio.wait({entering}, timeout=_INSTANT_S))[0]:
                break
        # The thread is past the connection now and needs an instant to end.
        await asyncio.wait({entering}, timeout=_INSTANT_S)
        await _abandon(entering)
        raise
    except MqttConnectError as error:
        return ConnectionState(Link.REFUSED, f"the broker refuses the login: {error}")
    except aiomqtt.MqttError as error:
        return ConnectionState(Link.UNREACHABLE, f"the broker cannot be reached: {error}")
    finally:
        hung_up.cancel()
    return None


async def _abandon(entering: asyncio.Future[Client]) -> None:
    entering.cancel()
    await asyncio.gather(entering, return_exceptions=True)


def socket_of(client: Client) -> socket.socket | None:
    """Return the socket, None if there is none: the one thing we take from the paho client inside aiomqtt's."""
    sock = client._client.socket()
    return sock if isinstance(sock, socket.socket) else None


async def shut(client: Client) -> None:
    """Close the socket of a client that did not leave politely; no DISCONNECT, so the broker publishes the last will.

    aiomqtt offers no way to do this. A time-out before the CONNACK leaves the socket open and its reader
    registered; an error while a packet is handled makes paho handle the same packet again, for ever, at each turn
    of the loop. `_sock_close` is what paho itself ends a connection with, callbacks to aiomqtt included.
    """
    client._client._sock_close()
    # One step, in which the library's own tasks see that they were cancelled.
    await asyncio.sleep(0)


async def end_tasks(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel `tasks` and wait for their ends.

    Again and again: `asyncio.wait_for` of Python 3.11, which the library stands on, swallows a cancellation that
    arrives together with the result, and such a pump would go on for ever.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.1)
    await asyncio.gather(*tasks, return_exceptions=True)
