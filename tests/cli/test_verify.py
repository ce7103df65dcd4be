"""`swarm verify`: what is proved, by whom, and what it would take to forge it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from swarm.apps.decisions.commands import Closed
from swarm.apps.decisions.rules import Outcome
from swarm.apps.router import EVENT_TAG
from swarm.cli.light import report_content
from swarm.lab.scenario.collector import shown_value
from swarm.wire.codec import encode
from swarm.wire.genesis import Genesis
from swarm.wire.leaves import EventBody, event_leaf, submission_leaf
from swarm.wire.proof import encode_proof
from tests.support.commands import swarm
from tests.support.swarms import make_genesis, make_proof, make_submission

OUTCOME = Outcome(
    decision=bytes(range(32)),
    subject="temperature",
    rule="median",
    kind="number",
    value=2105,
    reason="",
    ballots=(("dev-0", 2101), ("dev-1", 2105), ("dev-2", None), ("dev-3", 4000)),
    margin=1,
    options=(),
    scale=2,
    eligible=4,
    opened_height=3,
    opened_by="ops",
    closed_height=5,
)

GOLDEN = """\
PROVED for swarm test ({id}):
  temperature = 21.05 by median; 3 of 4 eligible balloted; 1 of the 3 may be lies without turning it
    dev-0: 21.01
    dev-1: 21.05
    dev-2: abstained
    dev-3: 40.00
  It is entry 1 of the log (first is 0), of 2 at height 7.
Signed by 2 voters: dev-0, dev-1.
At least one of them is honest as long as at most r = 1 of the 4 voters lie: to forge it, one would have to \
corrupt 2 of them (r + 1 = 2).
"""


def leaves_of(genesis: Genesis) -> list[bytes]:
    submission = make_submission(genesis, "ops", 1, ("notes", b"hello"))
    event = EventBody(
        height=5,
        submission=submission.id,
        command=0,
        app="decisions",
        body=EVENT_TAG + encode(Closed(OUTCOME)),
    )
    return [submission_leaf(submission.raw), event_leaf(event)]


@pytest.fixture
def genesis() -> Genesis:
    return make_genesis()


@pytest.fixture
def files(genesis: Genesis, tmp_path: Path) -> tuple[Path, Path]:
    return write(genesis, tmp_path, 1)


def write(genesis: Genesis, folder: Path, position: int) -> tuple[Path, Path]:
    (folder / "genesis.json").write_text(genesis.to_json())
    (folder / "a.proof").write_bytes(encode_proof(make_proof(genesis, leaves_of(genesis), position)))
    return folder / "a.proof", folder / "genesis.json"


def test_an_outcome_in_words(genesis: Genesis, files: tuple[Path, Path]) -> None:
    done = swarm("verify", files[0], "--genesis", files[1])
    assert (done.code, done.err) == (0, "")
    assert done.out == GOLDEN.format(id=genesis.id[:4].hex())


def test_an_outcome_as_json(genesis: Genesis, files: tuple[Path, Path]) -> None:
    done = swarm("verify", files[0], "--genesis", files[1], "--json", "-")
    assert done.code == 0
    assert done.err == GOLDEN.format(id=genesis.id[:4].hex()), "the words make way for the JSON"
    report = json.loads(done.out)
    assert report["verified"] is True
    assert report["swarm_id"] == genesis.id.hex()
    assert (report["signers"], report["corrupt_to_forge"], report["voters"]) == (["dev-0", "dev-1"], 2, 4)
    assert (report["position"], report["height"], report["log_size"]) == (1, 7, 2)
    proves = report["proves"]
    assert (proves["kind"], proves["outcome"], proves["margin"]) == ("outcome", 21.05, 1)
    assert (proves["words"], proves["scale"]) == ("21.05", 2)
    assert proves["ballots"] == {"dev-0": 21.01, "dev-1": 21.05, "dev-2": None, "dev-3": 40.0}


def test_an_outcome_is_written_as_in_the_result_of_a_run() -> None:
    """One reader for `swarm run --json`, `decide --json`, `log --json` and `verify --json`."""
    options = msgspec.structs.replace(
        OUTCOME, kind="option", value=1, scale=0, options=("closed", "open"), ballots=(("a", 1), ("b", None))
    )
    number = msgspec.structs.replace(
        OUTCOME, kind="number", value=-2105, scale=2, options=(), ballots=(("a", -2105),)
    )
    undecided = msgspec.structs.replace(number, kind="undecided", value=None, margin=None, ballots=())
    for outcome in (options, number, undecided):
        report = report_content(outcome)
        assert report["outcome"] == shown_value(outcome, outcome.value)
        assert report["ballots"] == {who: shown_value(outcome, ballot) for who, ballot in outcome.ballots}
    assert [report_content(o)["outcome"] for o in (options, number, undecided)] == ["open", -21.05, None]
    assert report_content(undecided)["words"] == "undecided"


def test_an_entry(genesis: Genesis, tmp_path: Path) -> None:
    proof, file = write(genesis, tmp_path, 0)
    done = swarm("verify", proof, "--genesis", file, "--json", tmp_path / "out.json")
    assert (done.code, done.err) == (0, "")
    assert "of ops: notes (5 bytes)" in done.out
    proves = json.loads((tmp_path / "out.json").read_text())["proves"]
    assert (proves["kind"], proves["origin"]) == ("submission", "ops")
    assert proves["commands"] == [{"app": "notes", "body": b"hello".hex()}]


def test_without_a_budget_for_lies_one_voter_can_forge(tmp_path: Path) -> None:
    proof, file = write(make_genesis(3, budget="crash"), tmp_path, 1)
    done = swarm("verify", proof, "--genesis", file)
    assert done.code == 0
    assert "Signed by 1 voter: dev-0." in done.out
    assert "corrupt 1 of the 3 voters (r + 1 = 1)" in done.out


def test_no_byte_may_change(files: tuple[Path, Path]) -> None:
    data = files[0].read_bytes()
    for index in range(0, len(data), 37):
        files[0].write_bytes(data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :])
        done = swarm("verify", files[0], "--genesis", files[1])
        assert (done.code, done.out) == (1, "")
        assert done.error_line.startswith(f"{files[0]}: proves nothing: ")


@pytest.mark.parametrize("data", [b"", b"hello", bytes(300_000)])
def test_a_file_that_is_no_proof(data: bytes, files: tuple[Path, Path]) -> None:
    files[0].write_bytes(data)
    done = swarm("verify", files[0], "--genesis", files[1], "--json", "-")
    assert done.code == 1
    assert "this is not a proof" in done.error_line
    report = json.loads(done.out)
    assert report["verified"] is False
    assert "this is not a proof" in report["reason"]


def test_another_swarm(files: tuple[Path, Path]) -> None:
    files[1].write_text(make_genesis(5).to_json())
    done = swarm("verify", files[0], "--genesis", files[1])
    assert done.code == 1
    assert "the proof is of swarm" in done.error_line


def test_files_that_cannot_be_read_are_bad_input(files: tuple[Path, Path], tmp_path: Path) -> None:
    for words in ((tmp_path / "nix", "--genesis", files[1]), (files[0], "--genesis", tmp_path / "nix")):
        done = swarm("verify", *words)
        assert (done.code, done.out) == (2, "")
        assert f"{tmp_path / 'nix'}: cannot be read: No such file" in done.error_line
    files[1].write_text("[]")
    done = swarm("verify", files[0], "--genesis", files[1])
    assert done.code == 2
    assert str(files[1]) in done.error_line
