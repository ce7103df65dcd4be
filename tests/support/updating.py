"""A fleet of real devices that can be updated: directory slots on a file-system model, an operator with the release."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from firmware_sim.posixfs import PosixFs
from swarm.apps.rollout.app import Rollout
from swarm.apps.rollout.entries import Approve, Command, MakePlan, Propose, Report, encode_command
from swarm.apps.rollout.events import Ran, decode_event
from swarm.apps.rollout.manifest import FORMAT, Manifest, encode_manifest, sign_release, sorted_signatures
from swarm.apps.rollout.spec import PlanSpec
from swarm.apps.rollout.state import Device as Record
from swarm.apps.rollout.state import Plan
from swarm.apps.router import Refusal, Router, read_body
from swarm.behaviours.actions import SelfTest, SelfTested
from swarm.crypto.merkle import leaf_hash
from swarm.crypto.signing import verify
from swarm.device.counters import Counter
from swarm.device.delivery.server import ChunkServer
from swarm.device.device import Device, DeviceConfig
from swarm.device.firmware.installer import Installer
from swarm.device.firmware.keeper import Keeper
from swarm.device.firmware.operations import (
    Healthy,
    Install,
    InstallDone,
    Operation,
    ReadChunk,
    ReadLeaves,
    Reboot,
)
from swarm.device.firmware.policy import Firmware
from swarm.device.outbox import Outbox
from swarm.device.turn import FrameIn, OutFrame
from swarm.install.port import DeviceStatus
from swarm.lab.checkers.rollout import RolloutRules, Setting
from swarm.primitives.ids import DeviceId
from swarm.storage.memory import PowerCut
from swarm.transport.topics import Scope
from swarm.wire.genesis import Genesis
from swarm.wire.leaves import decode_leaf
from swarm.wire.messages import Envelope, SubmissionItem, decode_frame, decode_request, encode_frame
from swarm.wire.statements import Kind
from tests.support.fleet import DELTA_MS, Fleet, Member
from tests.support.install import CLASS, VENDOR, DirectoryRig, ModelDisk, Release, directory_release
from tests.support.rollouts import make_rollout_genesis, release_keypairs
from tests.support.swarms import keypair, make_submission

OPERATOR = "ops"
SPEC = PlanSpec(soak_ms=500, deadline_ms=60_000, trial_ms=20_000, hold_back=0)


class Unit:
    """The slots of one device and what runs in them."""

    def __init__(self) -> None:
        fs = PosixFs()
        fs.mkdir("/d")
        fs.fsync_dir("/")
        self.rig = DirectoryRig(ModelDisk(fs), "/d").set_up()
        self.installer = Installer(self.rig.start())
        self.healths = 0
        self.orders: list[Operation] = []
        self.refuse: Callable[[Operation], InstallDone | None] = lambda _operation: None
        self.test: Callable[[DeviceStatus], str | None] = lambda _status: ""
        """What the self test says, None for no answer yet."""
        self.untested: list[int] = []
        self.hold: Callable[[Operation], bool] = lambda _operation: False
        """Operations that this unit is not done with yet."""
        self.held: list[Install] = []

    @property
    def status(self) -> DeviceStatus:
        return self.installer.backend.status()

    @property
    def version(self) -> int:
        return self.status.running.number

    def start_over(self, size: int) -> None:
        """Lay the device out anew, with a first release of this size."""
        fs = PosixFs()
        fs.mkdir("/d")
        fs.fsync_dir("/")
        self.rig = DirectoryRig(ModelDisk(fs), "/d").set_up(size)

    def boot(self) -> None:
        """Let the launcher choose what it starts."""
        self.installer = Installer(self.rig.start())
        self.healths = 0
        self.held, self.untested = [], []

    def run(self, order: Install) -> InstallDone | None:
        self.orders.append(order.operation)
        if self.hold(order.operation):
            self.held.append(order)
            return None
        instead = self.refuse(order.operation)
        if instead is not None:
            return replace(instead, tag=order.tag)
        return self.installer.run(order.operation, order.tag)

    def did(self, kind: type[Operation]) -> int:
        return sum(isinstance(operation, kind) for operation in self.orders)


class UpdatingFleet(Fleet):
    """Voters and observers with firmware. `ops` proposes, plans, wishes, and is the first peer that has a release."""

    def __init__(
        self,
        voters: int = 4,
        *,
        budget: str | int = "balanced",
        observers: int = 0,
        genesis: Genesis | None = None,
        firmware: Firmware | None = None,
    ) -> None:
        self.firmware = firmware or Firmware(class_id=VENDOR + CLASS)
        self.firmware_of: dict[str, Firmware] = {}
        self.units: dict[str, Unit] = {}
        made = genesis or make_rollout_genesis(voters, observers=observers, budget=budget)
        self._sequence = 0
        self._outbox = Outbox(made.id, OPERATOR, keypair(OPERATOR), Counter(1))
        self._releases: dict[bytes, Release] = {}
        self._server = ChunkServer(bytes_per_s=None, now_ms=0)
        self.boots: dict[str, int] = {}
        self.is_serving = True
        super().__init__(voters, genesis=made)

    # ------------------------------------------------------------------------------ power

    def start(self, id: str) -> None:
        member = self.members[id]
        if id in self._first_start:
            member.store = member.store.reopen()
        self._first_start.add(id)
        unit = self.units.get(id)
        if unit is None:
            unit = self.units[id] = Unit()
        else:
            unit.boot()
        self.boots[id] = self.boots.get(id, 0) + 1
        config = DeviceConfig(genesis=self.genesis, me=id, keypair=keypair(id), delta_floor_ms=DELTA_MS)
        firmware = self.firmware_of.get(id, self.firmware)
        member.device = Device(
            config, member.store, Router(self.genesis.apps), verify, self.now_ms, firmware=firmware
        )
        member.inbox = []
        member.wake_at_ms = self.now_ms

    def restart(self, id: str) -> None:
        self.crash(id)
        self.start(id)

    # ------------------------------------------------------------------------------ driving

    def turn(self, id: str) -> tuple[OutFrame, ...]:
        member = self.members[id]
        if member.device is None:
            return ()
        inputs, member.inbox = member.inbox, []
        try:
            turn = member.device.turn(inputs, self.now_ms)
        except PowerCut:
            self.crash(id)
            return ()
        member.events.extend(turn.events)
        member.wake_at_ms = turn.wake_at_ms
        self.published.extend((id, frame) for frame in turn.frames)
        for action in turn.actions:
            self._act(id, member, action)
            if not self.is_up(id):
                break
        return turn.frames

    def is_up(self, id: str) -> bool:
        return self.members[id].device is not None

    def _act(self, id: str, member: Member, action: object) -> None:
        unit = self.units[id]
        match action:
            case Install():
                done = unit.run(action)
                if done is not None:
                    self.put(id, done)
            case SelfTest(tag=tag):
                said = unit.test(unit.status)
                if said is None:
                    unit.untested.append(tag)
                else:
                    self.put(id, SelfTested(tag, said))
            case Healthy():
                unit.healths += 1
            case Reboot():
                self.crash(id)
                self.start(id)
            case _:
                pass

    def release_held(self, id: str) -> None:
        """Let the unit finish what it held."""
        unit = self.units[id]
        unit.hold = lambda _operation: False
        held, unit.held = unit.held, []
        for order in held:
            done = unit.run(order)
            if done is not None:
                self.put(id, done)

    def deliver(self, sender: str, frames: Iterable[OutFrame]) -> None:
        frames = list(frames)
        super().deliver(sender, frames)
        for frame in frames:
            if frame.to == OPERATOR and self.is_serving:
                for item in decode_frame(frame.payload):
                    if isinstance(item, Envelope) and item.kind == Kind.REQUEST:
                        self._server.ask(sender, decode_request(item.body), self.now_ms)
        self._serve()

    def _serve(self) -> None:
        for _ in range(8):
            step = self._server.advance(self.now_ms)
            for to, request, content in step.answers:
                self._outbox.answer(to, request, content)
            for read in step.reads:
                self._server.on_read(read, self._read(read), self.now_ms)
            if not step.reads and not step.answers:
                break
        frames = self._outbox.take()
        if frames:
            Fleet.deliver(self, OPERATOR, frames)

    def _read(self, read: ReadChunk | ReadLeaves) -> bytes | tuple[bytes, ...]:
        # Tests serve one release at a time, so the size tells which.
        release = list(self._releases.values())[-1]
        if isinstance(read, ReadLeaves):
            return tuple(leaf_hash(chunk) for chunk in release.chunks)
        return release.data[read.offset : read.offset + read.count]

    # ------------------------------------------------------------------------------ the operator

    def operate(self, command: Command) -> bytes:
        """Log a command of the operator; returns the submission's id."""
        self._sequence += 1
        body = encode_command(command)
        submission = make_submission(self.genesis, OPERATOR, self._sequence, (Rollout.name, body))
        frame = encode_frame((SubmissionItem(raw=submission.raw),))
        for id, member in self.members.items():
            if member.device is not None:
                self.put(id, FrameIn(OPERATOR, Scope.ALL, frame))
        return submission.id

    def propose(
        self, number: int = 2, *, release: Release | None = None, approve: bool = True, **changes: object
    ) -> bytes:
        """Propose a release that the operator serves, and ask for its approval; returns its id."""
        made = release or directory_release(number)
        manifest = manifest_of(self.genesis.id, made, **changes)
        id = manifest.release
        plan = replace(made.plan, release=id, number=manifest.number, counter=manifest.counter)
        self._releases[id] = Release(plan=plan, data=made.data)
        self._server.offer(id, "booted", plan)
        signatures = sorted_signatures(sign_release(pair, id) for pair in release_keypairs()[:2])
        self.operate(Propose(encode_manifest(manifest), signatures))
        if approve:
            self.operate(Approve(id))
        return id

    def plan(self, release: bytes, spec: PlanSpec = SPEC) -> bytes:
        return self.operate(MakePlan(release, spec))

    # ------------------------------------------------------------------------------ looking

    def rollout(self, id: str | None = None) -> Rollout:
        up = id or next(id for id, member in self.members.items() if member.device is not None)
        rollout = self.members[up].running.ledger.router.rollout
        assert rollout is not None
        return rollout

    def the_plan(self, id: bytes) -> Plan:
        plan = self.rollout().plan(id)
        assert plan is not None
        return plan

    def record(self, id: str) -> Record:
        return self.rollout().state.devices[id]

    def keeper(self, id: str) -> Keeper:
        keeper = self.members[id].running.keeper
        assert keeper is not None
        return keeper

    def reports(self) -> list[tuple[DeviceId, Report, int]]:
        """Return (device, report, position of the one before) of every report on the log."""
        store = next(member.store for id, member in self.members.items() if self.is_up(id))
        found = []
        position = 0
        while (data := store.leaf(position)) is not None:
            position += 1
            event = decode_leaf(data).event
            if event is None or event.app != Rollout.name:
                continue
            body = read_body(event.body)
            made = None if isinstance(body, Refusal) else decode_event(body)
            if isinstance(made, Ran):
                found.append((made.device, made.report, made.before))
        return found

    def versions(self) -> dict[str, int]:
        return {id: unit.version for id, unit in self.units.items()}

    def told(self, id: DeviceId, what: str) -> list[dict[str, object]]:
        return [data for data in self.members[id].happened("firmware") if data["what"] == what]

    def until(self, what: Callable[[], object], *, within_ms: int = 60_000, step_ms: int = 20) -> None:
        """Let time pass until something holds."""
        end = self.now_ms + within_ms
        self.settle()
        while not what():
            assert self.now_ms < end, "waited in vain"
            self.advance(step_ms, step_ms)

    def rules(self) -> RolloutRules:
        budget = self.genesis.budget
        setting = Setting(voters=self.genesis.voter_ids, u=budget.u, liars=frozenset(), reserve=0)
        return RolloutRules(setting)


def manifest_of(swarm: bytes, release: Release, **changes: object) -> Manifest:
    """Return the manifest of an install release."""
    plan = release.plan
    fields: dict[str, object] = {
        "format": FORMAT,
        "swarm": swarm,
        "vendor": plan.vendor,
        "class_uuid": plan.device_class,
        "number": plan.number,
        "version": plan.version,
        "counter": plan.counter,
        "oldest": 0,
        "file_bytes": plan.file_bytes,
        "file_hash": plan.file_digest,
        "image_digest": plan.image_digest,
        "chunk_bytes": plan.chunk_bytes,
        "chunk_count": plan.chunk_count,
        "chunk_root": plan.chunk_root,
        "use_before": 0,
        "protocols": (1, 1),
        "stores": (1, 1),
        "needs": (),
        "notes": b"",
    }
    return Manifest(**{**fields, **changes})  # type: ignore[arg-type]
