"""Limits: protocol constants have golden values, and all caps fit each other."""

from __future__ import annotations

import ast
from pathlib import Path

from swarm.primitives import limits

# What all devices must agree on. A change here splits a running swarm from its updated devices: it is a new
# protocol version, never an adjustment.
GOLDEN = {
    "NUMBER_MAX": 9223372036854775807,
    "VOTERS_MAX": 256,
    "MEMBERS_MAX": 4096,
    "COMMAND_BYTES_MAX": 16384,
    "SUBMISSION_COMMANDS_MAX": 64,
    "SUBMISSION_BYTES_MAX": 65536,
    "PROOF_BYTES_MAX": 131072,
    "BLOCK_SUBMISSIONS_MAX": 256,
    "BLOCK_BYTES_MAX": 163840,
    "SEQUENCE_WINDOW": 1024,
    "OUTSTANDING_MAX": 1023,
    "SNAPSHOT_EVERY_DEFAULT": 256,
    "SNAPSHOT_EVERY_MAX": 1048576,
    "GENESIS_APPS_MAX": 16,
    "GENESIS_BYTES_MAX": 2097152,
    "EVENT_BYTES_MAX": 32768,
    "EVENTS_PER_COMMAND_MAX": 64,
    "SNAPSHOT_BYTES_MAX": 134217728,
    "DECISION_OPTIONS_MAX": 32,
    "DECISION_ELIGIBLE_MAX": 512,
    "DECISIONS_OPEN_PER_ORIGIN_MAX": 128,
    "DECISION_SCALE_MAX": 9,
    "DECISIONS_OPEN_MAX": 1024,
    "DECISIONS_CLOSED_KEPT": 4096,
    "DEADLINE_MS_MAX": 604800000,
    "RELEASE_KEYS_MAX": 16,
    "MANIFEST_BYTES_MAX": 4096,
    "MANIFEST_NEEDS_MAX": 32,
    "MANIFEST_NOTES_MAX": 1024,
    "CHUNK_BYTES_MIN": 4096,
    "CHUNK_BYTES_MAX": 32768,
    "RELEASES_KEPT": 128,
    "PLANS_KEPT": 128,
    "PLANS_WAITING_PER_ORIGIN_MAX": 4,
    "PLAN_STEPS_MAX": 32,
    "PLAN_ATTEMPTS_MAX": 16,
    "PLAN_RETRIES_MAX": 16,
    "STAGE_MEMBERS_MAX": 512,
    "ROLLOUT_REASON_MAX": 100,
    "STAGES_KEPT": 1024,
}

SOURCE = Path(limits.__file__).read_text(encoding="utf-8")
LOCAL_CAPS = next(
    number for number, line in enumerate(SOURCE.splitlines(), 1) if line.endswith(" local caps")
)


def caps() -> dict[str, int]:
    """Return the line of every cap by its name."""
    nodes = [node for node in ast.parse(SOURCE).body if isinstance(node, ast.AnnAssign)]
    return {node.target.id: node.lineno for node in nodes if isinstance(node.target, ast.Name)}


def test_protocol_constants_have_their_golden_values() -> None:
    assert {name: getattr(limits, name) for name in GOLDEN} == GOLDEN


def test_exactly_the_constants_above_the_local_caps_are_golden() -> None:
    assert {name for name, line in caps().items() if line < LOCAL_CAPS} == set(GOLDEN)


def test_every_cap_is_a_positive_integer() -> None:
    for name in caps():
        value = getattr(limits, name)
        assert type(value) is int, name
        assert value > 0, name


def test_every_number_fits_a_signed_64_bit_column() -> None:
    assert limits.NUMBER_MAX == 2**63 - 1
    assert all(getattr(limits, name) <= limits.NUMBER_MAX for name in caps())


def test_what_is_inside_fits_what_is_around_it() -> None:
    assert (
        limits.COMMAND_BYTES_MAX
        < limits.SUBMISSION_BYTES_MAX
        < limits.BLOCK_BYTES_MAX
        < limits.FRAME_BYTES_MAX
    )
    # A block travels with its header (ids) and a certificate (u16 index and 64 bytes a voter) in one frame.
    header = 32 * limits.BLOCK_SUBMISSIONS_MAX + 512
    certificate = (2 + 64) * limits.VOTERS_MAX + 256
    assert limits.BLOCK_BYTES_MAX + header + 2 * certificate <= limits.FRAME_BYTES_MAX
    assert limits.VOTERS_MAX <= limits.MEMBERS_MAX
    assert limits.VOTERS_MAX <= 2**16, "a certificate names a voter by a u16 index"


def test_the_window_leaves_room_for_what_an_origin_may_have_outstanding() -> None:
    assert limits.OUTSTANDING_MAX < limits.SEQUENCE_WINDOW
    assert limits.POOL_PER_ORIGIN_MAX >= limits.OUTSTANDING_MAX
    assert limits.POOL_SUBMISSIONS_MAX > limits.POOL_PER_ORIGIN_MAX, "one origin cannot fill the pool"


def test_a_decimal_of_full_scale_fits_a_number() -> None:
    assert 2**31 * 10**limits.DECISION_SCALE_MAX < limits.NUMBER_MAX
