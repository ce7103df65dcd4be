"""The operator's files: what fits together, one holder at a time, and what happens when the state is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from swarm.agent.client.state import load_operator, open_state
from swarm.agent.config import load_operator_config
from swarm.agent.keyfile import write_key_file
from swarm.primitives.errors import ConfigError, StoreError, StoreHeldError
from swarm.storage.store import Batch
from tests.support.commands import ROOT
from tests.support.swarms import keypair, make_genesis


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "genesis.json").write_text(make_genesis().to_json())
    write_key_file(tmp_path / "ops.key", keypair("ops").seed)
    write_key_file(tmp_path / "dev-0.key", keypair("dev-0").seed)
    write_operator(tmp_path)
    return tmp_path


def write_operator(folder: Path, *, device: str = "ops", key: str = "ops.key") -> Path:
    file = folder / "operator.yaml"
    file.write_text(
        f"genesis: genesis.json\ndevice: {device}\nkey: {key}\nbroker: {{url: mqtt://127.0.0.1:1883}}\n"
    )
    return file


def test_a_path_and_a_config_mean_the_same(folder: Path) -> None:
    file = folder / "operator.yaml"
    assert load_operator(file) == load_operator(str(file)) == load_operator(load_operator_config(file))
    operator = load_operator(file)
    assert operator.me == "ops"
    assert operator.state == folder / "ops.sqlite"
    assert operator.genesis == make_genesis()


@pytest.mark.parametrize(
    ("device", "key", "said"),
    [
        ("dev-0", "dev-0.key", "dev-0 is a voter of swarm test, not an operator (operators: ops)"),
        ("nobody", "ops.key", "nobody is no member of swarm test, not an operator (operators: ops)"),
        ("ops", "dev-0.key", "dev-0.key is not the key of ops"),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_the_file(
    folder: Path, device: str, key: str, said: str
) -> None:
    file = write_operator(folder, device=device, key=key)
    with pytest.raises(ConfigError) as caught:
        load_operator(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert str(caught.value).endswith(said)


def test_the_state_is_made_once_and_kept(folder: Path) -> None:
    operator = load_operator(folder / "operator.yaml")
    store = open_state(operator)
    store.commit(Batch(boot=store.load().boot + 1))
    store.close()
    again = open_state(operator)
    assert again.load().boot == 1
    again.close()


def test_a_second_process_is_told_who_holds_the_operator(folder: Path) -> None:
    held = open_state(load_operator(folder / "operator.yaml"))
    code = (
        "import sys\nfrom swarm.agent.client.state import load_operator, open_state\n"
        "from swarm.primitives.errors import StoreHeldError\n"
        "try: open_state(load_operator(sys.argv[1]))\nexcept StoreHeldError as error: print(error)"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder / "operator.yaml")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.count("\n") == 1
        assert "ops is in use" in done.stdout
        assert "wait for it to end" in done.stdout
        with pytest.raises(StoreHeldError):
            open_state(load_operator(folder / "operator.yaml"))
    finally:
        held.close()


def test_a_damaged_state_names_the_way_out_which_works(folder: Path) -> None:
    operator = load_operator(folder / "operator.yaml")
    open_state(operator).close()
    (folder / "ops.sqlite.mark").unlink()
    with pytest.raises(StoreError) as caught:
        open_state(operator)
    assert "remove ops.sqlite*" in str(caught.value)
    for leftover in folder.glob("ops.sqlite*"):
        leftover.unlink()
    open_state(operator).close()


def test_a_folder_that_is_gone_is_one_line(folder: Path) -> None:
    operator = load_operator(folder / "operator.yaml")
    moved = folder.with_name("moved")
    folder.rename(moved)
    with pytest.raises(StoreError, match="cannot open"):
        open_state(operator)
