"""Files of commands: read with a cap, written with words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarm.cli.files import check_json_target, load_genesis, read_file, words_beside, write_json
from swarm.primitives.errors import ConfigError
from tests.support.swarms import make_genesis


def test_json_goes_to_a_file_or_to_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"margin": 1, "name": "Wärme", "none": None}
    write_json(data, str(tmp_path / "out.json"))
    text = (tmp_path / "out.json").read_text(encoding="utf-8")
    assert json.loads(text) == data
    assert text.endswith("}\n")
    assert "Wärme" in text

    write_json(data, "-")
    assert capsys.readouterr().out == text


def test_words_make_way_for_json_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    for target in (None, "file.json", "-"):
        print(target, file=words_beside(target))
    assert capsys.readouterr() == ("None\nfile.json\n", "-\n")


def test_json_that_cannot_be_written_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere/out\.json: cannot be written: No such file"):
        write_json({}, str(tmp_path / "nowhere" / "out.json"))


@pytest.mark.parametrize("target", ["nowhere/out.json", ".", "nul\0/x"])
def test_a_target_is_refused_before_any_work(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        check_json_target(target)
    assert caught.value.where == "--json"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", [None, "-", "out.json"])
def test_a_good_target_is_left_alone(
    target: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_json_target(target) == target
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_read_up_to_one_byte_above_its_cap(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(100))
    assert len(read_file(tmp_path / "f", 100)) == 100
    assert len(read_file(tmp_path / "f", 10)) == 11


@pytest.mark.parametrize("path", ["missing", ".", "nul\0"])
def test_a_file_that_cannot_be_read_is_a_users_mistake(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_file(tmp_path / path, 10)


def test_genesis_is_loaded_with_its_name_in_every_error(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    path.write_text(make_genesis().to_json())
    assert load_genesis(path) == make_genesis()

    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"genesis\.json"):
        load_genesis(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"genesis\.json: not JSON"):
        load_genesis(path)
