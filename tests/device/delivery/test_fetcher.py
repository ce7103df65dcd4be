"""FIRMWARE section 7, the asking side: each sentence has a test that fails when the rule is broken."""

from __future__ import annotations

from itertools import count, pairwise

import pytest
from msgspec import structs

from swarm.device.admission import Expected
from swarm.device.delivery import peers as peers_module
from swarm.device.delivery.allowance import frames_max
from swarm.device.delivery.fetcher import (
    BAD_CHUNK,
    BAD_LEAVES,
    LEFT_SILENT,
    LEFT_SLOW,
    USED_UP,
    Fetcher,
    FetchStep,
)
from swarm.install.port import Bitmap
from swarm.primitives.limits import (
    ANSWER_LEAVES_MAX,
    CHECKPOINT_CHUNKS,
    CHUNK_BYTES_MAX,
    CHUNKS_AHEAD_IN_ORDER,
    CHUNKS_HELD_MAX,
    CHUNKS_OUTSTANDING_MAX,
    QUESTIONS_REMEMBERED,
)
from swarm.wire.messages import (
    Answer,
    AnswerBusy,
    AnswerChunk,
    AnswerLeaves,
    AnswerNoRelease,
    AskChunks,
    AskLeaves,
)
from tests.support.delivery import (
    ME,
    RELEASE,
    Lie,
    World,
    chunk_of,
    image_of,
    leaves_of,
    lossy,
    plan_of,
    spoil,
    with_content,
    world,
)
from tests.support.delivery import chunk as make_chunk


def nothing(_answer: Answer) -> list[Answer]:
    return []


def no_release(answer: Answer) -> list[Answer]:
    return [with_content(answer, AnswerNoRelease(RELEASE))]


def busy(answer: Answer) -> list[Answer]:
    return [with_content(answer, AnswerBusy())]


def wrong_leaves(answer: Answer) -> list[Answer]:
    if not isinstance(answer.content, AnswerLeaves):
        return [answer]
    return [with_content(answer, AnswerLeaves(RELEASE, answer.content.first, answer.content.leaves[::-1]))]


def chunk_asks(one: World, peer: str) -> list[AskChunks]:
    return [ask for ask in one.asked[peer] if isinstance(ask, AskChunks)]


def notes(one: World) -> list[tuple[str, str]]:
    return [(note.what, note.peer) for note in one.notes]


def begun(**options: object) -> tuple[World, Fetcher]:
    """Return a world whose fetcher has its leaves and has put its first questions for chunks."""
    one = world(**options)  # type: ignore[arg-type]
    while not any(chunk_asks(one, peer) for peer in one.peers):
        one.run(one.now_ms + 1)
    one._queue.clear()
    return one, one.fetcher


def open_answer(one: World, peer: str, index: int, data: bytes | None = None) -> Answer:
    """Return an answer to the newest question for that chunk."""
    boot, n = max(
        (boot, n) for (id, boot, n), keys in one.fetcher._questions.items() if id == peer and index in keys
    )
    data = chunk_of(one.image, one.plan, index) if data is None else data
    return Answer(1, 1, ME, boot, n, make_chunk(one.plan.release, index, data, ()))


# ------------------------------------------------------------------------------------------ leaves first


def test_the_leaf_list_comes_first_and_only_then_a_chunk_is_asked_for() -> None:
    one = world(peers=("a",))
    one.step()
    assert one.asked["a"] == [AskLeaves(RELEASE, 0, 40)]
    assert one.run(10_000)
    assert all(isinstance(ask, AskChunks) for ask in one.asked["a"][1:])
    assert one.medium.image() == one.image


def test_a_leaf_list_of_more_than_1024_is_asked_for_in_pages_of_one_peer() -> None:
    one = world(chunks=2 * ANSWER_LEAVES_MAX + 5)
    one.step()
    peer = next(peer for peer in one.peers if one.asked[peer])
    assert one.asked[peer] == [
        AskLeaves(RELEASE, 0, 1024),
        AskLeaves(RELEASE, 1024, 1024),
        AskLeaves(RELEASE, 2048, 5),
    ]
    assert [other for other in one.peers if one.asked[other]] == [peer]
    assert one.run(60_000)
    assert one.medium.image() == one.image


def test_a_leaf_list_that_does_not_give_the_chunk_root_is_forgotten_and_its_author_named() -> None:
    one = world(peers=("a", "b"), lies={"a": wrong_leaves, "b": wrong_leaves})
    one.run(5_000)
    assert one.fetcher.leaves is None
    assert (BAD_LEAVES, "a") in notes(one)
    assert (BAD_LEAVES, "b") in notes(one)
    assert not chunk_asks(one, "a")
    assert not chunk_asks(one, "b")


@pytest.mark.parametrize("liar", ["a", "b"])
def test_with_one_liar_the_leaf_list_is_had_of_the_other(liar: str) -> None:
    one = world(chunks=ANSWER_LEAVES_MAX + 3, lies={liar: wrong_leaves})
    assert one.run(60_000)
    assert one.medium.image() == one.image
    assert {peer for _, peer in notes(one)} <= {liar}


def test_pages_of_two_peers_are_never_mixed() -> None:
    """Half a list of each would leave nobody to name."""
    one = world(chunks=2 * ANSWER_LEAVES_MAX, peers=("a", "b"))
    one.step()
    source = next(peer for peer in one.peers if one.asked[peer])
    one.down.add(source)
    one._queue = [entry for entry in one._queue if getattr(entry[3], "ask", None) == one.asked[source][0]]
    assert one.run(300_000)
    other = next(peer for peer in one.peers if peer != source)
    assert [ask.first for ask in one.asked[other] if isinstance(ask, AskLeaves)] == [0, ANSWER_LEAVES_MAX]


