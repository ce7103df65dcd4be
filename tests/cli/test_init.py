"""`swarm init`: everything a swarm needs, in its place with its permissions, or nothing at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.agent.config import load_agent_config, load_operator_config
from swarm.agent.keyfile import read_key_file
from swarm.behaviours.behaviour import BehaviourContext
from swarm.behaviours.loader import load_behaviours
from swarm.cli import init as init_module
from swarm.cli.init import broker_command, read_budget
from swarm.crypto.keys import KeyPair
from swarm.primitives.errors import StoreError
from swarm.primitives.quorum import Budget
from swarm.storage.sqlite import SqliteStore
from swarm.wire.genesis import Genesis, parse_genesis
from tests.support.commands import swarm

GOLDEN = """\
swarm fleet (<id>): 4 voters, 1 operator; n=4 u=1 r=1 q=3: up to 1 voter may fail or be silent; \
up to 1 voter may lie without breaking agreement; 2 liars can break it
  u = 1: so many voters may fail in any way while decisions go on
  r = 1: so many voters may lie without two devices ever disagreeing
  q = 3: so many votes decide, and so many voters must be up

fleet/genesis.json: who belongs to the swarm; goes to everybody who shall verify proofs
fleet/dev-0 ... fleet/dev-3: one device each, with agent.yaml, key, sealed store and its own genesis.json;
  move such a folder to its machine, never run it twice and never bring back an old copy
fleet/operator: yours, to open decisions and to ask; with operator.yaml and key

Each agent.yaml has a thermostat as an example. It senses 21.0 with a small bias of the device
(-0.2 to 0.2) and noise (0.4), so their median comes out near 21.0.

Now, each line in a terminal of its own:

swarm broker
swarm agent fleet/dev-0/agent.yaml
swarm agent fleet/dev-1/agent.yaml
swarm agent fleet/dev-2/agent.yaml
swarm agent fleet/dev-3/agent.yaml
swarm decide temperature --rule median --scale 2 --as fleet/operator/operator.yaml
"""


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o002)
    yield
    os.umask(before)


def genesis_in(folder: str) -> Genesis:
    return parse_genesis((Path(folder) / "genesis.json").read_text())


def here(folder: str = ".") -> list[str]:
    """Return all names in a folder, hidden ones too."""
    return [path.name for path in Path(folder).iterdir()]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_prints_what_is_there_and_how_to_go_on() -> None:
    done = swarm("init", "fleet", "--devices", 4)
    assert (done.code, done.err) == (0, "")
    assert done.out == GOLDEN.replace("<id>", genesis_in("fleet").id[:4].hex())


def test_every_folder_is_complete_and_belongs_to_genesis() -> None:
    assert swarm("init", "fleet", "--devices", 4, "--observers", 2, "--budget", "crash").code == 0
    genesis = genesis_in("fleet")
    assert genesis.swarm == "fleet"
    assert (genesis.u, genesis.voter_ids) == (1, ("dev-0", "dev-1", "dev-2", "dev-3"))
    assert [member.id for member in genesis.observers] == ["obs-0", "obs-1"]
    assert [member.id for member in genesis.operators] == ["operator"]

    biases = []
    for member in (*genesis.voters, *genesis.observers):
        config = load_agent_config(Path("fleet") / member.id / "agent.yaml")
        assert parse_genesis(config.genesis.read_text()) == genesis
        assert config.device == member.id
        assert KeyPair(read_key_file(config.key)).public == member.key
        assert config.broker.url == "mqtt://127.0.0.1:1883"
        context = BehaviourContext(device=member.id, seed=1, simulated=False, now_ms=0)
        assert len(load_behaviours(config.behaviours, context).for_subject("temperature")) == 1
        biases.append(config.behaviours[0]["bias"])
        store = SqliteStore(config.store, swarm_id=genesis.id, device=member.id, key_public=member.key)
        assert store.load().log_size == 0
        store.close()
    assert len(set(biases[:4])) == 4, "small differences between the devices"

    operator = load_operator_config("fleet/operator/operator.yaml")
    assert parse_genesis(operator.genesis.read_text()) == genesis
    found = genesis.member(operator.device)
    assert found is not None
    assert KeyPair(read_key_file(operator.key)).public == found.key


def test_only_the_owner_may_look_in() -> None:
    assert swarm("init", "fleet", "--devices", 2).code == 0
    folders = [path for path in Path("fleet").rglob("*") if path.is_dir()]
    assert len(folders) == 3
    assert {mode(path) for path in (Path("fleet"), *folders)} == {0o700}
    keys = list(Path("fleet").rglob("*.key"))
    assert len(keys) == 3
    assert {mode(key) for key in keys} == {0o600}


def test_a_folder_can_be_moved_to_another_place(tmp_path: Path) -> None:
    assert swarm("init", "fleet", "--devices", 1).code == 0
    for file in Path("fleet").rglob("*.yaml"):
        assert str(tmp_path) not in file.read_text()
        assert "fleet" not in file.read_text()
    Path("fleet/dev-0").rename("elsewhere")
    config = load_agent_config("elsewhere/agent.yaml")
    assert all(path.exists() for path in (config.genesis, config.key, config.store))


def test_two_swarms_share_no_key() -> None:
    for name in ("a", "b"):
        assert swarm("init", name, "--devices", 3).code == 0
    first, second = ({member.key for member in genesis_in(name).members} for name in ("a", "b"))
    assert len(first) == len(second) == 4
    assert not first & second


# ------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--devices", 0), "--devices: a swarm needs at least one voter, 0 given"),
        (("--devices", -1), "--devices: a swarm needs at least one voter, -1 given"),
        (("--devices", 257), "--devices: at most 256 voters, 257 given"),
        (("--devices", 4, "--observers", -1), "--observers: must be 0 to 4091, -1 given"),
        (("--devices", 4, "--observers", 10**9), "--observers: must be 0 to 4091, 1000000000 given"),
        (
            ("--devices", 4, "--budget", "u=2"),
            "--budget: u = 2 with n = 4 voters gives r = n - 2u - 1 = -1; both must be >= 0 (u may be 0 to 1)",
        ),
        (("--devices", 4, "--budget", "u=-1"), "--budget: u = -1 with n = 4 voters"),
        (("--devices", 4, "--budget", "balancd"), "unknown budget 'balancd' (did you mean 'balanced'?)"),
        (("--devices", 4, "--budget", "u=x"), "--budget: unknown budget 'u=x'"),
        (("--devices", 4, "--name", "Green House"), "--name: swarm 'Green House' is not 1 to 32 of a-z"),
        (("--devices", 4, "--broker", "localhost:1883"), "--broker: 'localhost:1883' is no broker URL"),
        (("--devices", 4, "--broker", "mqtt://me:secret@host"), "--broker: a broker URL holds no login"),
    ],
)
def test_bad_input_is_one_line_and_makes_nothing(words: tuple[object, ...], line: str) -> None:
    done = swarm("init", "fleet", *words)
    assert (done.code, done.out) == (2, "")
    assert line in done.error_line
    assert "secret" not in done.err
    assert here() == []


def test_an_existing_folder_is_never_touched() -> None:
    assert swarm("init", "fleet", "--devices", 1).code == 0
    before = {path: path.read_bytes() for path in Path("fleet").rglob("*") if path.is_file()}
    done = swarm("init", "fleet", "--devices", 1)
    assert done.code == 2
    assert (
        done.error_line == "fleet: exists and is not empty (choose another name; nothing is ever overwritten)"
    )
    assert {path: path.read_bytes() for path in Path("fleet").rglob("*") if path.is_file()} == before


def test_an_empty_folder_is_taken() -> None:
    Path("fleet").mkdir(mode=0o755)
    assert swarm("init", "fleet", "--devices", 1).code == 0
    assert mode(Path("fleet")) == 0o700


@pytest.mark.parametrize(
    ("directory", "line"),
    [
        ("a-file", "a-file: exists and is no folder"),
        (".", ".: is the current folder"),
        ("no/where", "no/where: there is no folder no (make it first)"),
        ("a-file/fleet", "a-file/fleet: there is no folder a-file"),
        ("x" * 300, "cannot be used: "),
    ],
)
def test_a_place_that_cannot_be_used(
    tmp_path: Path, directory: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "a-file").touch() if directory != "." else None
    monkeypatch.chdir(tmp_path / "inside")
    done = swarm("init", directory, "--devices", 1)
    assert (done.code, done.out) == (2, "")
    assert line in done.error_line
    assert set(here()) <= {"a-file"}


@pytest.mark.parametrize(
    ("error", "code"),
    [(StoreError("the disk is full"), 2), (OSError(28, "No space left"), 2), (KeyboardInterrupt(), 130)],
)
def test_what_fails_half_way_leaves_nothing(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def failing_at_the_third(path: Path, *_identity: object) -> None:
        if len(made) == 2:
            raise error
        made.append(path)

    monkeypatch.setattr(init_module, "create_store", failing_at_the_third)
    done = swarm("init", "fleet", "--devices", 4)
    assert done.code == code
    assert len(made) == 2
    assert here() == []
    assert "Traceback" not in done.err


def test_a_folder_that_somebody_fills_meanwhile_is_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def somebody_is_faster(*_identity: object) -> None:
        Path("fleet").mkdir()
        Path("fleet/notes.txt").write_text("mine")

    monkeypatch.setattr(init_module, "create_store", somebody_is_faster)
    done = swarm("init", "fleet", "--devices", 1)
    assert done.code == 2
    assert "cannot be written" in done.error_line
    assert here() == ["fleet"]
    assert here("fleet") == ["notes.txt"]


# ------------------------------------------------------------------------------------------ words


@pytest.mark.parametrize(
    ("directory", "name"),
    [("fleet", "fleet"), ("Green_House 2", "green-house-2"), ("___", "swarm"), ("x" * 40, "x" * 32)],
)
def test_a_swarm_is_named_after_its_folder(directory: str, name: str) -> None:
    assert swarm("init", directory, "--devices", 1).code == 0
    assert genesis_in(directory).swarm == name


def test_the_printed_lines_can_be_pasted_whatever_the_folder_is_called() -> None:
    done = swarm("init", "my fleet", "--devices", 1, "--name", "lab")
    assert "\nswarm agent 'my fleet/dev-0/agent.yaml'\n" in done.out
    assert "--as 'my fleet/operator/operator.yaml'\n" in done.out
    assert done.out.startswith("swarm lab (")


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("mqtt://127.0.0.1:1883", "swarm broker"),
        ("mqtt://localhost", "swarm broker"),
        ("mqtt://127.0.0.1:1884", "swarm broker --port 1884"),
        ("mqtt://192.168.1.10:1883", None),
        ("mqtts://localhost:8883", None),
    ],
)
def test_the_embedded_broker_is_offered_where_it_can_be(url: str, command: str | None) -> None:
    assert broker_command(url) == command


def test_a_broker_of_ones_own_is_named_instead_of_started() -> None:
    done = swarm("init", "fleet", "--devices", 1, "--broker", "mqtt://192.168.1.10:1883")
    assert "swarm broker" not in done.out
    assert "Now start the broker at mqtt://192.168.1.10:1883" in done.out
    assert load_agent_config("fleet/dev-0/agent.yaml").broker.url == "mqtt://192.168.1.10:1883"
    assert load_operator_config("fleet/operator/operator.yaml").broker.url == "mqtt://192.168.1.10:1883"


@pytest.mark.parametrize("text", ["{u: 2}", "{u:2}", "{ u : 2 }", "u=2"])
def test_an_explicit_budget_may_stand_as_in_a_scenario_file(text: str) -> None:
    assert read_budget(7, text) == Budget(7, 2)


def test_a_budget_without_lies_says_so() -> None:
    done = swarm("init", "fleet", "--devices", 3, "--budget", "crash")
    assert "r = 0: so many voters may lie" in done.out
    assert "one lying voter can break agreement" in done.out
