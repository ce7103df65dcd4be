"""FIRMWARE.md names what exists: tests, worlds, entries, threats; and forgets no rule."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from swarm.apps.rollout.entries import Command
from swarm.lab.modelcheck.rollout_model import WORLDS
from tests.support.rollout_mutations import DEVICE_SIDE, LOG_SIDE

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "FIRMWARE.md").read_text(encoding="utf-8")
RULES = [f"W{number}" for number in range(1, 16)]
PLAIN = " ".join(PAGE.split())


def names_of_tests() -> set[str]:
    """Return the names of all test functions."""
    found: set[str] = set()
    for path in ROOT.glob("tests/**/*.py"):
        found.update(
            re.findall(r"^ *(?:async )?def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
        )
    return found


def section(title: str) -> str:
    """Return what stands below a heading, up to the next one."""
    found = re.search(rf"^##+ {title}.*?$(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 80
    assert sorted(named - names_of_tests()) == []


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_its_module_and_its_test(rule: str) -> None:
    text = section(f"{rule} ")
    assert re.search(r"`swarm/[\w/]+\.py`", text)
    assert re.search(rf"`test_{rule.lower()}_\w+`", text)


def test_every_entry_stands_in_the_table() -> None:
    table = re.findall(r"^\| `(\w+)`", section("4. Entries"), re.MULTILINE)
    assert table == [entry.__name__ for entry in get_args(Command)]


def test_every_world_stands_in_the_table() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \|", section("11. Invariants"), re.MULTILINE)
    assert sorted(
        name for row in rows for name in re.findall(r"`([\w-]+)`", row) if name in WORLDS
    ) == sorted(WORLDS)
    assert f"All {len(LOG_SIDE) + len(DEVICE_SIDE)} mutations are caught" in PLAIN


def test_ten_invariants() -> None:
    assert re.findall(r"^\| (\d+) \|", section("11. Invariants"), re.MULTILINE) == [
        str(n) for n in range(1, 11)
    ]


def threats() -> list[str]:
    """Return the names in the last column of the table of threats."""
    rows = re.findall(r"^\|.*\| (`fw_[^|]*) \|$", section("10. Threats"), re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(fw_\w+)`", row)]


def test_every_threat_has_a_name_of_its_own_and_no_test_another() -> None:
    assert len(threats()) == len(set(threats())) == 25
    tested = [name for name in names_of_tests() if "fw_" in name]
    assert [name for name in tested if not any(threat in name for threat in threats())] == []


def test_the_states_of_the_exhausted_worlds_add_up() -> None:
    rows = re.findall(r"^\| `[\w-]+` \|[^|]*\| ([\d,]+) \| \d+ \|$", section("11. Invariants"), re.MULTILINE)
    assert len(rows) == 9
    assert f"{sum(int(row.replace(',', '')) for row in rows):,} states" in PLAIN


def test_the_checks_of_this_file_can_fail() -> None:
    assert "test_of_nothing_at_all" not in names_of_tests()
    with pytest.raises(AssertionError, match="W16"):
        section("W16 ")


@pytest.mark.parametrize("threat", threats())
def test_every_threat_has_its_test(threat: str) -> None:
    assert [name for name in names_of_tests() if threat in name]