def test_a_late_page_of_a_source_that_was_left_does_not_get_into_the_list_of_another() -> None:
    """Else a liar could spoil the list of an honest peer, who would be named for it."""
    one = world(chunks=ANSWER_LEAVES_MAX + 5, peers=("a", "b"))
    fetcher = one.fetcher
    one.step()
    liar = next(peer for peer in one.peers if one.asked[peer])
    honest = next(peer for peer in one.peers if peer != liar)
    one.down.update(one.peers)
    while not one.asked[honest]:
        one.run(one.now_ms + 100)
    one._queue.clear()
    late = next(re for re, keys in fetcher._questions.items() if re[0] == liar and -1 in keys)
    asked = sorted((-1 - next(iter(keys)), re) for re, keys in fetcher._questions.items() if re[0] == honest)
    for first, (_, boot, n) in asked:
        page = leaves_of(one.image)[first : first + ANSWER_LEAVES_MAX]
        one.give(honest, Answer(1, 1, ME, boot, n, AnswerLeaves(RELEASE, first, page)))
        if first == 0:
            wrong = AnswerLeaves(RELEASE, 0, (bytes(32),) * ANSWER_LEAVES_MAX)
            one.give(liar, Answer(1, 1, ME, late[1], late[2], wrong))
    assert fetcher.leaves == leaves_of(one.image)
    assert fetcher.counts.refused == 0


def test_a_silent_source_without_a_page_is_left_at_once() -> None:
    one = world(chunks=30, peers=("a", "b"))
    one.step()
    source = next(peer for peer in one.peers if one.asked[peer])
    one.down.add(source)
    assert one.run(4_000), "3 seconds of silence, and the other"
    assert len(one.asked[source]) == 1


def test_a_silent_source_with_a_page_is_left_after_three_silences() -> None:
    def first_page(answer: Answer) -> list[Answer]:
        if isinstance(answer.content, AnswerLeaves) and answer.content.first:
            return []
        return [answer]

    one = world(chunks=ANSWER_LEAVES_MAX + 10, peers=("a", "b"), lies={"a": first_page, "b": first_page})
    one.run(5_000)
    asked = [peer for peer in one.peers if one.asked[peer]]
    assert len(asked) == 1, "its page would be lost with it"
    one.run(30_000)
    assert len([peer for peer in one.peers if one.asked[peer]]) == 2


def test_when_the_list_is_there_nobody_is_waited_for_with_another_copy() -> None:
    one = world(chunks=30, peers=("a", "b"))
    fetcher = one.fetcher
    one.step()
    first = next(peer for peer in one.peers if one.asked[peer])
    one.down.update(one.peers)
    while not any(one.asked[peer] for peer in one.peers if peer != first):
        one.run(one.now_ms + 100)
    assert fetcher._peers.open() == 1
    (_, boot, n) = next(re for re in fetcher._questions if re[0] == first)
    one.give(first, Answer(1, 1, ME, boot, n, AnswerLeaves(RELEASE, 0, leaves_of(one.image))))
    assert fetcher.leaves is not None
    assert fetcher._peers.open() == 0


@pytest.mark.parametrize("length", [1, 39])
def test_a_page_of_another_length_is_a_wrong_one(length: int) -> None:
    def cut(answer: Answer) -> list[Answer]:
        if not isinstance(answer.content, AnswerLeaves):
            return [answer]
        return [with_content(answer, AnswerLeaves(RELEASE, 0, answer.content.leaves[:length]))]

    one = world(peers=("a",), lies={"a": cut})
    one.run(1_000)
    assert notes(one)[0] == (BAD_LEAVES, "a")
    assert one.fetcher.leaves is None


def test_a_late_list_of_a_peer_that_was_left_is_still_welcome() -> None:
    one = world(peers=("a", "b"), delay=lambda _peer: [2_600])
    assert one.run(60_000)
    assert one.fetcher.counts.refused == 0


# ------------------------------------------------------------------------------------------ paths


def test_a_peer_with_little_memory_asks_for_paths_and_never_for_leaves() -> None:
    one = world(paths=True, peers=("a",))
    assert one.run(10_000)
    assert one.fetcher.leaves is None
    assert {(type(ask), ask.paths) for ask in chunk_asks(one, "a")} == {(AskChunks, True)}
    assert len(chunk_asks(one, "a")) == len(one.asked["a"])
    assert one.medium.image() == one.image


@pytest.mark.parametrize("change", ["data", "path", "length", "index"])
def test_a_chunk_whose_path_does_not_lead_to_the_chunk_root_is_refused(change: str) -> None:
    def lie(answer: Answer) -> list[Answer]:
        chunk = answer.content
        assert isinstance(chunk, AnswerChunk)
        wrong = {
            "data": spoil(answer)[0].content,
            "path": make_chunk(RELEASE, chunk.index, chunk.data, (bytes(32), *chunk.path[1:])),
            "length": make_chunk(RELEASE, chunk.index, chunk.data, chunk.path[:-1]),
            "index": make_chunk(
                RELEASE, chunk.index, chunk_of(one.image, one.plan, chunk.index ^ 1), chunk.path
            ),
        }[change]
        return [with_content(answer, wrong)]

    one = world(paths=True, peers=("a",), lies={"a": lie})
    one.run(1_000)
    assert one.fetcher.counts.received == 0
    assert notes(one)[0] == (BAD_CHUNK, "a")


# ------------------------------------------------------------------------------------------ bad chunks


def test_a_chunk_that_does_not_match_is_dropped_before_flash_and_its_sender_named() -> None:
    """`World` refuses a wrong write; here it must not even be given out."""
    one = world(peers=("a",), lies={"a": spoil})
    one.run(60_000)
    assert one.fetcher.counts.received == 0
    assert one.medium.durable == {}
    assert notes(one)[0] == (BAD_CHUNK, "a")
    assert one.notes[0].index == chunk_asks(one, "a")[0].indexes[0]


