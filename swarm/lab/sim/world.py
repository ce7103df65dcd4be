"""A whole swarm in one process and virtual time: real devices, a simulated network, faults and workload."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

from swarm.crypto.digest import sha256
from swarm.crypto.keys import KeyPair
from swarm.crypto.signing import verify
from swarm.device.device import DeviceConfig
from swarm.device.events import event_to_json
from swarm.device.turn import FrameIn, Submit, Turn
from swarm.lab.attackers.attack import ATTACKS
from swarm.lab.scenario.collector import Collector, FinalState
from swarm.lab.scenario.schema import Byzantine, Crash, Cut, Fault, Heal, Partition, Restart, Scenario
from swarm.lab.scenario.workload import WorkItem, plan
from swarm.lab.sim.network import SimNetwork
from swarm.lab.sim.node import NodeConfig, SimNode
from swarm.lab.sim.scheduler import Scheduler
from swarm.primitives.errors import ConfigError
from swarm.transport.topics import Scope
from swarm.wire.genesis import Genesis, Member
from swarm.wire.messages import decode_frame

SHARED_VERIFICATIONS_MAX = 1 << 16
"""Signature checks remembered for all simulated devices together: a hundred views of fifty voters."""

SHORT_MESSAGE_BYTES = 128
"""Statements are 85 bytes."""

START_SPREAD_US = 20_000
"""Devices are switched on one after the other within this time."""


def keypair_of(scenario: Scenario, device: str) -> KeyPair:
    """Return the key of a simulated device: a function of scenario name, seed and id, for tests only."""
    return KeyPair(
        sha256(b"swarm scenario key", scenario.name.encode(), str(scenario.seed).encode(), device.encode())
    )


def genesis_of(scenario: Scenario) -> Genesis:
    """Return the genesis of a scenario's swarm, the same for one name, seed and set of devices."""
    voters = [Member(d, "voter", keypair_of(scenario, d).public) for d in scenario.devices.voter_ids]
    observers = [Member(d, "observer", keypair_of(scenario, d).public) for d in scenario.devices.observer_ids]
    return Genesis(swarm=scenario.name, u=scenario.budget.u, members=(*voters, *observers))


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
        self.genesis = genesis if genesis is not None else genesis_of(scenario)
        self.scheduler = Scheduler()
        self.network = SimNetwork(scenario.network, scenario.seed)
        self.collector = Collector(scenario, "sim")
        self._verify = SharedVerify() if share_verifications else verify
        self._trace = hashlib.sha256()
        self._on_trace = on_trace
        self._members = [m.id for m in self.genesis.members]
        self.nodes = {device: self._node(index, device) for index, device in enumerate(scenario.devices.ids)}
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

    # ------------------------------------------------------------------------------ parts

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
        )
        return SimNode(config, self.scheduler, self._verify, self._on_turn)

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
        for frame in turn.frames:
            self._record("frame", node.id, frame.payload)
            traffic = self.collector.traffic
            traffic.published += 1
            traffic.bytes_published += len(frame.payload)
            if frame.scope is Scope.ALL:
                self.collector.on_published(node.id, decode_frame(frame.payload), self.genesis.voter_ids)
            for receiver in self._members if frame.to is None else (frame.to,):
                if receiver != node.id and receiver in self.nodes:
                    self._send(node.id, receiver, FrameIn(node.id, frame.scope, frame.payload))

    def _send(self, sender: str, receiver: str, frame: FrameIn) -> None:
        node = self.nodes[receiver]
        for arrival_us in self.network.arrivals_us(sender, receiver, self.scheduler.now_us):
            self.scheduler.at(arrival_us, partial(node.receive, frame))
        self.collector.traffic.delivered = self.network.delivered
        self.collector.traffic.dropped = self.network.dropped

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
                self.nodes[device].attack = ATTACKS[attack]()
            case _:
                raise ConfigError(
                    f"the simulator cannot perform {type(fault).__name__.lower()}", where="faults"
                )

    def _work(self, item: WorkItem) -> None:
        up = [d for d, node in self.nodes.items() if node.is_up and node.attack is None]
        origin = item.origin_among(up)
        if origin is None or not self.nodes[origin].is_up:
            return
        for app, command in item.commands():
            self.nodes[origin].put(Submit(app, command, tag=item.index + 1))
