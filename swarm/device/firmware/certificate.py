"""The certificate to act (W5): what a device must hold before it writes a boot selection.

The permit stands in the log that this device replayed itself, and the r+1 matching attestations say that others have
the same log; the others prove that enough voters applied the permit and go on without this device.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from swarm.apps.rollout.events import Permitted, decode_event
from swarm.apps.router import Refusal, read_body
from swarm.device.firmware.view import View
from swarm.primitives.ids import DeviceId
from swarm.wire.leaves import decode_leaf


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitFacts:
    """What the log says of a permit where it was given."""

    position: int
    height: int
    at_risk: tuple[DeviceId, ...]
    """The other voters at risk there."""


@dataclass(frozen=True, slots=True)
class OwnEntry:
    """An entry that this device created in this boot and saw final."""

    signed_at_ms: int
    height: int


def read_permit(view: View, position: int) -> PermitFacts | None:
    """Return the facts of the permit at `position`, None while its leaf is not durable here."""
    data = view.leaf(position)
    if data is None:
        return None
    leaf = decode_leaf(data).event
    if leaf is None:
        return None
    body = read_body(leaf.body)
    event = None if isinstance(body, Refusal) else decode_event(body)
    if not isinstance(event, Permitted):
        return None
    return PermitFacts(position=position, height=leaf.height, at_risk=event.at_risk)


def holds_certificate(view: View, facts: PermitFacts, fresh: OwnEntry, *, alone: bool) -> bool:
    """Answer whether W5 is held for the permit of `facts`.

    `fresh` is an own entry of this boot that is young enough: an attestation counts from its height on. `alone`: no
    voter may fail besides this one (W9), so all others are asked. An observer needs r+1 matching ones.
    """
    budget = view.genesis.budget
    floor = max(facts.height, fresh.height)
    heard = _heard(view, facts.at_risk, floor)
    others = budget.n - 1 if view.is_voter else budget.n
    matching = min(budget.r + 1, others)
    if _matching(view, heard, floor) < matching:
        return False
    if not view.is_voter:
        return True
    return len(heard) >= (others if alone else min(budget.q, others))


def others_agree(view: View, floor: int) -> bool:
    """Answer whether r+1 others attest the own log and state at one height from `floor` on (all, where there are fewer)."""
    budget = view.genesis.budget
    needed = min(budget.r + 1, budget.n - 1 if view.is_voter else budget.n)
    return _matching(view, _heard(view, (), floor), floor) >= needed


def _heard(view: View, without: Collection[DeviceId], floor: int) -> dict[int, Mapping[int, bytes]]:
    """Return the other voters that have attested from `floor` on, with nothing known to be another log."""
    heard: dict[int, Mapping[int, bytes]] = {}
    for voter, by_height in view.attests().items():
        name = view.genesis.voter_ids[voter]
        if name == view.me or name in without:
            continue
        above = {height: digest for height, digest in by_height.items() if height >= floor}
        known = {height: view.digests(height) for height in above}
        if above and all(known[height] in (None, digest) for height, digest in above.items()):
            heard[voter] = above
    return heard


def _matching(view: View, heard: Mapping[int, Mapping[int, bytes]], floor: int) -> int:
    """Return how many of `heard` attest the own log at one height, at the best one."""
    counts: dict[int, int] = {}
    for by_height in heard.values():
        for height, digest in by_height.items():
            if height >= floor and view.digests(height) == digest:
                counts[height] = counts.get(height, 0) + 1
    return max(counts.values(), default=0)