@pytest.mark.parametrize("change", [b"", b"x"], ids=["short", "long"])
def test_a_chunk_of_another_length_is_a_wrong_one(change: bytes) -> None:
    def lie(answer: Answer) -> list[Answer]:
        chunk = answer.content
        if not isinstance(chunk, AnswerChunk):
            return [answer]
        data = chunk.data + change if change else chunk.data[:-1]
        return [with_content(answer, make_chunk(RELEASE, chunk.index, data, ()))]

    one = world(peers=("a",), lies={"a": lie})
    one.run(1_000)
    assert one.fetcher.counts.received == 0
    assert notes(one)[0] == (BAD_CHUNK, "a")


def test_bytes_changed_on_the_way_are_nobodys_word() -> None:
    """A broker must not be able to put blame on an honest peer, nor to use up its question."""
    one, fetcher = begun(peers=("a",))
    index = chunk_asks(one, "a")[0].indexes[0]
    right = open_answer(one, "a", index)
    content = right.content
    assert isinstance(content, AnswerChunk)
    one.give("a", with_content(right, structs.replace(content, data=b"x" * 4096)))
    assert (fetcher.counts.received, fetcher.counts.refused) == (0, 0)
    assert fetcher.advance(one.now_ms).notes == ()
    one.give("a", right)
    assert fetcher.counts.received == 1


def test_the_right_bytes_are_taken_whatever_leaf_hash_was_signed() -> None:
    one, fetcher = begun(peers=("a",))
    right = open_answer(one, "a", chunk_asks(one, "a")[0].indexes[0])
    content = right.content
    assert isinstance(content, AnswerChunk)
    one.give("a", with_content(right, structs.replace(content, leaf=bytes(32))))
    assert fetcher.counts.received == 1


def test_who_sent_a_bad_chunk_is_asked_last() -> None:
    """One bad chunk, then none: as long as there is another, the liar is not asked any more."""
    once: list[Answer] = []

    def lie_once(answer: Answer) -> list[Answer]:
        if isinstance(answer.content, AnswerChunk) and not once:
            once.append(answer)
            return spoil(answer)
        return [answer]

    for seed in (b"1", b"2", b"3", b"4"):
        once.clear()
        one = world(peers=("a", "b", "c"), lies={"a": lie_once}, seed=seed)
        assert one.run(10_000)
        if not once:
            continue
        assert chunk_asks(one, "a") == chunk_asks(one, "a")[:1]
        assert one.medium.image() == one.image
        break
    else:
        raise AssertionError("no seed asks the liar")


def test_what_a_liar_was_asked_besides_is_asked_of_others_at_once() -> None:
    one = world(peers=("liar", "b"))
    fetcher = one.fetcher
    fetcher.leaves = leaves_of(one.image)
    liar, other = (fetcher._peers.get(peer) for peer in one.peers)
    assert liar is not None
    assert other is not None
    other.not_before_ms = 10
    ((_, ask),) = fetcher.advance(0).asks
    fetcher.asked("liar", ask, 1, 1)
    assert isinstance(ask, AskChunks)
    fetcher.on_answer("liar", open_answer(one, "liar", 0, b"x" * 4096), 11)
    step = fetcher.advance(11)
    assert [(peer, ask.indexes) for peer, ask in step.asks if isinstance(ask, AskChunks)] == [
        ("b", (0, 1, 2, 3))
    ]
    assert not liar.flights


def test_asked_last_means_asked_when_nobody_else_is_left() -> None:
    once: list[Answer] = []

    def lie_once(answer: Answer) -> list[Answer]:
        if isinstance(answer.content, AnswerChunk) and not once:
            once.append(answer)
            return spoil(answer)
        return [answer]

    one = world(peers=("a",), lies={"a": lie_once})
    assert one.run(10_000)
    assert notes(one) == [(BAD_CHUNK, "a")]


def test_a_liar_is_used_up_by_as_many_wrong_answers_as_the_cap_leaves_room_for() -> None:
    one = world(chunks=100, peers=("a",), lies={"a": spoil})
    assert not one.run(3_600_000)
    assert one.fetcher.counts.refused == frames_max(100) - 100
    assert notes(one) == [*[(BAD_CHUNK, "a")] * 10, (USED_UP, "a")]
    # A rest that asks for nothing: an honest one ends it.
    one.peers = ("a", "b")
    one.servers["b"] = one.servers["a"]
    one.asked["b"], one.accepted["b"] = [], 0
    one.fetcher.set_peers(("a", "b"))
    assert one.run(one.now_ms + 60_000)
    assert one.medium.image() == one.image


def test_what_a_peer_did_is_not_forgotten_when_it_leaves_and_comes_back() -> None:
    one = world(chunks=60, peers=("a",), lies={"a": spoil})
    one.run(60_000)
    assert notes(one)[-1] == (USED_UP, "a")
    one.fetcher.set_peers(())
    one.fetcher.set_peers(("a",))
    asked = len(one.asked["a"])
    one.run(one.now_ms + 60_000)
    assert len(one.asked["a"]) == asked


# ------------------------------------------------------------------------------------------ slow and silent


@pytest.mark.parametrize("bytes_per_s", [900, 1_200])
def test_a_peer_under_1_kib_a_second_for_30_s_is_left_for_another(bytes_per_s: int) -> None:
    """Chunks of 4 KiB come steadily, so it is never silent; the other peer is there only after 29 s."""
    one = world(chunks=60, peers=("slow", "other"))
    fetcher = one.fetcher
    fetcher.leaves = leaves_of(one.image)
    slow, other = (fetcher._peers.get(peer) for peer in one.peers)
    assert slow is not None
    assert other is not None
    other.not_before_ms = 29_000
    every_ms = 4096 * 1000 // bytes_per_s
    next_ms, left_ms, n = every_ms, 0, 0
    for now_ms in range(0, 40_000, 10):
        if now_ms >= next_ms and slow.flights:
            next_ms += every_ms
            one.now_ms = now_ms
            assert one.give("slow", open_answer(one, "slow", min(slow.flights)))
        step = fetcher.advance(now_ms)
        if step.has_write:
            fetcher.on_written(one.medium.write(step, now_ms))
        for peer, ask in step.asks:
            n += 1
            fetcher.asked(peer, ask, 1, n)
        if (LEFT_SLOW, "slow") in {(note.what, note.peer) for note in step.notes}:
            left_ms = now_ms
            assert not slow.flights
            assert other.flights
            break
    assert left_ms == (30_000 if bytes_per_s < 1024 else 0)


