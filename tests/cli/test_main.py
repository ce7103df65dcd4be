"""The command table: lazy, complete, and the same words everywhere."""

from __future__ import annotations

import subprocess

import pytest

from swarm import __version__
from swarm.cli.lazy import load_command
from swarm.cli.main import COMMANDS
from tests.support.commands import ROOT, command_line, modules_after, swarm, swarm_process

HEAVY = ("aiomqtt", "iotcore", "nacl", "numpy", "paho", "rich", "sqlite3", "yaml")
"""What no command may cost that does not need it."""

FOR_THE_LAB = {"run", "bench"}
"""Commands that may load the lab, numpy and the embedded broker."""


def heavy(modules: set[str]) -> set[str]:
    return {name for name in modules if name.split(".")[0] in HEAVY}


def test_help_lists_every_command_and_loads_none() -> None:
    code = (
        "from swarm.cli.main import main\n"
        "sys.argv = ['swarm', '--help']\n"
        "try: main()\nexcept SystemExit as stop: assert stop.code == 0, stop.code"
    )
    modules = modules_after(code)

    assert heavy(modules) == set()
    ours = {name for name in modules if name.startswith("swarm.")}
    allowed = {"swarm.cli.boundary", "swarm.cli.lazy", "swarm.cli.logs", "swarm.cli.main"}
    assert {name for name in ours if name.startswith("swarm.cli.")} == allowed
    assert {name.split(".")[1] for name in ours} == {"cli", "primitives"}

    done = swarm("--help")
    assert done.code == 0
    for name, entry in COMMANDS.items():
        assert f"  {name} " in done.out
        assert entry.summary in done.out, "the summary fits its line"


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - FOR_THE_LAB))
def test_a_device_command_loads_no_lab_no_numpy_no_broker(name: str) -> None:
    code = f"from swarm.cli.lazy import load_command; from swarm.cli.main import COMMANDS\nload_command({name!r}, COMMANDS[{name!r}])"
    modules = modules_after(code)

    assert not [module for module in modules if module.startswith("swarm.lab")]
    assert not {module for module in modules if module.split(".")[0] in {"numpy", "iotcore", "rich"}}


def commands_in_full() -> list[tuple[str, ...]]:
    return [
        (name, *sub)
        for name, entry in COMMANDS.items()
        for sub in ([()] if entry.target else [(sub,) for sub in entry.commands])
    ]


@pytest.mark.parametrize("words", commands_in_full(), ids=" ".join)
def test_every_command_works_and_takes_the_options_of_logging(words: tuple[str, ...]) -> None:
    done = swarm(*words, "--help")

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: swarm {' '.join(words)} ")
    assert "--log-level" in done.out
    assert "--log-json" in done.out


def test_a_target_that_is_missing_is_our_bug() -> None:
    for name, entry in COMMANDS.items():
        assert load_command(name, entry).name == name
        assert bool(entry.target) != bool(entry.commands)


def test_version() -> None:
    assert swarm("--version").out == f"swarm {__version__}\n"


def test_nothing_asked_for_is_answered_with_help_on_stderr() -> None:
    done = swarm()
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: swarm [OPTIONS] COMMAND")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("inti",), "No such command 'inti'. Did you mean 'init'? (see `swarm --help`)"),
        (("teleport",), "No such command 'teleport' (see `swarm --help`)"),
        (("--verbose",), "No such option: --verbose"),
        (("store",), "Missing command (see `swarm store --help`)"),
        (("init", "x"), "Missing option '--devices' (see `swarm init --help`)"),
        (
            ("init", "x", "--devices", "four"),
            "Invalid value for '--devices': must be a whole number (see `swarm init --help`)",
        ),
        (("log", "--as", "x", "--from", "-1"), "Invalid value for '--from': must be 0 or more (see"),
        (("bench", "--seconds", "ten"), "Invalid value for '--seconds': must be a number (see"),
        (
            ("run", "x", "--engine", "foo"),
            "Invalid value for '--engine': 'foo' is not one of 'sim', 'mqtt' (see `swarm run --help`)",
        ),
        (("verify",), "Missing argument 'PROOF' (see `swarm verify --help`)"),
        (("broker", "--log-level", "loud"), "Invalid value for '--log-level'"),
    ],
)
def test_a_wrong_word_is_one_line_and_exit_2(words: tuple[str, ...], line: str) -> None:
    done = swarm(*words)
    assert (done.code, done.out) == (2, "")
    assert line in done.error_line


def test_the_process_exits_with_the_code() -> None:
    done = swarm_process("inti")
    assert done.code == 2
    assert done.error_line.startswith("No such command")


def test_a_reader_that_goes_away_is_no_error() -> None:
    with subprocess.Popen(
        command_line("--help"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
