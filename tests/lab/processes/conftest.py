"""Fixtures for runs with real processes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.processes import all_gone, children_of, kill_all


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fail the test if a process that it started is still there at its end, and end it."""
    before = children_of(os.getpid())
    yield
    started = [pid for pid in children_of(os.getpid()) if pid not in before]
    gone = all_gone(started, 1.0)
    kill_all(started)
    assert gone, f"left behind: {started}"
