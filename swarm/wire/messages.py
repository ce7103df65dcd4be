"""What travels: a frame is a list of items, each with its own signature or hash (ADR 0010).

Statements, certificates, proposals, submissions and blocks carry their own proofs and may be relayed by anybody;
requests, answers and heartbeats are envelopes whose signer must be the topic's sender.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import structs

from swarm.crypto.digest import sha256
from swarm.primitives.errors import DecodeError, InvariantError
from swarm.primitives.limits import (
    ANSWER_BLOCKS_MAX,
    ANSWER_LEAVES_MAX,
    ASK_BITMAP_BYTES_MAX,
    BLOCK_SUBMISSIONS_MAX,
    CHUNK_BYTES_MAX,
    CHUNKS_OUTSTANDING_MAX,
    COMMAND_BYTES_MAX,
    FRAME_BYTES_MAX,
    SUBMISSION_BYTES_MAX,
    SUBMISSION_COMMANDS_MAX,
    VOTERS_MAX,
)
from swarm.wire.codec import U32, U63, Bytes32, Bytes64, Codec, Name, encode
from swarm.wire.statements import Certificate, Header, Kind, KindByte, Signature, SignedStatement

RawSubmission = Annotated[bytes, msgspec.Meta(min_length=70, max_length=SUBMISSION_BYTES_MAX)]


class Command(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """One command for one application; `body` is the application's own canonical encoding."""

    app: Name
    body: Annotated[bytes, msgspec.Meta(max_length=COMMAND_BYTES_MAX)]


