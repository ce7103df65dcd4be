"""All of a device's firmware behind one door: its own update, its votes, and chunks for others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from swarm.apps.rollout.app import Rollout
from swarm.apps.rollout.duties import Duties
from swarm.apps.rollout.state import Device as Record
from swarm.behaviours.actions import SelfTested
from swarm.crypto.digest import sha256
from swarm.device.admission import DeliveryAnswer, DeliveryAsk, Expected
from swarm.device.delivery.ring import chunk_peers
from swarm.device.delivery.server import ChunkServer
from swarm.device.firmware.checks import install_plan
from swarm.device.firmware.operations import Install, InstallDone, ReadChunk, ReadLeaves
from swarm.device.firmware.policy import Firmware
from swarm.device.firmware.step import ChunkQuestion, Entries, Step
from swarm.device.firmware.updater import Updater
from swarm.device.firmware.view import View
from swarm.device.firmware.voter import Voter
from swarm.install.port import BootNonce, Capability, SlotState
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import ATTEST_SLOTS
from swarm.wire.genesis import Genesis
from swarm.wire.messages import Answer

CHUNK_PEERS_MAX: Final = 4
"""Holders of a release that are no voters, of which a device asks at most so many."""


LOOK_MS: Final = 5_000
"""A turn so long after the last step takes one in any case: what was overlooked costs a heartbeat, not an update."""


class Keeper:
    """Firmware of one device in one boot: inputs in, one `Step` out of each turn."""

    def __init__(
        self,
        firmware: Firmware,
        genesis: Genesis,
        me: DeviceId,
        rollout: Rollout,
        *,
        boot: int,
        nonce: BootNonce,
        seed: bytes,
        now_ms: int,
    ) -> None:
        """Begin a boot; `nonce` is the last head that was applied before it, `seed` differs from device to device."""
        self._firmware = firmware
        self._genesis = genesis
        self._me = me
        self.rollout = rollout
        self._seed = seed
        self._entries = Entries()
        self.updater = Updater(firmware, self._entries, boot=boot, nonce=nonce, seed=seed)
        self._voter = Voter(firmware.policy, self._entries)
        self.server = ChunkServer(bytes_per_s=firmware.chunk_bytes_per_s, now_ms=now_ms)
        self._attests: dict[int, dict[int, bytes]] = {}
        self._duties = Duties(task=None, permit=None)
        self._height = -1
        self._read_tag = 0
        self._reads: dict[int, ReadChunk | ReadLeaves] = {}
        self._peers_for = b""
        self._step = Step()
        self._has_news = True
        self._looked_ms = now_ms
        self.wake_at_ms: int | None = None
        """When the next step is due if nothing comes before."""

    # ------------------------------------------------------------------------------ questions of the device

    @property
    def is_mute(self) -> bool:
        """Whether this voter signs no statement now: in trial, where a lying image were worse than r liars (W9).

        As long as the media have not said what was started it may be a trial.
        """
        budget = self._genesis.budget
        in_trial = self.updater.is_in_trial
        if budget.r >= budget.u or in_trial is False:
            return False
        permit = None if self._record is None else self._record.permit
        plan = None if permit is None else self.rollout.plan(permit.plan)
        reserve = 0 if plan is None or in_trial is None else plan.spec.reserve or 0
        return budget.r < budget.u - reserve

    @property
    def _record(self) -> Record | None:
        return self.rollout.state.devices.get(self._me)

    @property
    def attests(self) -> Mapping[int, Mapping[int, bytes]]:
        """Attestations heard: voter index -> height -> digest, the newest few of each."""
        return self._attests

    def is_due(self, now_ms: int, height: int) -> bool:
        """Answer whether a step could give anything: most turns of a swarm are nothing to its firmware."""
        if self._has_news or height != self._height or self._voter.is_listening:
            return True
        if self.wake_at_ms is not None and now_ms >= self.wake_at_ms:
            return True
        if now_ms >= self._looked_ms + LOOK_MS:
            return True
        record = self._record
        # With a permit every attestation and every vote may be the one that was missing.
        return record is not None and record.permit is not None

    def has_seen(self, height: int) -> bool:
        """Answer whether the last step was taken at this applied height."""
        return height == self._height

    def wants_attest(self, height: int) -> bool:
        """Answer whether an attestation is worth its check although a checkpoint of its height exists (W5)."""
        record = self._record
        return record is not None and record.permit is not None and height > 0

    def expects(self, sender: DeviceId, answer: Answer) -> Expected:
        """Answer whether this is an answer to an open question for chunks, and whether a signature must be checked."""
        fetcher = self.updater.download.fetcher
        return Expected.NO if fetcher is None else fetcher.expects(sender, answer)

    # ------------------------------------------------------------------------------ inputs

    def take(self, message: InstallDone | SelfTested, now_ms: int) -> None:
        """Take in what an operation or a self test gave."""
        self._has_news = True
        if isinstance(message, SelfTested):
            self.updater.take_test(message, self._step, now_ms)
            return
        read = self._reads.pop(message.tag, None)
        if read is not None:
            answer = message.answer
            is_bytes = isinstance(answer, bytes)
            leaves = tuple(x for x in answer if isinstance(x, bytes)) if isinstance(answer, tuple) else None
            self.server.on_read(read, answer if is_bytes and isinstance(answer, bytes) else leaves, now_ms)
            return
        self.updater.take_install(message, self._step, now_ms)

    def hear(self, message: DeliveryAsk | DeliveryAnswer, now_ms: int) -> None:
        """Take a question for chunks, or an answer to an own one."""
        self._has_news = True
        if isinstance(message, DeliveryAsk):
            self.server.ask(message.sender, message.request, now_ms)
            return
        fetcher = self.updater.download.fetcher
        if fetcher is not None:
            fetcher.on_answer(message.sender, message.answer, now_ms)

    def hear_attest(self, voter: int, height: int, digest: bytes) -> None:
        """Note a verified attestation of a voter."""
        by_height = self._attests.setdefault(voter, {})
        by_height.setdefault(height, digest)
        for old in sorted(by_height)[:-ATTEST_SLOTS]:
            del by_height[old]

    def take_settled(self, tags: tuple[int, ...], signed_at_ms: int, height: int | None) -> None:
        """Note that an own submission of this boot is in the log at `height`, or (None) never will be."""
        self._has_news = True
        for tag in tags:
            self._entries.settled(tag)
        if height is not None:
            self.updater.permits.take_own_entry(signed_at_ms, height)

    def take_asked(self, peer: DeviceId, ask: ChunkQuestion, boot: int, n: int) -> None:
        """Note the counter under which a question for chunks went out."""
        self._has_news = True
        fetcher = self.updater.download.fetcher
        if fetcher is not None:
            fetcher.asked(peer, ask, boot, n)

    # ------------------------------------------------------------------------------ the step

    def advance(self, view: View) -> Step:
        """Return everything that is due now."""
        step = self._step
        if view.height != self._height:
            self._height = view.height
            self._duties = self.rollout.duties(self._me)
            self._peers_for = b""
        release = self.updater.download.release
        if release != self._peers_for:
            self._peers_for = release
            self.updater.download.set_peers(self._peers_of(release))
        self.updater.advance(view, self._duties, step, is_mute=self.is_mute)
        if view.is_voter and not self.updater.has_ended:
            self._voter.advance(view, self._duties, step)
        self._serve(view, step)
        self._step = Step()
        self._has_news, self.wake_at_ms, self._looked_ms = False, step.wake_at_ms, view.now_ms
        return step

    def _peers_of(self, release: bytes) -> tuple[DeviceId, ...]:
        """Return whom to ask for a release: a few others and the voters who hold it by the log, operators, any voter.

        An observer asks its neighbours, since no other observer hears it; a voter is heard by all of them and asks
        some, different ones on each device.
        """
        known = self.rollout.release(release) if release else None
        if known is None:
            return ()
        digest = known.manifest.image_digest
        devices = self.rollout.state.devices.values()
        holders = [d.id for d in devices if (d.digest == digest and d.confirmed) or _is_sealed(d, digest)]
        voters = self._genesis.voter_ids
        heard_by = chunk_peers(self._genesis, self._me) if self._me not in voters else None
        others = [
            id
            for id in holders
            if id not in voters and id != self._me and (heard_by is None or id in heard_by)
        ]
        near = sorted(others, key=lambda name: sha256(self._seed, name.encode()))[:CHUNK_PEERS_MAX]
        operators = [m.id for m in self._genesis.members if m.role == "operator"]
        ordered = dict.fromkeys([*near, *(id for id in holders if id in voters), *operators, *voters])
        return tuple(id for id in ordered if id != self._me)

    def _serve(self, view: View, step: Step) -> None:
        self._offer()
        served = self.server.advance(view.now_ms)
        for read in served.reads:
            self._read_tag -= 1
            self._reads[self._read_tag] = read
            step.actions.append(Install(read, self._read_tag))
        step.answers.extend(served.answers)
        step.wake(served.wake_at_ms)

    def _offer(self) -> None:
        """Offer what runs and what is sealed, as far as the log wants it."""
        inspection = self.updater.desk.inspection
        if inspection is None or Capability.READ_BOOTED not in inspection.capabilities:
            return
        status = inspection.status
        held: dict[bytes, tuple[bool, SlotState]] = {}
        for slot, is_booted in ((status.spare, False), (status.running, True)):
            if slot.release:
                held[slot.release] = (is_booted, slot.state)
        for id in self.server.offered:
            release = self.rollout.release(id)
            if id not in held or release is None or not release.is_wanted:
                self.server.withdraw(id)
        for id, (is_booted, state) in held.items():
            release = self.rollout.release(id)
            is_there = is_booted or state in (SlotState.STAGED, SlotState.PREVIOUS, SlotState.ARMED)
            if release is not None and release.is_wanted and is_there:
                self.server.offer(id, "booted" if is_booted else "sealed", install_plan(release.manifest))


def _is_sealed(device: Record, digest: bytes) -> bool:
    return device.spare == "sealed" and device.spare_digest == digest