def test_a_slow_peer_is_kept_when_there_is_no_other() -> None:
    """Slow is better than nothing."""
    one = world(chunks=8, peers=("slow",), delay=lambda _peer: [6_000])
    assert one.run(600_000)
    assert LEFT_SLOW not in {what for what, _ in notes(one)}


def test_a_peer_that_answers_a_little_between_long_pauses_is_slow_all_the_same() -> None:
    """Its times with open questions add up, however often they stop."""
    peer = peers_module.Peer("a", b"")
    now_ms = 0
    for key in range(8):
        peer.ask(key, now_ms)
        now_ms += 3_400
        assert not peer.is_slow(now_ms)
        peer.answer(key, 100, now_ms)
        now_ms += 60_000
    peer.ask(99, now_ms)
    assert not peer.is_slow(now_ms + 30_000 - 8 * 3_400 - 1)
    assert peer.is_slow(now_ms + 30_000 - 8 * 3_400)
    assert not peer.is_slow(now_ms + 30_000), "a new window begins"


def test_exactly_the_floor_is_not_slow() -> None:
    for given, slow in ((30 * 1024, False), (30 * 1024 - 1, True)):
        peer = peers_module.Peer("a", b"")
        peer.ask(0, 0)
        peer.ask(1, 0)
        peer.answer(0, given, 29_000)
        assert not peer.is_slow(29_999)
        assert peer.is_slow(30_000) is slow


def test_a_server_that_stops_in_the_middle_is_left_and_named() -> None:
    one = world(chunks=60, peers=("a", "b"))
    while one.fetcher.counts.received < 10:
        one.run(one.now_ms + 1)
    busiest = max(one.peers, key=lambda peer: len(chunk_asks(one, peer)))
    one.down.add(busiest)
    assert one.run(one.now_ms + 20_000)
    assert notes(one) == [(LEFT_SILENT, busiest)]
    assert one.medium.image() == one.image


def test_a_single_lost_chunk_among_answered_ones_is_asked_again_without_waiting() -> None:
    """Four later answers came first: with the order of a topic that one is lost, and its peer is not silent."""
    lost: list[Answer] = []

    def lose_one(answer: Answer) -> list[Answer]:
        if isinstance(answer.content, AnswerChunk) and answer.content.index == 5 and not lost:
            lost.append(answer)
            return []
        return [answer]

    one = world(chunks=60, peers=("a",), lies={"a": lose_one})
    assert one.run(peers_module.ASK_AGAIN_SOON_MS)
    assert lost
    assert notes(one) == []


def test_the_silence_that_is_borne_doubles_and_ends_at_half_a_minute() -> None:
    one = world(chunks=4, peers=("a",))
    one.down.add("a")
    times: list[int] = []
    while len(times) < 8:
        one.run(one.now_ms + 1)
        if len(one.asked["a"]) > len(times):
            times.append(one.now_ms)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert [round(pause / 1000) for pause in pauses] == [3, 6, 12, 24, 30, 30, 30]


def test_who_fell_silent_is_asked_again_only_after_those_who_answer() -> None:
    one = world(chunks=200, peers=("a", "b", "c"))
    one.down.update({"a", "b"})
    assert one.run(60_000)
    for peer in ("a", "b"):
        assert len(one.asked[peer]) <= 4


# ------------------------------------------------------------------------------------------ missing and busy


@pytest.mark.parametrize("answer", [no_release, busy])
def test_who_has_it_not_or_is_busy_is_asked_again_later_and_others_meanwhile(answer: Lie) -> None:
    one = world(peers=("a", "b"), lies={"a": answer})
    assert one.run(10_000)
    assert len(one.asked["a"]) <= 2
    assert notes(one) == [], "that is no offence"


def test_pauses_after_refusals_double_and_an_answer_ends_them() -> None:
    one = world(peers=("a",), lies={"a": no_release})
    times: list[int] = []
    while len(times) < 9:
        one.run(one.now_ms + 1)
        if len(one.asked["a"]) > len(times):
            times.append(one.now_ms)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    for number, pause in enumerate(pauses):
        full = min(32_000, 1_000 << number)
        assert full // 2 <= pause <= full + 3
    one.lies.clear()
    assert one.run(one.now_ms + 40_000)
    peer = one.fetcher._peers.get("a")
    assert peer is not None
    assert peer.refusals == 0


def test_two_devices_do_not_ask_again_in_one_wave() -> None:
    pauses = set()
    for seed in range(8):
        one = world(peers=("a",), lies={"a": busy}, seed=bytes((seed,)))
        one.run(100)
        peer = one.fetcher._peers.get("a")
        assert peer is not None
        pauses.add(peer.not_before_ms)
    assert len(pauses) >= 6


# ------------------------------------------------------------------------------------------ four outstanding


def test_at_most_4_outstanding_over_all_peers() -> None:
    one = world(chunks=60, peers=("a", "b", "c"))
    one.down.update(one.peers)
    one.fetcher.leaves = leaves_of(one.image)
    step = one.fetcher.advance(0)
    asked = [index for _, ask in step.asks if isinstance(ask, AskChunks) for index in ask.indexes]
    assert sorted(asked) == list(range(CHUNKS_OUTSTANDING_MAX))
    assert one.fetcher.advance(1).asks == ()


