"""`swarm init --firmware` and `--app`: release keys, set-up device folders, applications in genesis."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
import yaml

from swarm.agent.config import load_agent_config, load_operator_config
from swarm.agent.keyfile import read_key_file
from swarm.cli.firmware.program import program_bundle, program_files
from swarm.cli.firmware.release_file import load_release
from swarm.crypto.keys import KeyPair
from swarm.install.directory import DirectoryBackend
from swarm.install.filesystem import RealFileSystem
from swarm.install.identity import class_id, vendor_id
from swarm.install.port import SlotState
from swarm.install.selection import choose_slot
from swarm.wire.genesis import Genesis, parse_genesis
from tests.support.commands import swarm


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def genesis_in(folder: str) -> Genesis:
    return parse_genesis((Path(folder) / "genesis.json").read_text())


def test_firmware_makes_release_keys_that_genesis_names() -> None:
    done = swarm("init", "fleet", "--devices", 4, "--firmware", "2/3")
    assert (done.code, done.err) == (0, "")
    genesis = genesis_in("fleet")
    assert genesis.apps == ("decisions@1", "notes@1", "rollout@1")
    assert genesis.release is not None
    assert genesis.release.k == 2
    keys = []
    for number in range(3):
        path = Path("fleet/release") / f"release-{number}.key"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        public = KeyPair(read_key_file(path)).public
        assert path.with_suffix(".pub").read_text() == f"{public.hex()}\n"
        keys.append(public)
    assert sorted(keys) == list(genesis.release.keys)
    assert stat.S_IMODE(Path("fleet/release").stat().st_mode) == 0o700


def test_every_device_starts_from_a_sealed_slot_with_this_program() -> None:
    assert swarm("init", "fleet", "--devices", 2, "--observers", 1, "--firmware", "1/1").code == 0
    genesis = genesis_in("fleet")
    release = load_release(Path("fleet/release/1.swfw"), genesis.id)
    assert release.image == program_bundle()
    assert genesis.release is not None
    assert release.signed_by(genesis.release.keys) == 1
    vendor = vendor_id("swarm.example")
    for id in ("dev-0", "dev-1", "obs-0"):
        root = f"fleet/{id}/install"
        disk = RealFileSystem()
        assert choose_slot(disk, root).slot == "a"
        backend = DirectoryBackend(
            disk, root, booted="a", vendor=vendor, device_class=class_id(vendor, "agent")
        )
        status = backend.status()
        assert status.running.state is SlotState.CONFIRMED
        assert (status.running.number, status.running.release) == (1, release.id)
        assert status.settled
    assert not Path("fleet/operator/install").exists()


def test_agent_yaml_says_what_kind_of_device_it_is() -> None:
    swarm("init", "fleet", "--devices", 1, "--firmware", "1/2", "--class", "acme.example/gateway")
    settings = yaml.safe_load(Path("fleet/dev-0/agent.yaml").read_text())
    read = load_agent_config("fleet/dev-0/agent.yaml").firmware
    assert read is not None
    assert (read.vendor, read.device_class) == (vendor_id("acme.example"), class_id(read.vendor, "gateway"))
    assert settings["firmware"] == {
        "backend": "directory",
        "root": "install",
        "vendor": "acme.example",
        "class": "gateway",
        "approve": 1,
        "obey_halt": True,
    }


def test_it_prints_lines_that_start_the_launchers() -> None:
    done = swarm("init", "my fleet", "--devices", 2, "--firmware", "1/1")
    assert "my fleet/release: 1 release keys, 1 of them sign a release;" in done.out
    starts = re.findall(r"^\S*python\S* -I '(.*)' --root '(.*)' -- agent '(.*)'$", done.out, re.MULTILINE)
    assert starts == [
        (f"my fleet/{id}/launch.pyz", f"my fleet/{id}/install", f"my fleet/{id}/agent.yaml")
        for id in ("dev-0", "dev-1")
    ]
    assert all(Path(word).exists() for line in starts for word in line)
    assert "\nswarm firmware status --as 'my fleet/operator/operator.yaml'\n" in done.out


def test_without_firmware_nothing_of_it_is_there() -> None:
    done = swarm("init", "fleet", "--devices", 1)
    assert "firmware" not in done.out
    assert genesis_in("fleet").release is None
    assert "firmware" not in Path("fleet/dev-0/agent.yaml").read_text()


def test_a_release_is_the_agent_and_no_more() -> None:
    files = program_files()
    assert "swarm/cli/main.py" in files
    assert "swarm/storage/schema/0001_initial.sql" in files
    assert not [name for name in files if "/lab/" in name or "__pycache__" in name]


def test_an_own_application_is_in_genesis_and_in_every_agent_yaml() -> None:
    done = swarm(
        "init", "fleet", "--devices", 2, "--app", "inventory=mypackage.inventory:Inventory", "--app", "doors@2"
    )  # fmt: skip
    assert done.code == 0, done.err
    assert genesis_in("fleet").apps == ("decisions@1", "doors@2", "inventory@1", "notes@1")
    for id in ("dev-0", "dev-1"):
        settings = yaml.safe_load(Path(f"fleet/{id}/agent.yaml").read_text())
        assert settings["apps"] == {"inventory": "mypackage.inventory:Inventory"}
    # Whoever replays the log needs them too.
    operator = load_operator_config("fleet/operator/operator.yaml")
    assert operator.apps == {"inventory": "mypackage.inventory:Inventory"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--firmware", "3/2"), "--firmware: 3 of 2 keys cannot sign"),
        (("--firmware", "0/2"), "--firmware: 0 of 2 keys cannot sign"),
        (("--firmware", "2/17"), "--firmware: 1 to 16 keys sign releases, 17 given"),
        (("--firmware", "two of three"), "--firmware: 'two of three' is not K/N"),
        (("--firmware", "1/1", "--class", "gateway"), "--class: 'gateway' is not VENDOR/CLASS"),
        (("--firmware", "1/1", "--class", "Acme.example/x"), "--class: 'Acme.example' has capital letters"),
        (("--app", "Inventory"), "--app: 'Inventory' is no application"),
        (("--app", "inventory@0"), "--app: 'inventory@0' is no application"),
        (("--app", "notes"), "--app: 'notes' is built in (leave it out, it is there anyway)"),
        (("--app", "rollout"), "--app: 'rollout' is built in (use --firmware K/N)"),
        (("--app", "a", "--app", "a=b:C"), "--app: 'a' is named twice"),
    ],
)
def test_bad_input_is_one_line_and_makes_nothing(words: tuple[str, ...], line: str) -> None:
    done = swarm("init", "fleet", "--devices", 2, *words)
    assert (done.code, done.out) == (2, "")
    assert done.error_line.startswith(line)
    assert list(Path().iterdir()) == []
