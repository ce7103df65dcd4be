"""Counters: a restart is no replay, and a replay is worth nothing (PROTOCOL section 2)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.device.counters import WINDOW, Counter, ReplayWindows


def test_a_counter_counts_within_its_boot() -> None:
    counter = Counter(4)
    assert [counter.next() for _ in range(3)] == [(4, 1), (4, 2), (4, 3)]


def test_kinds_and_senders_have_windows_of_their_own() -> None:
    windows = ReplayWindows()
    windows.use("a", 1, 1, 5)
    assert not windows.is_fresh("a", 1, 1, 5)
    assert windows.is_fresh("a", 2, 1, 5)
    assert windows.is_fresh("b", 1, 1, 5)


def test_an_older_boot_is_never_fresh_again() -> None:
    windows = ReplayWindows()
    windows.use("a", 1, 2, 1)
    assert not windows.is_fresh("a", 1, 1, 1000)
    assert windows.is_fresh("a", 1, 3, 1)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 200)), max_size=80))
@settings(deadline=None)
def test_nothing_is_fresh_twice_and_recent_numbers_are(seen: list[tuple[int, int]]) -> None:
    """Against a naive model: a set of everything used, the newest boot, and the window's width."""
    windows = ReplayWindows()
    used: set[tuple[int, int]] = set()
    newest = (0, 0)
    for boot, n in seen:
        fresh = windows.is_fresh("a", 1, boot, n)
        expected = (boot, n) not in used and (
            boot > newest[0] or (boot == newest[0] and (n > newest[1] or newest[1] - n < WINDOW))
        )
        assert fresh == expected
        if fresh:
            windows.use("a", 1, boot, n)
            used.add((boot, n))
            newest = max(newest, (boot, n))