def test_no_chunk_is_asked_of_two_at_a_time() -> None:
    one = world(chunks=60, peers=("a", "b"), delay=lambda _peer: [20])
    one.run(60_000)
    asked = [index for peer in one.peers for ask in chunk_asks(one, peer) for index in ask.indexes]
    assert len(asked) == len(set(asked)) == 60


def test_nothing_is_asked_while_checked_chunks_wait_for_a_slow_disk() -> None:
    one = world(chunks=200, peers=("a",))
    fetcher = one.fetcher
    fetcher.leaves = leaves_of(one.image)
    n = 0
    asked = 0
    for now_ms in range(200):
        step = fetcher.advance(now_ms)  # the first write never ends
        for peer, ask in step.asks:
            assert isinstance(ask, AskChunks)
            n += 1
            fetcher.asked(peer, ask, 1, n)
            for index in ask.indexes:
                asked += 1
                chunk = make_chunk(RELEASE, index, chunk_of(one.image, one.plan, index), ())
                fetcher.on_answer(peer, Answer(1, 1, ME, 1, n, chunk), now_ms)
    assert CHUNKS_HELD_MAX - 4 <= asked <= CHUNKS_HELD_MAX


def test_scattered_chunks_are_asked_for_in_questions_whose_bitmap_they_fit() -> None:
    image = image_of(1000 * 4096)
    plan = plan_of(image)
    missing = {0, 255, 256, 700}
    fetcher = Fetcher(plan, Bitmap.of(1000, set(range(1000)) - missing), now_ms=0, seed=b"", paths=True)
    fetcher.set_peers(("a",))
    asks = [ask for _, ask in fetcher.advance(0).asks if isinstance(ask, AskChunks)]
    assert [ask.indexes for ask in asks] == [(0, 255), (256,), (700,)]


def test_a_quick_peer_is_asked_for_four_at_a_time() -> None:
    """A question costs both sides a signature and a frame; for a peer that answers at once one does for four."""
    turns = count()
    one = world(chunks=400, peers=("a",), delay=lambda _peer: [1 + next(turns) % 4])
    assert one.run(60_000)
    sizes = [len(ask.indexes) for ask in chunk_asks(one, "a")]
    assert sizes.count(4) >= 95


def test_a_peer_that_takes_its_time_is_asked_while_it_still_answers() -> None:
    """Waiting for all four would leave the way empty for half of the time."""
    one = world(chunks=100, peers=("a",), delay=lossy(1, 0.0, 400))
    assert one.run(120_000)
    sizes = [len(ask.indexes) for ask in chunk_asks(one, "a")]
    assert sizes.count(2) > len(sizes) / 2


def test_only_a_quick_peer_is_waited_for_and_not_for_long() -> None:
    for service_ms, waited in ((10, True), (11, False), (-1, False)):
        peer = peers_module.Peer("a", b"")
        peer.service_ms = service_ms
        assert not peer.will_answer_at_once(0), "nothing is open"
        peer.ask(0, 100)
        assert peer.will_answer_at_once(119) is waited
        assert not peer.will_answer_at_once(120)
        peer.ask(1, 110)
        peer.answer(0, 4096, 115)
        peer.service_ms = service_ms
        assert peer.will_answer_at_once(134) is waited
        assert not peer.will_answer_at_once(135)


def test_one_lost_chunk_of_a_quick_peer_holds_the_others_up_for_a_moment_only() -> None:
    lost: list[Answer] = []

    def lose_one(answer: Answer) -> list[Answer]:
        if isinstance(answer.content, AnswerChunk) and answer.content.index == 37 and not lost:
            lost.append(answer)
            return []
        return [answer]

    one = world(chunks=80, peers=("a",), lies={"a": lose_one}, delay=lambda _peer: [2])
    assert one.run(500)
    assert lost


# ------------------------------------------------------------------------------------------ the frame cap


def test_never_more_than_chunk_count_and_10_percent_frames_a_release_and_peer() -> None:
    """A peer that sends each answer, right or wrong, as often and as doubled as it likes."""

    def flood(answer: Answer) -> list[Answer]:
        return [*spoil(answer), answer, *spoil(answer), answer] * 5

    for seed in range(5):
        one = world(chunks=100, peers=("a", "b"), lies={"a": flood}, delay=lossy(seed, 0.2, 2_000))
        one.run(3_600_000)
        assert max(one.accepted.values()) <= frames_max(100) == 110
        for peer in one.fetcher._peers:
            assert peer.frames == one.accepted[peer.id]


def test_an_honest_peer_is_never_used_up_by_losses_and_doubles() -> None:
    for seed in range(10):
        one = world(chunks=50, peers=("a",), delay=lossy(seed, 0.3, 8_000))
        assert one.run(24 * 3_600_000)
        assert one.accepted["a"] <= 51
        assert notes(one) == []


# ------------------------------------------------------------------------------------------ never asked


def test_an_answer_never_asked_for_does_not_pass_the_door() -> None:
    one, fetcher = begun(peers=("a", "b"))
    peer = next(peer for peer in one.peers if chunk_asks(one, peer))
    other = next(id for id in one.peers if id != peer)
    index = chunk_asks(one, peer)[0].indexes[0]
    answer = open_answer(one, peer, index)
    wrong = [
        (other, answer),
        ("stranger", answer),
        (peer, replace_re(answer, n=answer.re_n + 1000)),
        (peer, replace_re(answer, boot=answer.re_boot - 1)),
        (peer, with_content(answer, make_chunk(b"x" * 32, index, b"x", ()))),
        (
            peer,
            with_content(
                answer, make_chunk(RELEASE, index + 30, chunk_of(one.image, one.plan, index + 30), ())
            ),
        ),
        (peer, with_content(answer, AnswerLeaves(RELEASE, 0, leaves_of(one.image)))),
        (peer, with_content(answer, AnswerNoRelease(b"x" * 32))),
    ]
    for sender, unasked in wrong:
        before = fetcher.counts.unasked
        assert fetcher.expects(sender, unasked) is Expected.NO
        assert fetcher.counts.unasked == before + 1
        fetcher.on_answer(sender, unasked, one.now_ms)
    assert fetcher.counts.received == fetcher.counts.refused == 0
    assert fetcher.expects(peer, answer) is Expected.PROVED


