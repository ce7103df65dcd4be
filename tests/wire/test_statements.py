"""What is signed: fixed bytes for fixed words, and no two meanings of one signature."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.crypto.signing import verify
from swarm.wire.codec import encode
from swarm.wire.statements import (
    CONTEXT,
    STATEMENT_KINDS,
    VOTE_KINDS,
    Kind,
    attest_digest,
    envelope_bytes,
    genesis_header,
    header_hash,
    statement_bytes,
)
from tests.support.swarms import keypair, sign_statement
from tests.support.vectors import GENESIS, HEADER

digests = st.binary(min_size=32, max_size=32)
statements = st.tuples(
    digests,
    st.sampled_from([int(kind) for kind in STATEMENT_KINDS]),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**63 - 1),
    digests,
)


def test_a_statement_is_laid_out_as_the_protocol_says() -> None:
    signed = statement_bytes(b"s" * 32, Kind.NOTARIZE, 1, 2, b"d" * 32)

    assert signed == b"swarm/1\0" + b"s" * 32 + b"N" + b"\0\0\0\1" + b"\0\0\0\0\0\0\0\2" + b"d" * 32
    assert len(signed) == 85


def test_an_envelope_is_laid_out_as_the_protocol_says() -> None:
    assert envelope_bytes(b"s" * 32, Kind.REQUEST, b"body") == b"swarm/1\0" + b"s" * 32 + b"Q" + b"body"


def test_an_attestation_digest_is_laid_out_as_the_protocol_says() -> None:
    expected = hashlib.sha256((5).to_bytes(8, "big") + b"l" * 32 + b"s" * 32).digest()

    assert attest_digest(5, b"l" * 32, b"s" * 32) == expected


@settings(deadline=None)
@given(one=statements, other=statements)
def test_two_statements_never_share_their_bytes(
    one: tuple[bytes, int, int, int, bytes], other: tuple[bytes, int, int, int, bytes]
) -> None:
    assert (statement_bytes(*one) == statement_bytes(*other)) == (one == other)


def test_kinds_are_letters_and_statements_differ_from_envelopes() -> None:
    letters = {chr(kind) for kind in Kind}
    assert letters == set("PNKFASQRH")
    assert {chr(kind) for kind in STATEMENT_KINDS} == set("PNKFA")
    assert {chr(kind) for kind in VOTE_KINDS} == set("NKF")


def test_a_signature_fits_only_what_was_signed() -> None:
    key = keypair("dev-0").public
    signature = sign_statement(GENESIS, "dev-0", Kind.NOTARIZE, 3, b"d" * 32)

    assert verify(key, statement_bytes(GENESIS.id, Kind.NOTARIZE, 0, 3, b"d" * 32), signature)
    for other in (
        statement_bytes(bytes(32), Kind.NOTARIZE, 0, 3, b"d" * 32),
        statement_bytes(GENESIS.id, Kind.FINALIZE, 0, 3, b"d" * 32),
        statement_bytes(GENESIS.id, Kind.NOTARIZE, 1, 3, b"d" * 32),
        statement_bytes(GENESIS.id, Kind.NOTARIZE, 0, 4, b"d" * 32),
        statement_bytes(GENESIS.id, Kind.NOTARIZE, 0, 3, b"e" * 32),
    ):
        assert not verify(key, other, signature)


def test_a_header_hash_covers_every_field_and_has_its_own_domain() -> None:
    assert header_hash(HEADER) == hashlib.sha256(CONTEXT + b"header\0" + encode(HEADER)).digest()
    assert header_hash(HEADER) != header_hash(genesis_header(GENESIS.id))


def test_the_genesis_block_belongs_to_its_swarm() -> None:
    header = genesis_header(b"s" * 32)
    assert (header.view, header.height, header.parent) == (0, 0, b"s" * 32)
    assert header_hash(header) != header_hash(genesis_header(b"t" * 32))
