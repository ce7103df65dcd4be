"""PROTOCOL R7: an FC finalizes its block and all ancestors; delivered in height order, exactly once, with the bytes."""

from __future__ import annotations

import pytest

from swarm.primitives.errors import InvariantError
from swarm.wire.messages import SubmissionItem
from swarm.wire.statements import Header
from tests.support.stage import GENESIS, F, Made, Stage


def heights(stage: Stage) -> list[int]:
    return [block.header.height for block in stage.device.disk.log]


def chain(stage: Stage, views: int) -> list[Made]:
    """Make a chain of one block a view; the device sees proposals, no certificates."""
    made = [GENESIS]
    for view in range(1, views + 1):
        made.append(stage.make(view, made[-1], (stage.submission(),)))
    return made[1:]


def test_r7_a_vc_delivers_nothing() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.give(made)
    stage.notarize(made)
    assert heights(stage) == []
    stage.finalize(made)
    assert heights(stage) == [1]


def test_r7_an_fc_finalizes_all_ancestors_in_height_order() -> None:
    stage = Stage()
    made = chain(stage, 3)
    for block in made:
        stage.give(block)
        stage.notarize(block)
    stage.finalize(made[-1])
    assert heights(stage) == [1, 2, 3]
    assert [block.hash for block in stage.device.disk.log] == [block.hash for block in made]
    assert [block.finality is not None for block in stage.device.disk.log] == [False, False, True]


def test_r7_exactly_once() -> None:
    stage = Stage()
    made = stage.commit(1)
    stage.finalize(made)
    stage.hear_votes(F, 1, [1, 2, 3], made.hash)
    stage.restart()
    stage.finalize(made)
    stage.give(made)
    assert heights(stage) == [1]


def test_r7_an_older_fc_after_a_newer_one_changes_nothing() -> None:
    stage = Stage()
    made = chain(stage, 2)
    for block in made:
        stage.give(block)
        stage.notarize(block)
    stage.finalize(made[1])
    stage.finalize(made[0])
    assert (heights(stage), stage.state.final_view) == ([1, 2], 2)


def test_r7_delivered_when_the_bytes_are_there() -> None:
    stage = Stage()
    made = chain(stage, 2)
    stage.hear(stage.proposal(made[0]))
    stage.notarize(made[0])
    stage.give(made[1])
    stage.notarize(made[1])
    stage.finalize(made[1])
    assert heights(stage) == []
    stage.hear(SubmissionItem(raw=made[0].submissions[0].raw))
    assert heights(stage) == [1, 2]


def test_r7_no_byte_is_asked_of_a_final_block_that_is_not_in_hand() -> None:
    """A block above a final one without bytes is notarized and finalized; nothing raises, delivery waits."""
    stage = Stage()
    made = chain(stage, 2)
    stage.hear(stage.proposal(made[0]))
    stage.finalize(made[0])
    stage.give(made[1], parent=stage.certificate(F, 1, made[0].hash))
    stage.notarize(made[1])
    assert stage.signed(F) == [made[1].hash]
    assert heights(stage) == []
    stage.hear(made[0].block)
    assert heights(stage) == [1]


def test_r7_what_counts_is_decided_in_order() -> None:
    """The second of two submissions under one (origin, seq) is a no-op without a leaf, not an invalid block."""
    stage = Stage()
    first = stage.submission("first")
    stage._sequence -= 1
    second = stage.submission("second")
    one = stage.make(1, GENESIS, (first,))
    two = stage.make(2, one, (second, stage.submission("third")))
    for block in (one, two):
        stage.give(block)
        stage.hear(block.block)
        stage.notarize(block)
    stage.finalize(two)
    assert [block.counts for block in stage.device.disk.log] == [(True,), (False, True)]


def test_r7_a_submission_that_an_ancestor_delivered_keeps_its_bytes_for_a_block_above() -> None:
    stage = Stage()
    again = stage.submission("again")
    one = stage.make(1, GENESIS, (again,))
    two = stage.make(2, one, (again,))
    for block in (one, two):
        stage.give(block)
        stage.notarize(block)
    stage.finalize(two)
    assert heights(stage) == [1, 2]
    assert [block.counts for block in stage.device.disk.log] == [(True,), (False,)]


def test_r7_a_second_fc_at_one_height_stops_the_device() -> None:
    """More than r liars: the device says fork and stops, it never continues."""
    stage = Stage()
    made = chain(stage, 2)
    stage.commit(1)
    other = Made(Header(0, 2, 1, 0, GENESIS.hash, (), bytes(32), 2), ())
    stage.give(other)
    stage.hear(other.block)
    with pytest.raises(InvariantError, match="fork"):
        stage.finalize(other)
    assert made[0].view == 1
