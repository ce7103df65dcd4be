"""An agent that knows nothing but what its back end tells it, on a device that may be cut off anywhere.

It works towards a goal over any number of starts. The log is played by `World`: it hands out permits and remembers
what the device has been told and what it has claimed. Whoever sweeps gives a `judge` that looks at the media after
each start, without asking the agent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from firmware_sim.errors import PowerLoss
from swarm.install.port import InstallBackend, InstallError, InstallReason, Intent, Outcome
from tests.support.install import Release, Rig, intent_for

STARTS_MAX = 40
FATES = ("good", "bad", "crash", "withdraw", "decline")
"""What becomes of the new image, or of the first permit for it."""


class BrokenPromiseError(AssertionError):
    """The disk shows what must never be."""


def promise(condition: object, what: str) -> None:
    if not condition:
        raise BrokenPromiseError(what)


@dataclass
class World:
    """The log and the outside: what was permitted, what ended, what the device said before a cut."""

    fate: str
    release: Release
    permit: int = 100
    attempts: int = 2
    ended: set[int] = field(default_factory=set)
    armed: set[int] = field(default_factory=set)
    declined: set[int] = field(default_factory=set)
    claimed: set[int] = field(default_factory=set)
    confirmed: bool = False
    done: bool = False

    def intent(self, permit: int) -> Intent:
        return replace(intent_for(self.release, permit=permit), attempts=self.attempts)


def live(rig: Rig, world: World, judge: Callable[[], None]) -> None:
    """One start of the device, up to a restart that it asks for or until it has what it wants."""
    backend = rig.start()
    judge()
    outcome = backend.outcome()
    promise(
        not (outcome.outcome is Outcome.TRIAL and outcome.permit in world.ended), "a permit was used twice"
    )
    if outcome.outcome is Outcome.TRIAL:
        promise(outcome.permit in world.armed, "a trial that nobody armed")
        if world.fate == "good":
            backend.confirm()
            world.confirmed = True
        elif world.fate == "bad":
            backend.revert("self-test")
        return
    if outcome.outcome in (Outcome.REVERTED, Outcome.NEVER_TRIED):
        world.ended.add(outcome.permit)
    if outcome.outcome is Outcome.ARMED:
        select_or_withdraw(backend, world, outcome.permit)
    elif backend.status().running.number == world.release.plan.number:
        promise(world.fate == "good", "a bad image was kept")
        world.done = True
    elif world.fate != "good" and outcome.outcome is Outcome.REVERTED:
        world.done = True
    else:
        update(backend, world)


def run(rig: Rig, world: World, judge: Callable[[], None]) -> int:
    """Live until it is done; return the cuts that happened."""
    cuts = 0
    for _ in range(STARTS_MAX):
        try:
            live(rig, world, judge)
        except PowerLoss:
            cuts += 1
        if world.done:
            break
    promise(world.done, "it never ends")
    judge()
    return cuts


def select_or_withdraw(backend: InstallBackend, world: World, permit: int) -> None:
    if world.fate == "withdraw":
        backend.withdraw()
        world.ended.add(permit)
        world.fate = "good"
        return
    backend.arm(world.intent(permit))
    backend.activate()


def update(backend: InstallBackend, world: World) -> None:
    staging = backend.begin(world.release.plan)
    have = staging.have()
    promise(all(index in have for index in world.claimed), "a claimed chunk was lost")
    world.claimed = {index for index in range(have.count) if index in have}
    for index in have.missing():
        staging.write_chunk(index, world.release.chunks[index])
        if index % 2:
            staging.checkpoint()
            world.claimed.add(index)
    # A claimed chunk that was never synced would be found here, as a wrong root.
    backend.seal(staging)
    world.claimed = set()
    decide(backend, world)


def decide(backend: InstallBackend, world: World) -> None:
    if world.fate == "decline":
        try:
            backend.decline(world.permit)
        except InstallError as error:
            promise(error.reason is InstallReason.INTENT_WRITTEN, error.reason)
            promise(world.permit in world.armed, "declining was refused without an intent")
        else:
            world.declined.add(world.permit)
        with pytest.raises(InstallError):
            backend.arm(world.intent(world.permit))
        world.permit += 1
        world.fate = "good"
        return
    while True:
        world.armed.add(world.permit)
        try:
            backend.arm(world.intent(world.permit))
        except InstallError as error:
            promise(error.reason in (InstallReason.PERMIT_USED, InstallReason.PERMIT_DECLINED), error.reason)
            world.permit += 1
            continue
        promise(world.permit not in world.declined, "a declined permit was acted upon")
        break
    if world.fate == "withdraw":
        backend.withdraw()
        world.ended.add(world.permit)
        world.fate = "good"
        return
    backend.activate()