def test_a_wrong_chunk_is_believed_of_its_signer_only_and_a_right_one_of_anybody() -> None:
    one, fetcher = begun(peers=("a",))
    index = chunk_asks(one, "a")[0].indexes[0]
    right = open_answer(one, "a", index)
    wrong = open_answer(one, "a", index, b"x" * 4096)
    content = right.content
    assert isinstance(content, AnswerChunk)
    assert fetcher.expects("a", right) is Expected.PROVED
    assert fetcher.expects("a", wrong) is Expected.SIGNED
    changed = with_content(right, structs.replace(content, data=b"x" * 4096))
    assert fetcher.expects("a", changed) is Expected.NO
    assert fetcher.expects("a", with_content(right, AnswerNoRelease(RELEASE))) is Expected.SIGNED


def replace_re(answer: Answer, *, boot: int | None = None, n: int | None = None) -> Answer:
    re_boot = answer.re_boot if boot is None else boot
    return Answer(answer.boot, answer.n, answer.to, re_boot, answer.re_n if n is None else n, answer.content)


def test_an_answer_passes_the_door_once() -> None:
    """Replays of right and of wrong ones alike."""
    one, fetcher = begun(peers=("a",))
    first, second = chunk_asks(one, "a")[0].indexes[:2]
    right = open_answer(one, "a", first)
    assert one.give("a", right)
    assert not one.give("a", right)
    wrong = open_answer(one, "a", second, b"x" * 4096)
    assert one.give("a", wrong)
    assert not one.give("a", wrong)
    assert (fetcher.counts.received, fetcher.counts.refused) == (1, 1)


def test_questions_are_remembered_within_a_bound() -> None:
    one = world(chunks=4, peers=("a",))
    for n in range(QUESTIONS_REMEMBERED + 50):
        one.fetcher.asked("a", AskLeaves(RELEASE, 0, 4), 9, n)
    assert len(one.fetcher._questions) == QUESTIONS_REMEMBERED
    assert ("a", 9, QUESTIONS_REMEMBERED + 49) in one.fetcher._questions


def test_a_late_chunk_is_welcome_and_then_not_asked_for_again() -> None:
    one, fetcher = begun(peers=("a",), chunks=6)
    index = chunk_asks(one, "a")[0].indexes[0]
    late = open_answer(one, "a", index)
    one.down.add("a")
    one.run(one.now_ms + 10_000)
    one._queue.clear()
    asked = len(one.asked["a"])
    assert one.give("a", late)
    assert fetcher.counts.received == 1
    one.run(one.now_ms + 60_000)
    assert all(index not in ask.indexes for ask in chunk_asks(one, "a")[asked:])


def test_nobody_is_waited_for_with_a_chunk_that_came_late_from_another() -> None:
    one, fetcher = begun(peers=("a", "b"), chunks=30)
    first = next(peer for peer in one.peers if chunk_asks(one, peer))
    other = next(peer for peer in one.peers if peer != first)
    late = [open_answer(one, first, index) for index in range(4)]
    one.down.update(one.peers)
    while not chunk_asks(one, other):
        one.run(one.now_ms + 100)
    asked = chunk_asks(one, other)[0].indexes
    peer = fetcher._peers.get(other)
    assert peer is not None
    one.give(first, late[asked[0]])
    assert asked[0] not in peer.flights
    assert fetcher.counts.received == 1


# ------------------------------------------------------------------------------------------ durable


def test_the_bitmap_decides_what_is_fetched_again() -> None:
    """What was synced is never asked for again; what was only written is."""
    one = world(chunks=400, peers=("a",))
    while one.fetcher.counts.received < 20:
        one.run(one.now_ms + 1)
    durable = set(one.medium.durable)
    assert 0 < len(durable) < one.fetcher.counts.received
    one.asked["a"].clear()
    one.start()
    assert one.fetcher.counts.resumed == len(durable)
    assert one.run(one.now_ms + 60_000)
    again = [index for ask in chunk_asks(one, "a") for index in ask.indexes]
    assert set(again) == set(range(400)) - durable
    assert len(again) == len(set(again))
    assert one.medium.image() == one.image


def test_nothing_is_asked_when_all_is_durable() -> None:
    image = image_of(20_000)
    plan = plan_of(image)
    fetcher = Fetcher(plan, Bitmap.of(plan.chunk_count, set(range(plan.chunk_count))), now_ms=0, seed=b"")
    fetcher.set_peers(("a",))
    step = fetcher.advance(0)
    assert step.done
    assert (step.asks, step.has_write) == ((), False)


def test_a_checkpoint_comes_every_16_chunks_and_at_the_end() -> None:
    one = world(chunks=40, peers=("a",))
    assert one.run(1_000)
    assert [chunks for _, chunks in one.medium.checkpoints] == [CHECKPOINT_CHUNKS, CHECKPOINT_CHUNKS, 8]


def test_a_checkpoint_comes_within_a_second_of_the_first_chunk_and_not_more_often() -> None:
    one = world(chunks=30, peers=("a",), delay=lambda _peer: [300])
    came: list[int] = []
    given = one.give

    def give(peer: str, answer: Answer) -> bool:
        received = one.fetcher.counts.received
        passed = given(peer, answer)
        if one.fetcher.counts.received > received:
            came.append(one.now_ms)
        return passed

    one.give = give  # type: ignore[method-assign]
    assert one.run(60_000)
    times = [at for at, _ in one.medium.checkpoints]
    assert len(times) > 3
    assert all(later - earlier >= 1_000 for earlier, later in pairwise(times[:-1]))
    for at in came:
        assert min(time for time in times if time >= at) - at <= 1_000


