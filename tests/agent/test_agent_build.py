"""Building an agent from its folder: what does not fit is one line with the place, and no store stays locked."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from swarm.agent.agent import Agent
from swarm.agent.build import build_agent
from swarm.agent.config import load_agent_config
from swarm.agent.keyfile import write_key_file
from swarm.apps.notes import Notes
from swarm.primitives.errors import ConfigError, StoreError, StoreGoneError
from swarm.storage.mark import mark_path
from swarm.storage.sqlite import SqliteStore, create_store
from swarm.storage.store import Batch
from swarm.transport.mqtt import MqttTransport
from swarm.wire.statements import Certificate, Kind
from tests.support.agents import write_device
from tests.support.swarms import keypair, make_genesis

GENESIS = make_genesis(4, observers=1)
URL = "mqtt://127.0.0.1:1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_device(tmp_path, GENESIS, "dev-0", URL)


def build(path: Path) -> Agent:
    return build_agent(load_agent_config(path), source=path.name, random=lambda: 0.5)


def refusal(path: Path, kind: type[ConfigError | StoreError] = ConfigError) -> str:
    with pytest.raises(kind) as caught:
        build(path)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{path.parent}/", "")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def close(agent: Agent) -> None:
    agent._store.close()


def test_a_folder_becomes_an_agent_and_each_start_counts(path: Path) -> None:
    for boot in (1, 2):
        agent = build(path)
        assert (agent.me, agent.device.boot) == ("dev-0", boot)
        close(agent)


def test_a_voter_hears_every_member_and_an_observer_the_voters(tmp_path: Path, path: Path) -> None:
    for file, others in (
        (path, {"dev-1", "dev-2", "dev-3", "obs-0", "ops"}),
        (write_device(tmp_path, GENESIS, "obs-0", URL), {"dev-0", "dev-1", "dev-2", "dev-3"}),
    ):
        agent = build(file)
        assert isinstance(agent.transport, MqttTransport)
        assert {sender for sender, _ in agent.transport._senders.values()} == others
        close(agent)


def test_a_device_that_genesis_does_not_know(path: Path) -> None:
    edit(path, "device: dev-0", "device: dev-9")
    assert refusal(path).startswith("agent.yaml: device: 'dev-9' is no member of genesis.json")


def test_an_operator_runs_no_device(path: Path) -> None:
    edit(path, "device: dev-0", "device: ops")
    assert "is an operator, who runs no device" in refusal(path)


def test_the_key_of_another_member_and_of_nobody(path: Path) -> None:
    key = path.parent / "dev-0.key"
    for seed, word in ((keypair("dev-2").seed, "it is the key of dev-2"), (bytes(32), "no member of")):
        key.unlink()
        write_key_file(key, seed)
        message = refusal(path)
        assert message.startswith("agent.yaml: key: dev-0.key is not the key of dev-0: ")
        assert word in message


def test_missing_files_name_themselves(path: Path) -> None:
    (path.parent / "dev-0.key").unlink()
    assert refusal(path).startswith("dev-0.key: no such key file")
    (path.parent / "genesis.json").unlink()
    assert refusal(path).startswith("genesis.json: cannot be read")


def test_a_broken_genesis_names_its_key(path: Path) -> None:
    data = json.loads((path.parent / "genesis.json").read_text())
    data["u"] = 3
    (path.parent / "genesis.json").write_text(json.dumps(data))
    assert refusal(path).startswith("genesis.json: u: ")


def test_a_missing_store_says_what_to_do(path: Path) -> None:
    (path.parent / "dev-0.sqlite").unlink()
    with pytest.raises(StoreError) as caught:
        build(path)
    assert caught.value.hint


def test_a_store_that_another_agent_holds(path: Path) -> None:
    first = build(path)
    assert "holds dev-0.sqlite" in refusal(path, StoreError)
    close(first)
    close(build(path))


def test_the_store_of_another_swarm_or_device(path: Path) -> None:
    store = path.parent / "dev-0.sqlite"
    for swarm_id, device in ((bytes(32), "dev-0"), (GENESIS.id, "dev-1")):
        for file in path.parent.glob("dev-0.sqlite*"):
            file.unlink()
        mark_path(store).unlink(missing_ok=True)
        create_store(store, swarm_id, device, keypair(device).public)
        assert refusal(path, StoreError)


def test_a_damaged_store_and_a_lost_mark(path: Path) -> None:
    store = path.parent / "dev-0.sqlite"
    close(build(path))
    mark_path(store).unlink()
    assert refusal(path, StoreGoneError)
    with store.open("r+b") as file:
        file.write(b"no database")
    assert refusal(path, StoreError)


def test_a_mistake_in_the_file_leaves_no_store_locked(path: Path) -> None:
    edit(path, "mean: 21.0", "mien: 21.0")
    assert refusal(path).startswith("agent.yaml: behaviours[0].mien: unknown option")
    SqliteStore(path.parent / "dev-0.sqlite", swarm_id=GENESIS.id, device="dev-0").close()


def test_a_failure_after_the_store_was_opened_releases_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "swarm.agent.build.sign_presence", lambda *_: (_ for _ in ()).throw(ConfigError("no"))
    )
    assert refusal(path) == "no"
    SqliteStore(path.parent / "dev-0.sqlite", swarm_id=GENESIS.id, device="dev-0").close()


# ------------------------------------------------------------------------------ applications


class Inventory(Notes):
    """An application of a user."""

    name = "inventory"
    version = 3


class Breaks(Notes):
    """One that cannot even be made."""

    name = "inventory"

    def __init__(self) -> None:
        raise ZeroDivisionError


NOT_A_CLASS = 3


@pytest.fixture
def with_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sys.modules, "my_apps", sys.modules[__name__])
    genesis = make_genesis(4, apps=("decisions@1", "inventory@3", "notes@1"))
    path = write_device(tmp_path, genesis, "dev-0", URL)
    path.write_text(path.read_text() + "apps: {inventory: my_apps:Inventory}\n")
    return path


def test_an_application_of_the_user_is_routed(with_app: Path) -> None:
    agent = build(with_app)
    assert agent.device.ledger.router.names == ("decisions", "inventory", "notes")
    assert isinstance(agent.device.ledger.router.app("inventory"), Inventory)
    close(agent)


def test_an_application_that_genesis_alone_names_is_told_with_the_files_name(with_app: Path) -> None:
    edit(with_app, "apps: {inventory: my_apps:Inventory}", "apps: {}")
    assert refusal(with_app).startswith("genesis.json: apps: genesis names the application inventory@3")


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("apps: {}", "which this program does not have"),
        ("apps: {inventory: no_such_module:X}", "cannot import no_such_module"),
        ("apps: {inventory: my_apps:NOT_A_CLASS}", "is no class"),
        ("apps: {inventory: my_apps:Missing}", "is no class"),
        ("apps: {inventory: my_apps:Path}", "has no apply, no snapshot"),
        ("apps: {inventory: my_apps:Breaks}", "cannot be built: ZeroDivisionError"),
        ("apps: {inventory: my_apps:Notes}", "this program has notes@1"),
        ("apps: {notes: my_apps:Notes}", "is built in"),
        ("apps: {other: my_apps:Notes}", "genesis names no application 'other'"),
    ],
)
def test_applications_that_do_not_fit(with_app: Path, line: str, word: str) -> None:
    edit(with_app, "apps: {inventory: my_apps:Inventory}", line)
    message = refusal(with_app)
    assert word in message


def test_a_store_with_a_certificate_that_nobody_signed_starts_no_device(path: Path) -> None:
    store = SqliteStore(path.parent / "dev-0.sqlite", swarm_id=GENESIS.id, device="dev-0")
    forged = Certificate(
        kind=int(Kind.SKIP), epoch=0, number=1, digest=bytes(32), signatures=((0, bytes(64)), (1, bytes(64)))
    )
    store.commit(Batch(certificates=[forged]))
    store.close()
    message = refusal(path, StoreError)
    assert message.startswith("dev-0.sqlite is damaged: the certificate of kind 75 of view 1 does not hold")
