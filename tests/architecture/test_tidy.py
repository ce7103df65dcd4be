"""The habits of this code base as rules that a test can check, each shown to find a planted breach."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
VAGUE_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "manager", "misc"})
TALKING_ROOMS = frozenset({"cli", "lab"})
"""Rooms that may print: they talk to people. All others return records or log."""

UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
HOME_PATH = re.compile(r"(?<![\w.~])/(?:ro" + r"ot|ho" + r"me/\w+|Us" + r"ers/\w+)/")

Rule = Callable[[str, str], Iterator[str]]
"""(path inside the repository, text) -> complaints."""


def long_file(path: str, text: str) -> Iterator[str]:
    lines = text.count("\n")
    if lines > FILE_LINES_MAX:
        yield f"{path}: {lines} lines, at most {FILE_LINES_MAX}"


def long_function(path: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{path}:{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}"


def vague_name(path: str, _text: str) -> Iterator[str]:
    for part in Path(path).with_suffix("").parts:
        if VAGUE_NAMES & set(part.lower().split("_")):
            yield f"{path}: {part!r} names no concept"


def assert_statement(path: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assert):
            yield f"{path}:{node.lineno}: assert is gone under python -O; use check(...)"


def print_call(path: str, text: str) -> Iterator[str]:
    if TALKING_ROOMS & set(Path(path).parts[1:2]):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{path}:{node.lineno}: print outside of {sorted(TALKING_ROOMS)}"


def no_docstring(path: str, text: str) -> Iterator[str]:
    docstring = ast.get_docstring(ast.parse(text)) or ""
    if len(docstring.split()) < 3:
        yield f"{path}: the module does not say what lives in it"


def unfinished(path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), start=1):
        if UNFINISHED.search(line):
            yield f"{path}:{number}: unfinished work belongs in an issue: {line.strip()}"


def home_path(path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), start=1):
        if HOME_PATH.search(line):
            yield f"{path}:{number}: a path of somebody's machine: {line.strip()}"


CODE_RULES: list[Rule] = [
    long_file,
    long_function,
    vague_name,
    assert_statement,
    print_call,
    no_docstring,
    unfinished,
    home_path,
]
TEST_RULES: list[Rule] = [vague_name, unfinished, home_path]
TEXT_RULES: list[Rule] = [unfinished, home_path]


def files(*patterns: str) -> list[tuple[str, str]]:
    """Return (path inside the repository, text) of every file that a pattern names."""
    found = sorted({path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()})
    return [(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in found]


def complaints(rule: Rule, texts: list[tuple[str, str]]) -> list[str]:
    return [complaint for path, text in texts for complaint in rule(path, text)]


@pytest.mark.parametrize("rule", CODE_RULES, ids=lambda rule: rule.__name__)
def test_code(rule: Rule) -> None:
    texts = files("swarm/**/*.py", "firmware_sim/**/*.py")
    assert len(texts) > 20, "the pattern finds the package"
    assert complaints(rule, texts) == []


@pytest.mark.parametrize("rule", TEST_RULES, ids=lambda rule: rule.__name__)
def test_tests(rule: Rule) -> None:
    texts = files("tests/**/*.py")
    assert len(texts) > 5, "the pattern finds the tests"
    assert complaints(rule, texts) == []


@pytest.mark.parametrize("rule", TEXT_RULES, ids=lambda rule: rule.__name__)
def test_scripts_and_settings(rule: Rule) -> None:
    texts = files("Makefile", "pyproject.toml", ".ci/*", "configs/**/*.yaml", "swarm/**/*.sql", "*.md")
    assert len(texts) >= 3, "the patterns find something"
    assert complaints(rule, texts) == []


def test_tests_are_no_packages() -> None:
    """With `--import-mode=importlib` an `__init__.py` would change how a test file is named and found."""
    assert files("tests/**/__init__.py") == []


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (long_file, "swarm/a.py", "x = 1\n" * (FILE_LINES_MAX + 1)),
        (long_function, "swarm/a.py", "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX),
        (
            long_function,
            "swarm/a.py",
            "class A:\n  async def f(self):\n" + "    x = 1\n" * FUNCTION_LINES_MAX,
        ),
        (vague_name, "swarm/wire/utils.py", ""),
        (vague_name, "swarm/helpers/codec.py", ""),
        (vague_name, "swarm/agent/task_manager.py", ""),
        (assert_statement, "swarm/a.py", "def f(x):\n    assert x\n"),
        (print_call, "swarm/device/turn.py", "print('x')\n"),
        (no_docstring, "swarm/a.py", "x = 1\n"),
        (no_docstring, "swarm/a.py", '"""Later."""\n'),
        (unfinished, "swarm/a.py", "x = 1  # TO" + "DO: more\n"),
        (home_path, "swarm/a.py", "open('/ho" + "me/pi/key')\n"),
        (home_path, "Makefile", "cd /ro" + "ot/swarm\n"),
    ],
)
def test_rule_finds_a_breach(rule: Rule, path: str, text: str) -> None:
    assert len(list(rule(path, text))) == 1


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (long_file, "swarm/a.py", "x = 1\n" * FILE_LINES_MAX),
        (long_function, "swarm/a.py", "def f():\n" + "    x = 1\n" * (FUNCTION_LINES_MAX - 1)),
        (vague_name, "swarm/storage/commonality.py", ""),
        (print_call, "swarm/cli/run.py", "print('x')\n"),
        (unfinished, "swarm/a.py", "methods = 'todos'\n"),
        (home_path, "swarm/a.py", "'devices/home/x' and '~/home/x/'\n"),
    ],
)
def test_rule_lets_the_rest_pass(rule: Rule, path: str, text: str) -> None:
    assert list(rule(path, text)) == []
