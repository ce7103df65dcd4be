"""Statements, certificates, headers and blocks: what voters sign (PROTOCOL section 2)."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Annotated, Final

import msgspec

from swarm.crypto.digest import sha256
from swarm.primitives.ids import ZERO_DIGEST
from swarm.primitives.limits import BLOCK_SUBMISSIONS_MAX, VOTERS_MAX
from swarm.wire.codec import U16, U32, U63, Bytes32, Bytes64, encode

CONTEXT: Final = b"swarm/1\0"
"""First bytes of everything that is signed: a signature of another protocol or version never fits."""

_STATEMENT: Final = struct.Struct(">8s32sBIQ32s")
_ROOTS: Final = struct.Struct(">Q32s32s")


class Kind(IntEnum):
    """What a signature says; the value is the ASCII letter that is signed."""

    PROPOSE = ord("P")
    NOTARIZE = ord("N")
    SKIP = ord("K")
    FINALIZE = ord("F")
    ATTEST = ord("A")
    SUBMISSION = ord("S")
    REQUEST = ord("Q")
    ANSWER = ord("R")
    HEARTBEAT = ord("H")


VOTE_KINDS: Final = (Kind.NOTARIZE, Kind.SKIP, Kind.FINALIZE)
STATEMENT_KINDS: Final = (Kind.PROPOSE, Kind.NOTARIZE, Kind.SKIP, Kind.FINALIZE, Kind.ATTEST)

KindByte = Annotated[int, msgspec.Meta(ge=0, le=255)]
Signature = tuple[U16, Bytes64]


def statement_bytes(swarm_id: bytes, kind: int, epoch: int, number: int, digest: bytes) -> bytes:
    """Return the 85 bytes that a statement's signature covers, big-endian.

    `number` is a view for P, N, K, F and a height for A. `digest` is 32 bytes (zero for K).
    """
    return _STATEMENT.pack(CONTEXT, swarm_id, kind, epoch, number, digest)


def envelope_bytes(swarm_id: bytes, kind: int, body: bytes) -> bytes:
    """Return what the signature of an envelope (S, Q, R, H) covers: context, swarm, kind and the received bytes."""
    return CONTEXT + swarm_id + bytes((kind,)) + body


def attest_digest(log_size: int, log_root: bytes, state_root: bytes) -> bytes:
    """Return the digest of an attestation: SHA-256(log size u64 | log root | state root)."""
    return sha256(_ROOTS.pack(log_size, log_root, state_root))


class SignedStatement(msgspec.Struct, tag=1, array_like=True, forbid_unknown_fields=True, frozen=True):
    """One statement of one voter with its detached signature; may be relayed by anybody.

    `voter` is the index among the epoch's voters sorted by id.
    """

    kind: KindByte
    epoch: U32
    number: U63
    digest: Bytes32
    voter: U16
    signature: Bytes64


class Certificate(msgspec.Struct, tag=2, array_like=True, forbid_unknown_fields=True, frozen=True):
    """q distinct voters' signatures on one N, K or F (VC, SC, FC), voters strictly ascending."""

    kind: KindByte
    epoch: U32
    number: U63
    digest: Bytes32
    signatures: Annotated[tuple[Signature, ...], msgspec.Meta(min_length=1, max_length=VOTERS_MAX)]


class Header(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """The hashed part of a block: its place in the chain and the ordered ids of its submissions.

    `next` is zero, or the digest of the next epoch's voters and u (R13); `proposer` is the leader's index.
    """

    epoch: U32
    view: U63
    height: U63
    parent_view: U63
    parent: Bytes32
    submissions: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=BLOCK_SUBMISSIONS_MAX)]
    next: Bytes32
    proposer: U16


def header_hash(header: Header) -> bytes:
    """Return the block's identity, SHA-256 over the canonical header."""
    return sha256(CONTEXT, b"header\0", encode(header))


def genesis_header(swarm_id: bytes) -> Header:
    """Return the header of the genesis block: view 0, height 0, its parent is the swarm itself."""
    return Header(
        epoch=0,
        view=0,
        height=0,
        parent_view=0,
        parent=swarm_id,
        submissions=(),
        next=ZERO_DIGEST,
        proposer=0,
    )
