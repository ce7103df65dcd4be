"""Temporary folders: gone at the end, gone at the next start after a kill, and never somebody else's."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from swarm.lab.processes.scratch import remove_orphans, scratch_folder

PREFIX = "swarm-test-"

OWNER = """
import sys
from swarm.lab.processes.scratch import scratch_folder
with scratch_folder("swarm-test-") as folder:
    (folder / "dev-0").mkdir()
    (folder / "dev-0" / "key").write_text("secret")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def owner(where: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start another process with a folder of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(where)},
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def test_a_folder_is_private_and_goes_with_its_block(where: Path) -> None:
    with scratch_folder(PREFIX) as folder:
        (folder / "file").write_text("x")
        assert folder.parent == where
        assert folder.name.startswith(PREFIX)
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(where.iterdir()) == []


def test_a_failure_inside_leaves_nothing(where: Path) -> None:
    with pytest.raises(KeyError), scratch_folder(PREFIX):
        raise KeyError
    assert list(where.iterdir()) == []


@pytest.mark.processes
def test_what_a_killed_process_left_goes_at_the_next_start(where: Path) -> None:
    process, left = owner(where)
    try:
        with scratch_folder(PREFIX) as folder:
            assert left.is_dir(), "its owner lives"
            assert (left / "dev-0" / "key").read_text() == "secret"
            assert folder != left
    finally:
        end(process)
    assert left.is_dir(), "a killed process removes nothing"
    with scratch_folder(PREFIX) as folder:
        assert list(where.iterdir()) == [folder]


def test_two_folders_of_one_process_leave_each_other_alone(where: Path) -> None:
    with scratch_folder(PREFIX) as first, scratch_folder(PREFIX) as second:
        assert sorted(where.iterdir()) == sorted((first, second))


def test_what_is_not_ours_stays(where: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "precious").touch()
    (where / f"{PREFIX}link").symlink_to(target, target_is_directory=True)
    (where / f"{PREFIX}file").touch()
    (where / "swarm-other-1").mkdir()
    (where / f"{PREFIX}not-locked-yet.new").mkdir()
    before = sorted(where.iterdir())
    remove_orphans(where, PREFIX)
    assert sorted(where.iterdir()) == before
    assert (target / "precious").exists()


def test_a_folder_of_another_user_stays(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (where / f"{PREFIX}theirs").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    remove_orphans(where, PREFIX)
    assert (where / f"{PREFIX}theirs").is_dir()


def test_a_place_that_cannot_be_listed_is_no_error(tmp_path: Path) -> None:
    remove_orphans(tmp_path / "nowhere", PREFIX)
