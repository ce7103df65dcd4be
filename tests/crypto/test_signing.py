"""Signatures: published vectors, every altered byte refused, garbage answered and never raised."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_core_ed25519_add

from swarm.crypto.keys import KeyPair
from swarm.crypto.signing import SIGNATURE_BYTES, is_canonical_key, sign, verify

# RFC 8032 section 7.1, TEST 1 to 3: seed, public key, message, signature.
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
            "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
]

GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
FIELD = 2**255 - 19

IDENTITY = (1).to_bytes(32, "little")
ORDER_TWO = (FIELD - 1).to_bytes(32, "little")
ORDER_FOUR = bytes(32)

PAIR = KeyPair(bytes(range(32)))


@pytest.mark.parametrize(("seed", "public", "message", "signature"), VECTORS)
def test_signatures_are_those_of_the_rfc(seed: str, public: str, message: str, signature: str) -> None:
    pair = KeyPair(bytes.fromhex(seed))
    assert pair.public.hex() == public
    assert sign(pair, bytes.fromhex(message)).hex() == signature
    assert verify(pair.public, bytes.fromhex(message), bytes.fromhex(signature))


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_what_is_signed_verifies_and_no_other_key_or_message_does(seed: bytes, message: bytes) -> None:
    pair = KeyPair(seed)
    signature = sign(pair, message)
    assert len(signature) == SIGNATURE_BYTES
    assert verify(pair.public, message, signature)
    assert not verify(pair.public, message + b"\x00", signature)
    assert not verify(KeyPair(bytes([seed[0] ^ 1]) + seed[1:]).public, message, signature)


def test_one_flipped_bit_anywhere_fails() -> None:
    message = b"statement"
    whole = PAIR.public + message + sign(PAIR, message)
    for bit in range(8 * len(whole)):
        bent = bytearray(whole)
        bent[bit // 8] ^= 1 << (bit % 8)
        flipped = bytes(bent)
        assert not verify(flipped[:32], flipped[32:-64], flipped[-64:]), f"bit {bit}"


@settings(deadline=None)
@given(st.binary(max_size=80), st.binary(max_size=40), st.binary(max_size=80))
def test_garbage_is_false_and_never_raises(public: bytes, message: bytes, signature: bytes) -> None:
    assert not verify(public, message, signature)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    key = (PAIR.public * 2)[:length]
    assert not verify(key, b"m", sign(PAIR, b"m"))
    assert not is_canonical_key(key)


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_of_another_length_is_refused(length: int) -> None:
    # Without the check, one byte of the message could travel at the end of the signature.
    signature = sign(PAIR, b"m")
    assert not verify(PAIR.public, b"m"[max(0, length - 64) :], (signature + b"m")[:length])


def test_a_signature_cannot_be_altered_into_a_second_valid_one() -> None:
    signature = sign(PAIR, b"m")
    scalar = int.from_bytes(signature[32:], "little") + GROUP_ORDER
    assert not verify(PAIR.public, b"m", signature[:32] + scalar.to_bytes(32, "little"))


def test_the_identity_as_key_signs_nothing() -> None:
    # With A = identity the equation S*B = R + k*A holds for R = S*B and every message.
    assert not verify(IDENTITY, b"anything", IDENTITY + bytes(32))


def test_ordinary_keys_are_canonical() -> None:
    for number in range(20):
        assert is_canonical_key(KeyPair(number.to_bytes(32, "big")).public)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(IDENTITY, id="identity"),
        pytest.param(ORDER_TWO, id="order 2"),
        pytest.param(ORDER_FOUR, id="order 4"),
        pytest.param((FIELD + 1).to_bytes(32, "little"), id="identity, y = p + 1"),
        pytest.param(FIELD.to_bytes(32, "little"), id="order 4, y = p"),
        pytest.param(b"\xff" * 32, id="y above p"),
        pytest.param((2).to_bytes(32, "little"), id="off the curve"),
        pytest.param(crypto_core_ed25519_add(PAIR.public, ORDER_TWO), id="outside the subgroup"),
    ],
)
def test_low_order_and_non_canonical_keys_are_refused(key: bytes) -> None:
    assert not is_canonical_key(key)
