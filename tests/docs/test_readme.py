"""What README and its neighbours print is what the program does: commands, code, figures, picture and links."""

from __future__ import annotations

import importlib.util
import re
import shlex
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from swarm.cli.lazy import load_command
from swarm.cli.main import COMMANDS
from swarm.lab.scenario.result import Result, exit_code
from swarm.lab.scenario.runner import run_scenario
from swarm.primitives.quorum import PRESETS, budget_of
from tests.support.commands import ROOT, swarm

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:^|[/\s])swarm ((?:" + "|".join(COMMANDS) + r")(?:\s.*)?)$")
GREENHOUSE = "configs/scenarios/greenhouse.yaml"
PICTURE = ROOT / "docs" / "img" / "run.svg"


def blocks(language: str, text: str = README) -> list[str]:
    return [code for found, code in BLOCK.findall(text) if found == language]


@dataclass(frozen=True)
class Printed:
    """A command as a page prints it."""

    page: str
    words: tuple[str, ...]


def printed_commands() -> list[Printed]:
    """Return every `swarm ...` line of the code blocks without a language, and every one in backticks with options."""
    found = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        lines = [line.partition(" #")[0] for block in blocks("", text) for line in block.splitlines()]
        lines += [code for code in re.findall(r"`(swarm [^`\n]+)`", BLOCK.sub("", text)) if " --" in code]
        for line in lines:
            match = COMMAND.search(line.strip())
            if match and "..." not in line and "error:" not in line:
                found.append(Printed(path.name, tuple(shlex.split(match[1]))))
    return found


