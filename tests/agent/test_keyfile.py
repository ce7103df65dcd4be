"""Key files: written for their owner only, and refused in every other state with the way out."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from swarm.agent.keyfile import read_key_file, write_key_file
from swarm.primitives.errors import ConfigError

SEED = bytes(range(32))


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_key_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def put(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    write_key_file(tmp_path / "dev-0.key", SEED)
    assert read_key_file(tmp_path / "dev-0.key") == SEED
    assert (tmp_path / "dev-0.key").read_bytes() == SEED.hex().encode() + b"\n"


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o277])
def test_the_mode_is_0600_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_key_file(tmp_path / "dev-0.key", SEED)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "dev-0.key").stat().st_mode) == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    write_key_file(tmp_path / "dev-0.key", SEED)
    with pytest.raises(ConfigError, match="exists already"):
        write_key_file(tmp_path / "dev-0.key", bytes(32))
    assert read_key_file(tmp_path / "dev-0.key") == SEED


def test_a_dangling_link_is_not_followed_when_writing(tmp_path: Path) -> None:
    (tmp_path / "dev-0.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="exists already"):
        write_key_file(tmp_path / "dev-0.key", SEED)
    assert not (tmp_path / "elsewhere").exists()


def test_writing_into_no_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written: No such file or directory"):
        write_key_file(tmp_path / "nowhere" / "dev-0.key", SEED)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("swarm.agent.keyfile.os.fsync", fail)
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        write_key_file(tmp_path / "dev-0.key", SEED)
    assert not (tmp_path / "dev-0.key").exists()


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_of_a_wrong_length_is_not_written(tmp_path: Path, length: int) -> None:
    with pytest.raises(ConfigError, match=f"a key is 32 bytes, got {length}"):
        write_key_file(tmp_path / "dev-0.key", bytes(length))
    assert not (tmp_path / "dev-0.key").exists()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o777])
def test_a_key_that_others_may_touch_is_refused_with_the_chmod(tmp_path: Path, mode: int) -> None:
    path = put(tmp_path / "dev-0.key", SEED.hex().encode() + b"\n", mode)
    assert refusal(path) == f"others may read this key (mode {mode:04o}) (chmod 600 {path})"
    path.chmod(0o600)
    assert read_key_file(path) == SEED


def test_a_key_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "dev-0.key", SEED.hex().encode() + b"\n")
    owner = path.stat().st_uid
    monkeypatch.setattr("swarm.agent.keyfile.os.geteuid", lambda: owner + 1)
    assert refusal(path).startswith(f"belongs to user {owner}, this process runs as {owner + 1} (chown ")


def test_a_missing_key_a_folder_and_a_pipe_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "dev-0.key") == "no such key file"
    assert refusal(tmp_path) == "is not a regular file"
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert refusal(tmp_path / "pipe") == "is not a regular file"
    (tmp_path / "file").write_bytes(b"")
    assert refusal(tmp_path / "file" / "dev-0.key") == "cannot be read: Not a directory"


def test_an_unreadable_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("swarm.agent.keyfile.os.open", refuse)
    assert refusal(tmp_path / "dev-0.key") == "cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "a key file holds 64 hex digits and a newline, this one 0 bytes"),
        (b"a" * 63, "a key file holds 64 hex digits and a newline, this one 63 bytes"),
        (b"a" * 66, "a key file holds 64 hex digits and a newline, this one more than 65 bytes"),
        (b"a" * 65, "a key file holds 64 hex digits (0-9, a-f) and a newline"),
        (b"g" * 64, "a key file holds 64 hex digits (0-9, a-f) and a newline"),
        (b"A" * 64, "a key file holds 64 hex digits (0-9, a-f) and a newline"),
        (b"\xff" * 64, "a key file holds 64 hex digits (0-9, a-f) and a newline"),
        (b" " + b"a" * 63, "a key file holds 64 hex digits (0-9, a-f) and a newline"),
    ],
)
def test_wrong_content_is_refused_and_never_shown(tmp_path: Path, content: bytes, expected: str) -> None:
    assert refusal(put(tmp_path / "dev-0.key", content)) == expected


def test_the_newline_may_be_missing(tmp_path: Path) -> None:
    assert read_key_file(put(tmp_path / "dev-0.key", SEED.hex().encode())) == SEED
