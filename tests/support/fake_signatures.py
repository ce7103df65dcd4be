"""Deterministic 64-byte fake signatures: the core never checks one, so a hash of (signer, message) is enough."""

from __future__ import annotations

import hashlib

from swarm.primitives.ids import DeviceId
from swarm.wire.codec import encode
from swarm.wire.messages import Command, Submission, SubmissionBody, seal_submission
from swarm.wire.statements import Certificate, Kind, SignedStatement, envelope_bytes, statement_bytes

SWARM_ID = bytes(range(32))


def fake_sign(signer: DeviceId, message: bytes) -> bytes:
    """Return what `signer` would sign `message` with; nobody but tests accepts it."""
    return hashlib.sha512(signer.encode() + b"\0" + message).digest()


def fake_verify(signer_key: bytes, message: bytes, signature: bytes) -> bool:
    """Answer whether `signature` is the fake one; the "key" is the signer's name."""
    return hashlib.sha512(signer_key + b"\0" + message).digest() == signature


def make_statement(
    kind: int, number: int, digest: bytes, voter: int, name: DeviceId, *, epoch: int = 0
) -> SignedStatement:
    """Return a statement of voter number `voter`, called `name`."""
    signature = fake_sign(name, statement_bytes(SWARM_ID, kind, epoch, number, digest))
    return SignedStatement(
        kind=int(kind), epoch=epoch, number=number, digest=digest, voter=voter, signature=signature
    )


def make_certificate(
    kind: int, number: int, digest: bytes, signers: dict[int, DeviceId], *, epoch: int = 0
) -> Certificate:
    """Return the certificate of these voters (index -> name)."""
    message = statement_bytes(SWARM_ID, kind, epoch, number, digest)
    return Certificate(
        kind=int(kind),
        epoch=epoch,
        number=number,
        digest=digest,
        signatures=tuple((voter, fake_sign(signers[voter], message)) for voter in sorted(signers)),
    )


def make_submission(origin: DeviceId, sequence: int, text: str, *, expiry: int = 0) -> Submission:
    """Return a sealed submission of one command to `notes`."""
    body = SubmissionBody(
        origin=origin,
        incarnation=0,
        sequence=sequence,
        expiry=expiry,
        commands=(Command(app="notes", body=text.encode()),),
    )
    signed = encode(body)
    signature = fake_sign(origin, envelope_bytes(SWARM_ID, Kind.SUBMISSION, signed))
    return seal_submission(body, signed, signature)
