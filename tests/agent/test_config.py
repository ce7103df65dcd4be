"""`agent.yaml` and `operator.yaml`: what they say, and the one line for everything they may not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.agent.config import (
    BrokerSettings,
    Timing,
    load_agent_config,
    load_operator_config,
    parse_agent_config,
    parse_operator_config,
    read_text_file,
)
from swarm.primitives.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

AGENT = """\
genesis: genesis.json
device: dev-0
key: dev-0.key
store: dev-0.sqlite
broker: {url: mqtt://127.0.0.1:1883}
"""
OPERATOR = """\
genesis: ../genesis.json
device: ops
key: ops.key
broker: {url: mqtt://127.0.0.1:1883}
"""


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_agent_config(text, "fleet/dev-0/agent.yaml")
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix("fleet/dev-0/agent.yaml:")


@pytest.mark.parametrize("path", sorted((CONFIGS / "agents").glob("*.yaml")), ids=lambda path: str(path.name))
def test_every_agent_file_of_the_repository_is_legal(path: Path) -> None:
    config = load_agent_config(path)
    assert config.genesis == path.parent / "genesis.json"
    assert config.behaviours


def test_the_raspberry_pi_reads_its_own_temperature() -> None:
    (block,) = load_agent_config(CONFIGS / "agents" / "pi-temperature.yaml").behaviours
    assert block == {
        "subject": "temperature",
        "kind": "file",
        "path": "/sys/class/thermal/thermal_zone0/temp",
        "field": 0,
        "factor": 0.001,
    }


def test_paths_are_relative_to_the_file_and_the_rest_has_defaults() -> None:
    config = parse_agent_config(AGENT, "fleet/dev-0/agent.yaml")
    assert config.genesis == Path("fleet/dev-0/genesis.json")
    assert config.key == Path("fleet/dev-0/dev-0.key")
    assert config.store == Path("fleet/dev-0/dev-0.sqlite")
    assert config.device == "dev-0"
    assert config.broker == BrokerSettings(url="mqtt://127.0.0.1:1883")
    assert (config.behaviours, config.apps, config.timing) == (
        (),
        {},
        Timing(delta_floor_ms=50, delta_cap_ms=10_000),
    )


def test_a_full_agent_file_is_read() -> None:
    text = AGENT.replace(
        "broker: {url: mqtt://127.0.0.1:1883}",
        "broker: {url: mqtts://broker, ca: ca.crt, cert: dev-0.crt, key: /etc/tls.key, username: u, password_file: p}",
    )
    text += """\
behaviours:
  - {subject: temperature, kind: thermostat, noise: 0.4}
  - {kind: mypackage.sensors:Humidity, path: left alone}
  - {kind: csv, path: data.csv, column: value}
apps: {inventory: mypackage.inventory:Inventory}
timing: {delta_floor: 20ms, delta_cap: 5s}
"""
    config = parse_agent_config(text, Path("fleet/dev-0/agent.yaml"))
    assert config.broker == BrokerSettings(
        url="mqtts://broker",
        ca=Path("fleet/dev-0/ca.crt"),
        cert=Path("fleet/dev-0/dev-0.crt"),
        key=Path("/etc/tls.key"),
        username="u",
        password_file=Path("fleet/dev-0/p"),
    )
    assert (config.broker.tls, config.broker.host, config.broker.port) == (True, "broker", 8883)
    assert config.behaviours == (
        {"subject": "temperature", "kind": "thermostat", "noise": 0.4},
        {"kind": "mypackage.sensors:Humidity", "path": "left alone"},
        {"kind": "csv", "path": "fleet/dev-0/data.csv", "column": "value"},
    )
    assert config.apps == {"inventory": "mypackage.inventory:Inventory"}
    assert config.timing == Timing(delta_floor_ms=20, delta_cap_ms=5_000)


def test_an_operator_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "operator.yaml").write_text(OPERATOR)
    config = load_operator_config(tmp_path / "operator.yaml")
    assert config.device == "ops"
    assert config.genesis == tmp_path / ".." / "genesis.json"
    assert config.key == tmp_path / "ops.key"
    assert (config.broker.tls, config.broker.host, config.broker.port) == (False, "127.0.0.1", 1883)


def test_an_operator_has_no_store() -> None:
    with pytest.raises(ConfigError, match=r"^o\.yaml:5: store: unknown key 'store'"):
        parse_operator_config(OPERATOR + "store: x\n", "o.yaml")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("device: dev-0\n", "", "1: device: is missing"),
        ("device: dev-0\n", "devise: dev-0\n", "2: devise: unknown key 'devise' (did you mean 'device'?)"),
        ("device: dev-0", "device: Dev 0", "2: device: name 'Dev 0' is not 1 to 32 of a-z, 0-9 and '-'"),
        ("key: dev-0.key", "key: 7", "3: key: must be text, got 7"),
        ("key: dev-0.key", "key: ''", "3: key: must be a path"),
        ("key: dev-0.key", "key:", "3: key: has no value"),
        ("key: dev-0.key", "key: dev-0.key\nkey: b", "4: key: key 'key' stands twice, first in line 3"),
        ("mqtt://127.0.0.1:1883", "127.0.0.1:1883", "5: broker.url: '127.0.0.1:1883' is no broker URL"),
        ("mqtt://127.0.0.1:1883", "http://broker", "5: broker.url: 'http://broker' is no broker URL"),
        (
            "mqtt://127.0.0.1:1883",
            "mqtt://broker:99999",
            "5: broker.url: 'mqtt://broker:99999' is no broker URL",
        ),
        ("mqtt://127.0.0.1:1883", "mqtt://broker:0", "5: broker.url: 'mqtt://broker:0' is no broker URL"),
        ("mqtt://127.0.0.1:1883", "mqtt://", "5: broker.url: 'mqtt://' is no broker URL"),
        (
            "mqtt://127.0.0.1:1883",
            "mqtt://b/x",
            "5: broker.url: 'mqtt://b/x' is more than scheme, host and port",
        ),
        ("1883}", "1883, ca: ca.crt}", "5: broker.ca: 'ca' needs an mqtts:// URL"),
        ("mqtt://127.0.0.1:1883", "mqtts://b, cert: c", "5: broker.cert: 'cert' and 'key' go together"),
        ("mqtt://127.0.0.1:1883", "mqtts://b, key: c", "5: broker.key: 'cert' and 'key' go together"),
        ("1883}", "1883, password_file: p}", "5: broker.password_file: 'password_file' needs 'username'"),
        (
            "1883}",
            "1883, pasword_file: p}",
            "5: broker.pasword_file: unknown key 'pasword_file' (did you mean 'passw",
        ),
        (
            "{url: mqtt://127.0.0.1:1883}",
            "mqtt://b",
            "5: broker: must be a mapping of keys to values, got 'mqtt://b'",
        ),
    ],
)
def test_bad_input_is_refused_with_line_and_key(old: str, new: str, expected: str) -> None:
    assert AGENT.count(old) == 1
    assert refusal(AGENT.replace(old, new)).startswith(expected)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("metrics: 127.0.0.1:9101", "6: metrics: is not supported yet by this version (remove the line)"),
        ("timing: {delta_floor: 50}", "6: timing.delta_floor: must be a duration, got 50"),
        ("timing: {delta_floor: -5ms}", "6: timing.delta_floor: the duration '-5ms' is negative"),
        ("timing: {delta_floor: 0s}", "6: timing.delta_floor: must be longer than zero"),
        ("timing: {delta_floor: 20s}", "6: timing.delta_floor: delta_floor 20s is above delta_cap 10s"),
        ("timing: {floor: 20s}", "6: timing.floor: unknown key 'floor'"),
        ("apps: {inventory: Inventory}", "6: apps.inventory: 'Inventory' is not module:Class"),
        ("apps: {In_ventory: 'a:B'}", "6: apps.In_ventory: application 'In_ventory' is not 1 to 32"),
        ("behaviours: {kind: csv}", "6: behaviours: must be a list, got a mapping"),
        ("behaviours: [{noise: 0.4}]", "6: behaviours[0].kind: is missing"),
        (
            "behaviours: [{kind: 'Thermo Stat'}]",
            "6: behaviours[0].kind: 'Thermo Stat' is neither a built-in kind",
        ),
        ("behaviours: [{kind: csv, subject: A b}]", "6: behaviours[0].subject: subject 'A b' is not 1 to 32"),
        ("behaviours: [{kind: csv, seed: 4}]", "6: behaviours[0].seed: 'seed' is reserved"),
        ("behaviours: [{kind: csv, device: x}]", "6: behaviours[0].device: 'device' is reserved"),
        (
            "behaviours: [{kind: csv, rows: [1]}]",
            "6: behaviours[0].rows: must be text, a number, true or false, got",
        ),
        (f"behaviours: [{', '.join(['{kind: csv}'] * 65)}]", "6: behaviours: more than 64 behaviours"),
    ],
)
def test_bad_optional_keys_are_refused_with_line_and_key(line: str, expected: str) -> None:
    assert refusal(AGENT + line + "\n").startswith(expected)


def test_a_login_in_the_url_is_refused_and_not_repeated() -> None:
    message = refusal(AGENT.replace("mqtt://127.0.0.1", "mqtt://me:secret@127.0.0.1"))
    assert message == "5: broker.url: a broker URL holds no login (use username and password_file)"


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    def reading(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            load_agent_config(path)
        return str(caught.value)

    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    assert (
        reading(tmp_path / "none.yaml") == f"{tmp_path}/none.yaml: cannot be read: No such file or directory"
    )
    assert reading(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"
    assert reading(tmp_path / "latin.yaml") == f"{tmp_path}/latin.yaml: is not YAML: it is no UTF-8 text"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_text_file("a\0b")
