"""Runs operations on an install back end: the one function that agent and simulator share."""

from __future__ import annotations

from swarm.crypto.merkle import leaf_hash
from swarm.device.firmware.operations import (
    Activate,
    ArmBoot,
    Attest,
    Begin,
    Confirm,
    CopyChunks,
    DeclinePermit,
    Discard,
    Inspect,
    Inspection,
    InstallDone,
    Operation,
    RaiseCounter,
    ReadChunk,
    ReadLeaves,
    Reply,
    Revert,
    RevokeRelease,
    Seal,
    Source,
    Withdraw,
    WriteChunks,
)
from swarm.install.port import InstallBackend, InstallError, InstallPlan, InstallReason, Staging


class Installer:
    """One back end and the release that is being fetched into it. One operation at a time."""

    def __init__(self, backend: InstallBackend) -> None:
        """Run everything on `backend`."""
        self.backend = backend
        self._staging: Staging | None = None

    def run(self, operation: Operation, tag: int) -> InstallDone:
        """Return what `operation` gave; a refusal of the back end becomes the `error` of the result.

        Anything else that a back end raises is a bug or the end of this device, and is passed on.
        """
        try:
            return InstallDone(tag, operation, self._run(operation))
        except InstallError as error:
            return InstallDone(tag, operation, None, error)

    def _run(self, operation: Operation) -> Reply:
        backend = self.backend
        match operation:
            case Inspect():
                return Inspection(backend.status(), backend.outcome(), backend.capabilities())
            case Begin(plan=plan):
                self._staging = backend.begin(plan)
                return self._staging.have()
            case WriteChunks() | CopyChunks() | Seal():
                return self._fill(operation)
            case Activate():
                return backend.activate()
            case Revert(reason=reason):
                return backend.revert(reason)
            case ReadChunk(source=source, offset=offset, count=count):
                return self._read(source, offset, count)
            case ReadLeaves(source=source, file_bytes=size, chunk_bytes=chunk):
                return tuple(
                    leaf_hash(self._read(source, at, min(chunk, size - at))) for at in range(0, size, chunk)
                )
            case Attest(nonce=nonce):
                return backend.attest(nonce)
            case _:
                self._order(operation)
                return None

    def _order(self, operation: Operation) -> None:
        backend = self.backend
        match operation:
            case Discard():
                self._staging = None
                backend.discard()
            case ArmBoot(intent=intent):
                backend.arm(intent)
            case Withdraw():
                backend.withdraw()
            case Confirm():
                backend.confirm()
            case DeclinePermit(permit=permit):
                backend.decline(permit)
            case RaiseCounter(value=value):
                backend.raise_counter(value)
            case RevokeRelease(release=release):
                backend.revoke(release)
            case _:
                raise InstallError(InstallReason.BAD_PLAN, f"no operation {type(operation).__name__}")

    def _fill(self, operation: WriteChunks | CopyChunks | Seal) -> Reply:
        staging = self._staging
        if staging is None:
            raise InstallError(InstallReason.INCOMPLETE, "nothing was begun")
        match operation:
            case WriteChunks(chunks=chunks, checkpoint=checkpoint):
                for index, data in chunks:
                    staging.write_chunk(index, data)
                if checkpoint:
                    staging.checkpoint()
                return staging.have()
            case CopyChunks(plan=plan, leaves=leaves, indexes=indexes):
                return self._copy(staging, plan, leaves, indexes)
            case Seal():
                sealed = self.backend.seal(staging)
                self._staging = None
                return sealed

    def _copy(
        self, staging: Staging, plan: InstallPlan, leaves: tuple[bytes, ...], indexes: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Copy every wanted chunk that the running image holds at some multiple of the chunk size."""
        wanted: dict[bytes, list[int]] = {}
        for index in indexes:
            wanted.setdefault(leaves[index], []).append(index)
        copied: list[int] = []
        at = 0
        while wanted and at < plan.file_bytes:
            try:
                data = self.backend.read_booted(at, plan.chunk_bytes)
            except InstallError as error:
                if error.reason is not InstallReason.OUT_OF_RANGE:
                    raise
                break
            for index in wanted.pop(leaf_hash(data), ()):
                if len(data) == plan.length_of(index):
                    staging.write_chunk(index, data)
                    copied.append(index)
            at += plan.chunk_bytes
        if copied:
            staging.checkpoint()
        return tuple(sorted(copied))

    def _read(self, source: Source, offset: int, count: int) -> bytes:
        read = self.backend.read_booted if source == "booted" else self.backend.read_sealed
        return read(offset, count)
