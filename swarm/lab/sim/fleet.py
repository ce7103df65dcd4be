"""Firmware in a simulated world: the boards under its devices, its releases, the people who ask, and the thief."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from swarm.apps.rollout.app import Rollout
from swarm.apps.rollout.entries import Approve, Command, MakePlan, encode_command
from swarm.apps.rollout.spec import PlanSpec
from swarm.device import events
from swarm.device.firmware.operations import Begin, InstallDone, WriteChunks
from swarm.device.firmware.policy import Firmware, FirmwarePolicy
from swarm.device.turn import DeviceEvent, Submit
from swarm.install.image import ImageRules
from swarm.install.port import Bitmap, SlotState
from swarm.lab.attackers.attack import Attack, Insider
from swarm.lab.attackers.equivocate import Equivocate
from swarm.lab.attackers.images import LyingImage
from swarm.lab.install_simulated.backend import SimulatedBackend
from swarm.lab.install_simulated.medium import SimulatedMedium
from swarm.lab.scenario.firmware import (
    FACTORY,
    IMAGE_BYTES_DEFAULT,
    VOTERS_ALL,
    FirmwareModel,
    FirmwareOrder,
    class_ids,
)
from swarm.lab.scenario.firmware_record import FirmwareRecord
from swarm.lab.scenario.schema import PowerCut, Scenario, StolenKeys
from swarm.lab.sim.board import Cut, SimBoard
from swarm.lab.sim.node import SimNode
from swarm.lab.sim.operators import SimOperator
from swarm.lab.sim.orders import entry_of
from swarm.lab.sim.releases import Releases
from swarm.lab.sim.scheduler import Scheduler
from swarm.primitives.errors import check
from swarm.wire.genesis import Genesis, ReleaseKeys

WAIT_US: Final = 200_000
"""How often an order looks whether what it is about is on the log."""

REFUSED_WHATS: Final = ("bad-chunk", "bad-leaves")


def release_keys_of(releases: Releases) -> ReleaseKeys:
    """Return the release keys for genesis."""
    return ReleaseKeys(releases.firmware.keys.k, tuple(pair.public for pair in releases.keys))


class SimFleet:
    """What a world needs beside its devices where they have firmware."""

    def __init__(
        self,
        scenario: Scenario,
        releases: Releases,
        genesis: Genesis,
        scheduler: Scheduler,
        record: FirmwareRecord,
    ) -> None:
        """Make the releases; devices and operators come with `join`."""
        check(scenario.firmware is not None, "a fleet without firmware")
        self.releases = releases
        self.record = record
        self._scenario = scenario
        self._model: FirmwareModel = releases.firmware
        self._genesis = genesis
        self._scheduler = scheduler
        self._nodes: Mapping[str, SimNode] = {}
        self._operators: Mapping[str, SimOperator] = {}
        self._mark_liar: Callable[[str], None] = _nobody
        releases.make(genesis.id)
        self._versions = {made.digest: name for name, made in releases.made.items()}
        for name in self._model.classes:
            self._versions[releases.factory(name).digest] = FACTORY
        self._factories = {name: releases.factory(name) for name in self._model.classes}
        sizes = [IMAGE_BYTES_DEFAULT, *(len(made.file) for made in releases.made.values())]
        self._image_bytes_max = max(sizes)
        specs = [order.spec for order in scenario.orders if order.spec is not None]
        record.patience_ms = max([record.patience_ms, *(spec.soak_ms + spec.deadline_ms for spec in specs)])

    def join(
        self,
        nodes: Mapping[str, SimNode],
        operators: Mapping[str, SimOperator],
        mark_liar: Callable[[str], None],
    ) -> None:
        """Know the devices and the people; `mark_liar` is told of a device whose image makes it a liar."""
        self._nodes, self._operators, self._mark_liar = nodes, operators, mark_liar
        for order in self._scenario.orders:
            self._scheduler.at(order.at_ms * 1000, partial(self._order, order))

    # ------------------------------------------------------------------------------ devices

    def firmware_of(self, device: str) -> Firmware:
        """Return what a device's owner decided about firmware."""
        model = self._model
        return Firmware(
            class_id=b"".join(class_ids(model.class_of(device))),
            policy=FirmwarePolicy(
                approve="auto" if model.approve == "auto" else int(model.approve), obey_halt=model.obey_halt
            ),
            t_arm_ms=model.t_arm_ms,
        )

    def make_board(self, node: SimNode) -> SimBoard:
        """Return the board under a device, fresh from the factory."""
        vendor, device_class = class_ids(self._model.class_of(node.id))
        rules = ImageRules(keys=(self.releases.image_key.public,), vendor=vendor, device_class=device_class)
        medium = SimulatedMedium(rules, image_bytes_max=self._image_bytes_max)
        factory = self._factories[self._model.class_of(node.id)]
        medium.set_up(factory.plan, factory.file)
        return SimBoard(
            medium,
            SimulatedBackend,
            self._scheduler,
            seed=node.config.seed,
            on_start=node.boot,
            on_stop=node.stop,
            on_truth=partial(self._on_truth, node.id),
            on_result=self._on_result,
        )

    def make_image(self, node: SimNode, behaves: str) -> Attack | None:
        """Return what the started image does to the frames of its device."""
        if behaves == "lie":
            self._mark_liar(node.id)
            return LyingImage()
        if behaves == "equivocate":
            self._mark_liar(node.id)
            return Equivocate(self.insider(node))
        return None

    def insider(self, node: SimNode) -> Insider:
        """Return what an attacker holds who runs this device."""
        factory = self._factories[self._model.class_of(node.id)]
        return Insider(
            id=node.id,
            keypair=node.config.device.keypair,
            genesis=self._genesis,
            seed=node.config.seed,
            class_id=b"".join(class_ids(self._model.class_of(node.id))),
            digest=factory.digest,
        )

    def _on_truth(self, device: str, board: SimBoard) -> None:
        truth = board.truth(lambda digest: self._versions.get(digest, ""))
        if truth is None:
            return
        before = self.record.truths.get(device)
        self.record.on_truth(device, truth)
        if before is None or before.digest != truth.digest:
            self._on_other_image(device, board)

    def _on_other_image(self, device: str, board: SimBoard) -> None:
        """Tell the rules of a start, with what this device had applied of revocations and whether it had a choice."""
        status = board.status()
        if status is None:
            return
        spare = status.spare
        fits = (
            bool(spare.digest)
            and spare.state in (SlotState.PREVIOUS, SlotState.STAGED, SlotState.ARMED)
            and spare.counter >= status.counter
            and spare.release not in status.revoked
        )
        self.record.rules.on_start(
            device, revoked=status.running.release in status.revoked, other_slot_fits=fits
        )

    def _on_result(self, done: InstallDone) -> None:
        if done.error is not None:
            return
        if isinstance(done.operation, WriteChunks):
            self.record.count("bytes", sum(len(data) for _, data in done.operation.chunks))
        elif isinstance(done.operation, Begin) and isinstance(done.answer, Bitmap):
            self.record.count("resumed", done.answer.count - len(done.answer.missing()))

    def on_event(self, event: DeviceEvent) -> None:
        """Count chunks that did not match."""
        if event.kind == events.FIRMWARE and dict(event.data).get("what") in REFUSED_WHATS:
            self.record.count("refused")

    # ------------------------------------------------------------------------------ orders

    def _rollout(self) -> Rollout | None:
        """Return the state at the highest log that a correct device has."""
        best: tuple[int, Rollout] | None = None
        for node in self._nodes.values():
            if node.device is None or node.attack is not None:
                continue
            rollout = node.device.ledger.router.rollout
            height = node.device.ledger.height
            if rollout is not None and (best is None or height > best[0]):
                best = height, rollout
        return None if best is None else best[1]

    def _order(self, order: FirmwareOrder) -> None:
        rollout = self._rollout()
        entry = None if rollout is None else entry_of(order, self.releases, rollout, self._genesis.id)
        if entry is None:
            self._scheduler.after(WAIT_US, partial(self._order, order))
            return
        if order.what == "propose":
            for operator in self._operators.values():
                operator.hold(self.releases.made[order.release])
        if order.what == "keys":
            self.releases.key_epoch += 1
        if order.origin == VOTERS_ALL:
            for voter in self._genesis.voter_ids:
                self._log(voter, entry)
        else:
            self._log(order.origin, entry)

    def _log(self, origin: str, entry: Command) -> None:
        """Have a member put an entry on the log; a device that is off says nothing."""
        operator = self._operators.get(origin)
        if operator is not None:
            operator.submit([("rollout", encode_command(entry))])
            return
        node = self._nodes[origin]
        if node.attack is None or node.insider is not None:
            node.put(Submit("rollout", encode_command(entry)))

    # ------------------------------------------------------------------------------ faults

    def cut_power(self, fault: PowerCut) -> None:
        """Take the power of some devices, now or in the middle of their next such step."""
        for device in fault.devices:
            board = self._nodes[device].board
            if board is None or not board.is_powered:
                continue
            off_ms = fault.for_ms or 0
            if fault.during is None:
                board.cut_power(off_ms)
            else:
                board.cut = Cut(fault.during, off_ms)

    def steal(self, fault: StolenKeys) -> None:
        """Let a thief sign a release of his own and have it proposed, wished for and planned by a stolen member."""
        origin = fault.origin or self._genesis.voter_ids[-1]
        made = self.releases.made[fault.release]
        if origin in self._operators:
            self._operators[origin].hold(made)
        self._log(origin, self.releases.propose(fault.release, fault.count))
        self._scheduler.after(WAIT_US, partial(self._push, origin, made.id))

    def _push(self, origin: str, release: bytes) -> None:
        """Go on as far as the log takes the thief: an approval and a plan in which everybody moves at once."""
        rollout = self._rollout()
        if rollout is None or rollout.release(release) is None:
            self._scheduler.after(WAIT_US, partial(self._push, origin, release))
            return
        self._log(origin, Approve(release))
        self._log(origin, MakePlan(release, PlanSpec(hold_back=0, reserve=0, soak_ms=0)))


def _nobody(device: str) -> None:
    del device
