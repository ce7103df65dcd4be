"""Proof files from a device's own store: any leaf below its newest checkpoint."""

from __future__ import annotations

from swarm.crypto.merkle import inclusion_path
from swarm.storage.store import Store
from swarm.wire.genesis import Genesis
from swarm.wire.proof import encode_proof, proof_from


def proof_of(store: Store, genesis: Genesis, position: int) -> bytes | None:
    """Return the proof of the leaf at `position`, None while no checkpoint covers it."""
    leaf = store.leaf(position)
    checkpoint = store.checkpoint_covering(position + 1)
    if leaf is None or checkpoint is None:
        return None
    path = tuple(inclusion_path(position, checkpoint.log_size, store.node))
    return encode_proof(proof_from(genesis, checkpoint, position=position, leaf=leaf, path=path))


def proof_of_key(store: Store, genesis: Genesis, key: bytes) -> bytes | None:
    """Return the proof of the leaf with `key` (a submission or decision id), None if there is none yet."""
    position = store.find(key)
    return None if position is None else proof_of(store, genesis, position)