def anchors(text: str) -> set[str]:
    """Return the anchors that a page's headings make."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def greenhouse(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """The run that README shows, with its folder."""
    out = tmp_path_factory.mktemp("runs") / "greenhouse"
    return run_scenario(ROOT / GREENHOUSE, out=out), out


# ------------------------------------------------------------------------------------ commands


def test_readme_names_the_main_commands() -> None:
    named = {command.words[0] for command in printed_commands() if command.page == "README.md"}
    assert named >= {"run", "init", "broker", "agent", "decide", "submit", "status", "log", "verify"}


@pytest.mark.parametrize("command", printed_commands(), ids=lambda c: f"{c.page}: {' '.join(c.words)}")
def test_a_printed_command_is_one(command: Printed) -> None:
    """Its options and arguments are read as the program would; nothing is done."""
    name, *words = command.words
    entry = COMMANDS[name]
    found = load_command(name, entry)
    if entry.commands:
        found = found.commands[words[0].rstrip(",")]
        words = words[1:]
    with found.make_context(name, words) as context:
        assert context.params


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {
        target for text in PAGES for target in re.findall(r"`?\bmake ([a-z]+)`", text.read_text("utf-8"))
    }
    assert {"demo", "test"} <= named
    assert {target for target in named if f"\n{target}:" not in makefile} == set()


def test_init_prints_the_lines_of_the_four_terminals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert blocks("")[1] == "swarm init fleet --devices 4\n"
    done = swarm(*shlex.split(blocks("")[1])[1:])
    assert done.code == 0
    wanted = [*blocks("")[2].splitlines(), blocks("")[3].splitlines()[0].partition(" --proof")[0]]
    assert [line for line in done.out.splitlines() if line.startswith("swarm ")][-len(wanted) :] == wanted
    assert (tmp_path / "fleet" / "operator" / "operator.yaml").is_file()


def test_verify_says_what_readme_says(greenhouse: tuple[Result, Path]) -> None:
    result, out = greenhouse
    printed = next(block for block in blocks("") if "PROVED" in block)
    run, verify, said = printed.split("\n", 2)
    assert run == f"$ swarm run {GREENHOUSE} --out runs/greenhouse"
    number = re.search(r"temperature-(\d+)\.proof", verify)
    assert number is not None
    assert int(number[1]) <= len(result.decisions)
    done = swarm(
        "verify", out / "proofs" / f"temperature-{number[1]}.proof", "--genesis", out / "genesis.json"
    )
    assert done.code == 0
    assert done.out.strip() == said.strip()


# ------------------------------------------------------------------------------------ code and figures


def test_the_python_program_is_the_file() -> None:
    program = (ROOT / "docs" / "examples" / "twenty_lines.py").read_text(encoding="utf-8")
    assert blocks("python") == [program]
    compile(program, "twenty_lines.py", "exec")


def test_the_scenario_holds(tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    assert len(text.splitlines()) <= 10
    path = tmp_path / "cellar.yaml"
    path.write_text(text, encoding="utf-8")
    assert exit_code(run_scenario(path)) == 0


def test_the_budget_table_is_what_the_code_says() -> None:
    rows = dict(
        re.findall(r"^\| `(balanced|majority|crash)`[^|]*\|((?: u\d+ r\d+ q\d+ \|)+)", README, re.MULTILINE)
    )
    sizes = [int(n) for n in re.findall(r"n = (\d+) \|", README)]
    assert sizes == [3, 4, 5, 7, 10]
    assert set(rows) == set(PRESETS)
    for preset, row in rows.items():
        budgets = [budget_of(n, preset) for n in sizes]
        assert row.strip(" |").split(" | ") == [f"u{b.u} r{b.r} q{b.q}" for b in budgets]


@pytest.mark.parametrize("scenario", ["greenhouse", "submissions", "silent", "lossy"])
def test_the_figures_are_what_the_command_prints(scenario: str) -> None:
    """To the digit: a run in virtual time is the same on every machine."""
    found = re.search(
        rf"^\| `swarm run configs/scenarios/{scenario}.yaml` \|[^|]*\| (\d+) \| (\d+) ms \| (\d+) ms \|$",
        README,
        re.MULTILINE,
    )
    assert found is not None
    result = run_scenario(ROOT / f"configs/scenarios/{scenario}.yaml")
    now = [result.committed.submissions, result.commit_ms.p50 or 0, result.commit_ms.p99 or 0]
    printed = [int(figure) for figure in found.groups()]
    assert now == printed, "virtual time gives the same figures everywhere: write them anew"


# ------------------------------------------------------------------------------------ picture and links


def test_the_picture_is_shown_and_asks_nobody_for_anything() -> None:
    assert "](docs/img/run.svg)" in README
    text = PICTURE.read_text(encoding="utf-8")
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert set(re.findall(r"\w+://[^\"')\s]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@font-face|@import|<image|<script|<foreignObject|\bhref=", text)


def test_the_picture_shows_what_a_run_prints_now(greenhouse: tuple[Result, Path]) -> None:
    """Titles, columns, devices and the verdict; the numbers are those of the day it was drawn."""
    spec = importlib.util.spec_from_file_location("make_picture", PICTURE.with_name("make_picture.py"))
    assert spec is not None
    assert spec.loader is not None
    script: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    from swarm.lab.scenario.parse import load_scenario
    from swarm.lab.scenario.table import render

    drawn = " ".join("".join(ET.fromstring(PICTURE.read_text(encoding="utf-8")).itertext()).split())
    parts = list(script.choose_parts(render(greenhouse[0], load_scenario(ROOT / GREENHOUSE))))
    tables = [part for part in parts if isinstance(part, Table)]
    assert [str(table.title) for table in tables] == list(script.TABLES)
    for table in tables:
        assert str(table.title) in drawn
        for column in table.columns:
            assert str(column.header) in drawn
    words = ["dev-0", "dev-1", "dev-2", "dev-3", "killed at 12s, back at 18s", "Everything held."]
    assert [word for word in words if word not in drawn] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    dead = []
    for target in LINK.findall(BLOCK.sub("", text)):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        other = (path.parent / file).resolve() if file else path
        exists = other.exists()
        if not exists or (anchor and anchor not in anchors(other.read_text(encoding="utf-8"))):
            dead.append(target)
    assert dead == []


def test_the_checks_of_this_file_can_fail() -> None:
    assert anchors("# A b: c!\n") == {"a-b-c"}
    with pytest.raises(Exception, match="No such option"):
        load_command("run", COMMANDS["run"]).make_context("run", ["--nix"])
