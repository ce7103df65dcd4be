"""What type checkers read in `__init__.pyi` is what `__init__.py` loads at run time."""

from __future__ import annotations

import ast
from pathlib import Path

import swarm

STUB = Path(swarm.__file__).with_suffix(".pyi")


def stub_homes() -> dict[str, str]:
    """Return the stub's re-exports: public name -> `module:attribute`."""
    return {
        alias.asname or "": f"{node.module}:{alias.name}"
        for node in ast.parse(STUB.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("swarm.")
        for alias in node.names
    }


def test_the_stub_names_the_homes_that_load() -> None:
    assert stub_homes() == swarm._HOMES


def test_the_stub_declares_the_version() -> None:
    assert "__version__: Final[str]" in STUB.read_text(encoding="utf-8")
