"""The shell of the light client without a swarm: what it refuses, what it says, how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.agent.client.connect import Client, read_value
from swarm.agent.client.results import NotProvedError
from swarm.agent.client.state import Operator
from swarm.apps.decisions.rules import ballot_in_words
from swarm.crypto.signing import verify
from swarm.primitives.errors import ConfigError, StoreError
from swarm.primitives.limits import COMMAND_BYTES_MAX
from swarm.storage.memory import MemoryStore
from swarm.transport.transport import ConnectionState, Inbox, Link, Outgoing
from swarm.transport.url import parse_broker
from swarm.wire.messages import Envelope, decode_frame, decode_request
from swarm.wire.statements import envelope_bytes
from tests.support.swarms import keypair, make_genesis


class DeadTransport:
    """Carries nothing and keeps what it was given."""

    def __init__(self, on_state: Callable[[ConnectionState], None]) -> None:
        self.on_state = on_state
        self.published: list[Outgoing] = []
        self.closing = asyncio.Event()

    async def run(self) -> None:
        await self.closing.wait()

    def publish(self, outgoing: Outgoing) -> bool:
        self.published.append(outgoing)
        return True

    def listen_to(self, members: Iterable[str]) -> None:
        pass

    async def close(self) -> None:
        self.closing.set()

    def counters(self) -> Mapping[str, int]:
        return {}


class Stand:
    """A client whose broker is the test."""

    def __init__(self, **genesis: Any) -> None:
        self.operator = Operator(
            genesis=make_genesis(**genesis),
            me="ops",
            keypair=keypair("ops"),
            state=Path("in memory"),
            broker=parse_broker("mqtt://127.0.0.1:1"),
        )
        self.store = MemoryStore(
            swarm_id=self.operator.genesis.id, device="ops", key_public=keypair("ops").public
        )
        self.client = Client(self.operator, self.store, self._make)

    def _make(self, _inbox: Inbox, on_state: Callable[[ConnectionState], None]) -> DeadTransport:
        self.transport = DeadTransport(on_state)
        return self.transport

    async def __aenter__(self) -> Client:
        await self.client.start()
        return self.client

    async def __aexit__(self, *_: object) -> None:
        await self.client.stop()


async def test_a_call_without_a_broker_says_so_at_its_time_out() -> None:
    stand = Stand()
    async with stand as client:
        assert client.trouble() == "the broker has not answered yet"
        stand.transport.on_state(ConnectionState(Link.UNREACHABLE, "the broker cannot be reached: no route"))
        with pytest.raises(
            NotProvedError, match=r"not proved within 0.05 s: the broker cannot be reached: no route$"
        ):
            await client.submit(b"x", timeout=0.05)


async def test_a_call_without_a_swarm_names_the_silent_voters() -> None:
    stand = Stand()
    async with stand as client:
        stand.transport.on_state(ConnectionState(Link.CONNECTED))
        with pytest.raises(NotProvedError) as caught:
            await client.submit(b"x", timeout=0.05)
        assert "0 of 4 voters answer, a quorum is 3; no answer from dev-0, dev-1, dev-2, dev-3" in str(
            caught.value
        )
        assert "sent again" not in str(caught.value), "nothing was signed, so nothing is sent again"


async def test_every_question_is_signed_by_the_operator_and_addressed() -> None:
    stand = Stand()
    async with stand as client:
        with pytest.raises(NotProvedError):
            await client.entries(timeout=0.05)
    assert stand.transport.published
    for outgoing in stand.transport.published:
        (envelope,) = decode_frame(outgoing.payload)
        assert isinstance(envelope, Envelope)
        assert decode_request(envelope.body).to == outgoing.dest
        message = envelope_bytes(stand.operator.genesis.id, envelope.kind, envelope.body)
        assert verify(keypair("ops").public, message, envelope.signature)


async def test_status_ends_in_its_time_without_any_answer() -> None:
    async with Stand() as client:
        status = await client.status(timeout=0.05)
        assert status.voters_up == 0
        assert not status.has_quorum


async def test_a_cancelled_call_leaves_nothing_behind() -> None:
    async with Stand() as client:
        waiting = asyncio.create_task(client.entries())
        await asyncio.sleep(0.02)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.sleep(0.02)
        assert client._futures == {}
        assert client._core._requests == {}


async def test_a_failed_disk_ends_every_call_and_the_block() -> None:
    stand = Stand()
    with pytest.raises(StoreError, match="no space"):
        async with stand as client:

            def fail(*_: object) -> None:
                raise StoreError("no space left")

            client._core.turn = fail  # type: ignore[method-assign, assignment]
            with pytest.raises(StoreError, match="no space"):
                await client.entries()
            with pytest.raises(StoreError, match="no space"):
                await client.entries()
            assert client.trouble() == "no space left"


async def test_the_store_is_closed_at_the_end() -> None:
    stand = Stand()
    async with stand:
        pass
    with pytest.raises(StoreError):
        stand.store.load()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"subject": "Two words", "rule": "median"}, "subject: subject 'Two words'"),
        ({"rule": "Median!"}, "rule: rule 'Median!'"),
        ({"rule": "majority", "options": ("yes", "No")}, "option: option 'No'"),
        ({"rule": "median", "scale": 10}, "scale: 10 is not 0 to 9"),
        ({"rule": "median", "deadline": "soon"}, "deadline: 'soon' is no duration"),
        ({"rule": "median", "eligible": ("dev-0", "dev-9")}, "eligible: 'dev-9' is no member"),
        ({"rule": "median", "value": 3}, "value: ops is not eligible"),
        ({"rule": "median", "eligible": ("dev-0",), "value": 3}, "value: ops is not eligible"),
        ({"rule": "median", "eligible": ("ops",), "value": "3.5"}, "value: 3.5 has more than 0 decimal"),
        (
            {"rule": "majority", "eligible": ("ops",), "options": ("a", "b"), "value": "c"},
            "value: 'c' is none of",
        ),
    ],
)
async def test_what_cannot_be_asked_is_refused_before_anything_is_signed(
    arguments: dict[str, Any], said: str
) -> None:
    stand = Stand()
    async with stand as client:
        with pytest.raises(ConfigError) as caught:
            await client.decide(**{"subject": "temperature", **arguments})
        assert str(caught.value).startswith(said)
    assert stand.transport.published == []


async def test_a_submission_that_cannot_be_is_refused() -> None:
    async with Stand() as client:
        with pytest.raises(ConfigError, match="no application 'inventory'"):
            await client.submit(b"x", app="inventory")
        with pytest.raises(ConfigError, match="at most"):
            await client.submit(bytes(COMMAND_BYTES_MAX + 1))


async def test_a_swarm_without_decisions_decides_nothing() -> None:
    async with Stand(apps=("notes@1",)) as client:
        with pytest.raises(ConfigError, match="has no application decisions@1"):
            await client.decide("temperature", rule="median")


@pytest.mark.parametrize(
    ("value", "options", "scale", "ballot"),
    [
        ("21.35", (), 2, 2135),
        (21.35, (), 2, 2135),
        (-0.5, (), 1, -5),
        (Decimal(7), (), 3, 7000),
        (3, (), 0, 3),
        ("1e2", (), 0, 100),
        ("b", ("a", "b"), 0, 1),
    ],
)
def test_a_persons_value_is_a_ballot(
    value: str | float | Decimal, options: tuple[str, ...], scale: int, ballot: int
) -> None:
    assert read_value(value, options, scale) == ballot


@pytest.mark.parametrize("value", ["", "x", "nan", "inf", "21.355", "1e400", float("nan"), str(2**63)])
def test_what_is_no_number_of_that_scale_is_refused(value: str | float) -> None:
    with pytest.raises(ConfigError):
        read_value(value, (), 2)


@settings(deadline=None)
@given(st.integers(-(2**63) + 1, 2**63 - 1), st.integers(0, 9))
def test_a_value_in_words_is_read_back_exactly(ballot: int, scale: int) -> None:
    assert read_value(ballot_in_words(ballot, (), scale), (), scale) == ballot
