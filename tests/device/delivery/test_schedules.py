"""Whatever is lost, doubled, late, lied about or cut off: never a wrong chunk, and the right image in the end."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from swarm.device.delivery.allowance import frames_max
from swarm.wire.messages import (
    Answer,
    AnswerBusy,
    AnswerChunk,
    AnswerLeaves,
    AnswerNoRelease,
)
from tests.support.delivery import RELEASE, World, lossy, spoil, with_content, world
from tests.support.delivery import chunk as make_chunk

HONEST = "honest"


def liar(seed: int) -> Callable[[Answer], list[Answer]]:
    """Return a peer that does something else with each answer, now and then even the right thing."""
    random = Random(seed)
    earlier: list[Answer] = []

    def lie(answer: Answer) -> list[Answer]:
        content = answer.content
        earlier.append(answer)
        lies: list[list[Answer]] = [
            [],
            [answer],
            [answer] * 3,
            [with_content(answer, AnswerNoRelease(RELEASE))],
            [with_content(answer, AnswerBusy())],
            [random.choice(earlier)],
            [Answer(answer.boot, answer.n, answer.to, answer.re_boot, random.randrange(200), content)],
        ]
        if isinstance(content, AnswerChunk):
            other = random.randrange(60)
            lies += [
                spoil(answer),
                spoil(answer),
                [*spoil(answer), answer],
                [with_content(answer, structs.replace(content, data=content.data[::-1] + b"x"))],
                [with_content(answer, make_chunk(RELEASE, content.index, content.data[:-1] or b"x", ()))],
                [with_content(answer, make_chunk(RELEASE, other, content.data, content.path))],
                [with_content(answer, make_chunk(RELEASE, content.index, content.data, (bytes(32),) * 3))],
            ]
        elif isinstance(content, AnswerLeaves):
            wrong = (bytes(32), *content.leaves[1:])
            lies += [
                [with_content(answer, AnswerLeaves(RELEASE, content.first, wrong))],
                [with_content(answer, AnswerLeaves(RELEASE, content.first, content.leaves[:-1] or wrong))],
                [with_content(answer, AnswerLeaves(RELEASE, content.first + 1, content.leaves))],
            ]
        return random.choice(lies)

    return lie


def check_peers(one: World) -> None:
    """Of nobody more frames than the cap, and no bad word about the honest one."""
    cap = frames_max(one.plan.chunk_count)
    assert max(one.accepted.values()) <= cap
    assert {note.peer for note in one.notes if note.what.startswith("bad")} <= set(one.peers) - {HONEST}


@settings(deadline=None, max_examples=60)
@given(
    chunks=st.integers(1, 60),
    tail=st.integers(1, 4096),
    liars=st.integers(0, 4),
    loss=st.floats(0, 0.6),
    delay_max_ms=st.sampled_from([2, 50, 2_000, 40_000]),
    crashes=st.lists(st.integers(1, 30_000), max_size=4),
    away=st.booleans(),
    options=st.sampled_from([{}, {"paths": True}, {"in_order": True}]),
    seed=st.integers(0, 2**16),
)
def test_any_schedule_ends_with_the_right_image_once_one_honest_peer_remains(
    chunks: int,
    tail: int,
    liars: int,
    loss: float,
    delay_max_ms: int,
    crashes: list[int],
    away: bool,
    options: dict[str, bool],
    seed: int,
) -> None:
    """`World` fails at the first wrong chunk that is to be written, and at a fifth open question."""
    names = tuple(f"liar-{number}" for number in range(liars))
    one = world(
        chunks,
        (HONEST, *names),
        tail,
        lies={name: liar(seed + number) for number, name in enumerate(names)},
        delay=lossy(seed, loss, delay_max_ms),
        seed=seed.to_bytes(4, "big"),
        **options,
    )
    if away:
        one.down.add(HONEST)
    for pause in crashes:
        one.run(one.now_ms + pause)
        check_peers(one)
        one.start()
    one.down.discard(HONEST)
    one.delay = lossy(seed + 1, loss / 4, min(delay_max_ms, 2_000))
    assert one.run(one.now_ms + 48 * 3_600_000)
    check_peers(one)
    assert one.medium.image() == one.image


@settings(deadline=None, max_examples=30)
@given(liars=st.integers(1, 5), seed=st.integers(0, 2**16), options=st.sampled_from([{}, {"paths": True}]))
def test_liars_alone_never_get_a_wrong_chunk_written(liars: int, seed: int, options: dict[str, bool]) -> None:
    names = tuple(f"liar-{number}" for number in range(liars))
    one = world(
        30,
        names,
        lies={name: liar(seed + number) for number, name in enumerate(names)},
        delay=lossy(seed, 0.1, 500),
        **options,
    )
    one.run(2 * 3_600_000)
    assert max(one.accepted.values()) <= frames_max(30)
    for index, data in one.medium.durable.items():
        assert data == one.image[index * 4096 : index * 4096 + len(data)]
