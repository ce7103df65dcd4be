"""The guide "write your own application" runs as it is printed, and its promises hold."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from swarm.apps.application import Application
from swarm.apps.router import Refusal, Router, read_body
from swarm.wire.codec import encode
from swarm.wire.genesis import parse_genesis
from tests.support.swarms import make_genesis, make_submission

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide-write-your-own-app.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """Return the code blocks of the guide in one language, unindented ones only."""
    return [code for found, code in BLOCK.findall(GUIDE.read_text(encoding="utf-8")) if found == language]


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what the first block defines, imported from a module as a user would."""
    (tmp_path / "inventory_of_the_guide.py").write_text(blocks("python")[0], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "inventory_of_the_guide", raising=False)
    return dict(vars(importlib.import_module("inventory_of_the_guide")))


def test_it_is_about_as_short_as_it_says() -> None:
    code = [line for line in blocks("python")[0].splitlines() if line.strip()]
    assert len(code) <= 42


def test_the_trial_prints_what_the_guide_says(
    names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    exec(compile(blocks("python")[1], str(GUIDE), "exec", dont_inherit=True), names)

    assert capsys.readouterr().out == blocks("")[0]


def test_the_application_runs_behind_the_router(names: dict[str, Any]) -> None:
    genesis = make_genesis(apps=("inventory@1", "notes@1"))
    assert parse_genesis(genesis.to_json()).apps == ("inventory@1", "notes@1")
    router = Router(genesis.apps, {"inventory": names["Inventory"]})
    move = names["Move"]
    submission = make_submission(
        genesis,
        "dev-1",
        1,
        ("inventory", encode(move("wheel", 4))),
        ("inventory", encode(move("wheel", -5))),
        ("inventory", b"garbage"),
    )

    taken, refused, garbage = router.apply_submission(
        submission, height=1, epoch=0, role="voter", voters=genesis.voter_ids, observers=(), r=1
    )

    assert read_body(taken.event.body) == encode(("dev-1", "wheel", 4))
    assert read_body(refused.event.body) == Refusal("-1 of wheel cannot be")
    assert read_body(garbage.event.body) == Refusal("not a move: malformed")
    assert isinstance(router.app("inventory"), Application)


def test_equal_states_give_equal_bytes_whatever_the_way_there(names: dict[str, Any]) -> None:
    one, other = names["Inventory"](), names["Inventory"]()
    one.stock = {"wheel": 1, "arm": 2}
    other.stock = {"arm": 2, "wheel": 1}

    assert one.snapshot() == other.snapshot()
