"""The directory back end: the conformance suite on a real disk and on the model, full disks, broken records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from firmware_sim.posixfs import PosixFs
from swarm.install.directory import SPARE_MARGIN_BYTES, DirectoryBackend
from swarm.install.filesystem import RealFileSystem
from swarm.install.port import InstallError, InstallReason
from swarm.install.setup import set_up
from tests.install.conformance import Conformance
from tests.support.install import (
    CLASS,
    VENDOR,
    DirectoryRig,
    ModelDisk,
    directory_release,
    fetch,
    fork,
    intent_for,
    into_trial,
    model_rig,
    running,
    stage,
)


class TestOnARealDisk(Conformance):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> DirectoryRig:
        return DirectoryRig(RealFileSystem(), str(tmp_path)).set_up()


class TestOnTheModel(Conformance):
    @pytest.fixture
    def rig(self) -> DirectoryRig:
        return model_rig()


# ----------------------------------------------------------------------------- full disks


def limited(space: int) -> DirectoryRig:
    """Return a model device with `space` bytes left."""
    _, rig = fork(BASE)
    assert isinstance(rig.disk, ModelDisk)
    rig.disk.fs.space = rig.disk.fs.used() + space
    return rig


BASE = model_rig()


def test_a_disk_that_is_too_small_is_said_before_fetching() -> None:
    release = directory_release(2, size=40_000)
    rig = limited(SPARE_MARGIN_BYTES + release.plan.file_bytes)
    backend = rig.start()
    assert reason_of(lambda: backend.begin(release.plan)) is InstallReason.NO_SPACE
    assert running(backend.status()) == 1
    assert backend.status().spare_bytes < release.plan.file_bytes
    roomy = limited(SPARE_MARGIN_BYTES + 2 * release.plan.file_bytes + 4096)
    assert roomy.start().begin(release.plan).have().missing()


def reason_of(call: Callable[[], object]) -> InstallReason:
    with pytest.raises(InstallError) as caught:
        call()
    return caught.value.reason


def test_a_disk_that_fills_up_at_any_moment_loses_nothing() -> None:
    """Somebody else writes: wherever the room ends, it is a reason code, and fetching goes on when there is room."""
    release = directory_release(2, size=20_000)
    reasons = set()
    for space in range(0, 60_000, 700):
        _, rig = fork(BASE)
        assert isinstance(rig.disk, ModelDisk)
        backend = rig.start()
        staging = backend.begin(release.plan)
        staging.write_chunk(0, release.chunks[0])
        staging.checkpoint()
        rig.disk.fs.space = rig.disk.fs.used() + space
        try:
            for index in staging.have().missing():
                staging.write_chunk(index, release.chunks[index])
                staging.checkpoint()
            backend.seal(staging)
        except InstallError as error:
            reasons.add(error.reason)
        rig.disk.fs.space = 1 << 40
        after = rig.start()
        assert running(after.status()) == 1
        assert after.status().settled
        again = after.begin(release.plan)
        assert 0 in again.have()
        after.seal(fetch(after, release))
        after.arm(intent_for(release))
        assert running(rig.start().status()) == 2
    assert reasons == {InstallReason.NO_SPACE}


# ----------------------------------------------------------------------------- a disk that fails half-way


class FailingDisk(ModelDisk):
    """Raises EIO at the n-th change, once."""

    def __init__(self, fs: PosixFs, at: int) -> None:
        super().__init__(fs)
        self.left = at
        for name in ("write_bytes", "fsync", "fsync_dir", "replace", "symlink", "unlink", "rmtree", "mkdir"):
            setattr(self, name, self.counted(getattr(fs, name)))

    def counted(self, call: Callable[..., None]) -> Callable[..., None]:
        def changed(*arguments: object) -> None:
            self.left -= 1
            if self.left == 0:
                raise OSError(5, "Input/output error")
            call(*arguments)

        return changed


def test_a_disk_that_fails_once_anywhere() -> None:
    """A typed refusal, the running version untouched, and the same call again ends well."""
    release = directory_release(2)
    reasons = []
    for at in range(1, 200):
        fs, plain = fork(BASE)
        rig = DirectoryRig(FailingDisk(fs, at), plain.root)
        steps: list[Callable[[DirectoryBackend], object]] = [
            lambda backend: backend.seal(fetch(backend, release)),
            lambda backend: backend.arm(intent_for(release)),
        ]
        try:
            backend = rig.start()
        except OSError:
            backend = rig.start()
        for step in steps:
            try:
                step(backend)
            except InstallError as error:
                reasons.append(error.reason)
                step(backend)
        fs.crash("none")
        trial = DirectoryRig(ModelDisk(fs), plain.root).start()
        assert running(trial.status()) == 2
        trial.confirm()
    assert len(reasons) > 40
    assert set(reasons) == {InstallReason.MEDIUM}


def test_a_confirmation_that_could_not_be_synced_is_synced_when_said_again() -> None:
    release = directory_release(2)
    fs, rig = fork(BASE)
    into_trial(rig, release)
    for at in (1, 2):
        copy = fs.fork()
        failing = DirectoryBackend(FailingDisk(copy, at), "/d", booted="b", vendor=VENDOR, device_class=CLASS)
        assert reason_of(failing.confirm) is InstallReason.MEDIUM
        failing.confirm()
        copy.crash("none")
        assert running(DirectoryRig(ModelDisk(copy), "/d").start().status()) == 2


# ----------------------------------------------------------------------------- planted things


def test_a_link_in_a_slot_is_a_damaged_slot(tmp_path: Path) -> None:
    rig = DirectoryRig(RealFileSystem(), str(tmp_path)).set_up()
    backend = rig.start()
    backend.arm(stage(backend, directory_release(2)))
    inside = tmp_path / "slots/b/lib/empty.txt"
    inside.unlink()
    inside.symlink_to("/dev/null")
    after = rig.start()
    assert (running(after.status()), after.outcome().reason) == (1, "slot-damaged")


def test_the_store_is_never_looked_at(tmp_path: Path) -> None:
    """One store for both versions: an update leaves whatever lies beside the slots as it is."""
    store = tmp_path / "device.sqlite"
    store.write_bytes(b"votes")
    before = store.stat()
    rig = DirectoryRig(RealFileSystem(), str(tmp_path)).set_up()
    trial = into_trial(rig, directory_release(2))
    trial.revert("self-test")
    rig.start().discard()
    after = store.stat()
    assert (after.st_mtime_ns, after.st_ino, after.st_atime_ns) == (
        before.st_mtime_ns, before.st_ino, before.st_atime_ns,
    )  # fmt: skip
    copies = [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"votes"]
    assert copies == [store]


def test_chunks_rotten_on_the_disk_are_found_and_fetched_again(tmp_path: Path) -> None:
    rig = DirectoryRig(RealFileSystem(), str(tmp_path)).set_up()
    release = directory_release(2)
    backend = rig.start()
    staging = fetch(backend, release)
    (tmp_path / "staging/000000").write_bytes(bytes(4096))
    assert reason_of(lambda: backend.seal(staging)) is InstallReason.WRONG_CHUNK_ROOT
    assert backend.begin(release.plan).have().missing() == list(range(release.plan.chunk_count))
    (tmp_path / "staging/000000").write_bytes(b"")
    backend.seal(fetch(backend, release))


def test_a_lost_chunk_is_not_claimed(tmp_path: Path) -> None:
    rig = DirectoryRig(RealFileSystem(), str(tmp_path)).set_up()
    release = directory_release(2)
    fetch(rig.start(), release)
    (tmp_path / "staging/000001").unlink()
    assert rig.start().begin(release.plan).have().missing() == [1]


def test_set_up_refuses_another_file(tmp_path: Path) -> None:
    release = directory_release(2)
    with pytest.raises(InstallError, match="image-refused"):
        set_up(RealFileSystem(), str(tmp_path), release.plan, b"nothing")
    with pytest.raises(InstallError, match="wrong-digest"):
        set_up(RealFileSystem(), str(tmp_path), release.plan, directory_release(3).data)
    assert list(tmp_path.iterdir()) == []
