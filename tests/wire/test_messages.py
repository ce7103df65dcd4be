"""Every wire type: pinned bytes, exactly one encoding, and garbage that is refused with a known reason."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.primitives.errors import DecodeError, ProofError
from swarm.primitives.limits import (
    CHUNK_BYTES_MAX,
    COMMAND_BYTES_MAX,
    FRAME_BYTES_MAX,
    SUBMISSION_BYTES_MAX,
)
from swarm.wire.codec import encode
from swarm.wire.messages import (
    AskChunks,
    ChunkItem,
    Command,
    Envelope,
    Request,
    SubmissionBody,
    ask_chunks,
    decode_answer,
    decode_frame,
    decode_heartbeat,
    decode_request,
    decode_submission,
    encode_frame,
    seal_submission,
)
from swarm.wire.statements import Kind
from tests.support import vectors
from tests.support.vectors import FOLDER, NOTE, Sample, samples

SAMPLES = samples()
DECODABLE = [
    pytest.param(sample, id=f"{file}-{name}")
    for file, group in SAMPLES.items()
    for name, sample in group.items()
    if sample.decode is not None
]
REASONS = {"oversized", "malformed", "not-canonical"}
DECODERS = [decode_frame, decode_submission, decode_request, decode_answer, decode_heartbeat]


def refused(sample: Sample, data: bytes) -> bool:
    """Answer whether the sample's decoder refuses `data` in the only way it may."""
    assert sample.decode is not None
    return is_refused(sample.decode, data)


def is_refused(decode: Callable[[bytes], object], data: bytes) -> bool:
    """Answer whether `decode` refuses `data`; anything but a known reason fails the test."""
    reason = None
    try:
        decode(data)
    except DecodeError as error:
        reason = error.reason
    except ProofError:
        reason = "malformed"
    assert reason is None or reason in REASONS
    return reason is not None


@pytest.mark.parametrize("file", SAMPLES)
def test_bytes_are_the_pinned_ones(file: str) -> None:
    """A change here is a new protocol version; SWARM_REWRITE_VECTORS=1 writes the files anew."""
    if os.environ.get("SWARM_REWRITE_VECTORS") == "1":
        vectors.rewrite()
    pinned = json.loads((FOLDER / f"{file}.json").read_text(encoding="utf-8"))
    assert pinned == {name: sample.data.hex() for name, sample in SAMPLES[file].items()}


def test_no_vector_file_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(SAMPLES)


@pytest.mark.parametrize("sample", DECODABLE)
def test_bytes_decode_to_the_value_they_were_made_of(sample: Sample) -> None:
    assert sample.decode is not None
    assert sample.decode(sample.data) == sample.value


@pytest.mark.parametrize("sample", DECODABLE)
def test_one_byte_short_or_long_is_refused(sample: Sample) -> None:
    assert refused(sample, sample.data[:-1])
    assert refused(sample, sample.data[1:])
    assert refused(sample, sample.data + b"\x00")
    assert refused(sample, sample.data + sample.data)
    assert refused(sample, b"")


