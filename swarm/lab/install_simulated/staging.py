"""A release on its way into the spare slot of a simulated board: chunks go straight into the flash."""

from __future__ import annotations

from firmware_sim.bootloader import UPDATE_SECTOR
from swarm.crypto.digest import sha256
from swarm.crypto.merkle import Frontier, leaf_hash
from swarm.install.port import Bitmap, InstallError, InstallPlan, InstallReason
from swarm.install.records import Progress
from swarm.install.staging import medium, plan_bytes
from swarm.lab.install_simulated.chips import Chips


def plan_key(plan: InstallPlan) -> str:
    """Return what names a plan, in every field, beside its bitmap."""
    return sha256(plan_bytes(plan)).hex()


class SimulatedStaging:
    """The chunks of one plan at the place of an update; made by `SimulatedBackend.begin`."""

    __slots__ = ("_chips", "_durable", "_is_alone", "_plan", "_written")

    def __init__(self, chips: Chips, plan: InstallPlan, *, sealed: bool) -> None:
        """Take up `plan` where its durable bitmap ends; with `sealed` nothing is left to fetch. Raises `OSError`."""
        self._chips = chips
        self._plan = plan
        self._written: set[int] = set()
        self._is_alone = False
        if sealed:
            chips.forget_progress()
            self._durable = set(range(plan.chunk_count))
            return
        self._durable = self._claimed()
        if chips.progress().release != plan_key(plan):
            self._claim(set())

    @property
    def plan(self) -> InstallPlan:
        """The plan it was begun with."""
        return self._plan

    def have(self) -> Bitmap:
        """Return the chunks that a power cut now would leave."""
        return Bitmap.of(self._plan.chunk_count, self._durable)

    def write_chunk(self, index: int, data: bytes) -> None:
        """Program a chunk that the caller has checked, and read it back; claimed with the next `checkpoint`.

        The first one takes the seal of what lies there. Raises `InstallError` (WRONG_CHUNK, NOT_SETTLED, MEDIUM).
        """
        length = self._plan.length_of(index)
        if length == 0 or len(data) != length:
            raise InstallError(InstallReason.WRONG_CHUNK, f"chunk {index}, {len(data)} bytes")
        if index in self._durable:
            return
        with medium():
            self._check_free()
            offset = self._chips.layout.secondary.at(UPDATE_SECTOR) + index * self._plan.chunk_bytes
            self._chips.program(offset, data)
        self._written.add(index)

    def checkpoint(self) -> None:
        """Write the bitmap that claims the chunks; they are durable already."""
        if not self._written:
            return
        durable = self._durable | self._written
        with medium():
            self._claim(durable)
        self._durable = durable
        self._written = set()

    def read_file(self) -> bytes:
        """Return the file as the flash holds it, checked against chunk root and digest.

        Raises `InstallError` (INCOMPLETE, WRONG_CHUNK_ROOT, WRONG_FILE).
        """
        if not self.have().is_full:
            raise InstallError(InstallReason.INCOMPLETE, f"{len(self.have().missing())} chunks are missing")
        plan, chips = self._plan, self._chips
        data = chips.flash.read(chips.layout.secondary.at(UPDATE_SECTOR), plan.file_bytes)
        tree = Frontier()
        for at in range(0, plan.file_bytes, plan.chunk_bytes):
            tree.append(leaf_hash(data[at : at + plan.chunk_bytes]))
        if tree.root() != plan.chunk_root:
            raise InstallError(InstallReason.WRONG_CHUNK_ROOT)
        if sha256(data) != plan.file_digest:
            raise InstallError(InstallReason.WRONG_FILE)
        return data

    def _check_free(self) -> None:
        """Never write beside a trial or under an order; take the seal of what is about to be overwritten."""
        chips = self._chips
        if not chips.app.is_settled() or not chips.is_order_blank():
            raise InstallError(InstallReason.NOT_SETTLED)
        if not self._is_alone:
            chips.drop_seals()
            self._is_alone = True

    def _claim(self, chunks: set[int]) -> None:
        bits = Bitmap.of(self._plan.chunk_count, chunks).bits.hex()
        self._chips.write(Progress(release=plan_key(self._plan), bits=bits))

    def _claimed(self) -> set[int]:
        progress = self._chips.progress()
        if progress.release != plan_key(self._plan):
            return set()
        bitmap = Bitmap(count=self._plan.chunk_count, bits=bytes.fromhex(progress.bits))
        return {index for index in range(bitmap.count) if index in bitmap}
