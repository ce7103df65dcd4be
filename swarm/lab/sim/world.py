"""A whole swarm in one process and virtual time: real devices, a simulated network, faults and workload."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

from swarm.apps.rollout.status import STATUS, Status
from swarm.crypto.digest import sha256
from swarm.crypto.keys import KeyPair
from swarm.crypto.signing import verify
from swarm.device.device import DeviceConfig
from swarm.device.events import event_to_json
from swarm.device.turn import FrameIn, OutFrame, Submit, Turn
from swarm.lab.attackers.attack import ATTACKS, INSIDER_ATTACKS, Insider
from swarm.lab.scenario.collector import Collector, FinalState
from swarm.lab.scenario.firmware_record import FirmwareRecord
from swarm.lab.scenario.rollout_log import read_entries
from swarm.lab.scenario.schema import (
    Byzantine,
    Crash,
    Cut,
    Fault,
    Heal,
    Partition,
    PowerCut,
    Restart,
    Scenario,
    StolenKeys,
)
from swarm.lab.scenario.workload import WorkItem, plan
from swarm.lab.sim.fleet import SimFleet, release_keys_of
from swarm.lab.sim.network import SimNetwork
from swarm.lab.sim.node import NodeConfig, SimNode
from swarm.lab.sim.operators import OperatorPorts, SimOperator
from swarm.lab.sim.releases import Releases
from swarm.lab.sim.routes import Routes
from swarm.lab.sim.scheduler import Scheduler
from swarm.primitives.errors import ConfigError
from swarm.transport.topics import Scope
from swarm.wire.genesis import APPS_DEFAULT, Genesis, Member, Role
from swarm.wire.messages import ChunkItem, decode_frame

SHARED_VERIFICATIONS_MAX = 1 << 16
"""Signature checks remembered for all simulated devices together: a hundred views of fifty voters."""

SHORT_MESSAGE_BYTES = 128
"""Statements are 85 bytes."""

LIVE_MS = 15_000
"""A log that grew so short a time ago is live, with whatever voters."""

START_SPREAD_US = 20_000
"""Devices are switched on one after the other within this time."""


def keypair_of(scenario: Scenario, device: str) -> KeyPair:
    """Return the key of a simulated device: a function of scenario name, seed and id, for tests only."""
    return KeyPair(
        sha256(b"swarm scenario key", scenario.name.encode(), str(scenario.seed).encode(), device.encode())
    )


def genesis_of(scenario: Scenario, releases: Releases | None = None) -> Genesis:
    """Return the genesis of a scenario's swarm, the same for one name, seed and set of members."""
    devices = scenario.devices
    roles: tuple[tuple[Role, tuple[str, ...]], ...] = (
        ("voter", devices.voter_ids),
        ("observer", devices.observer_ids),
        ("operator", devices.operator_ids),
    )
    members = tuple(Member(id, role, keypair_of(scenario, id).public) for role, ids in roles for id in ids)
    if releases is None:
        return Genesis(swarm=scenario.name, u=scenario.budget.u, members=members)
    return Genesis(
        swarm=scenario.name,
        u=scenario.budget.u,
        members=members,
        apps=(*APPS_DEFAULT, "rollout@1"),
        release=release_keys_of(releases),
    )


