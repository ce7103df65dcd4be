"""Logging of the command line: stderr, text or JSON lines, and the two options on every command."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from swarm.cli.boundary import print_error, run_guarded
from swarm.cli.logs import (
    LogLevel,
    StderrHandler,
    configure_logging,
    tell,
    tell_error,
    with_log_options,
    words_on_stderr,
)
from tests.support.commands import swarm

LOGGER = logging.getLogger("swarm.test")


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("swarm")
    before = (root.level, ours.level)
    yield
    logging.captureWarnings(False)
    root.setLevel(before[0])
    ours.setLevel(before[1])
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
    ("words", "level"), [([], "INFO"), (["--log-level", "debug"], "DEBUG"), (["--log-json"], "INFO")]
)
def test_a_command_gets_the_options_and_keeps_its_own(words: list[str], level: str) -> None:
    seen: list[object] = []

    def command(name: Annotated[str, typer.Argument()], *, count: Annotated[int, typer.Option()] = 1) -> int:
        """Say something."""
        seen.extend((name, count, logging.getLevelName(logging.getLogger("swarm").level)))
        return 0

    app = typer.Typer()
    app.command()(with_log_options(command))
    result = CliRunner().invoke(app, ["x", "--count", "3", *words])
    assert result.exit_code == 0, result.output
    assert seen == ["x", 3, level]


def test_libraries_are_quieter_than_we_are(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogLevel.INFO, as_json=False)
    logging.getLogger("somelibrary").info("unheard")
    logging.getLogger("somelibrary").warning("heard")
    assert capsys.readouterr().err.endswith("WARNING somelibrary: heard\n")


def test_a_line_for_people_stands_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    tell("before any command")
    configure_logging(LogLevel.INFO, as_json=False)
    tell("quorum up", on_stdout=True)
    tell("100 % lost", LogLevel.WARNING)
    assert capsys.readouterr() == ("quorum up\n", "before any command\n100 % lost\n")


@pytest.mark.parametrize(
    ("level", "kept"),
    [
        (LogLevel.DEBUG, ["fine", "look", "wrong"]),
        (LogLevel.INFO, ["fine", "look", "wrong"]),
        (LogLevel.WARNING, ["look", "wrong"]),
        (LogLevel.ERROR, ["wrong"]),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_the_level_filters_lines_for_people_too(
    level: LogLevel, kept: list[str], as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(level, as_json=as_json)
    tell("fine", on_stdout=True)
    tell("look", LogLevel.WARNING)
    tell_error("wrong")
    out, err = capsys.readouterr()
    said = (out + err).splitlines()
    if as_json:
        assert out == ""
        assert [json.loads(line)["message"] for line in said] == kept
    else:
        assert [line.removeprefix("swarm: error: ") for line in said] == kept


def test_sentences_beside_json_are_told_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogLevel.INFO, as_json=True)
    out = words_on_stderr()
    print("decision", 17, file=out)
    print("\nmargin 1\ndone", file=out)
    messages = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert messages == ["decision 17", "margin 1", "done"]
    configure_logging(LogLevel.WARNING, as_json=False)
    print("unheard", file=words_on_stderr())
    assert capsys.readouterr().err == ""


def test_a_bug_is_one_object_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise KeyError("height")

    configure_logging(LogLevel.ERROR, as_json=True)
    assert run_guarded(fail) == 1
    print_error("a\nb")
    bug, line = (json.loads(text) for text in capsys.readouterr().err.splitlines())
    assert bug["message"].startswith("this is a bug in swarm")
    assert bug["exception"].startswith("Traceback")
    assert (line["level"], line["message"]) == ("error", "a b")


@pytest.mark.parametrize(
    "words",
    [
        ("agent", "nowhere.yaml", "--log-json"),
        ("agent", "--log-json"),
        ("agent", "--log-json", "--no-such-option"),
        ("broker", "--port", "70000", "--log-json", "--log-level", "error"),
    ],
)
def test_a_mistake_is_an_object_wherever_it_is_found(words: tuple[str, ...]) -> None:
    done = swarm(*words)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert json.loads(line)["level"] == "error"


def test_an_argument_that_looks_like_the_option_is_none() -> None:
    done = swarm("verify", "--no-such-option", "--", "--log-json")
    assert done.error_line.startswith("No such option")
