"""Leaves of the log: a submission as received, or an event; and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.primitives.errors import DecodeError
from swarm.primitives.limits import EVENT_BYTES_MAX
from swarm.wire.codec import encode
from swarm.wire.leaves import EventBody, decode_leaf, event_leaf, submission_leaf
from tests.support.vectors import EVENT, NOTE


def test_a_submission_leaf_is_the_received_bytes_behind_a_one() -> None:
    assert submission_leaf(NOTE.raw) == b"\x01" + NOTE.raw

    leaf = decode_leaf(submission_leaf(NOTE.raw))

    assert leaf.submission == NOTE
    assert leaf.event is None


def test_an_event_leaf_is_its_canonical_bytes_behind_a_two() -> None:
    assert event_leaf(EVENT) == b"\x02" + encode(EVENT)

    leaf = decode_leaf(event_leaf(EVENT))

    assert leaf.event == EVENT
    assert leaf.submission is None


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\x03" + NOTE.raw, b"\x02" + NOTE.raw, b"\x01", b"\x02"], ids=repr
)
def test_other_bytes_are_no_leaf(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_leaf(data)
    assert caught.value.reason == "malformed"


@settings(deadline=None)
@given(
    event=st.builds(
        EventBody,
        height=st.integers(0, 2**63 - 1),
        submission=st.binary(min_size=32, max_size=32),
        command=st.integers(0, 2**16 - 1),
        app=st.text("abc-0", min_size=1, max_size=32),
        body=st.binary(max_size=300),
    )
)
def test_any_event_comes_back(event: EventBody) -> None:
    assert decode_leaf(event_leaf(event)).event == event


def test_the_largest_event_fits_a_leaf() -> None:
    largest = EventBody(
        height=2**63 - 1, submission=bytes(32), command=65_535, app="x" * 32, body=bytes(EVENT_BYTES_MAX)
    )
    assert decode_leaf(event_leaf(largest)).event == largest
    longer = EventBody(height=0, submission=bytes(32), command=0, app="x", body=bytes(EVENT_BYTES_MAX + 1))
    with pytest.raises(DecodeError, match="malformed"):
        decode_leaf(event_leaf(longer))
