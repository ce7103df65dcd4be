"""Topics: what CONTRACTS says, taken apart and put together."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.primitives.errors import InvariantError
from swarm.primitives.ids import NAME_PATTERN
from swarm.transport.topics import (
    QOS,
    RETAINED,
    Parsed,
    Scope,
    parse,
    subscriptions,
    topic_all,
    topic_beat,
    topic_of,
    topic_status,
    topic_to,
)

names = st.from_regex(NAME_PATTERN, fullmatch=True).filter(lambda name: not name.endswith("\n"))


def test_the_four_topics_of_the_contract() -> None:
    assert topic_all("green", "dev-0") == "swarm/1/green/n/dev-0/all"
    assert topic_to("green", "dev-0", "dev-1") == "swarm/1/green/n/dev-0/to/dev-1"
    assert topic_beat("green", "dev-0") == "swarm/1/green/n/dev-0/beat"
    assert topic_status("green", "dev-0") == "swarm/1/green/n/dev-0/status"


def test_quality_of_service_and_retention_of_the_contract() -> None:
    assert QOS == {Scope.ALL: 1, Scope.TO: 1, Scope.BEAT: 0, Scope.STATUS: 1}
    assert [scope for scope in Scope if RETAINED[scope]] == [Scope.STATUS]


@settings(deadline=None)
@given(names, names, st.sampled_from(Scope), names)
def test_parse_undoes_topic_of(swarm: str, sender: str, scope: Scope, other: str) -> None:
    dest = other if scope is Scope.TO else None
    assert parse(topic_of(swarm, sender, scope, dest)) == Parsed(swarm, sender, scope, dest)


@settings(deadline=None)
@given(st.text(alphabet="swarm/1nalto+#-", max_size=40))
def test_what_parses_is_what_we_would_have_written(text: str) -> None:
    parsed = parse(text)
    if parsed is not None:
        assert topic_of(parsed.swarm, parsed.sender, parsed.scope, parsed.dest) == text


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "swarm/1/s/n/a",
        "swarm/1/s/n/a/",
        "swarm/2/s/n/a/all",
        "swarm/1/s/x/a/all",
        "swarm/1/s/n/a/all/more",
        "swarm/1/s/n/a/to",
        "swarm/1/s/n/a/to/",
        "swarm/1/s/n/a/to/b/c",
        "swarm/1/s/n/a/to/+",
        "swarm/1/s/n/+/all",
        "swarm/1/S/n/a/all",
        "swarm/1/s/n/a\n/all",
        "/swarm/1/s/n/a/all",
        "swarm/1/s/n/a/shout",
        f"swarm/1/s/n/{'a' * 33}/all",
    ],
)
def test_other_topics_are_nobodys(topic: str) -> None:
    assert parse(topic) is None


def test_names_that_would_widen_a_filter_are_our_own_bug() -> None:
    for bad in ("+", "#", "a/b", "", "A"):
        with pytest.raises(InvariantError):
            topic_all("s", bad)
        with pytest.raises(InvariantError):
            topic_to("s", "a", bad)
        with pytest.raises(InvariantError):
            topic_status(bad, "a")
    with pytest.raises(InvariantError):
        topic_of("s", "a", Scope.ALL, "b")
    with pytest.raises(InvariantError):
        topic_of("s", "a", Scope.TO, None)


def test_a_device_subscribes_exactly_and_not_to_itself() -> None:
    assert subscriptions("s", "b", ["a", "b", "a"]) == (
        ("swarm/1/s/n/a/all", 1),
        ("swarm/1/s/n/a/to/b", 1),
        ("swarm/1/s/n/a/beat", 0),
        ("swarm/1/s/n/a/status", 1),
    )
    assert subscriptions("s", "b", ["b"], echo=True) == (("swarm/1/s/n/b/all", 1),)
    assert subscriptions("s", "b", ["a"], scopes=(Scope.TO,)) == (("swarm/1/s/n/a/to/b", 1),)


@settings(deadline=None)
@given(names, names, st.lists(names, max_size=8))
def test_every_subscription_parses_and_has_the_right_quality(swarm: str, me: str, members: list[str]) -> None:
    for topic, qos in subscriptions(swarm, me, members):
        parsed = parse(topic)
        assert parsed is not None
        assert parsed.sender in members
        assert qos == QOS[parsed.scope]
        assert parsed.dest == (me if parsed.scope is Scope.TO else None)
