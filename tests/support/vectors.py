"""Golden vectors of every wire type: sample values made of fixed keys, and the files they are pinned in.

`python -m tests.support.vectors` writes tests/vectors/*.json anew. Do that only for a new protocol version: a changed
vector means that devices of two releases no longer understand each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from swarm.apps.decisions.commands import (
    Closed,
    Opened,
    cast_command,
    deadline_command,
    decode_command,
    decode_event,
    open_command,
)
from swarm.apps.decisions.rules import DecisionView, Outcome, decide, decision_id
from swarm.crypto.digest import tagged_sha256
from swarm.crypto.merkle import leaf_hash
from swarm.crypto.signing import sign
from swarm.wire.codec import encode
from swarm.wire.leaves import EventBody, Leaf, decode_leaf, event_leaf, submission_leaf
from swarm.wire.messages import (
    Answer,
    AnswerBusy,
    AnswerChunk,
    Answered,
    AnswerEntries,
    AnswerLeaf,
    AnswerLeaves,
    AnswerNoRelease,
    AnswerStatus,
    AnswerSuperseded,
    AnswerUnknown,
    AnswerWindow,
    Ask,
    AskAwait,
    AskBlock,
    AskBlocks,
    AskCertificates,
    AskChunks,
    AskEntries,
    AskLeaves,
    AskStatus,
    AskSubmissions,
    AskWindow,
    Block,
    Blocks,
    ChunkItem,
    Envelope,
    Heartbeat,
    Item,
    Proposal,
    Request,
    SubmissionItem,
    decode_answer,
    decode_frame,
    decode_heartbeat,
    decode_request,
    decode_submission,
    encode_frame,
)
from swarm.wire.proof import decode_proof, encode_proof
from swarm.wire.statements import (
    Certificate,
    Header,
    Kind,
    SignedStatement,
    attest_digest,
    envelope_bytes,
    genesis_header,
    header_hash,
    statement_bytes,
)
from tests.support.swarms import (
    keypair,
    make_checkpoint,
    make_genesis,
    make_proof,
    make_submission,
    path_of,
    sign_statement,
)

FOLDER = Path(__file__).resolve().parents[1] / "vectors"


@dataclass(frozen=True)
class Sample:
    """The canonical bytes of one value, and the decoder that must give the value back (None: bytes only signed)."""

    data: bytes
    decode: Callable[[bytes], object] | None
    value: object = None


GENESIS = make_genesis(4, observers=1)
DIGEST = tagged_sha256("test digest")
NOTE = make_submission(GENESIS, "dev-1", 1, ("notes", b"hello"), expiry=100)
BUNDLE = make_submission(
    GENESIS,
    "ops",
    1023,
    ("decisions", open_command(subject="temperature", rule="median", scale=2, deadline_ms=5000)),
    ("notes", b"\x00\xff" * 20),
    incarnation=2,
)
HEADER = Header(
    epoch=0,
    view=3,
    height=2,
    parent_view=1,
    parent=DIGEST,
    submissions=(NOTE.id, BUNDLE.id),
    next=bytes(32),
    proposer=3,
)
VIEW = DecisionView(
    id=decision_id(BUNDLE.id, 0),
    subject="temperature",
    rule="median",
    options=(),
    scale=2,
    eligible=("dev-0", "dev-1", "dev-2", "dev-3"),
    minimum=2,
    deadline_ms=5000,
    opened_height=2,
    opened_by="ops",
    ballots=(("dev-1", 2135), ("dev-0", 2140), ("dev-3", None), ("dev-2", 4000)),
)
DOOR = DecisionView(
    id=decision_id(BUNDLE.id, 300),
    subject="door",
    rule="majority",
    options=("open", "closed"),
    scale=0,
    eligible=("dev-0", "dev-1", "dev-2"),
    minimum=1,
    deadline_ms=60_000,
    opened_height=9,
    opened_by="dev-2",
    ballots=(("dev-2", 1), ("dev-1", 0), ("dev-0", 1)),
)
OUTCOME: Outcome = decide(VIEW, 4)
EVENT = EventBody(
    height=4, submission=NOTE.id, command=1, app="decisions", body=b"\x01" + encode(Closed(OUTCOME))
)
LEAVES = (
    submission_leaf(BUNDLE.raw),
    submission_leaf(NOTE.raw),
    event_leaf(EVENT),
    event_leaf(EventBody(height=4, submission=BUNDLE.id, command=0, app="no-such", body=b"\x00unknown")),
    submission_leaf(make_submission(GENESIS, "obs-0", 5, ("notes", b"last")).raw),
)
CHECKPOINT = make_checkpoint(GENESIS, LEAVES)


def statement(kind: Kind, voter: int, digest: bytes = DIGEST, number: int = 3) -> SignedStatement:
    signature = sign_statement(GENESIS, GENESIS.voter_ids[voter], kind, number, digest)
    return SignedStatement(kind, 0, number, digest, voter, signature)


def certificate(kind: Kind, number: int, digest: bytes) -> Certificate:
    signatures = tuple(
        (voter, sign_statement(GENESIS, GENESIS.voter_ids[voter], kind, number, digest))
        for voter in (0, 1, 3)
    )
    return Certificate(kind, 0, number, digest, signatures)


def envelope(kind: Kind, sender: str, body: bytes) -> Envelope:
    return Envelope(kind, sender, body, sign(keypair(sender), envelope_bytes(GENESIS.id, kind, body)))


ITEMS: dict[str, Item] = {
    "statement-notarize": statement(Kind.NOTARIZE, 0),
    "statement-skip": statement(Kind.SKIP, 1, bytes(32)),
    "statement-finalize": statement(Kind.FINALIZE, 2),
    "statement-attest": statement(Kind.ATTEST, 3),
    "certificate-notarized": certificate(Kind.NOTARIZE, 1, DIGEST),
    "certificate-skipped": certificate(Kind.SKIP, 2, bytes(32)),
    "certificate-finalized": certificate(Kind.FINALIZE, 2**40, DIGEST),
    "proposal-first": Proposal(
        genesis_header(GENESIS.id), None, (), sign_statement(GENESIS, "dev-3", Kind.PROPOSE, 1, DIGEST)
    ),
    "proposal": Proposal(
        HEADER,
        certificate(Kind.NOTARIZE, 1, DIGEST),
        (certificate(Kind.SKIP, 2, bytes(32)),),
        sign_statement(GENESIS, "dev-3", Kind.PROPOSE, 3, header_hash(HEADER)),
    ),
    "submission": SubmissionItem(NOTE.raw),
    "envelope-request": envelope(Kind.REQUEST, "ops", b"request"),
    "envelope-heartbeat": envelope(Kind.HEARTBEAT, "obs-0", b"heartbeat"),
    "block": Block(HEADER, (NOTE.raw, BUNDLE.raw)),
    "blocks": Blocks(
        (Block(HEADER, (NOTE.raw, BUNDLE.raw)),), certificate(Kind.FINALIZE, 3, header_hash(HEADER))
    ),
    "blocks-without-finality": Blocks((Block(genesis_header(GENESIS.id), ()),), None),
    "chunk": ChunkItem(envelope(Kind.ANSWER, "dev-2", b"answer"), b"\x00\xff" * 300),
}

ASKS: dict[str, Ask] = {
    "certificates": AskCertificates(7),
    "block": AskBlock(DIGEST),
    "submissions": AskSubmissions((NOTE.id, BUNDLE.id)),
    "blocks": AskBlocks(2**63 - 1),
    "await": AskAwait(NOTE.id, "dev-1", 1, 100),
    "entries": AskEntries(0, 1024),
    "window": AskWindow("ops"),
    "status": AskStatus(),
    "leaves": AskLeaves(DIGEST, 1024, 1),
    "chunk": AskChunks(DIGEST, 0, b"\x80", paths=False),
    "chunks": AskChunks(DIGEST, 2**32 - 300, b"\xa0" + bytes(30) + b"\x81", paths=True),
}

ANSWERS: dict[str, Answered] = {
    "leaf": AnswerLeaf(OUTCOME.decision, 2, LEAVES[2], path_of(LEAVES, 2), CHECKPOINT),
    "unknown": AnswerUnknown(DIGEST, CHECKPOINT),
    "superseded": AnswerSuperseded(DIGEST, 1, LEAVES[1], path_of(LEAVES, 1), CHECKPOINT),
    "entries": AnswerEntries(3, LEAVES[3:], (DIGEST, DIGEST), (), CHECKPOINT),
    "window": AnswerWindow("ops", 2, 1023, 9),
    "status": AnswerStatus(0, 12, 11, 9, 5, CHECKPOINT.log_root, 3, ("dev-0", "dev-2"), "0.1.0"),
    "busy": AnswerBusy(),
    "leaves": AnswerLeaves(DIGEST, 1024, (DIGEST, bytes(32))),
    "chunk": AnswerChunk(DIGEST, 7, leaf_hash(b"\x00\xff"), (), b""),
    "chunk-with-path": AnswerChunk(DIGEST, 2**32 - 1, DIGEST, (DIGEST,) * 32, b"x"),
    "no-release": AnswerNoRelease(DIGEST),
}

HEARTBEATS: dict[str, Heartbeat] = {
    "idle": Heartbeat(1, 2, 0, 0, 0, 0, None, 0, None),
    "busy": Heartbeat(3, 2**33, 0, 11, 9, 1, statement(Kind.ATTEST, 2, number=9), 3, NOTE.id),
}

COMMANDS: dict[str, bytes] = {
    "open-number": open_command(subject="temperature", rule="median", scale=2, deadline_ms=5000),
    "open-options": open_command(
        subject="door", rule="majority", options=("open", "closed"), eligible="all", deadline_ms=1, minimum=3
    ),
    "open-ids": open_command(
        subject="door",
        rule="majority",
        options=("a", "b"),
        eligible=("ops", "dev-0"),
        deadline_ms=604_800_000,
    ),
    "cast-option": cast_command(DIGEST, 1),
    "cast-number": cast_command(DIGEST, -(2**63 - 1)),
    "abstain": cast_command(DIGEST, None),
    "deadline": deadline_command(DIGEST),
}

EVENTS: dict[str, Opened | Closed] = {
    "opened": Opened(VIEW),
    "closed-number": Closed(OUTCOME),
    "closed-option": Closed(decide(DOOR, 10)),
    "closed-undecided": Closed(decide(msgspec.structs.replace(DOOR, ballots=()), 11)),
}

STATEMENTS: dict[str, bytes] = {
    "statement-notarize": statement_bytes(GENESIS.id, Kind.NOTARIZE, 0, 3, DIGEST),
    "statement-skip": statement_bytes(GENESIS.id, Kind.SKIP, 2**32 - 1, 2**63 - 1, bytes(32)),
    "envelope": envelope_bytes(GENESIS.id, Kind.REQUEST, b"body"),
    "header-hash": header_hash(HEADER),
    "genesis-header-hash": header_hash(genesis_header(GENESIS.id)),
    "attest-digest": attest_digest(5, DIGEST, bytes(32)),
    "genesis-id": GENESIS.id,
    "submission-id": NOTE.id,
    "decision-id": decision_id(NOTE.id, 258),
}


def samples() -> dict[str, dict[str, Sample]]:
    """Return all samples: file -> name -> sample."""
    frames = {name: Sample(encode_frame((item,)), decode_frame, (item,)) for name, item in ITEMS.items()}
    everything = tuple(ITEMS.values())
    frames["all-in-one"] = Sample(encode_frame(everything), decode_frame, everything)
    requests = {name: Request(1, n, "dev-2", ask) for n, (name, ask) in enumerate(ASKS.items())}
    answers = {
        name: Answer(4, n, "ops", 1, n, answered) for n, (name, answered) in enumerate(ANSWERS.items())
    }
    proof = make_proof(GENESIS, LEAVES, 2, checkpoint=CHECKPOINT)
    alone = make_proof(GENESIS, LEAVES[:1], 0)
    return {
        "signed": {name: Sample(data, None) for name, data in STATEMENTS.items()},
        "frames": frames,
        "submissions": {
            "note": Sample(NOTE.raw, decode_submission, NOTE),
            "bundle": Sample(BUNDLE.raw, decode_submission, BUNDLE),
        },
        "requests": {name: Sample(encode(value), decode_request, value) for name, value in requests.items()},
        "answers": {name: Sample(encode(value), decode_answer, value) for name, value in answers.items()},
        "heartbeats": {
            name: Sample(encode(value), decode_heartbeat, value) for name, value in HEARTBEATS.items()
        },
        "leaves": {
            "submission": Sample(LEAVES[1], decode_leaf, Leaf(NOTE, None)),
            "event": Sample(LEAVES[2], decode_leaf, Leaf(None, EVENT)),
        },
        "proofs": {
            "outcome": Sample(encode_proof(proof), decode_proof, proof),
            "first-leaf": Sample(encode_proof(alone), decode_proof, alone),
        },
        "decision-commands": {
            name: Sample(data, decode_command, decode_command(data)) for name, data in COMMANDS.items()
        },
        "decision-events": {
            name: Sample(encode(value), decode_event, value) for name, value in EVENTS.items()
        },
    }


def written(group: dict[str, Sample]) -> str:
    """Return the text of one vector file."""
    return json.dumps({name: sample.data.hex() for name, sample in group.items()}, indent=1) + "\n"


def rewrite() -> None:
    """Write all vector files anew."""
    FOLDER.mkdir(exist_ok=True)
    for file, group in samples().items():
        (FOLDER / f"{file}.json").write_text(written(group), encoding="utf-8")


if __name__ == "__main__":
    rewrite()
