"""FIRMWARE section 7, the answering side: who has the release serves it, and nobody can make that expensive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.crypto.merkle import leaf_hash
from swarm.device.delivery.allowance import Frames, Pace, Places, frames_max
from swarm.device.delivery.leaves import LeafPages, LeafTree, is_leaf, root_of
from swarm.device.delivery.server import ChunkServer, Read, ServeStep
from swarm.device.firmware.operations import ReadChunk, ReadLeaves
from swarm.install.port import InstallPlan
from swarm.primitives.limits import (
    ANSWER_LEAVES_MAX,
    ASKER_IDLE_MS,
    ASKER_TURN_MS,
    ASKERS_SERVED_MAX,
    CHUNK_BYTES_MIN,
    CHUNK_READS_MAX,
    CHUNKS_CACHED_MAX,
    CHUNKS_OUTSTANDING_MAX,
    REFUSALS_PER_TURN_MAX,
    SERVED_FRAME_EVERY_MS,
    SERVED_PATHS_CHUNKS_MAX,
)
from swarm.wire.messages import (
    AnswerBusy,
    AnswerChunk,
    Answered,
    AnswerLeaves,
    AnswerNoRelease,
    AskLeaves,
    AskStatus,
    Request,
    ask_chunks,
)
from tests.support.delivery import RELEASE, chunk_of, image_of, leaves_of, plan_of, read
from tests.support.delivery import chunk as make_chunk

IMAGE = image_of(200 * CHUNK_BYTES_MIN)
PLAN = plan_of(IMAGE)


class Served:
    """A server with a sound medium that answers each read at once, and who got what."""

    def __init__(
        self, plan: InstallPlan = PLAN, image: bytes = IMAGE, *, bytes_per_s: int | None = None
    ) -> None:
        self.plan = plan
        self.image = image
        self.now_ms = 0
        self.server = ChunkServer(bytes_per_s=bytes_per_s, now_ms=0)
        self.server.offer(plan.release, "sealed", plan)
        self.reads: list[Read] = []
        self.answers: list[tuple[str, Request, Answered]] = []
        self.wake_at_ms: int | None = None
        self._n = count(1)

    def ask(self, sender: str, *indexes: int, paths: bool = False) -> Request:
        request = Request(1, next(self._n), "me", ask_chunks(self.plan.release, indexes, paths=paths))
        self.server.ask(sender, request, self.now_ms)
        return request

    def ask_leaves(self, sender: str, first: int = 0, size: int = ANSWER_LEAVES_MAX) -> Request:
        request = Request(1, next(self._n), "me", AskLeaves(self.plan.release, first, size))
        self.server.ask(sender, request, self.now_ms)
        return request

    def go(self) -> list[tuple[str, Answered]]:
        """Advance until nothing is read any more; returns what was answered."""
        got: list[tuple[str, Answered]] = []
        while True:
            step = self.server.advance(self.now_ms)
            self.answers.extend(step.answers)
            got.extend((to, content) for to, _, content in step.answers)
            self.wake_at_ms = step.wake_at_ms
            if not step.reads:
                return got
            for wanted in step.reads:
                self.reads.append(wanted)
                self.server.on_read(wanted, read(self.image, wanted), self.now_ms)


def chunks(answers: Iterable[tuple[str, Answered]]) -> list[tuple[str, int]]:
    return [(to, content.index) for to, content in answers if isinstance(content, AnswerChunk)]


# ------------------------------------------------------------------------------------------ who serves what


@pytest.mark.parametrize("source", ["sealed", "booted"])
def test_a_peer_that_has_the_release_sealed_or_runs_it_answers(source: str) -> None:
    one = Served()
    one.server.withdraw(RELEASE)
    one.server.offer(RELEASE, source, PLAN)  # type: ignore[arg-type]
    request = one.ask("a", 3, 7)
    answers = one.go()
    assert one.reads == [
        ReadLeaves(source, PLAN.file_bytes, PLAN.chunk_bytes),  # type: ignore[arg-type]
        ReadChunk(source, 3 * CHUNK_BYTES_MIN, CHUNK_BYTES_MIN),  # type: ignore[arg-type]
        ReadChunk(source, 7 * CHUNK_BYTES_MIN, CHUNK_BYTES_MIN),  # type: ignore[arg-type]
    ]
    assert answers == [
        ("a", make_chunk(RELEASE, index, chunk_of(IMAGE, PLAN, index), ())) for index in (3, 7)
    ]
    assert {asked for _, asked, _ in one.answers} == {request}


def test_each_chunk_is_an_answer_of_its_own() -> None:
    one = Served()
    one.ask("a", 0, 1, 2, 199)
    assert chunks(one.go()) == [("a", 0), ("a", 1), ("a", 2), ("a", 199)]


def test_the_last_chunk_has_its_own_length() -> None:
    image = image_of(3 * CHUNK_BYTES_MIN + 17)
    one = Served(plan_of(image), image)
    one.ask("a", 3)
    ((_, content),) = one.go()
    assert isinstance(content, AnswerChunk)
    assert len(content.data) == 17


def test_who_has_it_not_says_so() -> None:
    one = Served()
    one.server.withdraw(RELEASE)
    one.ask("a", 0)
    one.ask_leaves("b")
    assert one.go() == [("a", AnswerNoRelease(RELEASE)), ("b", AnswerNoRelease(RELEASE))]
    assert one.server.counts.missing == 2


def test_a_release_that_is_withdrawn_is_not_served_a_moment_longer() -> None:
    """Its slot may be erased by now; what was read is forgotten, what is being read does not come back."""
    one = Served()
    one.ask("a", 0)
    one.go()
    one.ask("a", 0, 1)
    step = one.server.advance(0)
    one.server.withdraw(RELEASE)
    assert not one.server._cached
    one.server.on_read(step.reads[0], chunk_of(IMAGE, PLAN, 1), 0)
    assert one.server.advance(0) == ServeStep()
    assert one.server.offered == ()
    one.server.offer(RELEASE, "booted", PLAN)
    one.ask("a", 0)
    assert isinstance(one.server.advance(0).reads[0], ReadLeaves)


def test_the_same_offer_again_keeps_what_is_known() -> None:
    one = Served()
    one.ask("a", 0)
    one.go()
    one.server.offer(RELEASE, "sealed", PLAN)
    one.ask("b", 0)
    one.go()
    assert len(one.reads) == 2


def test_what_is_no_question_of_delivery_is_left_alone() -> None:
    one = Served()
    one.server.ask("a", Request(1, 1, "me", AskStatus()), 0)
    assert one.go() == []


# ------------------------------------------------------------------------------------------ leaves and paths


def test_the_leaf_list_goes_out_in_pages_of_at_most_1024() -> None:
    image = image_of((ANSWER_LEAVES_MAX + 5) * CHUNK_BYTES_MIN)
    one = Served(plan_of(image), image)
    one.ask_leaves("a", 0)
    one.ask_leaves("a", ANSWER_LEAVES_MAX, 5)
    answers = [content for _, content in one.go() if isinstance(content, AnswerLeaves)]
    assert [(answer.first, len(answer.leaves)) for answer in answers] == [(0, 1024), (1024, 5)]
    assert tuple(leaf for answer in answers for leaf in answer.leaves) == leaves_of(image)
    assert sum(isinstance(wanted, ReadLeaves) for wanted in one.reads) == 1, "the list is kept"


def test_no_more_leaves_are_sent_than_were_asked_for() -> None:
    one = Served()
    one.ask_leaves("a", 10, 2)
    assert one.go() == [("a", AnswerLeaves(RELEASE, 10, leaves_of(IMAGE)[10:12]))]


def test_a_path_comes_with_the_chunk_when_it_is_asked_for() -> None:
    one = Served()
    one.ask("a", 0, 100, 199, paths=True)
    for _, content in one.go():
        assert isinstance(content, AnswerChunk)
        assert content.path
        assert content.leaf == leaf_hash(content.data)
        assert is_leaf(content.leaf, content.index, 200, content.path, PLAN.chunk_root)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 33])
def test_every_path_of_a_tree_leads_to_its_root(size: int) -> None:
    image = image_of(size * 100, "small chunks")
    leaves = leaves_of(image, 100)
    tree = LeafTree(leaves)
    for index in range(size):
        assert is_leaf(leaves[index], index, size, tree.path(index), root_of(leaves))
        assert not any(
            is_leaf(leaves[index], other, size, tree.path(index), root_of(leaves))
            for other in range(size)
            if other != index
        )


def test_paths_of_a_release_too_large_to_keep_its_tree_are_refused() -> None:
    plan = plan_of(IMAGE)
    huge = InstallPlan(
        **{
            name: getattr(plan, name)
            for name in InstallPlan.__dataclass_fields__
            if name not in ("chunk_count", "file_bytes")
        },
        chunk_count=SERVED_PATHS_CHUNKS_MAX + 1,
        file_bytes=(SERVED_PATHS_CHUNKS_MAX + 1) * CHUNK_BYTES_MIN,
    )
    one = Served(huge)
    one.ask("a", 0, paths=True)
    assert one.server.advance(0).answers[0][2] == AnswerNoRelease(RELEASE)


# ------------------------------------------------------------------------------------------ a rotten disk


def test_a_chunk_that_is_not_what_the_release_says_never_leaves() -> None:
    """A bit that fell over must not make an honest device a liar."""
    one = Served()
    one.ask("a", 0)
    step = one.server.advance(0)
    one.server.on_read(step.reads[0], leaves_of(IMAGE), 0)
    for given_back in (None, b"x" * CHUNK_BYTES_MIN, chunk_of(IMAGE, PLAN, 1)):
        step = one.server.advance(0)
        assert step.answers == ()
        one.server.on_read(step.reads[0], given_back, 0)
    assert one.server.counts.rotten == 3
    assert one.server.offered == ()
    assert one.server.advance(0) == ServeStep()


def test_a_leaf_list_without_the_chunk_root_never_leaves() -> None:
    one = Served()
    one.ask_leaves("a")
    for _ in range(3):
        (wanted,) = one.server.advance(0).reads
        one.server.on_read(wanted, leaves_of(IMAGE)[::-1], 0)
    assert one.server.counts.rotten == 3
    assert one.server.offered == ()
    one.ask_leaves("a")
    assert one.server.advance(0).answers[0][2] == AnswerNoRelease(RELEASE)


def test_a_read_that_works_again_makes_up_for_failed_ones() -> None:
    one = Served()
    one.ask_leaves("a")
    one.go()
    for index in range(6):
        one.ask("a", index)
        (wanted,) = one.server.advance(0).reads
        one.server.on_read(wanted, None, 0)
        (wanted,) = one.server.advance(0).reads
        one.server.on_read(wanted, read(IMAGE, wanted), 0)
        one.go()
    assert one.server.counts.rotten == 6
    assert one.server.offered == (RELEASE,)


def test_an_answer_to_a_read_that_nobody_waits_for_is_ignored() -> None:
    one = Served()
    one.server.on_read(ReadChunk("sealed", 0, 4096), b"x", 0)
    assert one.server.counts.rotten == 0


# ------------------------------------------------------------------------------------------ bounds


def test_reads_are_few_and_shared() -> None:
    one = Served()
    one.ask_leaves("z")
    one.go()
    for number in range(ASKERS_SERVED_MAX - 1):
        one.ask(f"dev-{number}", *range(number * 2, number * 2 + 4))
    reads = one.server.advance(0).reads
    assert len(reads) == CHUNK_READS_MAX
    assert one.server.advance(0).reads == ()
    one.reads.clear()
    for wanted in reads:
        one.server.on_read(wanted, read(IMAGE, wanted), 0)
    one.go()
    asked = {index for number in range(ASKERS_SERVED_MAX - 1) for index in range(number * 2, number * 2 + 4)}
    assert len(reads) + len(one.reads) == len(asked)
    assert one.server.counts.chunks == 4 * (ASKERS_SERVED_MAX - 1)


def test_chunks_in_memory_are_bounded() -> None:
    one = Served()
    for index in range(100):
        one.ask("a", index)
        one.go()
    assert len(one.server._cached) == CHUNKS_CACHED_MAX


def test_of_one_asker_at_most_4_wait() -> None:
    """The rest is dropped and counted: one question of four chunks is all that may be open."""
    one = Served()
    for first in range(0, 40, 4):
        one.ask("a", *range(first, first + 4))
    assert one.server.counts.dropped == 36
    assert len(chunks(one.go())) == CHUNKS_OUTSTANDING_MAX


def test_a_chunk_asked_for_again_while_it_waits_is_sent_once_to_the_newer_question() -> None:
    one = Served()
    one.ask("a", 0)
    newer = one.ask("a", 0)
    assert chunks(one.go()) == [("a", 0)]
    assert one.answers[-1][1] == newer


def test_askers_take_turns_frame_by_frame() -> None:
    """Who asks for four cannot hold up who asks for one."""
    one = Served(bytes_per_s=100 * 1024)
    one.ask_leaves("z")
    one.go()
    one.ask("greedy", 0, 1, 2, 3)
    one.ask("modest", 9)
    order: list[tuple[str, int]] = []
    while len(order) < 5:
        order.extend(chunks(one.go()))
        one.now_ms += 1
    assert order.index(("modest", 9)) == 1


def test_never_more_than_chunk_count_and_10_percent_frames_go_to_one_asker_at_once() -> None:
    """Whoever asks for ever gets the release once, a tenth more, and then one chunk a second."""
    one = Served()
    sent = 0
    for number in range(2_000):
        one.ask("greedy", number % 200)
        sent += len(chunks(one.go()))
    assert sent == frames_max(200) == 220
    assert one.server.counts.busy == 2_000 - 220
    for second in range(1, 6):
        one.now_ms = second * SERVED_FRAME_EVERY_MS
        for number in range(50):
            one.ask("greedy", number)
            sent += len(chunks(one.go()))
        assert sent == 220 + second
    one.ask("other", 0)
    assert chunks(one.go()) == [("other", 0)]


def test_who_has_used_its_frames_up_holds_no_place() -> None:
    one = Served()
    for number in range(ASKERS_SERVED_MAX):
        for index in range(221):
            one.ask(f"greedy-{number}", index % 200)
            one.go()
    one.ask("honest", 0)
    assert chunks(one.go()) == [("honest", 0)]


def test_all_places_taken_the_next_is_told_to_ask_elsewhere() -> None:
    one = Served()
    for number in range(ASKERS_SERVED_MAX):
        one.ask(f"dev-{number}", 0)
    one.ask("late", 0)
    assert ("late", AnswerBusy()) in one.go()
    assert one.server.counts.busy == 1
    one.now_ms = ASKER_IDLE_MS
    one.ask("late", 0)
    assert chunks(one.go()) == [("late", 0)]


def test_a_place_is_not_kept_for_ever_by_asking_slowly() -> None:
    """Eight liars that ask for one chunk every second are each followed by somebody who waits."""
    one = Served()
    refused = 0
    for second in range(ASKER_TURN_MS // 1000 + 1):
        one.now_ms = second * 1000
        for number in range(ASKERS_SERVED_MAX):
            one.ask(f"liar-{number}", second)
        one.ask("honest", second)
        refused += ("honest", AnswerBusy()) in one.go()
    assert refused == ASKER_TURN_MS // 1000
    assert chunks([(to, content) for to, _, content in one.answers])[-1] == ("honest", 30)


def test_who_loses_its_place_is_not_served_any_more_what_it_waited_for() -> None:
    one = Served()
    for number in range(ASKERS_SERVED_MAX):
        one.ask(f"dev-{number}", number)
    reads = one.server.advance(0).reads
    for second in range(1, ASKER_TURN_MS // 1000 + 1):
        one.now_ms = second * 1000
        for number in range(ASKERS_SERVED_MAX):
            one.ask(f"dev-{number}", number)
    one.ask("late", 50)
    for wanted in reads:
        one.server.on_read(wanted, read(IMAGE, wanted), one.now_ms)
    served = {to for to, _ in chunks(one.go())}
    assert served == {"late", *(f"dev-{number}" for number in range(1, ASKERS_SERVED_MAX))}


def test_a_page_of_another_length_is_not_kept() -> None:
    pages = LeafPages(ANSWER_LEAVES_MAX + 5)
    assert not pages.put(ANSWER_LEAVES_MAX, (bytes(32),) * 6)
    assert not pages.put(0, (bytes(32),) * 5)
    assert pages.missing() == [0, ANSWER_LEAVES_MAX]
    assert pages.put(ANSWER_LEAVES_MAX, (bytes(32),) * 5)
    assert pages.missing() == [0]


def test_questions_for_chunks_that_the_release_has_not_are_counted_and_cost_nothing() -> None:
    one = Served()
    one.ask("a", 200)
    one.ask_leaves("a", 200)
    one.ask("a", 2**32 - 1)
    assert one.server.advance(0) == ServeStep()
    assert one.server.counts.malformed == 3
    one.ask("a", 199, 200)
    assert chunks(one.go()) == [("a", 199)]


def test_refusals_of_one_turn_are_bounded() -> None:
    one = Served()
    one.server.withdraw(RELEASE)
    for number in range(REFUSALS_PER_TURN_MAX + 10):
        one.ask(f"dev-{number}", 0)
    assert len(one.go()) == REFUSALS_PER_TURN_MAX
    assert one.server.counts.dropped == 10


# ------------------------------------------------------------------------------------------ the pace


@settings(deadline=None, max_examples=60)
@given(rate=st.integers(4_096, 4_000_000), steps=st.lists(st.integers(1, 400), min_size=1, max_size=60))
def test_in_no_time_more_leaves_than_the_rate_and_its_burst_allow(rate: int, steps: list[int]) -> None:
    pace = Pace(rate, 0)
    now_ms = sent = 0
    for pause in steps:
        now_ms += pause
        while pace.is_open(now_ms):
            pace.spend(4_096)
            sent += 4_096
        assert sent <= now_ms * rate // 1000 + rate // 10 + 4_096
        wake_at_ms = pace.wake_at_ms(now_ms)
        assert wake_at_ms > now_ms
        assert pace.is_open(wake_at_ms)
        now_ms = wake_at_ms


def test_the_rate_cap_is_used_in_full() -> None:
    """Capped at 100 KiB/s a fetch of 800 KiB takes eight seconds, and not much more."""
    one = Served(bytes_per_s=100 * 1024)
    wanted = 0
    while one.server.counts.chunks < 200:
        while wanted < 200 and wanted - one.server.counts.chunks < 4:
            one.ask("a", wanted)
            wanted += 1
        one.go()
        one.now_ms = one.now_ms + 1 if one.wake_at_ms is None else one.wake_at_ms
    assert 7_900 <= one.now_ms <= 8_700


def test_without_a_cap_nothing_waits() -> None:
    one = Served()
    one.ask("a", 0, 1, 2, 3)
    one.go()
    assert one.wake_at_ms is None
    assert one.server.counts.chunks == 4


# ------------------------------------------------------------------------------------------ parts


def test_frames_come_back_up_to_the_full_number() -> None:
    frames = Frames(10, 0)
    assert sum(frames.spend(0) for _ in range(50)) == frames_max(10) == 14
    assert sum(frames.spend(3_500) for _ in range(50)) == 3
    assert sum(frames.spend(4_000) for _ in range(50)) == 1
    assert sum(frames.spend(10**9) for _ in range(50)) == 14


@pytest.mark.parametrize(("chunk_count", "frames"), [(1, 5), (40, 44), (100, 110), (512, 563), (4096, 4505)])
def test_the_frame_cap_is_chunk_count_and_10_percent(chunk_count: int, frames: int) -> None:
    assert frames_max(chunk_count) == frames


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5_000)), max_size=80))
def test_places_never_exceed_their_number(asks: list[tuple[int, int]]) -> None:
    places = Places()
    holders: set[str] = set()
    now_ms = 0
    last: dict[str, int] = {}
    for number, pause in asks:
        now_ms += pause
        asker = f"dev-{number}"
        has_place, gone = places.take(asker, now_ms)
        holders = {holder for holder in holders if now_ms - last[holder] < ASKER_IDLE_MS}
        holders.discard(gone or "")
        if has_place:
            holders.add(asker)
            last[asker] = now_ms
        assert len(holders) <= ASKERS_SERVED_MAX
        assert gone is None or has_place
        if not has_place:
            assert len(holders) == ASKERS_SERVED_MAX


def test_everybody_of_a_fleet_is_served_in_the_end() -> None:
    """Sixty askers at one server: each asks again after a pause, and each gets its chunks."""
    one = Served()
    want = {f"dev-{number}": 0 for number in range(60)}
    not_before: Counter[str] = Counter()
    while any(index < 40 for index in want.values()):
        assert one.now_ms < 600_000
        for asker, index in want.items():
            if index < 40 and not_before[asker] <= one.now_ms:
                one.ask(asker, index)
        for to, content in one.go():
            if isinstance(content, AnswerChunk):
                want[to] += 1
            else:
                not_before[to] = one.now_ms + 2_000
        one.now_ms += 50
