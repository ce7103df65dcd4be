"""The two bounded queues: what is kept, what is dropped, and that it is counted."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.primitives.limits import OUTBOX_BULK_FRAMES_MAX
from swarm.transport.topics import Scope
from swarm.transport.transport import FULL_BYTES, FULL_FRAMES, Frame, Inbox, Outbox, Outgoing


def frame(payload: bytes) -> Frame:
    return Frame("a", Scope.ALL, payload)


def outgoing(payload: bytes) -> Outgoing:
    return Outgoing(Scope.ALL, None, payload)


def test_a_full_inbox_keeps_the_old_and_counts_the_new() -> None:
    inbox = Inbox(frames_max=2, bytes_max=100)
    assert [inbox.offer(frame(b"%d" % number)) for number in range(4)] == [True, True, False, False]
    assert [taken.payload for taken in inbox.take_all(10)] == [b"0", b"1"]
    assert inbox.dropped == {FULL_FRAMES: 2, FULL_BYTES: 0}


def test_bytes_count_too_and_are_given_back() -> None:
    inbox = Inbox(frames_max=10, bytes_max=10)
    assert inbox.offer(frame(b"12345678"))
    assert not inbox.offer(frame(b"123"))
    assert inbox.offer(frame(b"12"))
    assert inbox.dropped == {FULL_FRAMES: 0, FULL_BYTES: 1}
    inbox.take_all(1)
    assert inbox.offer(frame(b"12345678"))


def test_take_all_leaves_the_rest_in_order() -> None:
    inbox = Inbox()
    for number in range(5):
        inbox.offer(frame(b"%d" % number))
    assert [taken.payload for taken in inbox.take_all(3)] == [b"0", b"1", b"2"]
    assert len(inbox) == 2
    assert [taken.payload for taken in inbox.take_all(3)] == [b"3", b"4"]
    assert inbox.take_all(3) == []


async def test_wait_returns_only_while_something_waits() -> None:
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.offer(frame(b"x"))
    await waiting
    inbox.offer(frame(b"y"))
    inbox.take_all(1)
    await inbox.wait()
    inbox.take_all(1)
    again = asyncio.create_task(inbox.wait())
    await asyncio.sleep(0)
    assert not again.done()
    again.cancel()


def test_wake_is_called_once_per_filling() -> None:
    calls: list[int] = []
    inbox = Inbox(wake=lambda: calls.append(1))
    inbox.offer(frame(b"x"))
    inbox.offer(frame(b"y"))
    assert len(calls) == 1
    inbox.take_all(2)
    inbox.offer(frame(b"z"))
    assert len(calls) == 2


async def test_a_full_outbox_drops_the_oldest() -> None:
    outbox = Outbox(frames_max=2, bytes_max=100)
    for number in range(5):
        outbox.put(outgoing(b"%d" % number))
    assert outbox.dropped == 3
    assert [(await outbox.get()).payload for _ in range(2)] == [b"3", b"4"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), max_size=60))
def test_an_outbox_never_exceeds_its_bounds_and_keeps_the_newest(sizes: list[int]) -> None:
    outbox = Outbox(frames_max=5, bytes_max=40)
    for size in sizes:
        outbox.put(outgoing(bytes(size)))
    kept: list[int] = []
    while len(outbox):
        kept.append(len(asyncio.run(outbox.get()).payload))
    assert len(kept) <= 5
    assert sum(kept) <= 40
    assert kept == sizes[len(sizes) - len(kept) :]
    assert outbox.dropped == len(sizes) - len(kept)
    assert bool(kept) == bool(sizes)


def bulk(payload: bytes) -> Outgoing:
    return Outgoing(Scope.TO, "b", payload, bulk=True)


async def test_bulk_leaves_only_while_nothing_else_waits() -> None:
    outbox = Outbox()
    outbox.put(bulk(b"chunk"))
    outbox.put(outgoing(b"vote"))
    taking = asyncio.create_task(outbox.get_bulk())
    await asyncio.sleep(0.01)
    assert not taking.done()
    assert (await outbox.get()).payload == b"vote"
    assert (await taking).payload == b"chunk"
    assert len(outbox) == 0


async def test_a_vote_that_comes_between_holds_bulk_back_that_was_about_to_leave() -> None:
    outbox = Outbox()
    taking = asyncio.create_task(outbox.get_bulk())
    await asyncio.sleep(0)
    outbox.put(bulk(b"chunk"))
    outbox.put(outgoing(b"vote"))
    await asyncio.sleep(0.01)
    assert not taking.done()
    await outbox.get()
    assert (await taking).payload == b"chunk"


async def test_each_bulk_frame_leaves_once_however_many_wait_for_it() -> None:
    outbox = Outbox()
    takers = [asyncio.create_task(outbox.get_bulk()) for _ in range(3)]
    await asyncio.sleep(0)
    outbox.put(bulk(b"0"))
    outbox.put(bulk(b"1"))
    done, waiting = await asyncio.wait(takers, timeout=0.05)
    assert sorted(task.result().payload for task in done) == [b"0", b"1"]
    for task in waiting:
        task.cancel()


async def test_bulk_is_bounded_by_itself_and_pushes_nothing_else_out() -> None:
    outbox = Outbox(frames_max=2, bytes_max=100)
    outbox.put(outgoing(b"vote"))
    for number in range(OUTBOX_BULK_FRAMES_MAX + 3):
        outbox.put(bulk(bytes((number,)) * 50))
    assert (outbox.dropped, outbox.bulk_dropped) == (0, 3)
    assert (await outbox.get()).payload == b"vote"
    assert (await outbox.get_bulk()).payload == b"\x03" * 50
    for number in range(5):
        outbox.put(outgoing(b"%d" % number))
    assert (outbox.dropped, outbox.bulk_dropped) == (3, 3)
    outbox.drop_bulk()
    assert len(outbox) == 2
    assert outbox.bulk_dropped == OUTBOX_BULK_FRAMES_MAX + 2