class SubmissionBody(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What an origin signs: who, which incarnation and sequence number, until which height, and the commands."""

    origin: Name
    incarnation: U32
    sequence: U63
    expiry: U63
    commands: Annotated[tuple[Command, ...], msgspec.Meta(min_length=1, max_length=SUBMISSION_COMMANDS_MAX)]


class SealedSubmission(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """The complete bytes of a submission: the signed body and its signature."""

    body: Annotated[bytes, msgspec.Meta(max_length=SUBMISSION_BYTES_MAX)]
    signature: Bytes64


class Submission(msgspec.Struct, frozen=True):
    """A decoded submission beside the bytes it came in; `id` = SHA-256 of those bytes, signature included."""

    id: bytes
    raw: bytes
    body: SubmissionBody
    signed: bytes
    signature: bytes


class Proposal(msgspec.Struct, tag=3, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A leader's proposal: header, the parent's VC or FC (none for the genesis block), newest SCs, P signature."""

    header: Header
    parent: Certificate | None
    skips: Annotated[tuple[Certificate, ...], msgspec.Meta(max_length=64)]
    signature: Bytes64


def proposal_statement(proposal: Proposal, digest: bytes) -> SignedStatement:
    """Return the P that a proposal is: its leader's statement on `digest`, the hash of its header."""
    header = proposal.header
    return SignedStatement(
        kind=Kind.PROPOSE,
        epoch=header.epoch,
        number=header.view,
        digest=digest,
        voter=header.proposer,
        signature=proposal.signature,
    )


class SubmissionItem(msgspec.Struct, tag=4, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A submission on its way, by its origin or by anybody who holds it."""

    raw: RawSubmission


class Envelope(msgspec.Struct, tag=5, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Request, answer or heartbeat: `body` is signed as received; the signer is the topic's sender."""

    kind: KindByte
    sender: Name
    body: Annotated[bytes, msgspec.Meta(max_length=FRAME_BYTES_MAX)]
    signature: Bytes64


class Block(msgspec.Struct, tag=6, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A header with the bytes of its submissions in order; whatever does not hash to the header is refused."""

    header: Header
    submissions: Annotated[tuple[RawSubmission, ...], msgspec.Meta(max_length=BLOCK_SUBMISSIONS_MAX)]


class Blocks(msgspec.Struct, tag=7, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Consecutive blocks of the log up to the first with a stored FC, and that FC on the last of them."""

    blocks: Annotated[tuple[Block, ...], msgspec.Meta(min_length=1, max_length=ANSWER_BLOCKS_MAX)]
    finality: Certificate | None


class ChunkItem(msgspec.Struct, tag=8, array_like=True, forbid_unknown_fields=True, frozen=True):
    """An answer with a chunk: in the envelope's body its leaf hash stands for its bytes, which are `data`.

    So a signature costs the same for a chunk of any size; whoever gets it hashes it anyway.
    """

    envelope: Envelope
    data: Annotated[bytes, msgspec.Meta(min_length=1, max_length=CHUNK_BYTES_MAX)]


Item = SignedStatement | Certificate | Proposal | SubmissionItem | Envelope | Block | Blocks | ChunkItem
"""Everything a frame may carry."""

# ------------------------------------------------------------------------------------------ requests (Q)


class AskCertificates(msgspec.Struct, tag=1, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Send certificates that clear `view` and the views after it, the newest FC first."""

    view: U63


class AskBlock(msgspec.Struct, tag=2, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Send the block with this hash, with its VC where you hold it."""

    hash: Bytes32


class AskSubmissions(msgspec.Struct, tag=3, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Send the submissions with these ids."""

    ids: Annotated[tuple[Bytes32, ...], msgspec.Meta(min_length=1, max_length=BLOCK_SUBMISSIONS_MAX)]


class AskBlocks(msgspec.Struct, tag=4, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Send consecutive blocks from this height up to the first with a stored FC, and that FC."""

    height: U63


class AskAwait(msgspec.Struct, tag=5, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Tell me when the leaf with this key (submission id or decision id) is proved, with its path."""

    key: Bytes32
    origin: Name
    sequence: U63
    expiry: U63


class AskEntries(msgspec.Struct, tag=6, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Send `count` leaves from `position`, the frontier there, and a checkpoint that covers them."""

    position: U63
    count: Annotated[int, msgspec.Meta(ge=0, le=1024)]


class AskWindow(msgspec.Struct, tag=7, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Send the highest used sequence number and the incarnation of this origin, your own claim."""

    origin: Name


class AskStatus(msgspec.Struct, tag=8, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Send your own status, a claim."""


class AskLeaves(msgspec.Struct, tag=9, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Send the leaf hashes of `count` chunks of this release from chunk `first` on."""

    release: Bytes32
    first: U32
    count: Annotated[int, msgspec.Meta(ge=1, le=ANSWER_LEAVES_MAX)]


class AskChunks(msgspec.Struct, tag=10, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Send chunks of this release, one a frame: bit 7 - i % 8 of byte i // 8 of `wanted` is chunk `first` + i.

    At most 4 bits are set, the first one and one of the last byte among them, so that a choice has one encoding.
    With `paths` each chunk comes with its Merkle path, for whoever has no memory for the leaf list.
    """

    release: Bytes32
    first: U32
    wanted: Annotated[bytes, msgspec.Meta(min_length=1, max_length=ASK_BITMAP_BYTES_MAX)]
    paths: bool

    def __post_init__(self) -> None:
        """Refuse another number of bits and a second encoding; the decoder makes it `malformed`."""
        bits = int.from_bytes(self.wanted, "big").bit_count()
        if bits > CHUNKS_OUTSTANDING_MAX or not self.wanted[0] & 0x80 or not self.wanted[-1]:
            raise ValueError("a bitmap of 1 to 4 chunks begins and ends with one")

    @property
    def indexes(self) -> tuple[int, ...]:
        """The chunks asked for, in order."""
        bits = enumerate(format(int.from_bytes(self.wanted, "big"), f"0{8 * len(self.wanted)}b"))
        return tuple(self.first + offset for offset, bit in bits if bit == "1")


def ask_chunks(release: bytes, indexes: tuple[int, ...], *, paths: bool) -> AskChunks:
    """Return the question for `indexes`: 1 to 4 different ones, ascending, within `ASK_BITMAP_BYTES_MAX` bytes."""
    first = indexes[0]
    bits = bytearray((indexes[-1] - first) // 8 + 1)
    for index in indexes:
        bits[(index - first) // 8] |= 0x80 >> (index - first) % 8
    return AskChunks(release=release, first=first, wanted=bytes(bits), paths=paths)


Ask = (
    AskCertificates
    | AskBlock
    | AskSubmissions
    | AskBlocks
    | AskAwait
    | AskEntries
    | AskWindow
    | AskStatus
    | AskLeaves
    | AskChunks
)


class Request(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Signed body of Q: a counter (boot number, n) so that a replay is worth nothing, the addressee, the question."""

    boot: U63
    n: U63
    to: Name
    ask: Ask


# ------------------------------------------------------------------------------------------ answers (R)


class Checkpoint(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """r+1 matching attestations of distinct voters of one height: what the log and the state were there."""

    epoch: U32
    height: U63
    log_size: U63
    log_root: Bytes32
    state_root: Bytes32
    signatures: Annotated[tuple[Signature, ...], msgspec.Meta(min_length=1, max_length=VOTERS_MAX)]


LeafBytes = Annotated[bytes, msgspec.Meta(min_length=1, max_length=SUBMISSION_BYTES_MAX + 1)]
Path = Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=64)]


class AnswerLeaf(msgspec.Struct, tag=1, array_like=True, forbid_unknown_fields=True, frozen=True):
    """The leaf asked for, where it stands, and why you may believe it without believing me."""

    key: Bytes32
    position: U63
    leaf: LeafBytes
    path: Path
    checkpoint: Checkpoint


class AnswerUnknown(msgspec.Struct, tag=2, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A claim: at `height` (a checkpoint, above the expiry asked for) there was no leaf with this key."""

    key: Bytes32
    checkpoint: Checkpoint


class AnswerSuperseded(msgspec.Struct, tag=3, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Another submission with that origin and sequence number stands in the log: here it is, proved."""

    key: Bytes32
    position: U63
    leaf: LeafBytes
    path: Path
    checkpoint: Checkpoint


class AnswerEntries(msgspec.Struct, tag=4, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Leaves from `position`; `frontier` = perfect-subtree hashes left of it, `rest` = those right of the leaves."""

    position: U63
    leaves: Annotated[tuple[LeafBytes, ...], msgspec.Meta(max_length=1024)]
    frontier: Path
    rest: Path
    checkpoint: Checkpoint


class AnswerWindow(msgspec.Struct, tag=5, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A claim: highest used sequence number of `origin`, its incarnation, at my applied height."""

    origin: Name
    incarnation: U32
    high: U63
    height: U63


class AnswerStatus(msgspec.Struct, tag=6, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A claim about myself."""

    epoch: U32
    view: U63
    finalized_view: U63
    height: U63
    log_size: U63
    log_root: Bytes32
    pending: U63
    peers: Annotated[tuple[Name, ...], msgspec.Meta(max_length=VOTERS_MAX)]
    version: Annotated[str, msgspec.Meta(max_length=64)]


class AnswerBusy(msgspec.Struct, tag=7, array_like=True, forbid_unknown_fields=True, frozen=True):
    """I keep too many questions already; ask somebody else."""


class AnswerLeaves(msgspec.Struct, tag=8, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Leaf hashes of a release from chunk `first` on; believed when the whole list gives the chunk root."""

    release: Bytes32
    first: U32
    leaves: Annotated[tuple[Bytes32, ...], msgspec.Meta(min_length=1, max_length=ANSWER_LEAVES_MAX)]


class AnswerChunk(msgspec.Struct, tag=9, array_like=True, forbid_unknown_fields=True, frozen=True):
    """One chunk of a release, and its path to the chunk root where that was asked for (else empty).

    What is signed has the leaf hash and no bytes: they travel beside it, in a `ChunkItem`.
    """

    release: Bytes32
    index: U32
    leaf: Bytes32
    path: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=32)]
    data: Annotated[bytes, msgspec.Meta(max_length=CHUNK_BYTES_MAX)]


class AnswerNoRelease(msgspec.Struct, tag=10, array_like=True, forbid_unknown_fields=True, frozen=True):
    """I neither run this release nor hold it sealed; ask somebody else."""

    release: Bytes32


Answered = (
    AnswerLeaf
    | AnswerUnknown
    | AnswerSuperseded
    | AnswerEntries
    | AnswerWindow
    | AnswerStatus
    | AnswerBusy
    | AnswerLeaves
    | AnswerChunk
    | AnswerNoRelease
)


class Answer(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Signed body of R: own counter, the addressee, the counter of the request, the content."""

    boot: U63
    n: U63
    to: Name
    re_boot: U63
    re_n: U63
    content: Answered


def without_data(answer: Answer) -> tuple[Answer, bytes]:
    """Return what is signed of an answer with a chunk, and the bytes that go beside it."""
    chunk = answer.content
    if not isinstance(chunk, AnswerChunk):
        raise InvariantError("only an answer with a chunk is sent in two parts")
    return structs.replace(answer, content=structs.replace(chunk, data=b"")), chunk.data


def with_data(answer: Answer, data: bytes) -> Answer:
    """Return the answer that `without_data` took apart; whether its signer meant these bytes, its leaf hash tells.

    Raises `DecodeError` (`chunk-mismatch`) when it was not taken apart.
    """
    chunk = answer.content
    if not isinstance(chunk, AnswerChunk) or chunk.data:
        raise DecodeError("chunk-mismatch")
    return structs.replace(answer, content=structs.replace(chunk, data=data))


class Heartbeat(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Signed body of H (R11): what I have, so that a peer that missed something is healed by it.

    `pending` counts pending submissions, `oldest` is the id of the oldest; `attest` is my last A, so that a lost
    attestation does not keep the last checkpoint from forming.
    """

    boot: U63
    n: U63
    epoch: U32
    finalized_view: U63
    height: U63
    incarnation: U32
    attest: SignedStatement | None
    pending: U63
    oldest: Bytes32 | None


# ------------------------------------------------------------------------------------------ decoding

_FRAME: Codec[tuple[Item, ...]] = Codec(
    Annotated[tuple[Item, ...], msgspec.Meta(min_length=1, max_length=4096)],
    bytes_max=FRAME_BYTES_MAX,
)
_SEALED: Codec[SealedSubmission] = Codec(SealedSubmission, bytes_max=SUBMISSION_BYTES_MAX)
_BODY: Codec[SubmissionBody] = Codec(SubmissionBody, bytes_max=SUBMISSION_BYTES_MAX)
_REQUEST: Codec[Request] = Codec(Request, bytes_max=FRAME_BYTES_MAX)
_ANSWER: Codec[Answer] = Codec(Answer, bytes_max=FRAME_BYTES_MAX)
_HEARTBEAT: Codec[Heartbeat] = Codec(Heartbeat, bytes_max=4096)


_SHORT_BYTES: Final = 255
"""Binary data up to this length has a mark of another form (msgpack bin 8); a chunk is never too long for bin 16."""


def encode_frame(items: tuple[Item, ...]) -> bytes:
    """Return the payload that carries `items`."""
    return encode(items)


def decode_frame(payload: bytes) -> tuple[Item, ...]:
    """Return the items of one payload; `DecodeError` (oversized, malformed, not-canonical) for anything else."""
    return _FRAME.decode(payload, encodes=_encodes)


def _encodes(items: tuple[Item, ...], payload: bytes) -> bool:
    """Answer whether `payload` is the encoding of `items`; of a chunk that travels alone, without copying its bytes."""
    item = items[0]
    if len(items) > 1 or not isinstance(item, ChunkItem) or len(item.data) <= _SHORT_BYTES:
        return encode(items) == payload
    # Its bytes are last, so they are the payload's end; before them stands what their number alone decides (bin 16).
    head = encode((ChunkItem(item.envelope, b""),))[:-2] + b"\xc5" + len(item.data).to_bytes(2, "big")
    return len(head) + len(item.data) == len(payload) and payload.startswith(head)


def decode_submission(raw: bytes) -> Submission:
    """Return the decoded submission of its complete bytes; the signature is not checked here.

    Raises `DecodeError`; whoever sent it sent garbage.
    """
    sealed = _SEALED.decode(raw)
    body = _BODY.decode(sealed.body)
    return Submission(id=sha256(raw), raw=raw, body=body, signed=sealed.body, signature=sealed.signature)


def seal_submission(body: SubmissionBody, signed: bytes, signature: bytes) -> Submission:
    """Return the submission whose body was encoded as `signed` and signed with `signature` (64 bytes)."""
    raw = encode(SealedSubmission(body=signed, signature=signature))
    return Submission(id=sha256(raw), raw=raw, body=body, signed=signed, signature=signature)


def decode_request(body: bytes) -> Request:
    """Return the request in the body of a Q envelope, or raise `DecodeError`."""
    return _REQUEST.decode(body)


def decode_answer(body: bytes) -> Answer:
    """Return the answer in the body of an R envelope, or raise `DecodeError`."""
    return _ANSWER.decode(body)


def decode_heartbeat(body: bytes) -> Heartbeat:
    """Return the heartbeat in the body of an H envelope, or raise `DecodeError`."""
    return _HEARTBEAT.decode(body)
