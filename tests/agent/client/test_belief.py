"""The parts of believing that are pure arithmetic: paths made of other paths, and what stands behind a submission."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.agent.client.belief import inclusion_from_range, refusals_of
from swarm.agent.client.members import Claims, sequence_after_loss
from swarm.apps.router import EVENT_TAG, REJECTED_TAG
from swarm.crypto.merkle import Frontier, consistency_path, inclusion_path, leaf_hash
from swarm.primitives.limits import NUMBER_MAX, SEQUENCE_WINDOW
from swarm.wire.leaves import EventBody, event_leaf, submission_leaf
from swarm.wire.messages import AnswerWindow
from tests.support.swarms import make_genesis, make_submission


def test_the_path_made_of_frontier_and_consistency_is_the_inclusion_path() -> None:
    nodes: dict[tuple[int, int], bytes] = {}
    tree = Frontier()
    for number in range(130):
        for level, index, digest in tree.append(leaf_hash(b"%d" % number)):
            nodes[level, index] = digest

    def node(level: int, index: int) -> bytes:
        return nodes[level, index]

    for size in range(1, 131):
        for position in range(size):
            frontier = Frontier.read(position, node).hashes
            rest = tuple(consistency_path(position + 1, size, node)) if position + 1 < size else ()
            made = inclusion_from_range(position, size, frontier, rest)
            assert list(made) == inclusion_path(position, size, node)


def test_refusals_are_those_of_the_submission_alone() -> None:
    genesis = make_genesis()
    mine = make_submission(genesis, "ops", 1, ("notes", b"a"))
    other = make_submission(genesis, "ops", 2, ("notes", b"b"))

    def event(submission: bytes, body: bytes) -> bytes:
        return event_leaf(EventBody(3, submission, 0, "notes", body))

    refusal = REJECTED_TAG + b"no"
    own = submission_leaf(mine.raw)
    assert refusals_of((own,), mine.id) == []
    assert refusals_of((own, event(mine.id, EVENT_TAG + b"x")), mine.id) == []
    assert refusals_of((own, event(mine.id, refusal)), mine.id) == [(1, "no")]
    assert refusals_of((own, event(other.id, refusal)), mine.id) == []
    assert refusals_of((own, submission_leaf(other.raw), event(mine.id, refusal)), mine.id) == []


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 50), min_size=7, max_size=7),
    st.lists(st.integers(0, NUMBER_MAX), min_size=2, max_size=2),
    st.permutations(range(7)),
)
def test_r_liars_never_raise_what_is_reliable(honest: list[int], lies: list[int], order: list[int]) -> None:
    genesis = make_genesis(7)
    assert genesis.budget.r == 2
    claims = Claims(genesis)
    told = [*lies, *honest[2:]]
    for heard, voter in enumerate(order, start=1):
        value = told[voter]
        claims.take(f"dev-{voter}", AnswerWindow("ops", 0, value, value))
        reliable = claims.reliable()
        if heard <= 2:
            assert reliable is None
            assert claims.agreed_high() is None
            continue
        assert reliable is not None
        heard_honest = [told[v] for v in order[:heard] if v >= 2]
        assert reliable.height <= max(heard_honest)
        assert reliable.high <= max(heard_honest)
        agreed = claims.agreed_high()
        assert agreed is None or agreed in heard_honest
    assert claims.is_complete


def test_the_number_after_a_loss_is_above_everything_signed_and_still_in_the_window() -> None:
    high = 77
    signed_at_most = high + SEQUENCE_WINDOW - 1
    following = sequence_after_loss(high) + 1
    assert signed_at_most < following <= high + SEQUENCE_WINDOW
