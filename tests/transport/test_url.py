"""Broker addresses: what is accepted, and that every refusal names the place and keeps the secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.primitives.errors import ConfigError
from swarm.transport.url import BrokerUrl, parse_broker


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("mqtt://127.0.0.1:1884", "127.0.0.1", 1884, False),
        ("mqtt://broker", "broker", 1883, False),
        ("mqtts://broker.example", "broker.example", 8883, True),
        ("mqtts://broker:1234/", "broker", 1234, True),
        ("mqtt://[::1]:1883", "::1", 1883, False),
    ],
)
def test_good_urls(url: str, host: str, port: int, tls: bool) -> None:
    broker = parse_broker(url)
    assert (broker.host, broker.port, broker.tls) == (host, port, tls)


def test_the_address_for_people_can_be_parsed_again() -> None:
    for url in ("mqtt://[::1]:1883", "mqtts://broker:8883"):
        assert str(parse_broker(url)) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "broker",
        "broker:1883",
        "http://broker",
        "tcp://broker:1883",
        "mqtt://",
        "mqtt://:1883",
        "mqtt://broker:0",
        "mqtt://broker:65536",
        "mqtt://broker:many",
        "mqtt://broker/path",
        "mqtt://broker?x=1",
        "mqtt://broker#x",
        "mqtt://bro ker",
        "mqtt://[::1",
    ],
)
def test_bad_urls_name_the_place_and_the_form(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_broker(url, where="agent.yaml: broker")
    assert caught.value.where == "agent.yaml: broker"
    assert "mqtt://HOST:PORT" in caught.value.hint


def test_a_password_in_the_url_is_refused_without_repeating_it() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_broker("mqtt://joe:hunter2@broker")
    assert "hunter2" not in str(caught.value)
    assert "password_file" in caught.value.hint


def secret(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "password"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_the_password_is_read_and_shown_nowhere(tmp_path: Path) -> None:
    broker = parse_broker("mqtt://broker", username="joe", password_file=secret(tmp_path, b"hunter2\n"))
    assert broker.password == "hunter2"
    assert "hunter2" not in repr(broker)
    assert "hunter2" not in str(broker)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_password_file_open_to_others_is_refused_with_the_way_out(tmp_path: Path, mode: int) -> None:
    path = secret(tmp_path, b"hunter2", mode)
    with pytest.raises(ConfigError) as caught:
        parse_broker("mqtt://broker", username="joe", password_file=path)
    assert caught.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b"\xff\xfe", b"x" * 5000])
def test_a_password_file_without_a_password_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError):
        parse_broker("mqtt://broker", username="joe", password_file=secret(tmp_path, content))


def test_combinations_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    path = secret(tmp_path, b"x")
    with pytest.raises(ConfigError, match="mqtts"):
        parse_broker("mqtt://broker", ca=path)
    with pytest.raises(ConfigError, match="belong together"):
        parse_broker("mqtts://broker", cert=path)
    with pytest.raises(ConfigError, match="username"):
        parse_broker("mqtt://broker", password_file=path)
    with pytest.raises(ConfigError, match="cannot read"):
        parse_broker("mqtt://broker", username="joe", password_file=tmp_path / "none")
    with pytest.raises(ConfigError, match="TLS files"):
        parse_broker("mqtts://broker", ca=tmp_path / "none")
    with pytest.raises(ConfigError, match="TLS files"):
        parse_broker("mqtts://broker", ca=path)


def test_a_broker_url_is_a_value() -> None:
    assert parse_broker("mqtt://b") == BrokerUrl(host="b", port=1883)
