"""What a NOR operation leaves behind when the power goes in the middle of it.

A torn operation changes only some of the bits that it was to change. Which ones is a mask, made from the
name of a shape, a seed and the offset, so that the same state and the same shape always give the same medium.
The shares of the erase shapes follow measurements on real parts: an interrupted erase leaves 0.4 to 6 % of the
bits as they were (`early`, `late`), or has hardly begun (`barely`); some parts program a sector before they
erase it, which leaves zeros (`zeroed`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

Mask = Callable[[random.Random, int], int]
"""(generator, length in bytes) -> the bits that were reached, little endian."""


def _ones(length: int) -> int:
    return (1 << 8 * length) - 1


def _nth_bits(length: int, pattern: int) -> int:
    return int.from_bytes(bytes([pattern]) * length, "little")


def _prefix(rng: random.Random, length: int) -> int:
    return _ones(rng.randrange(1, length) if length > 1 else 0)


def _suffix(rng: random.Random, length: int) -> int:
    return _ones(length) ^ _prefix(rng, length)


def _edge(rng: random.Random, length: int) -> int:
    # a boundary between the fields of a trailer, which lie in the last bytes of a sector
    return _ones(max(0, length - 8 * rng.randrange(1, 9)))


def _share(rng: random.Random, length: int, halvings: int) -> int:
    """Each bit with probability 1 / 2**halvings."""
    mask = _ones(length)
    for _ in range(halvings):
        mask &= rng.getrandbits(8 * length)
    return mask


def _all_but(rng: random.Random, length: int, halvings: int) -> int:
    return _ones(length) ^ _share(rng, length, halvings)


def _one_bit(rng: random.Random, length: int) -> int:
    # the first byte of a field carries its meaning, so half of the draws hit it
    return 1 << (rng.randrange(8) if rng.random() < 0.5 else rng.randrange(8 * length))


WRITE_MASKS: Final[dict[str, Mask]] = {
    "half": lambda _, length: _ones(length // 2),
    "upper": lambda _, length: _ones(length) ^ _ones(length // 2),
    "low": lambda _, length: _nth_bits(length, 0x0F),
    "high": lambda _, length: _nth_bits(length, 0xF0),
    "prefix": _prefix,
    "suffix": _suffix,
    "random": lambda rng, length: _share(rng, length, 1),
    "barely": lambda rng, length: _share(rng, length, 4),
    "almost": lambda rng, length: _all_but(rng, length, 4),
    "one-bit": _one_bit,
    "but-one": lambda rng, length: _ones(length) ^ _one_bit(rng, length),
}
ERASE_MASKS: Final[dict[str, Mask]] = {
    "half": WRITE_MASKS["half"],
    "upper": WRITE_MASKS["upper"],
    "early": lambda rng, length: _all_but(rng, length, 4),
    "late": lambda rng, length: _all_but(rng, length, 8),
    "partial": _prefix,
    "suffix": _suffix,
    "edge": _edge,
    "edge-rest": lambda rng, length: _ones(length) ^ _edge(rng, length),
    "random": WRITE_MASKS["random"],
    "barely": lambda rng, length: _share(rng, length, 8),
}
ZEROED: Final = frozenset({"zeroed", "zeroed-prefix", "zeroed-suffix"})

Shape = tuple[str, int]
"""(name, seed)."""


def _draw(counts: dict[str, int]) -> tuple[Shape, ...]:
    """Order shapes so that every prefix of the list is as mixed as possible."""
    rounds = max(counts.values())
    return tuple((name, seed) for seed in range(rounds) for name, count in counts.items() if seed < count)


WRITE_SHAPES: Final = _draw(
    {"half": 1, "random": 5, "low": 1, "high": 1, "prefix": 4, "one-bit": 3, "but-one": 3}
    | {"barely": 2, "almost": 2, "suffix": 2, "upper": 1}
)
ERASE_SHAPES: Final = _draw(
    {"half": 1, "early": 2, "late": 2, "random": 2, "partial": 3, "barely": 2, "suffix": 2}
    | {"edge": 4, "edge-rest": 2, "upper": 1, "zeroed": 1, "zeroed-prefix": 1, "zeroed-suffix": 1}
)


def shapes(kind: str, count: int, seed: int = 0) -> tuple[Shape, ...]:
    """Return `count` shapes for an operation of this kind (`write` or `erase`), as mixed as possible.

    Past the fixed list come further seeds of the random shapes. `seed` gives other draws of the same shapes.
    """
    fixed = WRITE_SHAPES if kind == "write" else ERASE_SHAPES
    if seed:
        fixed = tuple((name, 1000 * seed + number) for name, number in fixed)
    if count <= len(fixed):
        return fixed[:count]
    drawn = ("random", "prefix", "one-bit") if kind == "write" else ("random", "partial", "early")
    more = tuple((drawn[i % 3], 1000 * seed + 100 + i // 3) for i in range(count - len(fixed)))
    return fixed + more


def tear(kind: str, shape: Shape, offset: int, before: bytes, after: bytes, erased: int) -> bytes:
    """Return what an operation leaves that was to turn `before` into `after` and was cut in this shape.

    A shape that only the other kind of operation has stands for `random`, so that a cut can be chosen before it
    is known what it will hit. Raises KeyError for an unknown shape.
    """
    name, seed = shape
    length = len(before)
    rng = random.Random(f"{name}/{seed}/{offset}")
    old = int.from_bytes(before, "little")
    if kind == "erase" and name in ZEROED:
        blank = int.from_bytes(bytes([erased]) * length, "little")
        reached = {"zeroed": lambda *_: _ones(length), "zeroed-prefix": _prefix, "zeroed-suffix": _suffix}
        mask = reached[name](rng, length)
        return (old ^ ((old ^ blank ^ _ones(length)) & mask)).to_bytes(length, "little")
    masks = WRITE_MASKS if kind == "write" else ERASE_MASKS
    if name not in masks and (name in WRITE_MASKS or name in ERASE_MASKS or name in ZEROED):
        name = "random"
    changed = old ^ int.from_bytes(after, "little")
    return (old ^ (changed & masks[name](rng, length))).to_bytes(length, "little")
