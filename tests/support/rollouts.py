"""A log of rollouts in the words of a test: entries by voters, operators and devices, and what they made.

Every log of this kind is watched by the rollout's checkers, which know the rules and not the code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from swarm.apps.application import BlockContext, Context
from swarm.apps.rollout.app import Rollout
from swarm.apps.rollout.duties import Duties
from swarm.apps.rollout.entries import (
    TAIL,
    Approve,
    Arm,
    ChangeKeys,
    Command,
    Consent,
    Go,
    Halt,
    Late,
    MakePlan,
    Propose,
    Report,
    Resume,
    Revoke,
    Rollback,
    encode_command,
)
from swarm.apps.rollout.events import Permitted, RolloutEvent, decode_event
from swarm.apps.rollout.keys import KeySet, sign_revocation, sign_rotation
from swarm.apps.rollout.manifest import (
    FORMAT,
    Manifest,
    encode_manifest,
    release_id,
    sign_release,
    sorted_signatures,
)
from swarm.apps.rollout.spec import PlanSpec
from swarm.apps.rollout.state import Device, Plan, Release
from swarm.crypto.digest import sha256
from swarm.crypto.keys import KeyPair
from swarm.lab.checkers.rollout import RolloutRules, Setting, Truth
from swarm.primitives.ids import ZERO_DIGEST
from swarm.wire.genesis import Genesis, ReleaseKeys
from tests.support.swarms import keypair, make_genesis

VENDOR = b"vendor-uuid-0001"
CLASS = b"class--uuid-0001"
OTHER_CLASS = b"class--uuid-0002"
RELEASE_SIGNERS = ("release-0", "release-1", "release-2")


def release_keypairs(names: tuple[str, ...] = RELEASE_SIGNERS) -> list[KeyPair]:
    return [keypair(name) for name in names]


def make_rollout_genesis(
    voters: int = 4, *, observers: int = 0, budget: str | int = "balanced", k: int = 2
) -> Genesis:
    """Return a genesis with 2 of 3 release keys and the application `rollout`."""
    plain = make_genesis(voters, observers=observers, budget=budget, apps=("notes@1", "rollout@1"))
    keys = ReleaseKeys(k, tuple(pair.public for pair in release_keypairs()))
    return replace(plain, release=keys)


def image(number: int, class_uuid: bytes = CLASS) -> bytes:
    """Return the digest of the image with this number, whatever else its manifest says."""
    return sha256(b"image", class_uuid, number.to_bytes(8, "big"))


def make_manifest(swarm: bytes, number: int = 2, **changes: Any) -> Manifest:
    """Return a manifest of a file of 10,000 bytes in chunks of 4 KiB."""
    class_uuid = changes.get("class_uuid", CLASS)
    fields: dict[str, Any] = {
        "format": FORMAT,
        "swarm": swarm,
        "vendor": VENDOR,
        "class_uuid": class_uuid,
        "number": number,
        "version": f"v{number}",
        "counter": 0,
        "oldest": 0,
        "file_bytes": 10_000,
        "file_hash": sha256(b"file", number.to_bytes(8, "big")),
        "image_digest": image(number, class_uuid),
        "chunk_bytes": 4096,
        "chunk_count": 3,
        "chunk_root": sha256(b"chunks"),
        "use_before": 0,
        "protocols": (1, 1),
        "stores": (1, 1),
        "needs": (),
        "notes": b"",
    }
    return Manifest(**{**fields, **changes})


@dataclass
class Unit:
    """What a device of a test runs and has said."""

    id: str
    number: int = 1
    spare: int = 0
    boot: int = 1
    step: int = 0
    incarnation: int = 0
    class_uuid: bytes = CLASS
    counter: int = 0


class RolloutLog:
    """Applies entries at rising heights, one block each, and keeps every event."""

    def __init__(
        self,
        voters: int = 4,
        *,
        observers: int = 0,
        budget: str | int = "balanced",
        reserve: int | None = None,
        liars: tuple[str, ...] = (),
        fleet: bool = True,
    ) -> None:
        self.genesis = make_rollout_genesis(voters, observers=observers, budget=budget)
        self.app = Rollout()
        self.app.begin_swarm(self.genesis)
        self.voters = self.genesis.voter_ids
        self.observers = tuple(member.id for member in self.genesis.observers)
        self.r = self.genesis.budget.r
        self.epoch = 0
        self.height = 0
        self.position = 0
        self.entries: list[tuple[str, bytes]] = []
        self.events: list[RolloutEvent] = []
        self.keys: list[bytes | None] = []
        u = self.genesis.budget.u
        self.rules = RolloutRules(
            Setting(
                voters=self.voters,
                u=u,
                liars=frozenset(liars),
                reserve=int(u >= 2) if reserve is None else reserve,
            )
        )
        self.units = {id: Unit(id) for id in (*self.voters, *self.observers)}
        self.plan_id = b""
        self.release_id = b""
        self.block_hash: bytes | None = None
        if fleet:
            for id in self.units:
                self.report(id, "started")

    # ------------------------------------------------------------------------------ entries

    @property
    def submission(self) -> bytes:
        return sha256(b"submission", self.position.to_bytes(8, "big"))

    def next_block(self) -> None:
        self.height += 1
        self.app.begin_block(
            BlockContext(
                height=self.height,
                hash=self.block_hash or sha256(b"block", self.height.to_bytes(8, "big")),
                epoch=self.epoch,
                voters=self.voters,
                observers=self.observers,
                r=self.r,
            )
        )

    def context(self, origin: str) -> Context:
        role = "voter" if origin in self.voters else "observer" if origin in self.observers else "operator"
        return Context(
            height=self.height,
            epoch=self.epoch,
            submission=self.submission,
            command=0,
            origin=origin,
            role=role,
            voters=self.voters,
            observers=self.observers,
            r=self.r,
            position=self.position + 1,
        )

    def log(self, origin: str, command: Command, *, same_block: bool = False) -> tuple[RolloutEvent, ...]:
        """Apply one command of `origin` in a block of its own, and return its events."""
        if not same_block:
            self.next_block()
        body = encode_command(command)
        events = self.app.apply(self.context(origin), body)
        self.entries.append((origin, body))
        decoded = tuple(decode_event(event.body) for event in events)
        self.events.extend(decoded)
        self.keys.extend(event.key for event in events)
        self.rules.on_entry(
            origin, command, [(self.position + 1 + index, event) for index, event in enumerate(decoded)]
        )
        self.position += 1 + len(events)
        return decoded

    def all(self, command: Command, voters: tuple[str, ...] | None = None) -> tuple[RolloutEvent, ...]:
        """Let voters (default: all) log the same command, one after the other; return all events."""
        made: tuple[RolloutEvent, ...] = ()
        for voter in self.voters if voters is None else voters:
            made += self.log(voter, command)
        return made

    def recovered(self, device: str) -> None:
        """Write the recovery record of a wiped device by hand."""
        self.next_block()
        unit = self.units[device]
        unit.incarnation += 1
        unit.boot, unit.step = 0, 0
        self.app.on_recovered(self.context(device), device, unit.incarnation)
        self.rules.on_recovered(device)

    def convicted(self, device: str) -> tuple[RolloutEvent, ...]:
        """Write a conviction by hand."""
        self.next_block()
        events = tuple(decode_event(e.body) for e in self.app.on_convicted(self.context("dev-0"), device))
        self.rules.on_convicted(device)
        self.events.extend(events)
        self.position += len(events)
        return events

    # ------------------------------------------------------------------------------ words

    def propose(
        self,
        number: int = 2,
        *,
        origin: str = "ops",
        signers: tuple[str, ...] = RELEASE_SIGNERS[:2],
        **changes: Any,
    ) -> tuple[RolloutEvent, ...]:
        manifest = encode_manifest(make_manifest(self.genesis.id, number, **changes))
        self.release_id = release_id(manifest)
        signatures = sorted_signatures(
            sign_release(pair, self.release_id) for pair in release_keypairs(signers)
        )
        return self.log(origin, Propose(manifest, signatures))

    def approve(self, voters: tuple[str, ...] | None = None) -> tuple[RolloutEvent, ...]:
        return self.all(Approve(self.release_id), voters)

    def make_plan(self, origin: str = "ops", **spec: Any) -> tuple[RolloutEvent, ...]:
        self.next_block()
        self.plan_id = self.submission
        return self.log(origin, MakePlan(self.release_id, PlanSpec(**spec)), same_block=True)

    def planned(self, number: int = 2, *, manifest: dict[str, Any] | None = None, **spec: Any) -> bytes:
        """Propose, approve and plan; return the plan's id."""
        self.propose(number, **(manifest or {}))
        self.approve()
        self.make_plan(**spec)
        return self.plan_id

    @property
    def plan(self) -> Plan:
        plan = self.app.plan(self.plan_id)
        assert plan is not None
        return plan

    @property
    def state(self) -> str:
        """How the plan stands; not narrowed by a comparison before."""
        return self.plan.state

    @property
    def release(self) -> Release:
        release = self.app.release(self.release_id)
        assert release is not None
        return release

    def device(self, id: str) -> Device:
        return self.app.state.device(id)

    def duties(self, id: str) -> Duties:
        return self.app.duties(id)

    def go(self, voters: tuple[str, ...] | None = None, **fields: int) -> tuple[RolloutEvent, ...]:
        stage = fields.get("stage", len(self.plan.stages))
        generation = fields.get("generation", self.plan.generation)
        return self.all(Go(self.plan_id, stage, generation), voters)

    def late(self, voters: tuple[str, ...] | None = None, **fields: int) -> tuple[RolloutEvent, ...]:
        stage = self.plan.open_stage
        number = fields.get("stage", len(self.plan.stages) if stage is None else stage.number)
        turn = fields.get("round", 0 if stage is None else stage.round)
        generation = fields.get("generation", self.plan.generation)
        return self.all(Late(self.plan_id, number, generation, turn), voters)

    def halt(self, voters: tuple[str, ...] | None = None) -> tuple[RolloutEvent, ...]:
        return self.all(Halt(self.plan_id, of_class=False, reason="stop"), voters)

    def resume(
        self, voters: tuple[str, ...] | None = None, without: tuple[str, ...] = ()
    ) -> tuple[RolloutEvent, ...]:
        return self.all(Resume(self.plan_id, self.plan.generation, without), voters)

    def rollback(
        self, voters: tuple[str, ...] | None = None, *, stop: bool = False
    ) -> tuple[RolloutEvent, ...]:
        return self.all(Rollback(self.plan_id, stop), voters)

    def revoke(self, voters: tuple[str, ...] | None = None) -> tuple[RolloutEvent, ...]:
        return self.all(Revoke(self.release_id, "bad", ()), voters)

    def revoke_signed(
        self, origin: str = "ops", signers: tuple[str, ...] = RELEASE_SIGNERS[:2]
    ) -> tuple[RolloutEvent, ...]:
        signatures = sorted_signatures(
            sign_revocation(pair, self.release_id) for pair in release_keypairs(signers)
        )
        return self.log(origin, Revoke(self.release_id, "bad", signatures))

    def change_keys(
        self, k: int, new: tuple[str, ...], signers: tuple[str, ...], origins: tuple[str, ...]
    ) -> tuple[RolloutEvent, ...]:
        public = tuple(sorted(pair.public for pair in release_keypairs(new)))
        keys = KeySet(self.app.state.keys.epoch + 1, k, public)
        signatures = sorted_signatures(
            sign_rotation(pair, self.genesis.id, keys) for pair in release_keypairs(signers)
        )
        return self.all(ChangeKeys(k, public, signatures), origins)

    def consent(self, device: str, voters: tuple[str, ...] | None = None) -> tuple[RolloutEvent, ...]:
        return self.all(Consent(self.plan_id, device), voters)

    # ------------------------------------------------------------------------------ devices

    def members(self) -> tuple[str, ...]:
        stage = self.plan.open_stage
        return () if stage is None else tuple(stage.members)

    def arm(
        self, id: str, *, stage: int | None = None, number: int | None = None, **fields: Any
    ) -> tuple[RolloutEvent, ...]:
        """Ask for a permit to the plan's image, or to the one with `number`."""
        unit = self.units[id]
        target = self.release.manifest.image_digest if number is None else image(number, unit.class_uuid)
        return self.log(
            id,
            Arm(
                fields.get("plan", self.plan_id),
                len(self.plan.stages) - 1 if stage is None else stage,
                fields.get("generation", self.plan.generation),
                fields.get("incarnation", unit.incarnation),
                fields.get("target", target),
            ),
        )

    def permit(self, id: str, **fields: Any) -> int:
        """Ask, and return the id of the permit that comes."""
        (event,) = self.arm(id, **fields)
        assert isinstance(event, Permitted), event
        permit = self.device(id).permit
        assert permit is not None
        return permit.id

    def report(
        self, id: str, result: str, *, permit: int = 0, number: int | None = None, **fields: Any
    ) -> tuple[RolloutEvent, ...]:
        """Report that the image with `number` (default: as before) runs."""
        return self.log(id, self.make_report(id, result, permit=permit, number=number, **fields))

    def make_report(
        self, id: str, result: str, *, permit: int = 0, number: int | None = None, **fields: Any
    ) -> Report:
        unit = self.units[id]
        unit.step += 1
        running = unit.number if number is None else number
        confirmed = fields.get("confirmed", result != "healthy")
        if confirmed and running != unit.number:
            unit.spare, unit.number = unit.number, running
        values: dict[str, Any] = {
            "permit": permit,
            "incarnation": unit.incarnation,
            "boot": unit.boot,
            "step": unit.step,
            "result": result,
            "reason": "",
            "class_id": VENDOR + unit.class_uuid,
            "slot": running % 2,
            "digest": image(running, unit.class_uuid),
            "number": running,
            "counter": unit.counter,
            "confirmed": confirmed,
            "degraded": False,
            "spare": "sealed" if unit.spare else "empty",
            "spare_digest": image(unit.spare, unit.class_uuid) if unit.spare else ZERO_DIGEST,
            "nonce_height": self.height,
            "nonce_root": ZERO_DIGEST,
            "attestation": b"",
            "previous": 0,
        }
        return Report(**{**values, **fields})

    def truth(self, id: str, phase: Any, *, new: bool, ever: bool = False) -> None:
        self.rules.on_truth(id, Truth(phase=phase, new_image=new, ever_confirmed=ever))

    def update(self, id: str, *, stage: int | None = None, number: int | None = None) -> None:
        """Let a correct device do all of it: permit, arm, trial, acceptance, confirmation."""
        number = self.release.manifest.number if number is None else number
        permit = self.permit(id, stage=stage)
        self.truth(id, "armed", new=False)
        self.truth(id, "trial", new=True)
        self.report(id, "healthy", permit=permit, number=number)
        self.truth(id, "idle", new=True, ever=True)
        self.report(id, "confirmed", permit=permit, number=number)

    def update_tail(self, id: str) -> None:
        self.update(id, stage=TAIL)

    def run_stage(self) -> tuple[str, ...]:
        """Open the next stage and let every member update; return the members."""
        self.go()
        members = self.members()
        for id in members:
            self.update(id)
        return members

    def run_all(self) -> list[tuple[str, ...]]:
        """Roll out to the end; return the members of every stage."""
        stages = []
        while self.state in ("planned", "active"):
            stages.append(self.run_stage())
            assert len(stages) < 100
        return stages
