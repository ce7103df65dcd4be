"""Presence: signed, bound to device, swarm and state, and an earlier start's words put aside."""

from __future__ import annotations

import json

import pytest

from swarm.agent.presence import (
    PRESENCE_BYTES_MAX,
    PresenceBoard,
    PresenceClaim,
    PresenceState,
    read_presence,
    sign_presence,
)
from swarm.primitives.errors import DecodeError
from tests.support.swarms import keypair, make_genesis

GENESIS = make_genesis(4)


def payload(id: str = "dev-1", boot: int = 3, state: str = "birth", *, swarm_id: bytes = GENESIS.id) -> bytes:
    found = getattr(sign_presence(swarm_id, id, keypair(id), boot), state)
    assert isinstance(found, bytes)
    return found


def refusal(data: bytes, sender: str = "dev-1") -> str:
    with pytest.raises(DecodeError) as caught:
        read_presence(data, GENESIS, sender)
    return caught.value.reason


@pytest.mark.parametrize(
    ("which", "state"),
    [("birth", PresenceState.ONLINE), ("will", PresenceState.LOST), ("offline", PresenceState.OFFLINE)],
)
def test_the_three_words_of_a_device_are_read_back(which: str, state: PresenceState) -> None:
    assert read_presence(payload(state=which), GENESIS, "dev-1") == PresenceClaim("dev-1", state, 3)


def test_it_is_json_with_the_names_of_the_contract() -> None:
    birth = json.loads(payload())
    assert sorted(birth) == ["boot", "device", "sig", "state"]
    assert (birth["state"], birth["device"], birth["boot"]) == ("online", "dev-1", 3)


@pytest.mark.parametrize(("key", "value"), [("state", "lost"), ("boot", 4), ("sig", "00" * 64)])
def test_a_changed_field_is_no_word_of_the_device(key: str, value: object) -> None:
    changed = {**json.loads(payload()), key: value}
    assert refusal(json.dumps(changed).encode()) == "bad-signature"


def test_the_word_of_another_swarm_or_device_is_refused() -> None:
    assert refusal(payload(swarm_id=bytes(32))) == "bad-signature"
    assert refusal(payload("dev-2")) == "topic-sender-mismatch"
    assert refusal(payload("dev-9"), "dev-9") == "unknown-sender"


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[]", b'{"state":"online"}', b'{"state":1}'])
def test_garbage_is_a_reason_and_not_an_exception(data: bytes) -> None:
    assert refusal(data) == "malformed"


def test_size_comes_before_everything() -> None:
    assert refusal(payload() + b" " * PRESENCE_BYTES_MAX) == "oversized"


def test_an_old_last_will_is_put_aside() -> None:
    board = PresenceBoard(GENESIS)
    assert board.hear("dev-1", payload(boot=4)) is not None
    assert board.hear("dev-1", payload(boot=3, state="will")) is None
    assert board.claims() == (PresenceClaim("dev-1", PresenceState.ONLINE, 4),)
    assert board.dropped == {"outdated": 1}
    assert board.hear("dev-1", payload(boot=4, state="will")) is not None
    assert board.claims() == (PresenceClaim("dev-1", PresenceState.LOST, 4),)


def test_garbage_changes_no_board() -> None:
    board = PresenceBoard(GENESIS)
    assert board.hear("dev-1", b"{}") is None
    assert board.claims() == ()
    assert board.dropped == {"malformed": 1}
