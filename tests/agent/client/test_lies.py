"""Members that lie to a light client: three of four here, so that every question meets a liar first, and none is believed.

What is believed is proved by signatures, not by whoever sent it; so even this many can only cost time.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from swarm.agent.client.results import (
    DecidedOutcome,
    ProvedEntry,
    Receipt,
    SubmissionRejectedError,
    VerifiedEntries,
)
from swarm.agent.client.turn import WantDecision, WantEntries, WantProof, WantSubmit
from swarm.apps.decisions.commands import open_command
from swarm.apps.verify import verify_proof
from swarm.crypto.signing import sign
from swarm.primitives.limits import CLIENT_EXPIRY_HEIGHTS, NUMBER_MAX
from swarm.transport.topics import Scope
from swarm.wire.codec import encode
from swarm.wire.leaves import submission_leaf
from swarm.wire.messages import (
    Answer,
    AnswerBusy,
    Answered,
    AnswerEntries,
    AnswerLeaf,
    AnswerSuperseded,
    AnswerUnknown,
    AnswerWindow,
    AskAwait,
    Checkpoint,
    Command,
    Envelope,
    Request,
    encode_frame,
)
from swarm.wire.statements import Kind, envelope_bytes
from tests.support.light_swarm import Liar, LightSwarm
from tests.support.swarms import keypair, make_checkpoint, make_genesis, make_submission, path_of

LIARS = ("dev-1", "dev-2", "dev-3")
GENESIS = make_genesis()


def note(swarm: LightSwarm, text: bytes = b"hello") -> WantSubmit:
    return WantSubmit(swarm.ticket(), Command(app="notes", body=text))


def flipped(data: bytes, at: int = -1) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def own_log(leaf: bytes, voter: str) -> tuple[Checkpoint, tuple[bytes, ...]]:
    """Return a log that one liar made up, which it can sign as often as it likes, with its own key only."""
    leaves = [leaf, b"\x01more"]
    index = GENESIS.voter_index(voter)
    assert index is not None
    checkpoint = make_checkpoint(GENESIS, leaves, signers=(index,))
    forged = (index, checkpoint.signatures[0][1]), ((index + 1) % 4, checkpoint.signatures[0][1])
    return replace(checkpoint, signatures=tuple(sorted(forged))), path_of(leaves, 0)


def of_leaf(change: Callable[[AnswerLeaf], Answered | None]) -> Liar:
    def lie(_request: Request | None, answer: Answered) -> Answered | None:
        return change(answer) if isinstance(answer, AnswerLeaf) else answer

    return lie


def of_entries(change: Callable[[AnswerEntries], Answered | None]) -> Liar:
    def lie(_request: Request | None, answer: Answered) -> Answered | None:
        return change(answer) if isinstance(answer, AnswerEntries) else answer

    return lie


def forged_leaf(answer: AnswerLeaf) -> AnswerLeaf:
    return replace(answer, leaf=flipped(answer.leaf))


def made_up_log(answer: AnswerLeaf) -> AnswerLeaf:
    checkpoint, path = own_log(answer.leaf, "dev-1")
    return replace(answer, position=0, path=path, checkpoint=checkpoint)


def too_few_signatures(answer: AnswerLeaf) -> AnswerLeaf:
    checkpoint = answer.checkpoint
    return replace(answer, checkpoint=replace(checkpoint, signatures=checkpoint.signatures[:1]))


def one_signature_twice(answer: AnswerLeaf) -> AnswerLeaf:
    first = answer.checkpoint.signatures[0]
    return replace(answer, checkpoint=replace(answer.checkpoint, signatures=(first, first)))


def another_height(answer: AnswerLeaf) -> AnswerLeaf:
    return replace(answer, checkpoint=replace(answer.checkpoint, height=answer.checkpoint.height + 1))


def another_swarm(answer: AnswerLeaf) -> AnswerLeaf:
    other = make_genesis(snapshot_every=255)
    leaves = [answer.leaf]
    return replace(answer, position=0, path=(), checkpoint=make_checkpoint(other, leaves))


def another_epoch(answer: AnswerLeaf) -> AnswerLeaf:
    checkpoint = make_checkpoint(GENESIS, [answer.leaf], epoch=1)
    return replace(answer, position=0, path=(), checkpoint=checkpoint)


def unknown_too_early(answer: AnswerLeaf) -> AnswerUnknown:
    return AnswerUnknown(answer.key, answer.checkpoint)


def unknown_at_a_made_up_height(answer: AnswerLeaf) -> AnswerUnknown:
    return AnswerUnknown(answer.key, replace(answer.checkpoint, height=2 * CLIENT_EXPIRY_HEIGHTS))


def superseded_by_itself(answer: AnswerLeaf) -> AnswerSuperseded:
    return AnswerSuperseded(answer.key, answer.position, answer.leaf, answer.path, answer.checkpoint)


def superseded_by_what_is_not_in_the_log(answer: AnswerLeaf) -> AnswerSuperseded:
    other = submission_leaf(make_submission(GENESIS, "ops", SEQUENCE_FIRST, ("notes", b"other")).raw)
    return AnswerSuperseded(answer.key, answer.position, other, answer.path, answer.checkpoint)


SEQUENCE_FIRST = 1024
"""The first number of a client that starts without a file."""

LEAF_LIES = [
    forged_leaf,
    made_up_log,
    too_few_signatures,
    one_signature_twice,
    another_height,
    another_swarm,
    another_epoch,
    unknown_too_early,
    unknown_at_a_made_up_height,
    superseded_by_itself,
    superseded_by_what_is_not_in_the_log,
    lambda answer: replace(answer, position=answer.position + 1),
    lambda answer: replace(answer, path=(*answer.path, bytes(32))),
    lambda answer: replace(answer, path=(bytes(32),) * len(answer.path)),
    lambda answer: replace(answer, path=answer.path[:-1]),
]


@pytest.mark.parametrize("lie", LEAF_LIES, ids=lambda lie: lie.__name__)
def test_a_lie_about_a_submission_is_not_believed(lie: Callable[[AnswerLeaf], Answered]) -> None:
    swarm = LightSwarm(liars=dict.fromkeys(LIARS, of_leaf(lie)))
    receipt = swarm.until(note(swarm))

    assert isinstance(receipt, Receipt)
    assert verify_proof(receipt.proof, swarm.genesis) == receipt.entry
    assert swarm.client.dropped["not-believed"] >= 1


def test_a_true_leaf_that_is_not_the_one_asked_for_is_not_believed() -> None:
    """The liar proves an older submission of the same origin, or somebody else's: all true, and no answer."""
    swarm = LightSwarm()
    first = swarm.until(note(swarm, b"first"))
    assert isinstance(first, Receipt)
    kept: list[AnswerLeaf] = []

    def honest(_request: Request | None, answer: Answered) -> Answered:
        if isinstance(answer, AnswerLeaf):
            kept.append(answer)
        return answer

    swarm.liars = dict.fromkeys(swarm.genesis.voter_ids, honest)
    swarm.until(note(swarm, b"second"))
    swarm.liars = dict.fromkeys(LIARS, of_leaf(lambda answer: replace(kept[0], key=answer.key)))
    third = swarm.until(note(swarm, b"third"))

    assert isinstance(third, Receipt)
    assert third.entry.commands == (("notes", b"third"),)
    assert swarm.client.dropped["not-believed"] >= 1


