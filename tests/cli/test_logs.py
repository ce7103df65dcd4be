"""Logging of the command line: stderr, text or JSON lines, and the two options on every command."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from swarm.cli.logs import LogLevel, StderrHandler, configure_logging, with_log_options

LOGGER = logging.getLogger("swarm.test")


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level
    yield
    root.setLevel(before)
    for handler in [handler for handler in root.handlers if isinstance(handler, StderrHandler)]:
        root.removeHandler(handler)


def test_text_names_level_and_logger(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogLevel.INFO, as_json=False)
    LOGGER.info("view %d", 7)
    LOGGER.debug("unheard")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(" INFO swarm.test: view 7\n")
    assert err.count("\n") == 1


def test_json_lines_hold_extras_and_exceptions(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogLevel.DEBUG, as_json=True)
    LOGGER.warning("frame refused", extra={"reason": "bad-signature", "sender": b"\x01"})
    try:
        raise ValueError("broken")
    except ValueError:
        LOGGER.exception("unexpected")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first.pop("time") > 0
    assert first == {
        "level": "warning",
        "logger": "swarm.test",
        "message": "frame refused",
        "reason": "bad-signature",
        "sender": "b'\\x01'",
    }
    assert second["exception"].startswith("Traceback")


def test_a_second_configuration_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogLevel.INFO, as_json=False)
    configure_logging(LogLevel.ERROR, as_json=True)
    LOGGER.warning("unheard")
    LOGGER.error("once")
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "level"), [([], "WARNING"), (["--log-level", "debug"], "DEBUG"), (["--log-json"], "WARNING")]
)
def test_a_command_gets_the_options_and_keeps_its_own(words: list[str], level: str) -> None:
    seen: list[object] = []

    def command(name: Annotated[str, typer.Argument()], *, count: Annotated[int, typer.Option()] = 1) -> int:
        """Say something."""
        seen.extend((name, count, logging.getLevelName(logging.getLogger().level)))
        return 0

    app = typer.Typer()
    app.command()(with_log_options(command))
    result = CliRunner().invoke(app, ["x", "--count", "3", *words])
    assert result.exit_code == 0, result.output
    assert seen == ["x", 3, level]
