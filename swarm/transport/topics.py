"""The four topics of a swarm, their quality of service, and what one device subscribes to (CONTRACTS, "Topics").

The sender is always at level 5, so that one access-control line of a broker pins a device to its own subtree.
A topic is a hint about who sent something and nothing more: whoever consumes a frame compares `Parsed.sender` with
the signer of the payload.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from swarm.primitives.errors import check
from swarm.primitives.ids import DeviceId, is_name

_ROOT: Final = "swarm/1"


class Scope(StrEnum):
    """Whom a frame is for; the value is the word in the topic."""

    ALL = "all"
    TO = "to"
    BEAT = "beat"
    STATUS = "status"


QOS: Final[dict[Scope, int]] = {Scope.ALL: 1, Scope.TO: 1, Scope.BEAT: 0, Scope.STATUS: 1}
"""Quality of service per scope. QoS 2 is never used: some brokers cut the connection for it, none makes it end to end.

A frame that is `repeated` goes at 0 whatever its scope (ADR 0018).
"""

RETAINED: Final[dict[Scope, bool]] = {
    Scope.ALL: False,
    Scope.TO: False,
    Scope.BEAT: False,
    Scope.STATUS: True,
}
"""Presence is the only thing worth finding when one comes late; everything else is fetched from peers, verified."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A topic taken apart: swarm name, sender, scope, and the addressee of a `to` topic (else None)."""

    swarm: str
    sender: DeviceId
    scope: Scope
    dest: DeviceId | None


def topic_all(swarm: str, sender: DeviceId) -> str:
    """Return the topic on which `sender` talks to everybody."""
    return f"{_stem(swarm, sender)}/all"


def topic_to(swarm: str, sender: DeviceId, dest: DeviceId) -> str:
    """Return the topic on which `sender` talks to `dest` alone."""
    check(is_name(dest), f"{dest!r} cannot stand in a topic")
    return f"{_stem(swarm, sender)}/to/{dest}"


def topic_beat(swarm: str, sender: DeviceId) -> str:
    """Return the topic of the signed heartbeats of `sender`."""
    return f"{_stem(swarm, sender)}/beat"


def topic_status(swarm: str, sender: DeviceId) -> str:
    """Return the retained presence topic of `sender`: birth and last will."""
    return f"{_stem(swarm, sender)}/status"


def topic_of(swarm: str, sender: DeviceId, scope: Scope, dest: DeviceId | None) -> str:
    """Return the topic for `scope`; `dest` is given exactly for `Scope.TO`, anything else is our own bug."""
    check((dest is not None) == (scope is Scope.TO), f"scope {scope} with destination {dest!r}")
    if dest is not None:
        return topic_to(swarm, sender, dest)
    return f"{_stem(swarm, sender)}/{scope.value}"


def parse(topic: str) -> Parsed | None:
    """Take `topic` apart; None for anything that none of the functions above can return."""
    levels = topic.split("/")
    if len(levels) < 6 or levels[0] != "swarm" or levels[1] != "1" or levels[3] != "n":
        return None
    swarm, sender, word = levels[2], levels[4], levels[5]
    if not (is_name(swarm) and is_name(sender)):
        return None
    if word == Scope.TO.value:
        if len(levels) != 7 or not is_name(levels[6]):
            return None
        return Parsed(swarm, sender, Scope.TO, levels[6])
    if len(levels) != 6 or word not in (Scope.ALL, Scope.BEAT, Scope.STATUS):
        return None
    return Parsed(swarm, sender, Scope(word), None)


def subscriptions(
    swarm: str,
    me: DeviceId,
    members: Iterable[DeviceId],
    *,
    echo: bool = False,
    scopes: Collection[Scope] = tuple(Scope),
) -> tuple[tuple[str, int], ...]:
    """Return the exact (filter, QoS) pairs by which `me` hears `members`, in their order and without repetition.

    One per scope and member and no wildcard, so a sender that is no member costs nothing. `me` among the members is
    skipped; with `echo` the own `all` topic is added, for a device that measures how long its frames take to come back. With
    fewer `scopes` only those are heard: a light client wants its answers and none of the swarm's votes.
    """
    filters: dict[str, int] = {}
    if echo:
        filters[topic_all(swarm, me)] = QOS[Scope.ALL]
    for member in members:
        if member == me:
            continue
        for scope in (scope for scope in Scope if scope in scopes):
            filters[topic_of(swarm, member, scope, me if scope is Scope.TO else None)] = QOS[scope]
    return tuple(filters.items())


def _stem(swarm: str, sender: DeviceId) -> str:
    check(is_name(swarm) and is_name(sender), f"{swarm!r} and {sender!r} cannot stand in a topic")
    return f"{_ROOT}/{swarm}/n/{sender}"
