"""The Merkle tree of the log (RFC 6962 section 2.1): roots, inclusion and consistency, made and checked.

The tree is never held. Makers of proofs read perfect subtrees through `node(level, index)`: the hash over the leaves
`[index * 2^level, (index + 1) * 2^level)`, level 0 being the leaf hashes themselves. A perfect subtree never
changes again once its last leaf is there, so the store writes each exactly once, and `Frontier.append` says which.

Any subtree that RFC 6962 speaks of starts at a multiple of a power of two that is no smaller than its length. So it
is a run of perfect subtrees, one per set bit of its length, largest first, folded from the right.

One descent (`_inclusion_steps`, `_consistency_steps`) gives the shape of a proof from its numbers alone. The maker
fills in hashes, the verifier folds them; a path of any other length is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from swarm.crypto.digest import DIGEST_BYTES, sha256
from swarm.primitives.errors import ProofError
from swarm.primitives.limits import NUMBER_MAX

NodeReader = Callable[[int, int], bytes]
"""`node(level, index)`: the hash (32 bytes) of a perfect subtree; asked only for those the tree has."""

Node = tuple[int, int, bytes]
"""(level, index, hash) of a perfect subtree that has just become complete, as the store keeps it."""

EMPTY_ROOT: Final = sha256()
"""The root of the tree without leaves: the digest of no bytes."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf, SHA-256(0x00 | data)."""
    return sha256(b"\x00", data)


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node, SHA-256(0x01 | left | right), of two digests of 32 bytes."""
    return sha256(b"\x01", left, right)


class Frontier:
    """The perfect subtrees of a growing tree, largest first: all that is needed to append and to know the root.

    At most 63 hashes for any log. Mutable and small; `copy` before trying something out.
    """

    __slots__ = ("_hashes", "_size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        """Take up a tree of `size` leaves from its `hashes` (32 bytes each, as `hashes` returns them).

        Raises `ProofError` when their number or length does not fit `size`; the caller must not believe whoever
        gave them. That they *belong* to a log shows only when the root is compared.
        """
        _check_size(size)
        kept = list(hashes)
        if len(kept) != size.bit_count():
            raise ProofError(f"a frontier of {size} leaves has {size.bit_count()} hashes, {len(kept)} given")
        _check_hashes(kept)
        self._size = size
        self._hashes = kept

    @classmethod
    def read(cls, size: int, node: NodeReader) -> Frontier:
        """Return the frontier of the first `size` leaves, read through `node`; raises `ProofError` as above."""
        _check_size(size)
        return cls(size, (node(level, index) for level, index in _perfect_subtrees(0, size)))

    @property
    def size(self) -> int:
        """Leaves in the tree."""
        return self._size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The hashes of the perfect subtrees, largest (leftmost) first."""
        return tuple(self._hashes)

    def root(self) -> bytes:
        """Return the root of the tree; `EMPTY_ROOT` without leaves."""
        return _folded(self._hashes)

    def copy(self) -> Frontier:
        """Return an independent frontier of the same tree."""
        return Frontier(self._size, self._hashes)

    def append(self, leaf: bytes) -> list[Node]:
        """Add a leaf hash (32 bytes) and return the perfect subtrees it completed, itself first, to be stored.

        Raises `ProofError` for a hash of another length and for a full tree, and then nothing has changed.
        """
        _check_hashes([leaf])
        _check_size(self._size + 1)
        level, index, top = 0, self._size, leaf
        made = [(level, index, top)]
        # Each one-bit at the low end of the old size is a perfect subtree that the newcomer completes to a pair.
        while index & 1:
            level, index, top = level + 1, index >> 1, node_hash(self._hashes.pop(), top)
            made.append((level, index, top))
        self._hashes.append(top)
        self._size += 1
        return made


# ----------------------------------------------------------------------------- roots


def root_at(size: int, node: NodeReader) -> bytes:
    """Return the root of the first `size` leaves; raises `ProofError` for a size no log can have."""
    _check_size(size)
    return _range_root(0, size, node)


def root_of_range(start: int, frontier: Sequence[bytes], leaves: Iterable[bytes]) -> bytes:
    """Return the root after the leaf hashes `leaves` were appended to `start` leaves with these `frontier` hashes.

    For whoever got a stretch of the log without what is before it: if the result is a root that r+1 voters
    attested, then the frontier and every leaf are those of the log. Raises `ProofError` for malformed hashes.
    """
    tree = Frontier(start, frontier)
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


# ----------------------------------------------------------------------------- inclusion


