"""Between rows and values: what a store keeps is the wire's canonical encoding, read as strictly as a peer's bytes."""

from __future__ import annotations

from typing import Final, TypeVar

from swarm.primitives.errors import DecodeError, StoreError, check
from swarm.primitives.limits import FRAME_BYTES_MAX
from swarm.storage.chain import ViewNumber
from swarm.storage.store import Batch
from swarm.wire.codec import Codec
from swarm.wire.leaves import SUBMISSION_LEAF
from swarm.wire.messages import Checkpoint, Proposal, Submission, decode_submission
from swarm.wire.statements import Certificate, Header, Kind, SignedStatement

T = TypeVar("T")

CERTIFICATE: Final[Codec[Certificate]] = Codec(Certificate, bytes_max=FRAME_BYTES_MAX)
CHECKPOINT: Final[Codec[Checkpoint]] = Codec(Checkpoint, bytes_max=FRAME_BYTES_MAX)
HEADER: Final[Codec[Header]] = Codec(Header, bytes_max=FRAME_BYTES_MAX)
PROPOSAL: Final[Codec[Proposal]] = Codec(Proposal, bytes_max=FRAME_BYTES_MAX)
STATEMENT: Final[Codec[SignedStatement]] = Codec(SignedStatement, bytes_max=4096)

SUBMISSION_PREFIX: Final = bytes((SUBMISSION_LEAF,))
GENESIS_VIEW: Final[ViewNumber] = (0, 0)
"""Where finality starts: the genesis block is final and never stored."""


def decode_row(codec: Codec[T], data: bytes) -> T:
    """Return the value in a row; raises `StoreError` when the row is damaged."""
    try:
        return codec.decode(data)
    except DecodeError as error:
        raise StoreError(
            f"a row of the store is damaged: {error}", hint="run `swarm store check` on it"
        ) from error


def decode_raw(raw: bytes) -> Submission:
    """Return the submission in a row; raises `StoreError` when the row is damaged."""
    try:
        return decode_submission(raw)
    except DecodeError as error:
        raise StoreError(
            f"a stored submission is damaged: {error}", hint="run `swarm store check` on it"
        ) from error


def check_continues(batch: Batch, *, height: int, tip: ViewNumber, log_size: int) -> None:
    """Raise `InvariantError` unless the batch goes on where the log ends; asked before anything is changed."""
    for finality in batch.finalized:
        header = finality.block.header
        check(
            header.height == height + 1 and view_of(header) > tip,
            f"block of height {header.height} finalized after height {height}",
        )
        height, tip = header.height, view_of(header)
    for leaf in batch.leaves:
        check(leaf.position == log_size, f"leaf {leaf.position} appended to {log_size} leaves")
        log_size += 1


def view_of(header: Header) -> ViewNumber:
    """Return (epoch, view) of a block."""
    return header.epoch, header.view


def finality_view(certificate: Certificate) -> ViewNumber:
    """Return (epoch, view) of an FC; `GENESIS_VIEW`, which moves nothing, for any other certificate."""
    return (certificate.epoch, certificate.number) if certificate.kind == Kind.FINALIZE else GENESIS_VIEW


def node_id(level: int, index: int) -> int:
    """Return the in-order number of a perfect subtree: unique, and growing with the log."""
    return ((2 * index + 1) << level) - 1


def evidence_key(first: SignedStatement, second: SignedStatement) -> tuple[int, int, int, int]:
    """Return what makes a pair of evidence one of its sort: epoch, voter, both kinds."""
    return first.epoch, first.voter, first.kind, second.kind
