"""Proofs: what they prove, and that no byte of one can be changed."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.primitives.errors import ProofError
from swarm.wire.proof import MAGIC, decode_proof, encode_proof, verify
from tests.support.swarms import make_checkpoint, make_genesis, make_proof
from tests.support.vectors import DIGEST, GENESIS, LEAVES

PROOF = make_proof(GENESIS, LEAVES, 2)
DATA = encode_proof(PROOF)


def changed(**changes: Any) -> bytes:
    return encode_proof(msgspec.structs.replace(PROOF, **changes))


@pytest.mark.parametrize("position", range(len(LEAVES)))
def test_every_leaf_of_a_log_can_be_proved(position: int) -> None:
    proved = verify(encode_proof(make_proof(GENESIS, LEAVES, position)), GENESIS)

    assert proved.leaf == LEAVES[position]
    assert proved.position == position
    assert (proved.height, proved.log_size) == (7, len(LEAVES))
    assert proved.log_root == make_checkpoint(GENESIS, LEAVES).log_root
    assert proved.signers == ("dev-0", "dev-1")


@pytest.mark.parametrize("voters", [1, 2, 3, 4, 7, 10])
@pytest.mark.parametrize("budget", ["balanced", "majority", "crash"])
def test_every_budget_needs_exactly_r_plus_one(voters: int, budget: str) -> None:
    genesis = make_genesis(voters, budget=budget)
    needed = genesis.budget.r + 1
    last = tuple(range(voters - needed, voters))
    checkpoint = make_checkpoint(genesis, LEAVES, signers=last)

    proved = verify(encode_proof(make_proof(genesis, LEAVES, 0, checkpoint=checkpoint)), genesis)

    assert len(proved.signers) == needed
    if needed > 1:
        fewer = make_checkpoint(genesis, LEAVES, signers=last[1:])
        with pytest.raises(ProofError, match=f"exactly {needed}"):
            verify(encode_proof(make_proof(genesis, LEAVES, 0, checkpoint=fewer)), genesis)


def test_spare_signatures_are_left_out_by_the_maker_and_refused_by_the_verifier() -> None:
    everybody = make_checkpoint(GENESIS, LEAVES, signers=range(4))
    assert make_proof(GENESIS, LEAVES, 2, checkpoint=everybody) == PROOF

    with pytest.raises(ProofError, match="exactly 2"):
        verify(changed(signatures=everybody.signatures), GENESIS)


def test_every_single_bit_counts() -> None:
    """All bits of one real proof, one after the other."""
    for index in range(len(DATA)):
        for bit in range(8):
            data = bytearray(DATA)
            data[index] ^= 1 << bit
            with pytest.raises(ProofError):
                verify(bytes(data), GENESIS)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_change_of_one_byte_fails(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(LEAVES)))
    position = data.draw(st.integers(0, size - 1))
    proof = bytearray(encode_proof(make_proof(GENESIS, LEAVES[:size], position)))
    index = data.draw(st.integers(0, len(proof) - 1))
    proof[index] = data.draw(st.integers(0, 255).filter(lambda value: value != proof[index]))

    with pytest.raises(ProofError):
        verify(bytes(proof), GENESIS)


@settings(deadline=None, max_examples=200)
@given(data=st.binary(max_size=400))
def test_garbage_proves_nothing(data: bytes) -> None:
    for candidate in (data, MAGIC + data):
        with pytest.raises(ProofError):
            verify(candidate, GENESIS)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not begin like one"),
        (DATA[:-1], "not a proof"),
        (DATA + b"\0", "not a proof"),
        (changed(swarm=DIGEST), "of swarm"),
        (changed(epoch=1), "epoch 1"),
        (changed(height=8), "does not fit leaf 2"),
        (changed(log_size=4), "does not fit|path of"),
        (changed(log_size=2), "no leaf 2"),
        (changed(state_root=DIGEST), "does not fit"),
        (changed(position=3), "does not fit|path of"),
        (changed(leaf=LEAVES[1]), "does not fit"),
        (changed(path=PROOF.path[:-1]), "path of"),
        (changed(path=(*PROOF.path, DIGEST)), "path of"),
        (changed(signatures=PROOF.signatures[::-1]), "ascending"),
        (changed(signatures=(PROOF.signatures[0], PROOF.signatures[0])), "distinct"),
        (changed(signatures=(PROOF.signatures[0], (4, PROOF.signatures[1][1]))), "none of the 4 voters"),
        (changed(signatures=PROOF.signatures[:1]), "exactly 2 are needed"),
    ],
)
def test_what_is_wrong_is_said_in_words(data: bytes, words: str) -> None:
    with pytest.raises(ProofError, match=words):
        verify(data, GENESIS)


def test_a_proof_of_another_swarm_with_the_same_devices_proves_nothing() -> None:
    other = dataclasses.replace(GENESIS, swarm="other")
    with pytest.raises(ProofError, match="of swarm"):
        verify(DATA, other)
    with pytest.raises(ProofError, match="does not fit"):
        verify(changed(swarm=other.id), other)


def test_two_swarms_that_begin_alike_are_told_apart() -> None:
    nearly = GENESIS.id[:9] + bytes([GENESIS.id[9] ^ 1]) + GENESIS.id[10:]
    words = f"the proof is of swarm {nearly[:12].hex()}, the genesis file is of {GENESIS.id[:12].hex()} "
    with pytest.raises(ProofError, match=words):
        verify(changed(swarm=nearly), GENESIS)


def test_a_decoded_proof_encodes_to_the_same_bytes() -> None:
    assert decode_proof(DATA) == PROOF
    assert encode_proof(decode_proof(DATA)) == DATA


def test_signatures_are_asked_of_the_function_that_was_given() -> None:
    asked: list[bytes] = []

    def believe(public: bytes, _message: bytes, _signature: bytes) -> bool:
        asked.append(public)
        return True

    verify(changed(height=8), GENESIS, believe)

    assert asked == list(GENESIS.voter_keys[:2])
