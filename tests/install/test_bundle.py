"""One file for one release: nothing malformed, nothing that leaves the slot, nothing twice."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.crypto.digest import sha256
from swarm.install.bundle import MAGIC, pack_bundle, parse_bundle
from swarm.install.image import ImageError, ImageReason
from swarm.primitives.errors import ConfigError

FILES = {"b.py": b"x = 1\n", "a/z.bin": b"\0" * 300, "a/empty": b""}


def raw(*entries: tuple[bytes, bytes], count: int | None = None, tail: bytes = b"") -> bytes:
    """Write a bundle without any of the rules."""
    head = MAGIC + struct.pack(">I", len(entries) if count is None else count)
    for path, content in entries:
        head += struct.pack(">H", len(path)) + path + struct.pack(">I32s", len(content), sha256(content))
    return head + b"".join(content for _, content in entries) + tail


def refused(data: bytes) -> ImageReason:
    with pytest.raises(ImageError) as caught:
        parse_bundle(data)
    return caught.value.reason


def test_round_trip_and_order() -> None:
    data = pack_bundle(FILES)
    bundle = parse_bundle(data)
    assert list(bundle.files()) == [(path, FILES[path]) for path in ("a/empty", "a/z.bin", "b.py")]
    assert pack_bundle(dict(reversed(FILES.items()))) == data
    assert data == raw(*((path.encode(), FILES[path]) for path in sorted(FILES)))


def test_the_digest_covers_paths_contents_and_their_division() -> None:
    digests = {
        parse_bundle(pack_bundle(files)).digest
        for files in (FILES, {"a": b"bc"}, {"ab": b"c"}, {"a": b"b", "c": b""}, {"a": b"b", "d": b""})
    }
    assert len(digests) == 5


WRONG_PATHS = [
    "", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", ".", "..", "a\nb", "a\0b", "__pycache__/x.pyc",
    "lib/__pycache__/m.pyc", "x" * 256, "y/" * 600 + "z", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("path", WRONG_PATHS)
def test_paths_that_no_device_takes(path: str) -> None:
    with pytest.raises(ConfigError, match="path of a file"):
        pack_bundle({path: b""})
    assert refused(raw((path.encode(errors="surrogatepass"), b""))) is ImageReason.BAD_HEADER


@pytest.mark.parametrize("path", [".sealed", "a b.txt", "...", "ä.py", "a/b/c"])
def test_paths_that_are_only_unusual(path: str) -> None:
    assert next(parse_bundle(pack_bundle({path: b"1"})).files()) == (path, b"1")


def test_makers_mistakes() -> None:
    with pytest.raises(ConfigError, match="file and a folder"):
        pack_bundle({"a": b"", "a/b": b""})
    with pytest.raises(ConfigError, match="0 given"):
        pack_bundle({})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", ImageReason.TRUNCATED),
        (b"PK\3\4" + bytes(30), ImageReason.BAD_MAGIC),
        (raw(), ImageReason.BAD_HEADER),
        (raw(count=2**32 - 1), ImageReason.BAD_HEADER),
        (raw((b"a", b"1"), count=2), ImageReason.TRUNCATED),
        (raw((b"b", b""), (b"a", b"")), ImageReason.BAD_HEADER),
        (raw((b"a", b""), (b"a", b"")), ImageReason.BAD_HEADER),
        (raw((b"a", b""), (b"a/b", b"")), ImageReason.BAD_HEADER),
        (raw((b"a", b""), (b"a!", b""), (b"a/b", b"")), ImageReason.BAD_HEADER),
        (raw((b"a", b"1"), tail=b"x"), ImageReason.TRAILING_BYTES),
        (raw((b"a", b"1"))[:-1], ImageReason.TRUNCATED),
        (raw((b"a", b"1"))[:-1] + b"2", ImageReason.WRONG_DIGEST),
    ],
)
def test_refused_with_its_reason(data: bytes, reason: ImageReason) -> None:
    assert refused(data) is reason


def test_every_cut_and_flip() -> None:
    data = pack_bundle(FILES)
    digest = parse_bundle(data).digest
    for at in range(len(data)):
        refused(data[:at])
        changed = bytearray(data)
        changed[at] ^= 1
        try:
            other = parse_bundle(bytes(changed))
        except ImageError:
            continue
        assert other.digest != digest, "a path may change, and then the digest does"


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_garbage(tail: bytes) -> None:
    for data in (tail, MAGIC + tail, MAGIC + b"\0\0\0\1" + tail):
        try:
            bundle = parse_bundle(data)
        except ImageError:
            continue
        assert pack_bundle(dict(bundle.files())) == data