def test_an_outcome_is_not_believed_for_another_decision() -> None:
    swarm = LightSwarm(ballot_of=lambda device, _view: int(device[-1]))
    kept: list[AnswerLeaf] = []

    def remember(request: Request | None, answer: Answered) -> Answered:
        is_decision = request is not None and isinstance(request.ask, AskAwait) and not request.ask.sequence
        if isinstance(answer, AnswerLeaf) and is_decision:
            kept.append(answer)
        return answer

    opening = open_command(subject="door", rule="median", deadline_ms=3_000)
    swarm.liars = dict.fromkeys(swarm.genesis.voter_ids, remember)
    first = swarm.until(WantDecision(swarm.ticket(), opening))
    assert isinstance(first, DecidedOutcome)

    def repeat(request: Request | None, answer: Answered) -> Answered:
        is_decision = request is not None and isinstance(request.ask, AskAwait) and not request.ask.sequence
        return replace(kept[0], key=answer.key) if isinstance(answer, AnswerLeaf) and is_decision else answer

    swarm.liars = dict.fromkeys(LIARS, repeat)
    second = swarm.until(WantDecision(swarm.ticket(), opening))
    assert isinstance(second, DecidedOutcome)
    assert second.outcome.decision != first.outcome.decision
    assert swarm.client.dropped["not-believed"] >= 1


