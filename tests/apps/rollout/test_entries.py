"""Commands and events of `rollout@1`: pinned bytes, strict decoding, and a key for everything that is awaited."""

from __future__ import annotations

import contextlib
import json
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.apps.rollout.entries import Command, decode_command
from swarm.apps.rollout.events import Opened, RolledBack, RolloutEvent, decode_event
from swarm.primitives.errors import DecodeError
from swarm.primitives.limits import COMMAND_BYTES_MAX, EVENT_BYTES_MAX, STAGE_MEMBERS_MAX
from swarm.wire.codec import encode
from tests.support.rollout_vectors import COMMANDS, DECODERS, EVENTS, FOLDER, PLAN, SIGNED_BYTES, samples

SAMPLES = samples()
CASES = [(file, name) for file in DECODERS for name in SAMPLES[file]]


@pytest.mark.parametrize("file", sorted(SAMPLES))
def test_bytes_are_pinned(file: str) -> None:
    pinned = json.loads((FOLDER / f"{file}.json").read_text(encoding="utf-8"))
    assert {name: data.hex() for name, data in SAMPLES[file].items()} == pinned


def test_every_command_and_every_event_has_a_vector() -> None:
    assert {type(command) for command in COMMANDS.values()} == set(get_args(Command))
    assert {type(event) for event in EVENTS.values()} == set(get_args(RolloutEvent))


@pytest.mark.parametrize(("file", "name"), CASES)
def test_round_trip_one_byte_short_one_long(file: str, name: str) -> None:
    data = SAMPLES[file][name]
    decode = DECODERS[file]
    assert decode(data) == {**COMMANDS, **EVENTS}[name]
    for bad in (data[:-1], data + b"\0", data[1:]):
        with pytest.raises(DecodeError):
            decode(bad)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_refused_or_means_itself(data: bytes) -> None:
    for decode in (decode_command, decode_event):
        with contextlib.suppress(DecodeError):
            assert encode(decode(data)) == data


def test_the_largest_stage_fits_an_event_and_the_largest_resume_a_command() -> None:
    names = tuple(f"{index:032d}" for index in range(STAGE_MEMBERS_MAX))
    assert len(encode(Opened(PLAN, 1, 1, "observers", names))) < EVENT_BYTES_MAX
    assert len(encode(RolledBack(PLAN, names))) < EVENT_BYTES_MAX
    assert all(len(data) <= COMMAND_BYTES_MAX for data in SAMPLES["commands"].values())


def test_no_two_keys_are_equal() -> None:
    keys = [data for name, data in SIGNED_BYTES.items() if name.endswith("-key")]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 32 for key in keys)
