"""The lines between supervisor and worker: every message comes back as it was, anything else is a bug."""

from __future__ import annotations

import pytest

from swarm.lab.processes.pipe import (
    AskStatus,
    Attack,
    Bye,
    Command,
    Failed,
    Happened,
    Impair,
    Offline,
    Ready,
    Report,
    Start,
    Status,
    Stop,
    Submit,
    Weather,
    decode_command,
    decode_report,
    encode_line,
)
from swarm.lab.scenario.schema import Cut, Latency, Network, Partition
from swarm.primitives.errors import InvariantError

WEATHER = Weather(
    partition=Partition(at_ms=1, order=0, groups=(("dev-0", "dev-1"), ("dev-2",))),
    cuts=(Cut(at_ms=2, order=1, sender="dev-0", receivers=("dev-2",)),),
)
STATUS = Status(view=3, height=2, log_size=5, log_root=bytes(range(32)), pending=1, delivered=9, dropped=4)
COMMANDS: list[Command] = [
    Start(
        config="dev-0.yaml",
        network=Network(latency=Latency(median_ms=15, p99_ms=120), loss_ppm=7),
        seed=2**63 + 1,
        behaviour_seed=2**64 - 1,
        weather=WEATHER,
        attack="silent",
    ),
    Impair(weather=WEATHER),
    Attack(name="silent"),
    Submit(commands=(("notes", b"\x00\xff\n"), ("decisions", b""))),
    AskStatus(),
    Stop(),
]
REPORTS: list[Report] = [
    Ready(),
    Offline(reason="a\nb"),
    Happened(event={"kind": "entered", "at_ms": 3, "data": {"view": 4}}),
    STATUS,
    Failed(kind="ConfigError", message="m", where="w", hint="h"),
    Bye(status=STATUS),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_a_command_is_one_line_and_comes_back(command: Command) -> None:
    line = encode_line(command)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode_command(line) == command


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: type(report).__name__)
def test_a_report_is_one_line_and_comes_back(report: Report) -> None:
    line = encode_line(report)
    assert line.count(b"\n") == 1
    assert decode_report(line) == report


@pytest.mark.parametrize(
    "line", [b"\n", b"{}\n", b'{"is":"dance"}\n', b'{"is":"submit"}\n', b"\xff\n", b"12\n"]
)
def test_anything_else_is_a_bug(line: bytes) -> None:
    with pytest.raises(InvariantError):
        decode_command(line)
    with pytest.raises(InvariantError):
        decode_report(line)