def test_chunks_that_a_checkpoint_did_not_make_durable_are_fetched_again() -> None:
    one = world(chunks=6, peers=("a",))
    fetcher = one.fetcher
    fetcher.leaves = leaves_of(one.image)
    n = 0
    step = fetcher.advance(0)
    while not step.checkpoint:
        for peer, ask in step.asks:
            assert isinstance(ask, AskChunks)
            n += 1
            fetcher.asked(peer, ask, 1, n)
            for index in ask.indexes:
                chunk = make_chunk(RELEASE, index, chunk_of(one.image, one.plan, index), ())
                fetcher.on_answer(peer, Answer(1, 1, ME, 1, n, chunk), 0)
        if step.has_write:
            fetcher.on_written(Bitmap.of(6, set()))
        step = fetcher.advance(0)
    fetcher.on_written(Bitmap.of(6, {0, 1, 4, 5}))
    step = fetcher.advance(0)
    assert not step.done
    assert [ask.indexes for _, ask in step.asks if isinstance(ask, AskChunks)] == [(2, 3)]


def test_after_a_failed_write_nothing_since_the_last_checkpoint_counts() -> None:
    one = world(chunks=40, peers=("a",))
    while one.fetcher.counts.received < 20:
        one.run(one.now_ms + 1)
    assert set(one.medium.durable) == set(range(16))
    one.fetcher.on_write_failed()
    assert one.fetcher.counts.received == 20, "no write ran, so nothing is lost"
    keep = one.medium.write

    def refuse(step: FetchStep, now_ms: int) -> Bitmap:
        del step, now_ms
        return one.medium.have()

    one.medium.write = refuse  # type: ignore[method-assign]
    while one.fetcher.counts.received < 40:
        one.run(one.now_ms + 1)
    one.medium.write = keep  # type: ignore[method-assign]
    assert one.run(60_000)
    assert one.medium.image() == one.image


def test_one_write_at_a_time() -> None:
    one, fetcher = begun(peers=("a",), chunks=30)
    indexes = chunk_asks(one, "a")[0].indexes
    fetcher.on_answer("a", open_answer(one, "a", indexes[0]), 5)
    assert not fetcher.advance(1_004).has_write, "more may come within the second"
    step = fetcher.advance(1_005)
    assert [index for index, _ in step.writes] == [indexes[0]]
    assert step.checkpoint
    fetcher.on_answer("a", open_answer(one, "a", indexes[1]), 1_006)
    assert not fetcher.advance(5_000).has_write
    fetcher.on_written(Bitmap.of(30, {indexes[0]}))
    assert [index for index, _ in fetcher.advance(5_001).writes] == [indexes[1]]


def test_a_write_that_failed_is_done_again_with_chunks_fetched_anew() -> None:
    one, fetcher = begun(peers=("a",), chunks=30)
    index = chunk_asks(one, "a")[0].indexes[0]
    fetcher.on_answer("a", open_answer(one, "a", index), 5)
    assert fetcher.advance(1_005).has_write
    fetcher.on_write_failed()
    assert index in fetcher._wanted
    assert one.run(60_000)
    assert one.medium.image() == one.image


# ------------------------------------------------------------------------------------------ back ends and reuse


@pytest.mark.parametrize("seed", range(5))
def test_without_random_write_chunks_are_written_in_order_only(seed: int) -> None:
    """`Medium` refuses any other; what runs ahead in memory stays within a few chunks."""
    one = world(chunks=50, peers=("a", "b"), in_order=True, delay=lossy(seed, 0.1, 400))
    assert one.run(3_600_000)
    assert one.medium.image() == one.image


def test_in_order_what_runs_ahead_of_a_lost_chunk_is_bounded_and_the_lost_one_is_still_asked_for() -> None:
    lost: list[Answer] = []

    def lose_first(answer: Answer) -> list[Answer]:
        is_first = isinstance(answer.content, AnswerChunk) and answer.content.index == 0
        if is_first:
            lost.append(answer)
        return [] if is_first else [answer]

    one = world(chunks=50, peers=("a",), in_order=True, lies={"a": lose_first})
    one.run(60_000)
    assert max(index for ask in chunk_asks(one, "a") for index in ask.indexes) == CHUNKS_AHEAD_IN_ORDER - 1
    assert one.medium.durable == {}
    assert len(lost) > 3
    assert CHUNKS_AHEAD_IN_ORDER + CHUNKS_OUTSTANDING_MAX <= CHUNKS_HELD_MAX
    one.lies.clear()
    assert one.run(120_000)
    assert one.medium.image() == one.image


def test_a_back_end_that_writes_in_order_is_not_waked_for_a_chunk_it_cannot_write() -> None:
    one, fetcher = begun(peers=("a",), chunks=30, in_order=True)
    fetcher.on_answer("a", open_answer(one, "a", 1), 5)
    for now_ms in (1_006, 1_010):
        step = fetcher.advance(now_ms)
        assert not step.has_write
        assert step.wake_at_ms is not None
        assert step.wake_at_ms > now_ms
    one.now_ms = 1_011
    one.give("a", open_answer(one, "a", 0))
    assert [index for index, _ in fetcher.advance(1_011).writes] == [0, 1]


