"""`swarm decide`, `submit`, `status` and `log` against real agents, and their words when there are none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import swarm, swarm_process
from tests.support.running_swarm import RunningSwarm, running_swarm

pytestmark = [pytest.mark.broker, pytest.mark.processes]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSwarm]:
    with running_swarm(tmp_path_factory.mktemp("commands")) as running:
        yield running


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSwarm]:
    """Run a swarm of which one voter of four is up."""
    with running_swarm(tmp_path_factory.mktemp("alone"), up=("dev-0",)) as running:
        yield running


def test_decide_prints_the_outcome_and_writes_a_proof_that_verifies(up: RunningSwarm, tmp_path: Path) -> None:
    proof = tmp_path / "temperature.proof"
    done = swarm(
        "decide", "temperature", "--rule", "median", "--scale", 2, "--as", up.operator, "--proof", proof
    )
    assert done.code == 0, done.err
    assert done.err == ""
    lines = done.out.splitlines()
    assert lines[0].startswith("decision ")
    assert lines[1].startswith("temperature = ")
    assert lines[2].startswith("  dev-")
    assert "margin of this outcome: 1 lying ballot" in lines
    assert any(line.startswith("the log itself: n=4 u=1 r=1 q=3") for line in lines)

    checked = swarm("verify", proof, "--genesis", up.genesis)
    assert checked.code == 0
    assert lines[1] in checked.out


def test_decide_writes_json_and_words_apart(up: RunningSwarm) -> None:
    done = swarm(
        "decide", "door", "--rule", "median", "--eligible", "operator", "--value", "3",
        "--as", up.operator, "--json", "-",
    )  # fmt: skip
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert (result["outcome"], result["words"]) == (3, "3")
    assert result["ballots"] == {"operator": 3}
    assert result["ballot_counted"] is True
    assert result["opened_by"] == "operator"
    assert done.err.startswith("decision ")


def test_a_question_that_every_device_would_refuse_is_bad_input(up: RunningSwarm) -> None:
    """Exit 2 before anything is signed: the log keeps no junk."""
    cases = (
        (("--rule", "guess"), "rule: unknown rule 'guess' (known: majority, median)"),
        (("--rule", "plurality", "--options", "a,b"), "rule: rule plurality is not supported yet"),
        (("--rule", "majority", "--options", "a"), "rule: a decision has at least 2 options"),
        (("--rule", "majority", "--options", "a,a"), "rule: an option is listed twice"),
        (("--rule", "median", "--options", "a,b"), "rule: rule median is for numbers"),
        (("--rule", "median", "--deadline", "0s"), "deadline"),
    )
    for words, message in cases:
        done = swarm("decide", "temperature", *words, "--as", up.operator)
        assert done.code == 2, (words, done.err)
        assert message in done.err


def test_submit_takes_text_and_files(up: RunningSwarm, tmp_path: Path) -> None:
    file, proof = tmp_path / "note", tmp_path / "note.proof"
    file.write_bytes(b"\x00\xff")
    done = swarm(
        "submit", "--file", file, "--as", up.operator, "--proof", proof, "--json", tmp_path / "out.json"
    )
    assert done.code == 0, done.err
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["commands"] == [{"app": "notes", "body": "00ff"}]
    assert proof.read_bytes().hex() == result["proof"]
    assert f"entry {result['position']} of the log" in done.out
    assert swarm("submit", "hello", "--as", up.operator).code == 0


def test_the_log_is_printed_verified_and_any_entry_proved(up: RunningSwarm, tmp_path: Path) -> None:
    swarm("submit", "first", "--as", up.operator)
    done = swarm("log", "--as", up.operator, "--json", "-")
    assert done.code == 0, done.err
    log = json.loads(done.out)
    assert [entry["position"] for entry in log["entries"]] == list(range(log["log_size"]))

    part = swarm("log", "--as", up.operator, "--from", 1, "--count", 2)
    assert [line.split()[0] for line in part.out.splitlines()] == ["1", "2"]
    proof = tmp_path / "entry.proof"
    proved = swarm("log", "--as", up.operator, "--proof", 1, proof)
    assert proved.code == 0, proved.err
    checked = swarm("verify", proof, "--genesis", up.genesis, "--json", "-")
    assert json.loads(checked.out)["position"] == 1


@pytest.mark.parametrize("words", [("--from", "9999"), ("--proof", "9999", "x.proof")])
def test_a_position_beyond_the_end_is_told_and_not_waited_for(
    up: RunningSwarm, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    swarm("submit", "one", "--as", up.operator)
    done = swarm("log", *words, "--as", up.operator, "--timeout", "60s")
    assert (done.code, done.out) == (1, "")
    assert done.error_line.startswith("there is no entry 9999: the log has ")
    assert done.error_line.endswith(" entries, as 4 voters claim")


def test_follow_goes_on_with_what_comes(up: RunningSwarm) -> None:
    swarm("submit", "one", "--as", up.operator)
    done = swarm("log", "--follow", "--count", 2, "--as", up.operator)
    assert done.code == 0
    assert done.out.count("\n") == 2


def test_status_calls_claims_claims(up: RunningSwarm) -> None:
    done = swarm("status", "--as", up.operator, "--json", "-")
    assert done.code == 0
    assert "claims about itself" in done.err
    result = json.loads(done.out)
    assert result["voters_up"] == 4
    assert result["quorum"] is True
    assert set(result["claims"]) == {"dev-0", "dev-1", "dev-2", "dev-3"}


# ------------------------------------------------------------------------------ when it cannot be done


def test_without_a_quorum_it_says_what_is_missing_and_gives_up(alone: RunningSwarm) -> None:
    done = swarm_process(
        "decide", "temperature", "--rule", "median", "--timeout", "5s", "--as", alone.operator
    )
    assert done.code == 1
    missing = "1 of 4 voters answer, a quorum is 3; no answer from dev-1, dev-2, dev-3"
    waiting, error = done.err.splitlines()
    assert waiting == f"waiting: {missing}"
    assert error.startswith(f"swarm: error: not proved within 5 s: {missing}")


def test_status_without_a_quorum_is_exit_1(alone: RunningSwarm) -> None:
    done = swarm("status", "--timeout", "500ms", "--as", alone.operator)
    assert done.code == 1
    assert "1 of 4 voters answer" in done.out
    assert "no answer" in done.out
    assert done.error_line.startswith("no quorum: ")


def test_without_a_broker_the_broker_is_named(tmp_path: Path) -> None:
    swarm("init", tmp_path / "s", "--devices", 1, "--broker", "mqtt://127.0.0.1:1")
    operator = tmp_path / "s" / "operator" / "operator.yaml"
    done = swarm("log", "--timeout", "500ms", "--as", operator)
    assert done.code == 1
    assert "the broker cannot be reached" in done.error_line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("decide", "x", "--rule", "median", "--options", "a,b", "--scale", "2"),
            "--scale: a decision has options",
        ),
        (("decide", "x", "--rule", "majority", "--options", "a,,b"), "--options: 'a,,b' has an empty name"),
        (("decide", "X!", "--rule", "median"), "subject: subject 'X!'"),
        (("decide", "x", "--rule", "median", "--value", "1"), "value: operator is not eligible"),
        (("decide", "x", "--rule", "median", "--timeout", "0s"), "--timeout: must be longer than zero"),
        (
            ("decide", "x", "--rule", "median", "--proof", "no/such/file"),
            "--proof: there is no folder no/such",
        ),
        (
            ("decide", "x", "--rule", "mediann"),
            "rule: unknown rule 'mediann' (did you mean 'median'?)",
        ),
        (("decide", "x", "--rule", "median", "--json", "no/such/x"), "--json: there is no folder no/such"),
        (("submit", "x", "--json", "no/such/x"), "--json: there is no folder no/such"),
        (("status", "--json", "no/such/x"), "--json: there is no folder no/such"),
        (("submit",), "submit: give either TEXT or --file"),
        (("submit", "x", "--file", "y"), "submit: give either TEXT or --file"),
        (("submit", ""), "TEXT: a note has at least one byte"),
        (("submit", "--file", "/dev/null"), "/dev/null: a note has at least one byte"),
        (("submit", "x" * 20_000), "TEXT: a note has at most 16384 bytes"),
        (("log", "--follow", "--json", "-"), "--json: --follow has no end"),
        (("log", "--follow", "--proof", "1", "x"), "--proof: --proof goes alone"),
        (("log", "--proof", "-1", "x"), "--proof: -1 is no position"),
    ],
)
def test_a_persons_mistake_is_one_line_and_exit_2(
    alone: RunningSwarm, words: tuple[str, ...], said: str
) -> None:
    done = swarm(*words, "--as", alone.operator)
    assert done.code == 2
    assert done.error_line.startswith(said)


def test_a_missing_operator_file_is_one_line(tmp_path: Path) -> None:
    done = swarm("status", "--as", tmp_path / "operator.yaml")
    assert done.code == 2
    assert done.error_line.startswith(str(tmp_path / "operator.yaml"))
