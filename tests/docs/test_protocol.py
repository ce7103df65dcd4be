"""PROTOCOL.md says of numbers and names what the code does: sentences that once said something else."""

from __future__ import annotations

import re
from pathlib import Path

from swarm.apps.decisions.rules import DecisionView, decide

PROTOCOL = (Path(__file__).resolve().parents[2] / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")


def section(number: int) -> str:
    """Return the text of one section, its line breaks taken for blanks."""
    found = re.search(rf"^## {number}\. .*?(?=^## |\Z)", PROTOCOL, re.MULTILINE | re.DOTALL)
    assert found is not None
    return " ".join(found.group().split())


def test_section_7_undecided_has_no_margin() -> None:
    view = DecisionView(
        id=bytes(32),
        subject="door",
        rule="majority",
        options=("open", "shut"),
        scale=0,
        eligible=("dev-0", "dev-1"),
        minimum=1,
        deadline_ms=1_000,
        opened_height=1,
        opened_by="ops",
        ballots=(("dev-0", 0), ("dev-1", 1)),
    )
    outcome = decide(view, 2)
    assert (outcome.kind, outcome.margin) == ("undecided", None)
    assert "The outcome `undecided` is logged **without a margin**" in section(7)