ENTRIES_LIES: list[Callable[[AnswerEntries], Answered | None]] = [
    lambda answer: replace(answer, leaves=()),
    lambda answer: replace(answer, leaves=answer.leaves[1:]),
    lambda answer: replace(answer, leaves=answer.leaves[::-1]),
    lambda answer: replace(answer, leaves=(flipped(answer.leaves[0]), *answer.leaves[1:])),
    lambda answer: replace(answer, leaves=(*answer.leaves, answer.leaves[0])),
    lambda answer: replace(answer, position=answer.position + 1),
    lambda answer: replace(answer, position=NUMBER_MAX),
    lambda answer: replace(answer, frontier=tuple(map(flipped, answer.frontier))),
    lambda answer: replace(answer, frontier=(*answer.frontier, bytes(32))),
    lambda answer: replace(answer, rest=tuple(map(flipped, answer.rest))),
    lambda answer: replace(answer, rest=(*answer.rest, bytes(32))),
    lambda answer: replace(
        answer, checkpoint=replace(answer.checkpoint, log_size=answer.checkpoint.log_size + 1)
    ),
    lambda answer: replace(answer, checkpoint=replace(answer.checkpoint, log_root=bytes(32))),
    lambda answer: replace(
        answer, checkpoint=replace(answer.checkpoint, signatures=answer.checkpoint.signatures[:1])
    ),
    lambda answer: AnswerBusy(),
    lambda answer: None,
]


@pytest.mark.parametrize("number", range(len(ENTRIES_LIES)))
def test_a_lie_about_entries_is_not_believed(number: int) -> None:
    swarm = LightSwarm()
    for at in range(5):
        swarm.until(note(swarm, b"%d" % at))
    truth = swarm.until(WantEntries(swarm.ticket(), 3, 4))
    proof = swarm.until(WantProof(swarm.ticket(), 5))
    assert isinstance(truth, VerifiedEntries)
    assert isinstance(proof, ProvedEntry)
    swarm.liars = dict.fromkeys(LIARS, of_entries(ENTRIES_LIES[number]))
    for _ in range(4):
        assert swarm.until(WantEntries(swarm.ticket(), 3, 4)) == truth
        again = swarm.until(WantProof(swarm.ticket(), 5))
        assert isinstance(again, ProvedEntry)
        assert verify_proof(again.proof, swarm.genesis) == again.entry == proof.entry


def test_a_refusal_cannot_be_hidden_by_leaving_it_out() -> None:
    swarm = LightSwarm(liars=dict.fromkeys(LIARS, of_entries(lambda a: replace(a, leaves=a.leaves[:1]))))
    assert isinstance(swarm.until(note(swarm, b"")), SubmissionRejectedError)