def test_chunks_equal_to_ones_of_the_running_image_are_not_fetched() -> None:
    image = image_of(20 * 4096)
    plan = plan_of(image)
    fetcher = Fetcher(plan, Bitmap.of(20, {0}), now_ms=0, seed=b"", reuse=True)
    fetcher.set_peers(("a",))
    ((peer, ask),) = fetcher.advance(0).asks
    fetcher.asked(peer, ask, 1, 1)
    fetcher.on_answer("a", Answer(1, 1, ME, 1, 1, AnswerLeaves(RELEASE, 0, leaves_of(image))), 1)
    step = fetcher.advance(1)
    assert step.copy == tuple(range(1, 20))
    assert step.asks == (), "nothing is fetched that might be there"
    assert fetcher.advance(2) == structs.replace(step, copy=(), wake_at_ms=None)
    fetcher.on_copied(tuple(range(1, 18)))
    assert fetcher.counts.copied == 17
    step = fetcher.advance(3)
    assert [ask.indexes for _, ask in step.asks if isinstance(ask, AskChunks)] == [(18, 19)]


def test_when_all_is_copied_nothing_is_left_to_do() -> None:
    image = image_of(5 * 4096)
    fetcher = Fetcher(plan_of(image), Bitmap.of(5, set()), now_ms=0, seed=b"", reuse=True)
    fetcher.leaves = leaves_of(image)
    assert fetcher.advance(0).copy == (0, 1, 2, 3, 4)
    fetcher.on_copied((0, 1, 2, 3, 4))
    assert fetcher.advance(1).done


# ------------------------------------------------------------------------------------------ whom to ask


def test_who_answers_quickest_gets_nearly_all_questions() -> None:
    delays = {"quick": 5, "slow": 500, "slower": 900}
    begun_with: set[str] = set()
    for seed in range(6):
        one = world(chunks=200, peers=tuple(delays), delay=lambda peer: [delays[peer]], seed=bytes((seed,)))
        assert one.run(600_000)
        begun_with.update(peer for peer in delays if AskLeaves(RELEASE, 0, 200) in one.asked[peer])
        others = sum(len(ask.indexes) for peer in ("slow", "slower") for ask in chunk_asks(one, peer))
        assert others <= 20
    assert begun_with == set(delays)


def test_of_peers_never_heard_one_at_a_time_is_tried() -> None:
    """A row of dead peers must not take all four places for three seconds each."""
    dead = tuple(f"dead-{number}" for number in range(12))
    one = world(chunks=400, peers=("good", *dead), delay=lambda _peer: [20])
    one.down.update(dead)
    while one.fetcher.counts.received < 20:
        one.run(one.now_ms + 1)
    before = one.now_ms
    assert one.run(before + 60_000)
    assert one.now_ms - before < 380 * 40, "three places of four went on"


def test_liars_come_after_the_slow_and_these_after_the_silent_and_these_after_all_others() -> None:
    peers = peers_module.Peers(b"", frames_max=100, bad_max=10)
    peers.set(("liar", "slow", "silent", "far"))
    liar, slow, silent, far = (peers.get(id) for id in ("liar", "slow", "silent", "far"))
    assert liar
    assert slow
    assert silent
    assert far
    liar.bad = slow.slow = silent.silent = 1
    liar.service_ms = slow.service_ms = silent.service_ms = 1
    far.service_ms = 5_000
    order = []
    for _ in range(4):
        chosen = peers.choose(0, flights_max=4)
        assert chosen is not None
        order.append(chosen.id)
        chosen.not_before_ms = 1
    assert order == ["far", "silent", "slow", "liar"]


def test_an_answer_in_time_ends_the_silence_and_a_late_one_does_not() -> None:
    peer = peers_module.Peer("a", b"")
    peer.silent = 2
    peer.answer(7, 100, 0)
    assert peer.silent == 2
    peer.ask(8, 0)
    peer.answer(8, 100, 5)
    assert peer.silent == 0


def test_two_devices_begin_with_different_peers() -> None:
    first: set[str] = set()
    for seed in range(12):
        one = world(peers=("a", "b", "c", "d"), seed=bytes((seed,)))
        one.step()
        first.update(peer for peer in one.peers if one.asked[peer])
    assert len(first) >= 3


def test_peers_that_are_no_longer_given_are_not_asked() -> None:
    one, fetcher = begun(peers=("a", "b"), chunks=30)
    fetcher.set_peers(("b",))
    asked = len(one.asked["a"])
    assert one.run(60_000)
    assert len(one.asked["a"]) == asked
    assert one.medium.image() == one.image


def test_what_was_asked_of_a_peer_that_is_no_longer_given_is_asked_of_others_at_once() -> None:
    one, fetcher = begun(peers=("a", "b"), chunks=30)
    gone = next(peer for peer in one.peers if chunk_asks(one, peer))
    left = next(peer for peer in one.peers if peer != gone)
    fetcher.set_peers((left,))
    step = fetcher.advance(one.now_ms)
    assert sorted(index for _, ask in step.asks if isinstance(ask, AskChunks) for index in ask.indexes) == [
        0,
        1,
        2,
        3,
    ]
    assert {peer for peer, _ in step.asks} == {left}


def test_without_peers_it_waits_and_asks_for_nothing() -> None:
    image = image_of(20_000)
    fetcher = Fetcher(plan_of(image), Bitmap.of(5, set()), now_ms=0, seed=b"")
    step = fetcher.advance(0)
    assert (step.asks, step.wake_at_ms, step.done) == ((), None, False)


def test_the_largest_chunks_work_too() -> None:
    image = image_of(9 * CHUNK_BYTES_MAX + 1)
    one = World(image, ("a",), plan_of(image, chunk_bytes=CHUNK_BYTES_MAX))
    assert one.run(10_000)
    assert one.medium.image() == image


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097])
def test_the_smallest_releases_work_too(size: int) -> None:
    image = image_of(size)
    one = World(image, ("a",), plan_of(image), paths=size % 2 == 0)
    assert one.run(10_000)
    assert one.medium.image() == image


def test_silent_sources_of_leaves_are_left_and_nothing_else_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    one = world(peers=("a", "b"), lies={"a": nothing})
    assert one.run(120_000)
    assert {peer for _, peer in notes(one)} <= {"a"}
    assert one.medium.image() == one.image
