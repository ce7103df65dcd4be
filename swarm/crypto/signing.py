"""Detached Ed25519 signatures: one way to make them, one way to check them, no way to raise on garbage."""

from __future__ import annotations

from typing import Final

from nacl.bindings import crypto_core_ed25519_is_valid_point, crypto_sign, crypto_sign_open
from nacl.exceptions import BadSignatureError

from swarm.crypto.keys import PUBLIC_KEY_BYTES, KeyPair

SIGNATURE_BYTES: Final = 64


def sign(keypair: KeyPair, message: bytes) -> bytes:
    """Return the detached signature (64 bytes) of `message`.

    Deterministic (RFC 8032): the same key and message give the same bytes. Only the guard of PROTOCOL section 3
    may call this for statements and submissions.
    """
    # PyNaCl binds only libsodium's combined form, signature | message.
    return crypto_sign(message, keypair.secret)[:SIGNATURE_BYTES]


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Answer whether `signature` (64 bytes) is that of `public` (32 bytes) over `message`.

    Garbage of any length is False, never an exception: everything here comes from peers. libsodium refuses
    a scalar S >= L (so a signature cannot be altered into a second valid one), and low-order keys and R.
    """
    # The lengths are a matter of memory safety too: the binding reads 32 bytes at `public`, whatever it holds.
    if len(public) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public)
    except BadSignatureError:
        return False
    return True


def is_canonical_key(public: bytes) -> bool:
    """Answer whether `public` may be listed as somebody's key.

    False for a wrong length, an encoding that is not the only one of its point, a point off the curve, of small
    order, or outside the prime-order subgroup. With such a key two verifiers may disagree about one signature,
    which is why genesis and membership changes ask here before they take a key.
    """
    return len(public) == PUBLIC_KEY_BYTES and crypto_core_ed25519_is_valid_point(public)
