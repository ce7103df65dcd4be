"""Key pairs: the published vectors, refused seeds, and a secret that never shows."""

from __future__ import annotations

import dataclasses

import pytest

from swarm.crypto.keys import KeyPair
from swarm.primitives.errors import ConfigError

SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
"""RFC 8032 section 7.1, TEST 1."""


def test_public_half_is_that_of_the_rfc() -> None:
    assert KeyPair(SEED).public == PUBLIC


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_a_seed_of_another_length_is_refused_without_showing_it(length: int) -> None:
    seed = bytes(range(100, 100 + length))
    with pytest.raises(ConfigError, match=f"32 bytes, {length} given") as caught:
        KeyPair(seed)
    assert not seed or (seed.hex() not in str(caught.value) and repr(seed) not in str(caught.value))


def test_neither_seed_nor_secret_shows() -> None:
    pair = KeyPair(SEED)
    for text in (repr(pair), str(pair), f"{pair}", f"{[pair]}"):
        assert pair.public.hex() in text
        assert SEED.hex() not in text
        assert repr(SEED)[2:-1] not in text
        assert "secret" not in text
        assert "seed" not in text


def test_a_pair_is_frozen_and_equal_by_its_seed() -> None:
    pair = KeyPair(SEED)
    with pytest.raises(dataclasses.FrozenInstanceError):
        pair.seed = bytes(32)  # type: ignore[misc]
    assert pair == KeyPair(SEED)
    assert hash(pair) == hash(KeyPair(SEED))
    assert pair != KeyPair(bytes(32))
