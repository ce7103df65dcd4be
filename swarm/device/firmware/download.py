"""From a release on the log to a sealed image in the other slot: begin, fetch, copy, write, seal."""

from __future__ import annotations

from typing import Final

from swarm.device.delivery.fetcher import Fetcher
from swarm.device.firmware.desk import Desk
from swarm.device.firmware.operations import (
    Begin,
    CopyChunks,
    Inspection,
    InstallDone,
    Seal,
    WriteChunks,
)
from swarm.device.firmware.step import Step
from swarm.install.port import Bitmap, Capability, InstallError, InstallPlan, InstallReason
from swarm.primitives.ids import DeviceId

TRY_AGAIN_MS: Final = 30_000
"""After a refusal that may pass: no space, a failed medium."""

_MENDABLE: Final = frozenset(
    {InstallReason.MEDIUM, InstallReason.NO_SPACE, InstallReason.INCOMPLETE, InstallReason.NOT_SETTLED}
)
_SPOILED: Final = frozenset({InstallReason.WRONG_CHUNK_ROOT, InstallReason.WRONG_FILE})
"""Every chunk was right when it was written, so the medium changed one."""

SPOILED_MAX: Final = 3
"""Fetches of one release that the medium spoiled, in one boot."""


class Download:
    """At most one release on its way. `want` names it, `advance` goes on with it, `take` hears the back end.

    What cannot pass is refused for this boot; what may pass is tried again, and both are told once (`trouble`).
    """

    def __init__(self, seed: bytes) -> None:
        """`seed` makes this device's choice of peers differ from others'."""
        self._seed = seed
        self.plan: InstallPlan | None = None
        self.fetcher: Fetcher | None = None
        self.refused: dict[bytes, str] = {}
        """Releases that the back end will not take in this boot, and why."""
        self.trouble: dict[bytes, str] = {}
        """What kept the back end from taking a release last, whether or not it is tried again."""
        self._failures: dict[bytes, int] = {}
        self._begun = False
        self._is_full = False
        self._peers: tuple[DeviceId, ...] = ()
        self._copy: tuple[int, ...] = ()
        self._writes: list[tuple[int, bytes]] = []
        self._checkpoint = False
        self._has_write = False
        self._capabilities: frozenset[Capability] = frozenset()
        self._not_before_ms = 0

    @property
    def release(self) -> bytes:
        """The release that is being fetched, empty for none."""
        return b"" if self.plan is None else self.plan.release

    def want(self, plan: InstallPlan, inspection: Inspection, step: Step) -> None:
        """Fetch and seal this release; nothing when it is under way already."""
        if self.plan == plan:
            return
        self.stop()
        self.plan = plan
        self._capabilities = inspection.capabilities
        step.tell("fetching", release=plan.release, number=plan.number, chunks=plan.chunk_count)

    def stop(self) -> None:
        """Let go of it; what is durable stays on the medium, and a later `want` goes on there."""
        self.plan = self.fetcher = None
        self._begun = self._is_full = False
        self._peers = ()
        self._drop_writes()

    def set_peers(self, peers: tuple[DeviceId, ...]) -> None:
        """Say whom to ask, now and when the fetch begins."""
        if peers != self._peers:
            self._peers = peers
            if self.fetcher is not None:
                self.fetcher.set_peers(peers)

    # ------------------------------------------------------------------------------ going on

    def advance(self, desk: Desk, step: Step, now_ms: int) -> None:
        """Ask peers, and order the next operation when the desk is free."""
        if self.plan is None:
            return
        if now_ms < self._not_before_ms:
            step.wake(self._not_before_ms)
            return
        self._ask(step, now_ms)
        if not desk.is_free:
            return
        if not self._begun:
            desk.order(Begin(self.plan), step)
        elif self._is_full:
            desk.order(Seal(), step)
        elif self._copy and self.fetcher is not None and self.fetcher.leaves is not None:
            desk.order(CopyChunks(self.plan, self.fetcher.leaves, self._copy), step)
        elif self._has_write:
            desk.order(WriteChunks(tuple(self._writes), self._checkpoint), step)
            self._drop_writes()

    def _ask(self, step: Step, now_ms: int) -> None:
        if self.fetcher is None or self._is_full:
            return
        got = self.fetcher.advance(now_ms)
        step.asks.extend(got.asks)
        for note in got.notes:
            step.tell(note.what, peer=note.peer, chunk=note.index, release=self.release)
        if got.has_write:
            self._writes.extend(got.writes)
            self._checkpoint |= got.checkpoint
            self._has_write = True
        self._copy = self._copy or got.copy
        self._is_full = got.done
        step.wake(got.wake_at_ms)

    def _drop_writes(self) -> None:
        self._writes, self._checkpoint, self._has_write, self._copy = [], False, False, ()

    # ------------------------------------------------------------------------------ results

    def take(self, done: InstallDone, desk: Desk, step: Step, now_ms: int) -> bool:
        """Take a result; False when it is of another operation."""
        operation = done.operation
        if not isinstance(operation, Begin | WriteChunks | CopyChunks | Seal):
            return False
        if self.plan is None or (isinstance(operation, Begin) and operation.plan != self.plan):
            # Let go of while it ran.
            desk.forget()
            return True
        if done.error is not None:
            self._take_refusal(done.error, operation, step, now_ms)
            desk.forget()
            return True
        match operation:
            case Begin():
                if isinstance(done.answer, Bitmap):
                    self._begin(self.plan, done.answer, now_ms)
                # The medium's word for the other slot has changed.
                desk.forget()
            case WriteChunks():
                if self.fetcher is not None and isinstance(done.answer, Bitmap):
                    self.fetcher.on_written(done.answer)
            case CopyChunks():
                self._copy = ()
                if self.fetcher is not None and isinstance(done.answer, tuple):
                    copied = [index for index in done.answer if isinstance(index, int)]
                    self.fetcher.on_copied(copied)
                    step.tell("copied", release=self.release, chunks=len(copied))
            case Seal():
                step.tell("sealed", release=self.release)
                self.trouble.pop(self.release, None)
                self.stop()
                desk.forget()
        return True

    def _begin(self, plan: InstallPlan, have: Bitmap, now_ms: int) -> None:
        self._begun = True
        self._is_full = have.is_full
        self.fetcher = Fetcher(
            plan,
            have,
            now_ms=now_ms,
            seed=self._seed,
            in_order=Capability.RANDOM_WRITE not in self._capabilities,
            reuse=Capability.READ_BOOTED in self._capabilities,
        )
        self.fetcher.set_peers(self._peers)

    def _take_refusal(
        self, error: InstallError, operation: Begin | WriteChunks | CopyChunks | Seal, step: Step, now_ms: int
    ) -> None:
        release = self.release
        step.tell(
            "refused", release=release, operation=type(operation).__name__.lower(), reason=str(error.reason)
        )
        if isinstance(operation, CopyChunks):
            # Only a saving: what cannot be read here is fetched.
            self._copy = ()
            if self.fetcher is not None:
                self.fetcher.on_copied(())
            return
        if isinstance(operation, WriteChunks) and self.fetcher is not None:
            self.fetcher.on_write_failed()
        self.stop()
        self._not_before_ms = now_ms + TRY_AGAIN_MS
        self.trouble[release] = str(error.reason)
        self._failures[release] = self._failures.get(release, 0) + 1
        spoiled = error.reason in _SPOILED and self._failures[release] < SPOILED_MAX
        if error.reason not in _MENDABLE and not spoiled:
            self.refused[release] = str(error.reason)
