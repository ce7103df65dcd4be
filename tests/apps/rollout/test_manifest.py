"""The manifest: one encoding, every field bounded, k-of-n signatures over its id."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.apps.rollout.manifest import (
    Manifest,
    Need,
    decode_manifest,
    encode_manifest,
    release_id,
    release_signers,
    sign_release,
    sorted_signatures,
)
from swarm.crypto.digest import sha256
from swarm.primitives.errors import DecodeError
from swarm.primitives.limits import MANIFEST_BYTES_MAX
from swarm.wire.codec import encode
from swarm.wire.genesis import key_id
from tests.support.rollouts import CLASS, VENDOR, make_manifest, release_keypairs

SWARM = sha256(b"swarm")
PLAIN = make_manifest(SWARM)


def reason(data: bytes, swarm: bytes = SWARM) -> str:
    with pytest.raises(DecodeError) as caught:
        decode_manifest(data, swarm)
    return caught.value.reason


numbers = st.integers(1, 2**63 - 1)
uuids = st.binary(min_size=16, max_size=16)
digests = st.binary(min_size=32, max_size=32)
pairs = st.tuples(st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1)).map(lambda p: (min(p), max(p)))
needs = st.lists(
    st.builds(Need, uuids, uuids, numbers), max_size=8, unique_by=lambda n: n.vendor + n.class_uuid
)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    number = draw(numbers)
    size, chunk = draw(st.integers(1, 2**32 - 1)), draw(st.sampled_from([4096, 8192, 16384, 32768]))
    return make_manifest(
        SWARM,
        number,
        vendor=draw(uuids),
        class_uuid=draw(uuids),
        version=draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=32)),
        counter=draw(st.integers(0, 2**32 - 1)),
        oldest=draw(st.integers(0, number - 1)),
        file_bytes=size,
        file_hash=draw(digests),
        image_digest=draw(digests),
        chunk_bytes=chunk,
        chunk_count=-(-size // chunk),
        chunk_root=draw(digests),
        use_before=draw(st.integers(0, 2**63 - 1)),
        protocols=draw(pairs),
        stores=draw(pairs),
        needs=tuple(sorted(draw(needs), key=lambda n: n.vendor + n.class_uuid)),
        notes=draw(st.binary(max_size=1024)),
    )


@settings(deadline=None)
@given(manifests())
def test_round_trip(manifest: Manifest) -> None:
    data = encode_manifest(manifest)
    assert len(data) <= MANIFEST_BYTES_MAX
    assert decode_manifest(data, SWARM) == manifest
    assert manifest.release == release_id(data)


@settings(deadline=None)
@given(
    st.binary(max_size=400)
    | manifests().map(encode).flatmap(lambda d: st.integers(0, len(d)).map(lambda n: d[:n]))
)
def test_garbage_decodes_or_is_refused(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        assert encode(decode_manifest(data, SWARM)) == data


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"format": 2}, "format"),
        ({"version": "\x07"}, "version"),
        ({"version": "é"}, "version"),
        ({"version": ""}, "malformed"),
        ({"number": 0}, "malformed"),
        ({"file_bytes": 0, "chunk_count": 0}, "size"),
        ({"chunk_bytes": 2048, "chunk_count": 5}, "chunk-size"),
        ({"chunk_bytes": 65536, "chunk_count": 1}, "chunk-size"),
        ({"chunk_bytes": 5000, "chunk_count": 2}, "chunk-size"),
        ({"chunk_count": 2}, "chunk-count"),
        ({"oldest": 2}, "oldest"),
        ({"protocols": (2, 1)}, "protocols"),
        ({"stores": (2, 1)}, "stores"),
        ({"needs": (Need(VENDOR, CLASS, 1),) * 2}, "needs"),
        ({"notes": bytes(1025)}, "malformed"),
        ({"vendor": bytes(15)}, "malformed"),
    ],
    ids=str,
)
def test_every_field_is_checked(changes: dict[str, Any], word: str) -> None:
    assert reason(encode(msgspec.structs.replace(PLAIN, **changes))) == word


def test_other_swarm_too_long_cut_and_doubled() -> None:
    data = encode(PLAIN)
    assert reason(data, sha256(b"other")) == "other-swarm"
    assert reason(data + bytes(MANIFEST_BYTES_MAX)) == "oversized"
    assert reason(data[:-1]) == "malformed"
    assert reason(data + b"\0") == "malformed"
    # The same number, one byte longer than it has to be.
    assert data.count(b"\x02\xa2v2") == 1
    assert reason(data.replace(b"\x02\xa2v2", b"\xcc\x02\xa2v2")) == "not-canonical"


def test_signatures_count_distinct_known_keys() -> None:
    release = PLAIN.release
    pairs = release_keypairs()
    keys = [pair.public for pair in pairs]
    good = sorted_signatures(sign_release(pair, release) for pair in pairs)
    assert release_signers(keys, release, good) == 3
    assert release_signers(keys[:2], release, good) == 2
    assert release_signers(keys, sha256(b"other"), good) == 0
    assert release_signers(keys, release, (good[0], good[0])) == 0, "one key twice is not sorted and distinct"
    assert release_signers(keys, release, good[::-1]) == 0
    name, signature = good[0]
    forged = (name, bytes([signature[0] ^ 1]) + signature[1:])
    assert release_signers(keys, release, (forged, *good[1:])) == 2
    assert name in {key_id(key) for key in keys}
