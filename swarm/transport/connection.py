"""Reaching, watching and leaving one connection of aiomqtt, where its own ways leave something behind.

Everything that this project knows about the inside of that library is in this module.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import aiomqtt
import paho.mqtt.client as mqtt
from aiomqtt.exceptions import MqttCodeError, MqttConnectError

from swarm.transport.transport import ConnectionState, Link

CONNECT_TIMEOUT_S: Final = 5.0
"""For the TCP and TLS part, and again for the CONNACK."""

_INSTANT_S: Final = 0.05
_PACKETS_WAITING_MAX: Final = 64
"""Packets in paho's own queue, which knows no bound: acknowledgements, and what the pumps and we put there."""

_CORK: Final[int | None] = getattr(socket, "TCP_CORK", None)  # Linux only

_ERRNO: Final = re.compile(r"\[Errno -?[0-9]+\] ?")
_VERSION: Final = "it does not speak MQTT 3.1.1"
_CLIENT_ID: Final = "it rejects the client identifier"
_UNAVAILABLE: Final = "its service is unavailable"
_BAD_LOGIN: Final = "bad user name or password"
_NOT_AUTHORISED: Final = "not authorised"
_LOGIN_WORDS: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: _VERSION,
        2: _CLIENT_ID,
        3: _UNAVAILABLE,
        4: _BAD_LOGIN,
        5: _NOT_AUTHORISED,
        132: _VERSION,
        133: _CLIENT_ID,
        134: _BAD_LOGIN,
        135: _NOT_AUTHORISED,
        136: _UNAVAILABLE,
    }
)
"""CONNACK: the codes of 3.1.1, and what paho makes of them, which are those of version 5."""

_CLOSED: Final = "the broker closed it"
_END_WORDS: Final[Mapping[int, str]] = MappingProxyType(
    {
        2: "the broker sent what is no MQTT 3.1.1",
        16: "the broker was silent for too long",
        130: "the broker sent what is no MQTT 3.1.1",
        141: "the broker was silent for too long",
    }
)
"""The ends of a connection that can be told apart: paho's own numbers, and what it makes of them."""

_TEXT_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Operation timed out": "the broker did not answer in time",
        "timed out": "nobody answered in time",
        "Disconnected during message iteration": _CLOSED,
    }
)

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

    def publish_unacknowledged(self, topic: str, payload: bytes) -> bool:
        """Hand a QoS 0 frame over and wait for nothing; False when too many packets wait for the socket, or none is open.

        `publish` waits in a task of its own, with a time-out, until even such a frame is written.
        """
        if len(self._client._out_packet) >= _PACKETS_WAITING_MAX:
            return False
        return self._client.publish(topic, payload, 0).rc == mqtt.MQTT_ERR_SUCCESS

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
            # Which of the two it is, is not to be had: paho keeps a refused version (CONNACK 1) to itself.
            return ConnectionState(
                Link.UNREACHABLE,
                "the broker hangs up before it accepts the connection;"
                " it may want a client certificate, or not speak MQTT 3.1.1",
            )
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
        return ConnectionState(Link.REFUSED, f"the broker refuses the login: {login_words(error)}")
    except aiomqtt.MqttError as error:
        return ConnectionState(Link.UNREACHABLE, f"the broker cannot be reached: {words_of(error)}")
    finally:
        hung_up.cancel()
    return None


def login_words(error: MqttConnectError) -> str:
    """Return why a broker refuses a login, in words: the return codes of MQTT 3.1.1, section 3.2.2.3."""
    return _LOGIN_WORDS.get(_code_of(error), f"return code {_code_of(error)}")


def words_of(error: BaseException) -> str:
    """Return what an error of the libraries below means for a person, without their numbers."""
    if isinstance(error, MqttConnectError):
        return login_words(error)
    if isinstance(error, MqttCodeError):
        return _END_WORDS.get(_code_of(error), _CLOSED)
    text = _ERRNO.sub("", str(error)).strip()
    return _TEXT_WORDS.get(text, text) or type(error).__name__


def _code_of(error: MqttCodeError) -> int:
    """Return the number in an error: paho turns those of MQTT 3.1.1 into those of version 5, or leaves them."""
    code = error.rc
    number = getattr(code, "value", code)
    return number if isinstance(number, int) else -1


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
