"""Sequence windows against a naive model that keeps every used number in a set."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.primitives.limits import SEQUENCE_WINDOW
from swarm.wire.codec import Codec, encode
from swarm.wire.messages import Command, SubmissionBody
from swarm.wire.sequence import Sequences, Verdict, Window


def submission(
    sequence: int, *, origin: str = "dev-0", incarnation: int = 0, expiry: int = 0
) -> SubmissionBody:
    return SubmissionBody(origin, incarnation, sequence, expiry, (Command("notes", b""),))


@dataclass
class NaiveWindow:
    """PROTOCOL section 2, word by word."""

    used: set[int] = field(default_factory=set)
    high: int = 0

    def apply(self, sequence: int, expiry: int, height: int) -> Verdict:
        if sequence < 1 or not self.high - SEQUENCE_WINDOW < sequence <= self.high + SEQUENCE_WINDOW:
            return Verdict.OUT_OF_WINDOW
        if sequence in self.used:
            return Verdict.DUPLICATE
        self.used.add(sequence)
        self.high = max(self.high, sequence)
        return Verdict.EXPIRED if expiry and height > expiry else Verdict.COUNTS


# Steps relative to the highest number: mostly near it, sometimes at the ends of the window and beyond.
steps = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([d + e for d in (-SEQUENCE_WINDOW, 0, SEQUENCE_WINDOW) for e in (-1, 0, 1)]),
    st.integers(-3 * SEQUENCE_WINDOW, 3 * SEQUENCE_WINDOW),
)


@settings(deadline=None, max_examples=300)
@given(plan=st.lists(st.tuples(steps, st.integers(0, 4)), max_size=60), height=st.integers(1, 4))
def test_window_agrees_with_the_model(plan: list[tuple[int, int]], height: int) -> None:
    sequences, model = Sequences(), NaiveWindow()
    for step, expiry in plan:
        sequence = max(0, model.high + step)
        body = submission(sequence, expiry=expiry)
        foreseen = sequences.judge(body, height)

        verdict = sequences.apply(body, height)

        assert verdict == foreseen, "judging changes nothing"
        assert verdict == model.apply(sequence, expiry, height)
        assert sequences.high("dev-0") == (0, model.high)


@settings(deadline=None)
@given(plan=st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), steps), max_size=40))
def test_a_snapshot_is_canonical_and_comes_back(plan: list[tuple[str, int]]) -> None:
    sequences = Sequences()
    for origin, step in plan:
        sequences.apply(submission(max(0, sequences.high(origin)[1] + step), origin=origin), 1)

    restored = Sequences.restore(sequences.snapshot())

    assert restored.snapshot() == sequences.snapshot()
    for origin in "abc":
        high = sequences.high(origin)[1]
        for sequence in range(max(0, high - SEQUENCE_WINDOW - 2), high + SEQUENCE_WINDOW + 3, 7):
            body = submission(sequence, origin=origin)
            assert restored.judge(body, 1) == sequences.judge(body, 1)


def test_the_order_of_origins_does_not_show_in_a_snapshot() -> None:
    one, other = Sequences(), Sequences()
    for origin in ("a", "b"):
        one.apply(submission(1, origin=origin), 1)
    for origin in ("b", "a"):
        other.apply(submission(1, origin=origin), 1)

    assert one.snapshot() == other.snapshot()


@pytest.mark.parametrize(
    ("sequence", "verdict"),
    [
        (0, Verdict.OUT_OF_WINDOW),
        (1, Verdict.COUNTS),
        (SEQUENCE_WINDOW, Verdict.COUNTS),
        (SEQUENCE_WINDOW + 1, Verdict.OUT_OF_WINDOW),
    ],
)
def test_the_first_window(sequence: int, verdict: Verdict) -> None:
    assert Sequences().judge(submission(sequence), 1) == verdict


def test_an_expired_submission_uses_its_number_up() -> None:
    sequences = Sequences()

    assert sequences.apply(submission(1, expiry=5), 6) == Verdict.EXPIRED
    assert sequences.apply(submission(1), 6) == Verdict.DUPLICATE


def test_expiry_is_the_last_height_at_which_it_counts() -> None:
    assert Sequences().judge(submission(1, expiry=5), 5) == Verdict.COUNTS
    assert Sequences().judge(submission(1, expiry=5), 6) == Verdict.EXPIRED
    assert Sequences().judge(submission(1, expiry=0), 2**62) == Verdict.COUNTS, "0 = never"


def test_another_incarnation_never_counts() -> None:
    assert Sequences().judge(submission(1, incarnation=1), 1) == Verdict.OTHER_INCARNATION


def test_a_copy_is_independent() -> None:
    sequences = Sequences()
    copy = sequences.copy()
    copy.apply(submission(1), 1)

    assert sequences.judge(submission(1), 1) == Verdict.COUNTS
    assert copy.judge(submission(1), 1) == Verdict.DUPLICATE


def test_a_window_never_grows_beyond_its_size() -> None:
    """Whatever an origin does, it costs every device 128 bytes: the wire type of a snapshot holds no more."""
    sequences = Sequences()
    for sequence in range(1, 6 * SEQUENCE_WINDOW, 3):
        sequences.apply(submission(sequence), 1)

    (window,) = sequences.snapshot()

    assert len(window.used) <= SEQUENCE_WINDOW // 8
    assert Codec(Window, bytes_max=400).decode(encode(window)) == window
