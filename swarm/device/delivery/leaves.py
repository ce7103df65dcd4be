"""The leaf list of a release: gathered page by page from one peer, believed as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from swarm.crypto.merkle import Frontier, inclusion_path, root_from_inclusion
from swarm.primitives.errors import ProofError
from swarm.primitives.limits import ANSWER_LEAVES_MAX


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the root (RFC 6962) over leaf hashes of 32 bytes each."""
    tree = Frontier()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


def is_leaf(leaf: bytes, index: int, count: int, path: Sequence[bytes], chunk_root: bytes) -> bool:
    """Answer whether `path` proves that chunk `index` of the `count` under `chunk_root` has this leaf hash."""
    try:
        return root_from_inclusion(leaf, index, count, path) == chunk_root
    except ProofError:
        return False


class LeafTree:
    """All leaves of one release and the subtrees over them, to make paths from; some 130 bytes a chunk."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        """Hash the tree over `leaves` once."""
        self._size = len(leaves)
        self._nodes: dict[tuple[int, int], bytes] = {}
        tree = Frontier()
        for leaf in leaves:
            for level, index, digest in tree.append(leaf):
                self._nodes[level, index] = digest

    def path(self, index: int) -> tuple[bytes, ...]:
        """Return the path of chunk `index`, which must be there."""
        return tuple(inclusion_path(index, self._size, lambda level, at: self._nodes[level, at]))


class LeafPages:
    """A leaf list on its way: pages of up to 1,024 leaves, all of one peer, so that a wrong list has one author."""

    def __init__(self, count: int) -> None:
        """Expect `count` leaves."""
        self._count = count
        self._pages: dict[int, tuple[bytes, ...]] = {}

    def length_of(self, first: int) -> int:
        """Return how many leaves the page from `first` on has."""
        return min(ANSWER_LEAVES_MAX, self._count - first)

    def missing(self) -> list[int]:
        """Return where the missing pages begin."""
        return [first for first in range(0, self._count, ANSWER_LEAVES_MAX) if first not in self._pages]

    @property
    def is_empty(self) -> bool:
        """Whether no page is there yet."""
        return not self._pages

    def put(self, first: int, leaves: tuple[bytes, ...]) -> bool:
        """Keep a page; False when it is not as long as it must be."""
        if len(leaves) != self.length_of(first):
            return False
        self._pages[first] = leaves
        return True

    def whole(self, chunk_root: bytes) -> tuple[bytes, ...] | None:
        """Return the complete list if its root is `chunk_root`, else None."""
        leaves = tuple(leaf for first in sorted(self._pages) for leaf in self._pages[first])
        return leaves if root_of(leaves) == chunk_root else None

    def clear(self) -> None:
        """Forget all pages."""
        self._pages.clear()
