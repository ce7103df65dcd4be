"""The version of this program, in one place; `pyproject.toml` and the public name are compared with it by a test."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
