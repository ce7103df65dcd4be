"""The pages name what exists: every path of theirs is there, and ARCHITECTURE.md forgets no room."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("docs/adr/*.md")])
ARCHITECTURE = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")

PATH = re.compile(r"`((?:swarm|tests|configs|docs|\.ci)/[\w./*-]+)`")
"""A path from the repository's root. Shorter forms are resolved by `places` below."""
SHORT = re.compile(r"`((?:device|consensus|storage|apps|wire|crypto)/\w+|test_\w+\.py)`")


def places(name: str) -> list[str]:
    """Return where a name of a page may lie, as patterns below the root."""
    if name.startswith("test_"):
        return [f"tests/*/{name}"]
    if name.startswith(("swarm/", "tests/", "configs/", "docs/", ".ci/")):
        return [name.rstrip("/"), f"{name}.py"]
    return [f"swarm/{name}", f"swarm/{name}.py"]


def missing(text: str) -> list[str]:
    names = sorted({*PATH.findall(text), *SHORT.findall(text)})
    return [name for name in names if not any(any(ROOT.glob(place)) for place in places(name))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_exists(page: Path) -> None:
    # `swarm/1/...` is a topic, no path.
    text = re.sub(r"`swarm/1[^`]*`", "", page.read_text(encoding="utf-8"))
    assert missing(text) == []


def test_a_path_that_is_not_there_is_found() -> None:
    assert missing("`swarm/attic/dust.py`, `consensus/paxos`, `test_nix.py`, `swarm/wire`, `tests/wire`") == [
        "consensus/paxos",
        "swarm/attic/dust.py",
        "test_nix.py",
    ]


def test_every_room_is_described() -> None:
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("swarm/**/__init__.py")}
    named = set(PATH.findall(ARCHITECTURE)) | {
        name.rpartition("/")[0] for name in PATH.findall(ARCHITECTURE) if name.endswith(".py")
    }
    assert rooms - named - {"swarm"} == set()


def test_every_rule_module_stands_in_the_table() -> None:
    rules = ROOT.glob("swarm/consensus/*.py")
    shared = {"__init__.py", "inputs.py", "output.py", "replica.py", "state.py"}
    assert [
        p.name for p in rules if p.name not in shared and f"consensus/{p.name}`" not in ARCHITECTURE
    ] == []


def test_every_dependency_has_its_reason() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    names = [re.split(r"[<>=]", line)[0] for line in settings["project"]["dependencies"]]
    assert [name for name in names if f"`{name}`" not in ARCHITECTURE] == []


def test_every_contract_is_explained() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    ids = [contract["id"] for contract in settings["tool"]["importlinter"]["contracts"]]
    assert [name for name in ids if f"**{name}**" not in ARCHITECTURE] == []


def test_the_files_to_read_first_are_ten() -> None:
    section = ARCHITECTURE.partition("## Where to start reading")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\d+\. `", section, re.MULTILINE)) == 10
