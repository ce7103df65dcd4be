"""The POSIX model: nothing survives that was not synced, except what a crash lets through."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.errors import PowerLoss
from firmware_sim.posixfs import CRASH_SHAPES, PosixFs


def settled() -> PosixFs:
    fs = PosixFs()
    fs.mkdir("/d")
    fs.write_bytes("/d/f", b"old")
    fs.fsync("/d/f")
    fs.fsync_dir("/d")
    fs.fsync_dir("/")
    return fs


def crashes(fs: PosixFs, path: str, draws: int = 60) -> set[bytes | None]:
    """Return every content of `path` that a crash may leave, None for a missing file."""
    found: set[bytes | None] = set()
    for shape in CRASH_SHAPES:
        for seed in range(draws):
            copy = fs.fork()
            copy.crash(shape, seed)
            found.add(copy.read_bytes(path) if copy.exists(path) else None)
    return found


def test_what_is_synced_survives_every_crash() -> None:
    assert crashes(settled(), "/d/f") == {b"old"}


def test_unsynced_data_may_be_old_new_short_or_zeros() -> None:
    fs = settled()
    fs.write_bytes("/d/f", b"fresh")
    assert crashes(fs, "/d/f") >= {b"old", b"fresh", b"", b"fre", bytes(5)}
    fs.fsync("/d/f")
    assert crashes(fs, "/d/f") == {b"fresh"}


def test_a_new_file_needs_its_directory_synced() -> None:
    fs = settled()
    fs.write_bytes("/d/g", b"new")
    fs.fsync("/d/g")
    assert crashes(fs, "/d/g") == {None, b"new"}
    fs.fsync_dir("/d")
    assert crashes(fs, "/d/g") == {b"new"}


def test_a_name_may_survive_without_its_data() -> None:
    fs = settled()
    fs.write_bytes("/d/g", b"new")
    fs.fsync_dir("/d")
    assert None not in crashes(fs, "/d/g")
    assert b"" in crashes(fs, "/d/g")


def replaced(fs: PosixFs) -> None:
    fs.write_bytes("/d/.tmp", b"new")
    fs.fsync("/d/.tmp")
    fs.replace("/d/.tmp", "/d/f")


def test_replace_is_old_or_new_and_never_between() -> None:
    fs = settled()
    replaced(fs)
    assert crashes(fs, "/d/f") == {b"old", b"new"}
    fs.fsync_dir("/d")
    assert crashes(fs, "/d/f") == {b"new"}


def test_replace_of_a_file_by_itself_changes_nothing() -> None:
    fs = settled()
    fs.replace("/d/f", "/d/f")
    assert crashes(fs, "/d/f") == {b"old"}


def test_replace_without_fsync_of_the_data_may_leave_an_empty_file() -> None:
    fs = settled()
    fs.write_bytes("/d/.tmp", b"new")
    fs.replace("/d/.tmp", "/d/f")
    assert b"" in crashes(fs, "/d/f")


def test_two_renames_may_survive_in_the_other_order() -> None:
    fs = settled()
    for content in (b"one", b"two"):
        fs.write_bytes("/d/.tmp", content)
        fs.fsync("/d/.tmp")
        fs.fsync_dir("/d")
        fs.replace("/d/.tmp", "/d/f")
    assert crashes(fs, "/d/f") >= {b"one", b"two"}
    fs.fsync_dir("/d")
    assert crashes(fs, "/d/f") == {b"two"}


def test_a_rename_between_directories_may_leave_both_names_or_none() -> None:
    fs = settled()
    fs.mkdir("/e")
    fs.fsync_dir("/")
    fs.replace("/d/f", "/e/f")
    found = set()
    for seed in range(40):
        copy = fs.fork()
        copy.crash("random", seed)
        found.add((copy.exists("/d/f"), copy.exists("/e/f")))
    assert found >= {(True, False), (False, True), (True, True)}


def test_a_link_is_switched_as_a_whole() -> None:
    fs = PosixFs()
    for name in ("a", "b"):
        fs.mkdir(f"/{name}")
        fs.write_bytes(f"/{name}/v", name.encode())
        fs.fsync(f"/{name}/v")
        fs.fsync_dir(f"/{name}")
    fs.symlink("a", "/current")
    fs.fsync_dir("/")
    fs.symlink("b", "/.next")
    fs.replace("/.next", "/current")
    assert fs.readlink("/current") == "b"
    assert crashes(fs, "/current/v") == {b"a", b"b"}


def test_links_are_followed_inside_a_path_and_at_its_end() -> None:
    fs = settled()
    fs.symlink("/d", "/abs")
    fs.symlink("../d/f", "/d/up")
    assert fs.read_bytes("/abs/f") == b"old"
    assert fs.read_bytes("/abs/up") == b"old"
    assert fs.is_symlink("/abs")
    assert fs.is_dir("/abs")
    fs.unlink("/abs")
    assert fs.listdir("/d") == ["f", "up"]
    fs.symlink("loop", "/loop")
    assert not fs.exists("/loop")
    with pytest.raises(OSError, match="ELOOP"):
        fs.read_bytes("/loop")


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda fs: fs.read_bytes("/d/none"), errno.ENOENT),
        (lambda fs: fs.read_bytes("/d"), errno.EISDIR),
        (lambda fs: fs.write_bytes("/d", b""), errno.EISDIR),
        (lambda fs: fs.write_bytes("/x/y", b""), errno.ENOENT),
        (lambda fs: fs.write_bytes("/d/f/y", b""), errno.ENOTDIR),
        (lambda fs: fs.mkdir("/d"), errno.EEXIST),
        (lambda fs: fs.symlink("x", "/d/f"), errno.EEXIST),
        (lambda fs: fs.readlink("/d/f"), errno.EINVAL),
        (lambda fs: fs.unlink("/d"), errno.EISDIR),
        (lambda fs: fs.rmdir("/d"), errno.ENOTEMPTY),
        (lambda fs: fs.replace("/none", "/d/f"), errno.ENOENT),
        (lambda fs: fs.replace("/d/f", "/d"), errno.EISDIR),
        (lambda fs: fs.listdir("/d/f"), errno.ENOTDIR),
    ],
)
def test_errors_are_those_of_the_system_calls(call: Callable[[PosixFs], object], code: int) -> None:
    fs = settled()
    before = fs.tree()
    with pytest.raises(OSError) as caught:
        call(fs)
    assert caught.value.errno == code
    assert fs.tree() == before


def test_a_full_disk_refuses_and_keeps_the_old_content() -> None:
    fs = PosixFs(space=10)
    fs.write_bytes("/f", b"12345")
    with pytest.raises(OSError, match="ENOSPC"):
        fs.append_bytes("/f", b"678901")
    with pytest.raises(OSError, match="ENOSPC"):
        fs.write_bytes("/g", b"678901")
    assert fs.tree() == {"/": None, "/f": b"12345"}
    fs.unlink("/f")
    fs.write_bytes("/g", b"1234567890")


def test_rmtree_can_be_cut_in_the_middle() -> None:
    fs = settled()
    fs.mkdir("/d/e")
    fs.write_bytes("/d/e/x", b"x")
    fs.fsync_dir("/d/e")
    fs.fsync_dir("/d")
    left = set()
    for op in range(1, 6):
        copy = fs.fork()
        copy.cut = (op, "all", 0)
        with contextlib.suppress(PowerLoss):
            copy.rmtree("/d")
        left.add(tuple(sorted(copy.tree())))
    assert len(left) == 4
    assert ("/",) in left


def test_the_cut_loses_the_power_at_its_operation() -> None:
    fs = settled().fork()
    fs.cut = (2, "none", 0)
    fs.write_bytes("/d/f", b"new")
    with pytest.raises(PowerLoss):
        fs.fsync("/d/f")
    assert fs.read_bytes("/d/f") == b"old"
    assert fs.cut is None


names = st.sampled_from(["/a", "/b", "/d/a", "/d/b"])
steps = st.lists(
    st.tuples(st.sampled_from(["write", "fsync", "dir", "replace", "unlink"]), names, names), max_size=25
)


def play(fs: PosixFs, script: list[tuple[str, str, str]]) -> None:
    for number, (action, path, other) in enumerate(script):
        try:
            match action:
                case "write":
                    fs.write_bytes(path, bytes([number]) * 4)
                case "fsync":
                    fs.fsync(path)
                case "dir":
                    fs.fsync_dir("/" if path.count("/") == 1 else "/d")
                case "replace":
                    fs.replace(path, other)
                case _:
                    fs.unlink(path)
        except FileNotFoundError:
            pass


@settings(deadline=None, max_examples=200)
@given(script=steps, shape=st.sampled_from(CRASH_SHAPES), seed=st.integers(0, 5))
def test_a_synced_system_loses_nothing_and_crashes_are_reproducible(
    script: list[tuple[str, str, str]], shape: str, seed: int
) -> None:
    fs = PosixFs()
    fs.mkdir("/d")
    play(fs, script)
    first, second = fs.fork(), fs.fork()
    first.crash(shape, seed)
    second.crash(shape, seed)
    assert first.media_hash() == second.media_hash()
    again = first.media_hash()
    first.crash("none")
    assert first.media_hash() == again, "what survived one crash survives the next"
    for path, content in fs.tree().items():
        if isinstance(content, bytes):
            fs.fsync(path)
    fs.fsync_dir("/")
    fs.fsync_dir("/d")
    before = fs.tree()
    fs.crash(shape, seed)
    assert fs.tree() == before


def test_an_observer_sees_each_operation_and_may_cut_it() -> None:
    fs = settled()
    seen: list[int] = []

    def observe() -> None:
        seen.append(fs.ops)
        if len(seen) == 2:
            fs.crash("none")
            raise PowerLoss(fs.ops)

    fs.observer = observe
    fs.write_bytes("/d/f", b"fresh")
    with pytest.raises(PowerLoss):
        fs.fsync("/d/f")
    assert fs.read_bytes("/d/f") == b"old"
    assert seen == [fs.ops - 1, fs.ops]
    fs.fork().write_bytes("/d/f", b"fresh")
    assert len(seen) == 2, "a copy is observed by nobody"
