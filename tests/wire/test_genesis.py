"""The genesis file: one identity for one swarm, and every mistake named by its key path."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.primitives.errors import ConfigError
from swarm.primitives.limits import GENESIS_BYTES_MAX, MEMBERS_MAX, VOTERS_MAX
from swarm.wire.genesis import Genesis, Member, parse_genesis
from tests.support.swarms import keypair, make_genesis


def entry(id: str, role: str = "voter", key: str | None = None) -> dict[str, Any]:
    return {"id": id, "role": role, "key": keypair(id).public.hex() if key is None else key}


def plain() -> dict[str, Any]:
    """Return the data of a legal file."""
    return {
        "swarm": "greenhouse",
        "u": 1,
        "snapshot_every": 64,
        "apps": ["notes@1", "decisions@1"],
        "members": [
            entry("dev-3"),
            entry("dev-0"),
            entry("ops", "operator"),
            entry("dev-1"),
            entry("obs-0", "observer"),
            entry("dev-2"),
        ],
    }


def error_of(data: object) -> ConfigError:
    """Return the error of a file that must be refused."""
    text = data if isinstance(data, str) else json.dumps(data)
    with pytest.raises(ConfigError) as caught:
        parse_genesis(text, "g.json")
    return caught.value


def test_a_file_is_read_and_sorted() -> None:
    genesis = parse_genesis(json.dumps(plain()), "g.json")

    assert genesis.swarm == "greenhouse"
    assert genesis.snapshot_every == 64
    assert genesis.apps == ("decisions@1", "notes@1")
    assert [member.id for member in genesis.members] == ["dev-0", "dev-1", "dev-2", "dev-3", "obs-0", "ops"]
    assert genesis.voter_ids == ("dev-0", "dev-1", "dev-2", "dev-3")
    assert [member.id for member in genesis.observers] == ["obs-0"]
    assert [member.id for member in genesis.operators] == ["ops"]
    assert (genesis.budget.n, genesis.budget.u, genesis.budget.r, genesis.budget.q) == (4, 1, 1, 3)
    assert genesis.voter_keys[2] == keypair("dev-2").public


def test_members_are_found_by_id() -> None:
    genesis = parse_genesis(json.dumps(plain()))

    assert genesis.member("ops") == Member("ops", "operator", keypair("ops").public)
    assert genesis.member("nobody") is None
    assert genesis.voter_index("dev-2") == 2
    assert genesis.voter_index("obs-0") is None


def test_defaults() -> None:
    data = plain()
    del data["snapshot_every"], data["apps"]
    genesis = parse_genesis(json.dumps(data))

    assert genesis.snapshot_every == 256
    assert genesis.apps == ("decisions@1", "notes@1")


def test_spacing_and_order_do_not_matter_to_the_swarm_id() -> None:
    data = plain()
    shuffled = {key: data[key] for key in reversed(data)}
    shuffled["members"] = data["members"][::-1]
    shuffled["apps"] = data["apps"][::-1]

    one, other = parse_genesis(json.dumps(data)), parse_genesis(json.dumps(shuffled, indent=8))

    assert one.id == other.id
    assert one == other


@pytest.mark.parametrize(
    "change",
    [
        {"swarm": "glasshouse"},
        {"u": 0},
        {"snapshot_every": 65},
        {"apps": ["notes@1"]},
        {"apps": ["notes@1", "decisions@2"]},
        {"members": [*plain()["members"], entry("dev-9", "observer")]},
        {"members": [entry("ops", "observer") if m["id"] == "ops" else m for m in plain()["members"]]},
        {
            "members": [
                entry("ops", "operator", keypair("x").public.hex()) if m["id"] == "ops" else m
                for m in plain()["members"]
            ]
        },
    ],
    ids=str,
)
def test_every_field_is_part_of_the_swarm_id(change: dict[str, Any]) -> None:
    assert parse_genesis(json.dumps({**plain(), **change})).id != parse_genesis(json.dumps(plain())).id


def test_to_json_gives_back_an_equal_genesis() -> None:
    genesis = make_genesis(7, observers=2, budget="majority")

    again = parse_genesis(genesis.to_json())

    assert again == genesis
    assert again.id == genesis.id
    assert again.to_json() == genesis.to_json()


def test_summary_says_both_numbers_of_the_budget() -> None:
    summary = parse_genesis(json.dumps(plain())).summary()

    assert "4 voters, 1 observer, 1 operator" in summary
    assert "n=4 u=1 r=1 q=3" in summary


def members_with(**change: Any) -> list[dict[str, Any]]:
    """Return members of which the third is changed."""
    members: list[dict[str, Any]] = plain()["members"]
    members[2] = {**members[2], **change}
    return members


KEY = keypair("dev-0").public.hex()


@pytest.mark.parametrize(
    ("change", "where", "words"),
    [
        ({"swarm": "Green House"}, "g.json: swarm", "'Green House'"),
        ({"swarm": 5}, "g.json: swarm", "expected text, 5"),
        ({"u": 2}, "g.json: u", "u = 2 with n = 4"),
        ({"u": -1}, "g.json: u", "u = -1"),
        ({"u": True}, "g.json: u", "whole number, true"),
        ({"u": 1.0}, "g.json: u", "whole number"),
        ({"u": 2**80}, "g.json: u", "must be >= 0"),
        ({"snapshot_every": 0}, "g.json: snapshot_every", "0 is not 1"),
        ({"snapshot_every": 2**21}, "g.json: snapshot_every", "is not 1"),
        ({"apps": []}, "g.json: apps", "1 to 16 applications"),
        ({"apps": "notes@1"}, "g.json: apps", "a list"),
        ({"apps": ["notes"]}, "g.json: apps[0]", "name@version"),
        ({"apps": ["notes@0"]}, "g.json: apps[0]", "name@version"),
        ({"apps": ["notes@1\n"]}, "g.json: apps[0]", "name@version"),
        ({"apps": ["notes@1", "notes@2"]}, "g.json: apps[1]", "listed twice"),
        ({"apps": ["notes@1", 7]}, "g.json: apps[1]", "expected text"),
        ({"members": {}}, "g.json: members", "a list of members"),
        ({"members": []}, "g.json: members", "1 to 256 voters, 0 given"),
        ({"members": [entry("ops", "operator")]}, "g.json: members", "0 given"),
        ({"members": [*plain()["members"], "x"]}, "g.json: members[6]", "an object"),
        ({"members": members_with(id="dev_9")}, "g.json: members[2].id", "'dev_9'"),
        ({"members": members_with(id="dev-3", role="voter")}, "g.json: members[2].id", "already members[0]"),
        ({"members": members_with(role="votes")}, "g.json: members[2].role", "unknown role 'votes'"),
        ({"members": members_with(role=None)}, "g.json: members[2].role", "expected text, null"),
        ({"members": members_with(key=KEY)}, "g.json: members[2].key", "same key as members[1]"),
        ({"members": members_with(key=KEY.upper())}, "g.json: members[2].key", "lower-case"),
        ({"members": members_with(key=KEY[:-2])}, "g.json: members[2].key", "64 lower-case"),
        ({"members": members_with(key="zz" * 32)}, "g.json: members[2].key", "hexadecimal"),
        ({"members": members_with(key="00" * 32)}, "g.json: members[2].key", "not a usable"),
        ({"members": members_with(key="ff" * 32)}, "g.json: members[2].key", "not a usable"),
        ({"members": members_with(vote=2)}, "g.json: members[2].vote", "unknown key 'vote'"),
        ({"member": []}, "g.json: member", "unknown key 'member'"),
    ],
)
def test_a_mistake_is_named_with_its_path(change: dict[str, Any], where: str, words: str) -> None:
    error = error_of({**plain(), **change})

    assert error.where == where
    assert words in error.message


@pytest.mark.parametrize("key", ["swarm", "u", "members"])
def test_a_missing_key_is_named(key: str) -> None:
    data = plain()
    del data[key]
    error = error_of(data)
    assert (error.where, error.message) == (f"g.json: {key}", "missing")


@pytest.mark.parametrize("key", ["id", "role", "key"])
def test_a_missing_key_of_a_member_is_named(key: str) -> None:
    data = plain()
    del data["members"][1][key]
    assert error_of(data).where == f"g.json: members[1].{key}"


def test_a_near_miss_gets_the_right_word() -> None:
    assert "'members'" in error_of({**plain(), "member": []}).hint
    assert "'voter'" in error_of({**plain(), "members": members_with(role="votes")}).hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "one JSON object"),
        ("null", "one JSON object"),
        ('{"u": 1, "u": 2}', "appears twice"),
        ("[" * 100_000, "not JSON"),
        ('{"u": ' + "9" * 10_000 + "}", "not JSON"),
        (" " * (GENESIS_BYTES_MAX + 1), "longer than"),
    ],
    ids=["empty", "open", "list", "null", "twice", "deep", "huge-number", "long"],
)
def test_what_is_no_json_object_is_refused(text: str, words: str) -> None:
    assert words in error_of(text).message


def test_the_line_of_a_syntax_error_is_named() -> None:
    assert error_of('{\n "swarm": x\n}').where == "g.json: line 2"


def test_too_many_voters_and_members_are_refused() -> None:
    voters = tuple(Member(f"dev-{i}", "voter", keypair(f"dev-{i}").public) for i in range(VOTERS_MAX + 1))
    assert len(Genesis(swarm="s", u=0, members=voters[:-1]).voters) == VOTERS_MAX
    with pytest.raises(ConfigError, match="257 given"):
        Genesis(swarm="s", u=0, members=voters)

    data = {**plain(), "members": [{}] * (MEMBERS_MAX + 1)}
    assert f"at most {MEMBERS_MAX} members" in error_of(data).message


@settings(deadline=None, max_examples=200)
@given(
    data=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["swarm", "u", "members", "apps", "id", "role", "key", "x"]),
                inner,
                max_size=5,
            )
        ),
        max_leaves=15,
    )
)
def test_any_other_json_is_a_clear_error(data: object) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_genesis(json.dumps(data), "g.json")
    assert caught.value.where.startswith("g.json")


# ------------------------------------------------------------------------------------------ release keys


def with_release(**changes: Any) -> dict[str, Any]:
    """Return the data of a legal file with 2 of 3 release keys, or with `changes` to that section."""
    keys = [keypair(f"release-{index}").public.hex() for index in range(3)]
    return {**plain(), "release": {"k": 2, "keys": keys, **changes}}


def test_release_keys_are_read_sorted_and_written_back() -> None:
    genesis = parse_genesis(json.dumps(with_release()))
    assert genesis.release is not None
    assert genesis.release.k == 2
    assert list(genesis.release.keys) == sorted(genesis.release.keys)
    again = parse_genesis(genesis.to_json())
    assert again == genesis
    assert again.id == genesis.id


def test_a_swarm_without_release_keys_keeps_its_id_and_one_with_them_has_another() -> None:
    assert parse_genesis(json.dumps(plain())).release is None
    ids = {
        parse_genesis(json.dumps(data)).id
        for data in (
            plain(),
            with_release(),
            with_release(k=1),
            with_release(keys=with_release()["release"]["keys"][:2]),
        )
    }
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("changes", "where", "words"),
    [
        ({"k": 4}, "g.json: release.k", "4 of 3 keys"),
        ({"k": 0}, "g.json: release.k", "0 of 3 keys"),
        ({"k": "two"}, "g.json: release.k", "expected a whole number"),
        ({"keys": []}, "g.json: release.keys", "1 to 16 keys"),
        ({"k": 1, "keys": ["00" * 32]}, "g.json: release.keys[0]", "not a usable Ed25519 public key"),
        ({"keys": ["zz"]}, "g.json: release.keys[0]", "hexadecimal"),
        ({"keys": "all"}, "g.json: release.keys", "expected a list"),
        (
            {"keys": [keypair("release-0").public.hex()] * 2},
            "g.json: release.keys[1]",
            "the same key as release.keys[0]",
        ),
        ({"key": 1}, "g.json: release.key", "unknown key"),
    ],
    ids=str,
)
def test_bad_release_keys_are_named_by_their_path(changes: dict[str, Any], where: str, words: str) -> None:
    error = error_of(with_release(**changes))
    assert error.where == where
    assert words in error.message


def test_a_release_section_that_is_no_object() -> None:
    assert error_of({**plain(), "release": 2}).where == "g.json: release"