class SharedVerify:
    """Real signature checks, each made once for all simulated devices (ADR 0011)."""

    def __init__(self) -> None:
        """Start with no check made."""
        self._known: dict[tuple[bytes, bytes, bytes], bool] = {}

    def __call__(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """Answer as `signing.verify` does."""
        # Long messages by digest: 65,536 submissions of 64 KiB would be 4 GiB.
        key = (public, message if len(message) <= SHORT_MESSAGE_BYTES else sha256(message), signature)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= SHARED_VERIFICATIONS_MAX:
                self._known.clear()
            known = self._known[key] = verify(public, message, signature)
        return known


class World:
    """One simulated run of a scenario. Everything follows from the scenario and its seed."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        genesis: Genesis | None = None,
        share_verifications: bool = True,
        on_trace: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Build the devices, plan faults and workload; nothing runs before `run_until`.

        Raises `ConfigError` for what the simulator cannot do.
        """
        self.scenario = scenario
        releases = None if scenario.firmware is None else Releases(scenario, scenario.firmware)
        self.genesis = genesis if genesis is not None else genesis_of(scenario, releases)
        self.scheduler = Scheduler()
        self.network = SimNetwork(scenario.network, scenario.seed)
        self.collector = Collector(scenario, "sim")
        self._verify = SharedVerify() if share_verifications else verify
        self._trace = hashlib.sha256()
        self._on_trace = on_trace
        self._routes = Routes(self.genesis)
        self.fleet = None if releases is None else self._make_fleet(releases)
        self.nodes = {device: self._node(index, device) for index, device in enumerate(scenario.devices.ids)}
        ports = OperatorPorts(publish=self._publish, is_logged=self._is_logged)
        self.operators = {
            id: SimOperator(id, keypair_of(scenario, id), self.genesis, self.scheduler, ports)
            for id in scenario.devices.operator_ids
        }
        if self.fleet is not None:
            self.fleet.join(self.nodes, self.operators, self.collector.note_liar)
        for index, node in enumerate(self.nodes.values()):
            self.scheduler.at(index * START_SPREAD_US // max(1, len(self.nodes)), node.start)
        for fault in scenario.faults:
            self.scheduler.at(fault.at_ms * 1000, partial(self._fault, fault))
        for item in plan(scenario):
            self.scheduler.at(item.at_ms * 1000, partial(self._work, item))

    @property
    def trace_digest(self) -> str:
        """Digest over everything that happened so far: equal for equal runs on any machine."""
        return self._trace.hexdigest()

    @property
    def now_ms(self) -> int:
        """Virtual time since the start."""
        return self.scheduler.now_us // 1000

    def run_until(self, time_ms: int) -> None:
        """Let the world run up to `time_ms`."""
        self.scheduler.run_until(time_ms * 1000)

    def final_states(self) -> dict[str, FinalState]:
        """Return where every device is now; one that is off counts with what its last life applied."""
        return {device: self._final(node) for device, node in self.nodes.items()}

    def end_firmware(self) -> Status | None:
        """Judge what only a quiet end shows, and return how a correct device with the whole log finds firmware."""
        if self.fleet is None:
            return None
        finals = self.final_states()
        correct = [id for id, final in finals.items() if final.up and id not in self.collector.byzantine]
        height = max((finals[id].height for id in correct), default=0)
        whole = [id for id in correct if finals[id].height == height]
        is_live = self._is_live(correct)
        self.fleet.record.end(whole, self.now_ms, is_live=is_live)
        for id in whole or [id for id, node in self.nodes.items() if node.is_up and node.attack is None]:
            device = self.nodes[id].device
            rollout = None if device is None else device.ledger.router.rollout
            if rollout is not None:
                return STATUS.decode(rollout.query(b""))
        return None

    def _is_live(self, correct: list[str]) -> bool:
        """Answer whether the log can grow: it did a moment ago, or enough correct voters are up."""
        up = sum(id in self.genesis.voter_ids for id in correct)
        grew_ms = self.collector.last_block_ms
        return up >= self.genesis.budget.q or self.now_ms - grew_ms < LIVE_MS

    # ------------------------------------------------------------------------------ parts

    def _make_fleet(self, releases: Releases) -> SimFleet:
        record = FirmwareRecord(
            releases.firmware,
            self.genesis.voter_ids,
            self.genesis.budget.u,
            self.scenario.byzantine,
            self.genesis.id,
        )
        self.collector.firmware = record
        return SimFleet(self.scenario, releases, self.genesis, self.scheduler, record)

    def _node(self, index: int, device: str) -> SimNode:
        scenario = self.scenario
        block = scenario.devices.behaviour_of(device)
        seed = int.from_bytes(sha256(str(scenario.seed).encode(), device.encode())[:8], "big")
        drift = scenario.clock.drift_ppm
        config = NodeConfig(
            device=DeviceConfig(
                genesis=self.genesis,
                me=device,
                keypair=keypair_of(scenario, device),
                jitter_seed=str(scenario.seed).encode(),
            ),
            behaviours=() if block is None else (dict(block),),
            seed=seed,
            sync_us=scenario.disk.sync_ms * 1000,
            drift_ppm=seed % (2 * drift + 1) - drift,
            base_ms=1_000_000 + index * 7919,
            firmware=None if self.fleet is None else self.fleet.firmware_of(device),
            gather_us=0 if device in self.genesis.voter_ids else scenario.devices.gather_ms * 1000,
        )
        if self.fleet is None:
            return SimNode(config, self.scheduler, self._verify, self._on_turn)
        return SimNode(
            config,
            self.scheduler,
            self._verify,
            self._on_turn,
            make_board=self.fleet.make_board,
            make_image=self.fleet.make_image,
        )

    def _final(self, node: SimNode) -> FinalState:
        if node.device is None:
            restored = node.store.medium
            return FinalState(up=False, height=len(restored.log), log_size=len(restored.leaves), log_root=b"")
        ledger = node.device.ledger
        return FinalState(
            up=True, height=ledger.height, log_size=ledger.frontier.size, log_root=ledger.frontier.root()
        )

    def _record(self, kind: str, device: str, payload: bytes) -> None:
        head = f"{self.scheduler.now_us}|{kind}|{device}|{len(payload)}|".encode()
        self._trace.update(head + payload)

    # ------------------------------------------------------------------------------ what happens

    def _on_turn(self, node: SimNode, turn: Turn) -> None:
        for event in turn.events:
            self.collector.on_event(node.id, event, self.now_ms)
            described = event_to_json(event)
            self._record("event", node.id, json.dumps(described, sort_keys=True).encode())
            if self._on_trace is not None:
                self._on_trace({"at_ms": self.now_ms, "device": node.id, **described})
            if self.fleet is not None:
                self.fleet.on_event(event)
        if self.fleet is not None:
            self._follow_log(node, self.fleet.record)
        for frame in turn.frames:
            self._publish(node.id, frame)

    def _follow_log(self, node: SimNode, record: FirmwareRecord) -> None:
        """Hand the rules what the log says of firmware, from the first correct device that has applied it."""
        device = node.device
        # An image that lies to others still applies the log as everybody does; an attacker may do anything.
        if device is None or node.attack is not None or device.ledger.height <= record.height:
            return
        size = device.ledger.frontier.size
        entries = read_entries(node.store.leaf, record.log_size, size)
        record.on_log(entries, device.ledger.height, size, self.now_ms)

    def _is_logged(self, submission: bytes) -> bool:
        """Answer whether a correct device has a submission in its log."""
        return any(
            node.store.find(submission) is not None
            for node in self.nodes.values()
            if node.is_up and node.attack is None
        )

    def _publish(self, sender: str, frame: OutFrame) -> None:
        self._record("frame", sender, frame.payload)
        traffic = self.collector.traffic
        traffic.published += 1
        traffic.bytes_published += len(frame.payload)
        if frame.scope is Scope.ALL and sender in self.nodes:
            self.collector.on_published(sender, decode_frame(frame.payload), self.genesis.voter_ids)
        if frame.bulk and self.fleet is not None:
            self._count_chunks(frame.payload, self.fleet.record)
        arriving = FrameIn(sender, frame.scope, frame.payload)
        for receiver in self._routes.receivers(sender, frame.to):
            if receiver in self.nodes or receiver in self.operators:
                self._send(sender, receiver, arriving)
        traffic.delivered, traffic.dropped = self.network.delivered, self.network.dropped

    def _count_chunks(self, payload: bytes, record: FirmwareRecord) -> None:
        for item in decode_frame(payload):
            if isinstance(item, ChunkItem):
                record.count("sent")

    def _send(self, sender: str, receiver: str, frame: FrameIn) -> None:
        node = self.nodes[receiver] if receiver in self.nodes else self.operators[receiver]
        for arrival_us in self.network.arrivals_us(sender, receiver, self.scheduler.now_us):
            self.scheduler.at(arrival_us, partial(node.receive, frame))

    def _fault(self, fault: Fault) -> None:
        self._record("fault", "", repr(fault).encode())
        match fault:
            case Crash(devices=devices):
                for device in devices:
                    self.nodes[device].crash()
            case Restart(devices=devices):
                for device in devices:
                    self.nodes[device].start()
            case Partition():
                self.network.partition(fault)
            case Cut():
                self.network.cut(fault)
            case Heal():
                self.network.heal()
            case Byzantine(device=device, attack=attack):
                self._seize(self.nodes[device], attack)
            case PowerCut():
                if self.fleet is not None:
                    self.fleet.cut_power(fault)
            case StolenKeys():
                if self.fleet is not None:
                    self.fleet.steal(fault)
            case _:
                raise ConfigError(
                    f"the simulator cannot perform {type(fault).__name__.lower()}", where="faults"
                )

    def _seize(self, node: SimNode, attack: str) -> None:
        if attack in ATTACKS:
            node.seize(ATTACKS[attack](), None)
            return
        config = node.config
        insider = (
            self.fleet.insider(node)
            if self.fleet is not None
            else Insider(id=node.id, keypair=config.device.keypair, genesis=self.genesis, seed=config.seed)
        )
        made = INSIDER_ATTACKS[attack](insider)
        node.seize(made, made)

    def _work(self, item: WorkItem) -> None:
        up = [d for d, node in self.nodes.items() if node.is_up and node.attack is None]
        origin = item.origin_among(up)
        if origin is None or not self.nodes[origin].is_up:
            return
        for app, command in item.commands():
            self.nodes[origin].put(Submit(app, command, tag=item.index + 1))
