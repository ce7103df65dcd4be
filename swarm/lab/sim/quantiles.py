"""Random latencies from integer tables: the same number on every machine, because no libm is asked.

A latency is log-normal with a given median and 99th percentile: `median * (p99 / median) ** (z / z99)` with z normal.
The table holds z / z99 for 64 equal steps of probability, finer in the tail; the power is made of integer square roots.
"""

from __future__ import annotations

from functools import lru_cache
from math import isqrt
from random import Random
from typing import Final

_ONE: Final = 4096
"""Fixed point of z / z99."""

_UPPER: Final = (
    0, 69, 138, 207, 277, 347, 418, 489, 561, 634, 708, 784, 861, 939, 1020, 1102, 1188,
    1276, 1367, 1462, 1562, 1667, 1778, 1897, 2025, 2165, 2321, 2496, 2701, 2951, 3280, 3792,
)  # fmt: skip
_TAIL: Final = (
    3792, 3837, 3885, 3936, 3990, 4048, 4112, 4181, 4257, 4341, 4438, 4550, 4684, 4852, 5081, 5453, 6764,
)  # fmt: skip
"""The last 1/64 of probability in sixteen steps, cut off at 1/16384."""

_FRACTION: Final = 1 << 32


def z_ratio(uniform: int) -> int:
    """Return z / z99 in 1/4096 for a uniform number of 32 bits; linear between the table's points."""
    centred = 2 * uniform - _FRACTION
    position = min(abs(centred), _FRACTION - 1)
    index, rest = divmod(position * 32, _FRACTION)
    if index < 31:
        low, high = _UPPER[index], _UPPER[index + 1]
    else:
        index, rest = divmod(rest * 16, _FRACTION)
        low, high = _TAIL[index], _TAIL[index + 1]
    value = low + (high - low) * rest // _FRACTION
    return value if centred >= 0 else -value


def sample_us(random: Random, median_us: int, p99_us: int) -> int:
    """Return one latency in microseconds; `p99_us >= median_us`, both at least 0."""
    if median_us <= 0:
        return 0
    exponent = z_ratio(random.getrandbits(32))
    factor = _power((p99_us << 32) // median_us, abs(exponent))
    return median_us * factor >> 32 if exponent >= 0 else (median_us << 32) // factor


@lru_cache(maxsize=1 << 16)
def _power(base: int, exponent: int) -> int:
    """Return base ** (exponent / 4096) in 32 fractional bits, by square roots of the base."""
    whole, bits = divmod(exponent, _ONE)
    result = _FRACTION
    for _ in range(whole):
        result = result * base >> 32
    root = base
    for shift in range(11, -1, -1):
        root = isqrt(root << 32)
        if bits >> shift & 1:
            result = result * root >> 32
    return result
