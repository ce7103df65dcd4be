"""Latencies from integer tables: the median and the 99th percentile come out as asked, on every machine alike."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.lab.sim.quantiles import sample_us, z_ratio


@pytest.mark.parametrize(("median", "p99"), [(15_000, 120_000), (2_000, 3_000), (800_000, 3_000_000)])
def test_median_and_p99_are_met(median: int, p99: int) -> None:
    random = Random(1)
    samples = sorted(sample_us(random, median, p99) for _ in range(20_000))
    assert samples[10_000] == pytest.approx(median, rel=0.05)
    assert samples[19_800] == pytest.approx(p99, rel=0.1)


def test_equal_median_and_p99_is_constant() -> None:
    random = Random(2)
    assert {sample_us(random, 7000, 7000) for _ in range(100)} <= {6999, 7000}


def test_no_latency_is_none() -> None:
    assert sample_us(Random(3), 0, 0) == 0


def test_golden_samples() -> None:
    """The same numbers on every architecture: integers only, and `random.Random` is specified bit for bit."""
    random = Random("golden")
    assert [sample_us(random, 15_000, 120_000) for _ in range(6)] == GOLDEN


@given(st.integers(0, 2**32 - 2))
@settings(deadline=None)
def test_table_rises_and_is_symmetric(uniform: int) -> None:
    assert z_ratio(uniform) <= z_ratio(uniform + 1)
    assert abs(z_ratio(uniform) + z_ratio(2**32 - uniform)) <= 1


GOLDEN = [33015, 6654, 14542, 28553, 8633, 29858]
