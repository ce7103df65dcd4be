"""Certificates and checkpoints: enough distinct voters, in order, every signature good."""

from __future__ import annotations

import msgspec
import pytest

from swarm.crypto.signing import verify
from swarm.primitives.errors import DecodeError
from swarm.wire.certificates import verify_certificate, verify_checkpoint
from swarm.wire.messages import Checkpoint
from swarm.wire.statements import Certificate, Kind
from tests.support.swarms import make_checkpoint, sign_statement
from tests.support.vectors import DIGEST, GENESIS, LEAVES, certificate

VC = certificate(Kind.NOTARIZE, 1, DIGEST)


def reason_of(certificate: Certificate, *, q: int = 3) -> str:
    """Return why the certificate is refused, or an empty text."""
    try:
        verify_certificate(
            certificate, swarm_id=GENESIS.id, epoch=0, voter_keys=GENESIS.voter_keys, q=q, verify=verify
        )
    except DecodeError as error:
        return error.reason
    return ""


def checkpoint_reason(checkpoint: Checkpoint) -> str:
    try:
        verify_checkpoint(
            checkpoint,
            swarm_id=GENESIS.id,
            epoch=0,
            voter_keys=GENESIS.voter_keys,
            r=GENESIS.budget.r,
            verify=verify,
        )
    except DecodeError as error:
        return error.reason
    return ""


@pytest.mark.parametrize("kind", [Kind.NOTARIZE, Kind.SKIP, Kind.FINALIZE])
def test_q_distinct_voters_make_a_certificate(kind: Kind) -> None:
    assert reason_of(certificate(kind, 9, bytes(32) if kind == Kind.SKIP else DIGEST)) == ""


def test_more_than_q_are_welcome_and_fewer_are_not() -> None:
    fourth = (2, sign_statement(GENESIS, "dev-2", Kind.NOTARIZE, 1, DIGEST))
    signatures = (*VC.signatures[:2], fourth, VC.signatures[2])
    assert reason_of(msgspec.structs.replace(VC, signatures=signatures)) == ""
    assert reason_of(msgspec.structs.replace(VC, signatures=VC.signatures[:2])) == "too-few-signatures"


@pytest.mark.parametrize("order", [(0, 0, 1), (1, 0, 2), (0, 2, 1), (2, 2, 2)])
def test_voters_stand_once_and_in_order(order: tuple[int, int, int]) -> None:
    """A voter that stands twice would count twice."""
    signatures = tuple(VC.signatures[index] for index in order)
    assert reason_of(msgspec.structs.replace(VC, signatures=signatures)) == "voters-not-ascending"


def test_an_index_beyond_the_voters_is_nobody() -> None:
    signatures = (*VC.signatures[:2], (4, VC.signatures[2][1]))
    assert reason_of(msgspec.structs.replace(VC, signatures=signatures)) == "unknown-voter"


@pytest.mark.parametrize("index", range(3))
def test_one_bad_signature_is_enough(index: int) -> None:
    signatures = list(VC.signatures)
    voter, signature = signatures[index]
    signatures[index] = (voter, signature[:-1] + bytes((signature[-1] ^ 1,)))
    assert reason_of(msgspec.structs.replace(VC, signatures=tuple(signatures))) == "bad-signature"


def test_a_signature_under_another_voters_index_is_bad() -> None:
    signatures = (VC.signatures[0], VC.signatures[1], (2, VC.signatures[2][1]))
    assert reason_of(msgspec.structs.replace(VC, signatures=signatures)) == "bad-signature"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": Kind.FINALIZE}, "bad-signature"),
        ({"kind": Kind.PROPOSE}, "bad-kind"),
        ({"kind": Kind.ATTEST}, "bad-kind"),
        ({"kind": 0}, "bad-kind"),
        ({"kind": Kind.SKIP}, "bad-kind"),
        ({"epoch": 1}, "wrong-epoch"),
        ({"number": 2}, "bad-signature"),
        ({"digest": bytes(32)}, "bad-signature"),
    ],
)
def test_signatures_fit_one_statement_only(changes: dict[str, int], reason: str) -> None:
    assert reason_of(msgspec.structs.replace(VC, **changes)) == reason


def test_nothing_is_verified_when_the_cheap_checks_fail() -> None:
    calls: list[bytes] = []

    def count(_public: bytes, _message: bytes, signature: bytes) -> bool:
        calls.append(signature)
        return True

    for bad in (VC.signatures[:2], (VC.signatures[1], VC.signatures[0], VC.signatures[2])):
        with pytest.raises(DecodeError):
            verify_certificate(
                msgspec.structs.replace(VC, signatures=bad),
                swarm_id=GENESIS.id,
                epoch=0,
                voter_keys=GENESIS.voter_keys,
                q=3,
                verify=count,
            )
    assert calls == []


def test_r_plus_one_attestations_make_a_checkpoint() -> None:
    assert GENESIS.budget.r == 1
    assert checkpoint_reason(make_checkpoint(GENESIS, LEAVES)) == ""
    assert checkpoint_reason(make_checkpoint(GENESIS, LEAVES, signers=(2, 3))) == ""
    assert checkpoint_reason(make_checkpoint(GENESIS, LEAVES, signers=(2,))) == "too-few-signatures"
    assert checkpoint_reason(make_checkpoint(GENESIS, LEAVES, epoch=1)) == "wrong-epoch"


@pytest.mark.parametrize(
    "change", [{"height": 8}, {"log_size": 6}, {"log_root": DIGEST}, {"state_root": DIGEST}]
)
def test_a_checkpoint_covers_every_field(change: dict[str, int]) -> None:
    checkpoint = msgspec.structs.replace(make_checkpoint(GENESIS, LEAVES), **change)
    assert checkpoint_reason(checkpoint) == "bad-signature"
