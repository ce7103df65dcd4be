"""What each kind of error becomes: words, exit code, and a traceback only for a bug."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest
import typer

from swarm.cli.boundary import CommandFailed, print_error, run_guarded
from swarm.primitives.errors import (
    ConfigError,
    DecodeError,
    InvariantError,
    ProofError,
    StoreError,
    StoreGoneError,
    SwarmError,
    TransportError,
)


def raising(error: BaseException) -> Callable[[], NoReturn]:
    def command() -> NoReturn:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("is missing", where="agent.yaml: key", hint="add it"), 2),
        (StoreError("store held", hint="stop that agent"), 2),
        (StoreGoneError("store is gone"), 2),
        (TransportError("the broker cannot be reached"), 2),
        (DecodeError("malformed"), 2),
        (SwarmError("anything else"), 2),
        (ProofError("signature does not fit"), 1),
        (CommandFailed("no quorum within 60 s"), 1),
    ],
)
def test_an_expected_error_is_one_line(
    error: SwarmError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_guarded(raising(error)) == code
    assert capsys.readouterr() == ("", f"swarm: error: {error}\n")


@pytest.mark.parametrize("error", [InvariantError("two certificates"), KeyError("height"), RecursionError()])
def test_a_bug_keeps_its_traceback_and_says_so(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_guarded(raising(error)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1].startswith("swarm: error: this is a bug in swarm")
    assert type(error).__name__ in lines[-1]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), typer.Abort()])
def test_an_interrupt_says_nothing(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_guarded(raising(error)) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("errors", "code", "last"),
    [
        ([StoreError("first"), TransportError("second")], 2, "swarm: error: first"),
        ([KeyboardInterrupt(), ProofError("first")], 1, "swarm: error: first"),
        ([BaseExceptionGroup("inner", [CommandFailed("deep")])], 1, "swarm: error: deep"),
        ([InvariantError("broken"), ConfigError("mistake")], 1, "swarm: error: this is a bug in swarm"),
        ([ValueError("broken")], 1, "swarm: error: this is a bug in swarm"),
    ],
)
def test_a_group_of_errors_is_answered_by_its_worst(
    errors: list[BaseException], code: int, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_guarded(raising(BaseExceptionGroup("tasks", errors))) == code
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(last)
    assert (len(lines) == 1) == ("bug" not in last), "a traceback for a bug, one line for all else"


def test_a_group_of_interrupts_is_an_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_guarded(raising(BaseExceptionGroup("tasks", [KeyboardInterrupt()]))) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (1, 1), ("words", 0)])
def test_a_command_may_return_its_code(result: object, code: int) -> None:
    assert run_guarded(lambda: result) == code


def test_exit_is_taken_as_it_is() -> None:
    assert run_guarded(raising(typer.Exit(3))) == 3


def test_a_message_of_several_lines_is_printed_on_one(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("not YAML:\n  expected ','\n\tgot '}'")
    assert capsys.readouterr().err == "swarm: error: not YAML: expected ',' got '}'\n"


def test_what_a_file_held_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("is damaged: table \x07\x1b[31m\u202e\udcff grün")
    assert capsys.readouterr().err == "swarm: error: is damaged: table \\x07\\x1b[31m\\u202e\\udcff grün\n"