@pytest.mark.parametrize("sample", DECODABLE)
def test_every_prefix_is_refused(sample: Sample) -> None:
    for length in range(0, len(sample.data), max(1, len(sample.data) // 200)):
        assert refused(sample, sample.data[:length])


@pytest.mark.parametrize("sample", DECODABLE)
def test_a_changed_byte_is_another_value_or_refused(sample: Sample) -> None:
    """Two byte strings never mean one value: nobody can hide a second frame behind the first."""
    assert sample.decode is not None
    for index in range(0, len(sample.data), max(1, len(sample.data) // 150)):
        changed = bytearray(sample.data)
        changed[index] ^= 1 << (index % 8)
        if not refused(sample, bytes(changed)):
            assert sample.decode(bytes(changed)) != sample.value


@pytest.mark.parametrize("decode", DECODERS)
@settings(deadline=None, max_examples=200)
@given(data=st.binary(max_size=300))
def test_garbage_raises_nothing_else(decode: Callable[[bytes], object], data: bytes) -> None:
    if not is_refused(decode, data):
        assert decode(data) is not None


@pytest.mark.parametrize("decode", DECODERS)
@settings(deadline=None, max_examples=100)
@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats()
        | st.text(max_size=8)
        | st.binary(max_size=64),
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=20,
    )
)
def test_well_formed_msgpack_of_another_shape_is_refused(
    decode: Callable[[bytes], object], value: object
) -> None:
    with pytest.raises(DecodeError):
        decode(encode(value))


def test_nesting_beyond_reason_is_refused() -> None:
    with pytest.raises(DecodeError, match="malformed"):
        decode_frame(b"\x91" * 100_000)


def test_a_frame_that_is_too_long_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(DecodeError, match="oversized"):
        decode_frame(bytes(FRAME_BYTES_MAX + 1))


def test_an_empty_frame_is_refused() -> None:
    with pytest.raises(DecodeError, match="malformed"):
        decode_frame(encode(()))


def test_an_unknown_kind_of_item_is_refused() -> None:
    with pytest.raises(DecodeError, match="malformed"):
        decode_frame(encode(((99, b"x"),)))


@pytest.mark.parametrize(
    "name", ["", "A", "dev_0", "dev 0", "dev-0\n", "x" * 33, "dev/0", "+", "#", "dév"], ids=repr
)
def test_a_name_that_is_no_topic_level_is_refused(name: str) -> None:
    frame = encode_frame((Envelope(Kind.REQUEST, name, b"", bytes(64)),))
    with pytest.raises(DecodeError, match="malformed"):
        decode_frame(frame)


@pytest.mark.parametrize("number", [2**63, 2**64 - 1])
def test_a_number_of_64_bits_is_refused(number: int) -> None:
    body = SubmissionBody("dev-0", 0, number, 0, (Command("notes", b""),))
    raw = seal_submission(body, encode(body), bytes(64)).raw
    with pytest.raises(DecodeError, match="malformed"):
        decode_submission(raw)


def test_a_submission_as_large_as_allowed_passes_and_one_byte_more_does_not() -> None:
    def sealed(last: int) -> bytes:
        commands = tuple(Command("notes", bytes(size)) for size in (16_000, 16_000, 16_000, 15_000, last))
        body = SubmissionBody("dev-0", 0, 1, 0, commands)
        return seal_submission(body, encode(body), bytes(64)).raw

    largest = 1_000 + SUBMISSION_BYTES_MAX - len(sealed(1_000))
    assert len(sealed(largest)) == SUBMISSION_BYTES_MAX

    assert len(decode_submission(sealed(largest)).body.commands[4].body) == largest
    with pytest.raises(DecodeError, match="oversized"):
        decode_submission(sealed(largest + 1))


def test_a_command_that_is_too_long_is_refused() -> None:
    body = SubmissionBody("dev-0", 0, 1, 0, (Command("notes", bytes(COMMAND_BYTES_MAX + 1)),))
    with pytest.raises(DecodeError, match="malformed"):
        decode_submission(seal_submission(body, encode(body), bytes(64)).raw)


def test_the_id_of_a_submission_covers_its_signature() -> None:
    """Two signatures on one body are two submissions: an id names bytes, not intentions."""
    other = seal_submission(NOTE.body, NOTE.signed, bytes(64))
    assert other.body == NOTE.body
    assert other.id != NOTE.id


@pytest.mark.parametrize(
    "wanted",
    [b"", b"\x00", b"\x40", b"\x80\x00", b"\x00\x80", b"\xf8", b"\x80" + bytes(31) + b"\x80", b"\xf0\x80"],
    ids=["empty", "none", "not-from-first", "tail", "head", "five", "too-long", "five-in-two"],
)
def test_a_bitmap_of_other_than_one_to_four_chunks_or_in_a_second_spelling_is_refused(wanted: bytes) -> None:
    body = encode((1, 2, "dev-2", (10, bytes(32), 0, wanted, False)))
    with pytest.raises(DecodeError, match="malformed"):
        decode_request(body)


@settings(deadline=None)
@given(
    first=st.integers(0, 2**32 - 1),
    offsets=st.sets(st.integers(1, 255), max_size=3),
    paths=st.booleans(),
)
def test_a_question_for_chunks_names_just_those(first: int, offsets: set[int], paths: bool) -> None:
    indexes = (first, *(first + offset for offset in sorted(offsets)))
    ask = ask_chunks(bytes(32), indexes, paths=paths)

    assert ask.indexes == indexes
    request = Request(boot=1, n=2, to="dev-2", ask=ask)
    assert decode_request(encode(request)) == request
    assert isinstance(request.ask, AskChunks)


names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=32)
u63 = st.integers(0, 2**63 - 1)
bodies = st.builds(
    SubmissionBody,
    origin=names,
    incarnation=st.integers(0, 2**32 - 1),
    sequence=u63,
    expiry=u63,
    commands=st.lists(st.builds(Command, names, st.binary(max_size=200)), min_size=1, max_size=5).map(tuple),
)


@settings(deadline=None)
@given(body=bodies, signature=st.binary(min_size=64, max_size=64))
def test_any_submission_comes_back_from_its_bytes(body: SubmissionBody, signature: bytes) -> None:
    sealed = seal_submission(body, encode(body), signature)

    assert decode_submission(sealed.raw) == sealed


@pytest.mark.parametrize("size", [1, 255, 256, 4096, CHUNK_BYTES_MAX])
def test_a_chunk_alone_in_its_frame_has_one_encoding_too(size: int) -> None:
    """Its check re-encodes all but the bytes of the chunk, so every mark around them is tried in another form."""
    data = os.urandom(size)
    items = (ChunkItem(Envelope(Kind.ANSWER, "dev-0", b"body", bytes(64)), data),)
    payload = encode_frame(items)
    assert decode_frame(payload) == items
    head = payload[: len(payload) - size - (2 if size <= 255 else 3)]
    others = [
        head + b"\xc6" + size.to_bytes(4, "big") + data,
        b"\xdc\x00\x01" + payload[1:],
        payload[:2] + b"\xcc" + payload[2:],
        payload.replace(b"\xa5dev-0", b"\xd9\x05dev-0", 1),
        payload + b"\x00",
        payload[:-1],
    ]
    if size <= 255:
        others.append(head + b"\xc5" + size.to_bytes(2, "big") + data)
    for other in others:
        assert other != payload
        assert is_refused(decode_frame, other)
    assert decode_frame(encode_frame(items * 2)) == items * 2