def test_an_old_checkpoint_cannot_hide_what_was_seen_already() -> None:
    swarm = LightSwarm()
    swarm.until(note(swarm, b"old"))
    kept: list[AnswerEntries] = []

    def remember(_request: Request | None, answer: Answered) -> Answered:
        if isinstance(answer, AnswerEntries):
            kept.append(answer)
        return answer

    swarm.liars = dict.fromkeys(swarm.genesis.voter_ids, remember)
    swarm.until(WantEntries(swarm.ticket(), 2, 10))
    swarm.liars = {}
    swarm.until(note(swarm, b"new"))
    seen = swarm.until(WantEntries(swarm.ticket(), 0, 10))
    assert isinstance(seen, VerifiedEntries)
    assert seen.log_size == 4

    swarm.liars = dict.fromkeys(LIARS, of_entries(lambda _answer: kept[0]))
    for _ in range(4):
        later = swarm.until(WantEntries(swarm.ticket(), 2, 10))
        assert isinstance(later, VerifiedEntries)
        assert len(later.entries) == 2


@pytest.mark.parametrize("high", [0, 5, 3_000, NUMBER_MAX])
@pytest.mark.parametrize("lost", [False, True])
def test_one_liar_cannot_choose_the_clients_numbers_or_expiry(high: int, *, lost: bool) -> None:
    def lie(_request: Request | None, answer: Answered) -> Answered:
        if isinstance(answer, AnswerWindow):
            return AnswerWindow(answer.origin, answer.incarnation, high, high)
        return answer

    for liar in GENESIS.voter_ids:
        swarm = LightSwarm(liars={liar: lie})
        assert isinstance(swarm.until(note(swarm)), Receipt)
        if lost:
            swarm.lose_operator_file()
        assert isinstance(swarm.until(note(swarm)), Receipt)


# ------------------------------------------------------------------------------ envelopes


def envelope_of(swarm: LightSwarm, signer: str, claimed: str, answer: Answer) -> bytes:
    body = encode(answer)
    signature = sign(keypair(signer), envelope_bytes(swarm.genesis.id, Kind.ANSWER, body))
    return encode_frame((Envelope(kind=Kind.ANSWER, sender=claimed, body=body, signature=signature),))


def answer_of(to: str, counter: tuple[int, int]) -> Answer:
    return Answer(
        boot=1, n=1, to=to, re_boot=counter[0], re_n=counter[1], content=AnswerWindow("ops", 0, 0, 0)
    )


@pytest.mark.parametrize(
    ("signer", "claimed", "topic", "to", "shift", "reason"),
    [
        ("dev-1", "dev-0", "dev-0", "ops", 0, "bad-signature"),
        ("dev-1", "dev-0", "dev-1", "ops", 0, "topic-sender-mismatch"),
        ("dev-0", "dev-0", "dev-0", "dev-1", 0, "no-such-question"),
        ("dev-0", "dev-0", "dev-0", "ops", 1_000, "no-such-question"),
        ("dev-1", "dev-1", "dev-1", "ops", 0, "no-such-question"),
        ("ops", "ops", "ops", "ops", 0, "no-such-question"),
    ],
)
def test_an_answer_must_be_signed_by_its_sender_to_me_about_my_question(
    signer: str, claimed: str, topic: str, to: str, shift: int, reason: str
) -> None:
    swarm = LightSwarm(deaf_to_client=set(GENESIS.voter_ids))
    swarm.want(note(swarm))
    member, request = next((m, r) for m, r in swarm.asked if m == "dev-0")
    assert member == "dev-0"
    answer = answer_of(to, (request.boot, request.n + shift))
    swarm.hear(topic, Scope.TO, envelope_of(swarm, signer, claimed, answer))
    assert swarm.client.dropped == {reason: 1}


def test_an_answer_counts_once() -> None:
    swarm = LightSwarm(deaf_to_client=set(GENESIS.voter_ids))
    swarm.want(note(swarm))
    _, request = next((m, r) for m, r in swarm.asked if m == "dev-0")
    frame = envelope_of(swarm, "dev-0", "dev-0", answer_of("ops", (request.boot, request.n)))
    swarm.hear("dev-0", Scope.TO, frame)
    assert swarm.client.dropped == {}
    swarm.hear("dev-0", Scope.TO, frame)
    assert swarm.client.dropped == {"no-such-question": 1}