def inclusion_path(index: int, size: int, node: NodeReader) -> list[bytes]:
    """Return the audit path of leaf `index` in the tree of `size` leaves, lowest sibling first.

    Raises `ProofError` when there is no such leaf; a request for it has no answer.
    """
    _check_index(index, size)
    return [_range_root(step.start, step.end, node) for step in _inclusion_steps(index, size)]


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Return the root that a tree of `size` leaves has if leaf hash `leaf` stands at `index` of it.

    The caller compares it with a root it believes. Raises `ProofError` for an index outside the tree, a path
    longer or shorter than this leaf's, and a hash that has not 32 bytes.
    """
    _check_index(index, size)
    steps = _inclusion_steps(index, size)
    if len(path) != len(steps):
        raise ProofError(f"leaf {index} of {size} has a path of {len(steps)} hashes, {len(path)} given")
    _check_hashes([leaf, *path])
    root = leaf
    for step, sibling in zip(steps, path, strict=True):
        root = node_hash(sibling, root) if step.is_left else node_hash(root, sibling)
    return root


# ----------------------------------------------------------------------------- consistency


def consistency_path(first: int, second: int, node: NodeReader) -> list[bytes]:
    """Return the proof that the tree of `first` leaves is the beginning of that of `second` leaves.

    Empty when `first` is 0 or equals `second`. Raises `ProofError` unless 0 <= first <= second.
    """
    _check_order(first, second)
    base, steps = _consistency_steps(first, second)
    shape = steps if base is None else [base, *steps]
    return [_range_root(step.start, step.end, node) for step in shape]


def verify_consistency(
    first: int, first_root: bytes, second: int, second_root: bytes, path: Sequence[bytes]
) -> bool:
    """Answer whether `path` proves that the tree of `second` leaves continues that of `first` leaves.

    Whatever a peer may send is True or False, never an exception. The empty tree is the beginning of every tree,
    proved by no hash at all; its root must still be `EMPTY_ROOT`.
    """
    try:
        _check_order(first, second)
        _check_hashes([first_root, second_root, *path])
    except ProofError:
        return False
    if (first == 0 and first_root != EMPTY_ROOT) or (second == 0 and second_root != EMPTY_ROOT):
        return False
    if first in (0, second):
        return not path and (first == 0 or first_root == second_root)
    base, steps = _consistency_steps(first, second)
    if len(path) != len(steps) + (base is not None):
        return False
    # Without a base the first tree is itself a subtree of the second one, so its root is where the fold starts.
    old = new = first_root if base is None else path[0]
    for step, sibling in zip(steps, path[len(path) - len(steps) :], strict=True):
        if step.is_left:
            old = node_hash(sibling, old)
            new = node_hash(sibling, new)
        else:
            new = node_hash(new, sibling)
    return old == first_root and new == second_root


# ----------------------------------------------------------------------------- shapes


class _Step(NamedTuple):
    """One hash of a path: the subtree over leaves [start, end), standing left or right of what is proved."""

    start: int
    end: int
    is_left: bool


def _inclusion_steps(index: int, size: int) -> list[_Step]:
    """Return PATH(index, D[size]) of RFC 6962 section 2.1.1 as ranges of leaves, lowest first."""
    start, end = 0, size
    steps = []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            steps.append(_Step(middle, end, is_left=False))
            end = middle
        else:
            steps.append(_Step(start, middle, is_left=True))
            start = middle
    steps.reverse()
    return steps


def _consistency_steps(first: int, second: int) -> tuple[_Step | None, list[_Step]]:
    """Return PROOF(first, D[second]) of RFC 6962 section 2.1.2 as (base, ranges of leaves, lowest first).

    The base is the last subtree of the first tree that both trees share; None where that is the whole first tree,
    whose root the verifier has.
    """
    if first in (0, second):
        return None, []
    start, end = 0, second
    steps = []
    while end != first:
        middle = start + _split(end - start)
        if first <= middle:
            steps.append(_Step(middle, end, is_left=False))
            end = middle
        else:
            steps.append(_Step(start, middle, is_left=True))
            start = middle
    steps.reverse()
    return (_Step(start, end, is_left=False) if start else None), steps


def _split(count: int) -> int:
    """Return the largest power of two below `count` (RFC 6962's k), for count >= 2."""
    return 1 << ((count - 1).bit_length() - 1)


def _perfect_subtrees(start: int, end: int) -> list[tuple[int, int]]:
    """Return (level, index) of the perfect subtrees that make up leaves [start, end), largest first."""
    subtrees = []
    while start < end:
        level = (end - start).bit_length() - 1
        subtrees.append((level, start >> level))
        start += 1 << level
    return subtrees


def _range_root(start: int, end: int, node: NodeReader) -> bytes:
    return _folded([node(level, index) for level, index in _perfect_subtrees(start, end)])


def _folded(hashes: Sequence[bytes]) -> bytes:
    """Return the root over perfect subtrees given largest first."""
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


# ----------------------------------------------------------------------------- what is refused


def _check_size(size: int) -> None:
    if not 0 <= size <= NUMBER_MAX:
        raise ProofError(f"no log has {size} entries")


def _check_index(index: int, size: int) -> None:
    _check_size(size)
    if not 0 <= index < size:
        raise ProofError(f"no leaf {index} in a tree of {size}")


def _check_order(first: int, second: int) -> None:
    _check_size(first)
    _check_size(second)
    if first > second:
        raise ProofError(f"a tree of {first} leaves is not the beginning of one of {second}")


def _check_hashes(hashes: Iterable[bytes]) -> None:
    # Two hashes of 31 and 33 bytes would hash like two of 32: the length is part of the security.
    for digest in hashes:
        if len(digest) != DIGEST_BYTES:
            raise ProofError(f"a hash has {DIGEST_BYTES} bytes, {len(digest)} given")
