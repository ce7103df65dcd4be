"""Canonical encoding: msgpack arrays of bounded fields, refused unless they re-encode to the very same bytes.

Signatures and hashes are made over received bytes; the equality check only guarantees that there is exactly one
encoding of a value, so that nobody can hide two frames behind one meaning (ADR 0004).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, Generic, TypeVar

import msgspec

from swarm.primitives.errors import DecodeError
from swarm.primitives.limits import NUMBER_MAX

T = TypeVar("T")

U16 = Annotated[int, msgspec.Meta(ge=0, le=2**16 - 1)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
U63 = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]
I64 = Annotated[int, msgspec.Meta(ge=-NUMBER_MAX, le=NUMBER_MAX)]
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Bytes64 = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=32, pattern=r"^[a-z0-9-]+\Z")]

_ENCODER: Final = msgspec.msgpack.Encoder()


def encode(value: object) -> bytes:
    """Return the one canonical encoding of a wire value."""
    return _ENCODER.encode(value)


def is_encoding(value: object, data: bytes) -> bool:
    """Answer whether `data` is the one canonical encoding of a value."""
    return _ENCODER.encode(value) == data


class Codec(Generic[T]):
    """Strict decoder of one wire type, with the size cap that holds before anything is parsed."""

    def __init__(self, wire_type: type[T] | object, *, bytes_max: int) -> None:
        """Prepare the decoder of `wire_type`; longer inputs than `bytes_max` are refused unparsed."""
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(wire_type)
        self.bytes_max = bytes_max

    def decode(self, data: bytes, *, encodes: Callable[[T, bytes], bool] = is_encoding) -> T:
        """Return the value that `data` canonically encodes; `encodes` answers whether a value has that encoding.

        Raises `DecodeError` with reason `oversized`, `malformed` or `not-canonical`; the caller counts and drops.
        """
        if len(data) > self.bytes_max:
            raise DecodeError("oversized", f"{len(data)} > {self.bytes_max} bytes")
        try:
            value = self._decoder.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise DecodeError("malformed", str(error)) from None
        if not encodes(value, data):
            raise DecodeError("not-canonical")
        return value
