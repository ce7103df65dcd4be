"""The codec: one encoding for a value, a cap before parsing, and names that are names."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.primitives.errors import DecodeError
from swarm.wire.codec import I64, U16, U63, Bytes32, Codec, Name, encode


class Pair(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    name: Name
    number: I64
    digest: Bytes32 | None
    list: Annotated[tuple[U16, ...], msgspec.Meta(max_length=3)]


CODEC: Codec[Pair] = Codec(Pair, bytes_max=200)
PAIR = Pair("dev-0", -5, None, (1, 2))

pairs = st.builds(
    Pair,
    name=st.text("abc-019", min_size=1, max_size=32),
    number=st.integers(-(2**63 - 1), 2**63 - 1),
    digest=st.none() | st.binary(min_size=32, max_size=32),
    list=st.lists(st.integers(0, 2**16 - 1), max_size=3).map(tuple),
)


@settings(deadline=None)
@given(pair=pairs)
def test_a_value_comes_back_from_its_bytes(pair: Pair) -> None:
    assert CODEC.decode(encode(pair)) == pair


@settings(deadline=None)
@given(data=st.binary(max_size=80))
def test_what_decodes_encodes_to_the_same_bytes(data: bytes) -> None:
    try:
        value = CODEC.decode(data)
    except DecodeError:
        return
    assert encode(value) == data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x94\xa1a\xd0\x05\xc0\x90", "5 as int8 where fixint would do"),
        (b"\x94\xd9\x01a\x05\xc0\x90", "a short name as str8"),
        (b"\x94\xa1a\x05\xc0\xdc\x00\x00", "an empty list as array16"),
        (b"\xdc\x00\x04\xa1a\x05\xc0\x90", "the struct as array16"),
    ],
)
def test_a_second_encoding_of_a_value_is_refused(data: bytes, why: str) -> None:
    assert CODEC.decode(b"\x94\xa1a\x05\xc0\x90") == Pair("a", 5, None, ()), "the first encoding"
    with pytest.raises(DecodeError) as caught:
        CODEC.decode(data)
    assert caught.value.reason == "not-canonical", why


@pytest.mark.parametrize(
    "value",
    [
        ("dev-0", -5, None),
        ("dev-0", -5, None, (1,), 1),
        {"name": "dev-0", "number": 1, "digest": None, "list": ()},
        ("dev-0", 1.0, None, ()),
        ("dev-0", True, None, ()),
        ("dev-0", 1, bytes(31), ()),
        ("dev-0", 1, bytes(33), ()),
        ("dev-0", 1, None, (1, 2, 3, 4)),
        ("dev-0", 1, None, (2**16,)),
        ("dev-0", 1, None, (-1,)),
        ("dev-0", -(2**63), None, ()),
        ("dev-0\n", 1, None, ()),
        (b"dev-0", 1, None, ()),
    ],
    ids=str,
)
def test_another_shape_is_malformed(value: object) -> None:
    with pytest.raises(DecodeError) as caught:
        CODEC.decode(encode(value))
    assert caught.value.reason == "malformed"


def test_the_cap_holds_before_parsing() -> None:
    with pytest.raises(DecodeError) as caught:
        CODEC.decode(bytes(201))
    assert caught.value.reason == "oversized"


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(DecodeError):
        CODEC.decode(encode(PAIR) + b"\xc0")


def test_u63_ends_where_sqlite_ends() -> None:
    codec: Codec[int] = Codec(U63, bytes_max=16)
    assert codec.decode(encode(2**63 - 1)) == 2**63 - 1
    with pytest.raises(DecodeError):
        codec.decode(encode(2**63))
