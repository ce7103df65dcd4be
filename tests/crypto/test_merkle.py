"""The Merkle tree: published vectors, a naive transcription of RFC 6962 as oracle, and forged proofs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.crypto.digest import sha256
from swarm.crypto.merkle import (
    EMPTY_ROOT,
    Frontier,
    NodeReader,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    root_at,
    root_from_inclusion,
    root_of_range,
    verify_consistency,
)
from swarm.primitives.errors import ProofError
from swarm.primitives.limits import NUMBER_MAX

# The eight leaves of the certificate-transparency reference tests, and the root of each beginning of them.
CT_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
CT_INCLUSION = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CT_CONSISTENCY = {
    (1, 1): [],
    (1, 8): CT_INCLUSION[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


# ----------------------------------------------------------------------------- the oracle: RFC 6962, literally


def largest_power_below(count: int) -> int:
    power = 1
    while power * 2 < count:
        power *= 2
    return power


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH(D[n]) over leaf hashes."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = largest_power_below(len(leaves))
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:]))


def naive_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH(m, D[n])."""
    if len(leaves) == 1:
        return []
    k = largest_power_below(len(leaves))
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m: int, leaves: list[bytes], *, complete: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b)."""
    if m == len(leaves):
        return [] if complete else [naive_root(leaves)]
    k = largest_power_below(len(leaves))
    if m <= k:
        return [*naive_subproof(m, leaves[:k], complete=complete), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], complete=False), naive_root(leaves[:k])]


def leaf_hashes(count: int) -> list[bytes]:
    return [leaf_hash(b"leaf %d" % index) for index in range(count)]


def reader(leaves: list[bytes]) -> NodeReader:
    """Read perfect subtrees as a store would: only those that `append` has handed out."""
    store: dict[tuple[int, int], bytes] = {}
    tree = Frontier()
    for leaf in leaves:
        for level, index, digest in tree.append(leaf):
            assert (level, index) not in store, "a perfect subtree is written once"
            store[level, index] = digest
    return lambda level, index: store[level, index]


def hexed(hashes: list[bytes]) -> list[str]:
    return [digest.hex() for digest in hashes]


SIZES = st.integers(min_value=0, max_value=70)
DIGESTS = st.binary(min_size=32, max_size=32)


# ----------------------------------------------------------------------------- published vectors


def test_hashes_of_leaf_and_node_are_separated() -> None:
    assert leaf_hash(b"x") == sha256(b"\x00x")
    assert node_hash(EMPTY_ROOT, leaf_hash(b"x")) == sha256(b"\x01" + EMPTY_ROOT + leaf_hash(b"x"))


def test_roots_are_the_published_ones() -> None:
    tree = Frontier()
    node = reader([leaf_hash(data) for data in CT_LEAVES])
    assert tree.root() == EMPTY_ROOT
    assert EMPTY_ROOT.hex() == CT_ROOTS[0]
    for size, data in enumerate(CT_LEAVES, start=1):
        tree.append(leaf_hash(data))
        assert tree.root().hex() == root_at(size, node).hex() == CT_ROOTS[size]


@pytest.mark.parametrize(("index", "size"), CT_INCLUSION)
def test_inclusion_paths_are_the_published_ones(index: int, size: int) -> None:
    leaves = [leaf_hash(data) for data in CT_LEAVES]
    path = inclusion_path(index, size, reader(leaves))
    assert hexed(path) == CT_INCLUSION[index, size]
    assert root_from_inclusion(leaves[index], index, size, path).hex() == CT_ROOTS[size]


@pytest.mark.parametrize(("first", "second"), CT_CONSISTENCY)
def test_consistency_paths_are_the_published_ones(first: int, second: int) -> None:
    path = consistency_path(first, second, reader([leaf_hash(data) for data in CT_LEAVES]))
    assert hexed(path) == CT_CONSISTENCY[first, second]
    roots = [bytes.fromhex(root) for root in CT_ROOTS]
    assert verify_consistency(first, roots[first], second, roots[second], path)


# ----------------------------------------------------------------------------- against the oracle


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=4), max_size=70))
def test_roots_agree_with_the_oracle(data: list[bytes]) -> None:
    leaves = [leaf_hash(entry) for entry in data]
    node = reader(leaves)
    for size in range(len(leaves) + 1):
        assert root_at(size, node) == Frontier.read(size, node).root() == naive_root(leaves[:size])


@settings(deadline=None)
@given(SIZES.filter(bool), st.data())
def test_inclusion_agrees_with_the_oracle(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    leaves = leaf_hashes(size + 3)
    path = inclusion_path(index, size, reader(leaves))
    assert path == naive_path(index, leaves[:size])
    assert root_from_inclusion(leaves[index], index, size, path) == naive_root(leaves[:size])


@settings(deadline=None)
@given(SIZES.filter(bool), st.data())
def test_consistency_agrees_with_the_oracle(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, second))
    leaves = leaf_hashes(second + 3)
    path = consistency_path(first, second, reader(leaves))
    assert path == naive_subproof(first, leaves[:second], complete=True)
    assert verify_consistency(first, naive_root(leaves[:first]), second, naive_root(leaves[:second]), path)


# ----------------------------------------------------------------------------- the frontier


@settings(deadline=None)
@given(SIZES, st.integers(0, 20))
def test_a_frontier_taken_up_again_goes_on_as_if_never_stopped(size: int, more: int) -> None:
    leaves = leaf_hashes(size + more)
    whole, node = Frontier(), reader(leaves)
    for leaf in leaves[:size]:
        whole.append(leaf)
    resumed = Frontier(whole.size, whole.hashes)
    assert resumed.hashes == Frontier.read(size, node).hashes == whole.hashes
    for leaf in leaves[size:]:
        assert resumed.append(leaf) == whole.append(leaf)
    assert resumed.size == whole.size == len(leaves)
    assert resumed.root() == whole.root() == naive_root(leaves)


def test_append_returns_the_completed_subtrees_leaf_first() -> None:
    tree = Frontier()
    a, b, c, d = leaf_hashes(4)
    assert tree.append(a) == [(0, 0, a)]
    assert tree.append(b) == [(0, 1, b), (1, 0, node_hash(a, b))]
    assert tree.append(c) == [(0, 2, c)]
    pair = node_hash(c, d)
    assert tree.append(d) == [(0, 3, d), (1, 1, pair), (2, 0, node_hash(node_hash(a, b), pair))]


def test_a_copy_is_independent() -> None:
    tree = Frontier()
    for leaf in leaf_hashes(5):
        tree.append(leaf)
    before, branch = tree.hashes, tree.copy()
    branch.append(leaf_hash(b"other"))
    assert (tree.size, tree.hashes) == (5, before)
    assert branch.size == 6


@pytest.mark.parametrize(
    ("size", "hashes"),
    [
        (0, [bytes(32)]),
        (1, []),
        (4, [bytes(32), bytes(32)]),
        (3, [bytes(32), bytes(31)]),
        (-1, []),
        (NUMBER_MAX + 1, [bytes(32)]),
    ],
)
def test_a_frontier_that_does_not_fit_its_size_is_refused(size: int, hashes: list[bytes]) -> None:
    with pytest.raises(ProofError):
        Frontier(size, hashes)
    with pytest.raises(ProofError):
        root_of_range(size, hashes, [])


def test_a_refused_leaf_changes_nothing() -> None:
    tree = Frontier()
    for leaf in leaf_hashes(3):
        tree.append(leaf)
    before = (tree.size, tree.hashes)
    with pytest.raises(ProofError, match="32 bytes, 31 given"):
        tree.append(bytes(31))
    assert (tree.size, tree.hashes) == before


def test_the_largest_log_is_full() -> None:
    tree = Frontier(NUMBER_MAX, [bytes(32)] * 63)
    before = tree.hashes
    with pytest.raises(ProofError, match="no log has"):
        tree.append(bytes(32))
    assert (tree.size, tree.hashes) == (NUMBER_MAX, before)


@settings(deadline=None)
@given(SIZES, st.integers(0, 20))
def test_root_of_range_continues_a_frontier(start: int, count: int) -> None:
    leaves = leaf_hashes(start + count)
    frontier = Frontier.read(start, reader(leaves)).hashes
    assert root_of_range(start, frontier, leaves[start:]) == naive_root(leaves)


@pytest.mark.parametrize("start", [1, 5, 6, 7])
def test_root_of_range_shows_a_forged_frontier_or_leaf(start: int) -> None:
    leaves = leaf_hashes(start + 4)
    frontier, root = list(Frontier.read(start, reader(leaves)).hashes), naive_root(leaves)
    for place in range(len(frontier)):
        forged = [*frontier[:place], sha256(b"forged"), *frontier[place + 1 :]]
        assert root_of_range(start, forged, leaves[start:]) != root
    swapped = [leaves[start + 1], leaves[start], *leaves[start + 2 :]]
    assert root_of_range(start, frontier, swapped) != root
    assert root_of_range(start, frontier, leaves[start:-1]) != root


# ----------------------------------------------------------------------------- what must be refused


@pytest.mark.parametrize(
    ("index", "size"), [(0, 0), (1, 1), (8, 8), (9, 8), (-1, 8), (0, -1), (0, NUMBER_MAX + 1)]
)
def test_no_path_for_a_leaf_that_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ProofError):
        inclusion_path(index, size, reader(leaf_hashes(8)))
    with pytest.raises(ProofError):
        root_from_inclusion(bytes(32), index, size, [])


@settings(deadline=None)
@given(SIZES.filter(bool), st.data())
def test_an_inclusion_path_of_another_length_is_refused(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    leaves = leaf_hashes(size)
    path = naive_path(index, leaves)
    wrong = [[*path, bytes(32)], *([path[1:], path[:-1]] if path else [])]
    for forged in wrong:
        with pytest.raises(ProofError, match="has a path of"):
            root_from_inclusion(leaves[index], index, size, forged)


@settings(deadline=None)
@given(SIZES.filter(bool), st.data())
def test_a_changed_leaf_index_or_hash_gives_another_root(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    leaves = leaf_hashes(size)
    path, root = naive_path(index, leaves), naive_root(leaves)
    assert root_from_inclusion(leaf_hash(b"forged"), index, size, path) != root
    for place in range(len(path)):
        forged = [*path[:place], sha256(path[place]), *path[place + 1 :]]
        assert root_from_inclusion(leaves[index], index, size, forged) != root
    other = data.draw(st.integers(0, size - 1))
    if other != index and len(naive_path(other, leaves)) == len(path):
        assert root_from_inclusion(leaves[index], other, size, path) != root


def test_hashes_of_uneven_length_are_refused_although_they_would_hash_alike() -> None:
    leaves = leaf_hashes(2)
    together = leaves[0] + leaves[1]
    assert node_hash(together[:31], together[31:]) == naive_root(leaves)
    with pytest.raises(ProofError, match="32 bytes"):
        root_from_inclusion(together[:31], 0, 2, [together[31:]])
    assert not verify_consistency(1, together[:31], 2, naive_root(leaves), [together[31:]])


@pytest.mark.parametrize(("first", "second"), [(2, 1), (-1, 1), (0, -1), (1, NUMBER_MAX + 1)])
def test_no_consistency_of_sizes_out_of_order(first: int, second: int) -> None:
    with pytest.raises(ProofError):
        consistency_path(first, second, reader(leaf_hashes(4)))
    assert not verify_consistency(first, bytes(32), second, bytes(32), [])


def test_the_empty_tree_is_the_beginning_of_every_tree() -> None:
    leaves = leaf_hashes(5)
    root = naive_root(leaves)
    assert consistency_path(0, 5, reader(leaves)) == consistency_path(0, 0, reader([])) == []
    assert verify_consistency(0, EMPTY_ROOT, 5, root, [])
    assert verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    assert not verify_consistency(0, root, 5, root, [])
    assert not verify_consistency(0, EMPTY_ROOT, 5, root, [root])
    assert not verify_consistency(0, EMPTY_ROOT, 0, root, [])
    assert not verify_consistency(0, root, 0, root, [])


def test_a_tree_is_consistent_with_itself_by_no_hash() -> None:
    leaves = leaf_hashes(5)
    root = naive_root(leaves)
    assert consistency_path(5, 5, reader(leaves)) == []
    assert verify_consistency(5, root, 5, root, [])
    assert not verify_consistency(5, root, 5, sha256(root), [])
    assert not verify_consistency(5, root, 5, root, [root])


@settings(deadline=None)
@given(st.integers(2, 70), st.data())
def test_a_changed_consistency_proof_proves_nothing(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, second - 1))
    leaves = leaf_hashes(second)
    path = naive_subproof(first, leaves, complete=True)
    old, new = naive_root(leaves[:first]), naive_root(leaves)
    assert verify_consistency(first, old, second, new, path)
    assert not verify_consistency(first, sha256(old), second, new, path)
    assert not verify_consistency(first, old, second, sha256(new), path)
    assert not verify_consistency(first, old, second, new, path[:-1])
    assert not verify_consistency(first, old, second, new, path[1:])
    assert not verify_consistency(first, old, second, new, [*path, bytes(32)])
    for place in range(len(path)):
        forged = [*path[:place], sha256(path[place]), *path[place + 1 :]]
        assert not verify_consistency(first, old, second, new, forged)


@settings(deadline=None)
@given(st.integers(2, 40), st.data())
def test_a_rewritten_log_is_inconsistent(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, second - 1))
    leaves = leaf_hashes(second)
    rewritten = list(leaves)
    rewritten[data.draw(st.integers(0, first - 1))] = leaf_hash(b"rewritten")
    for honest, lying in ((leaves, rewritten), (rewritten, leaves)):
        path = naive_subproof(first, lying, complete=True)
        assert not verify_consistency(first, naive_root(honest[:first]), second, naive_root(lying), path)


@settings(deadline=None)
@given(
    st.integers(-3, 80), DIGESTS, st.integers(-3, 80), DIGESTS, st.lists(st.binary(max_size=33), max_size=8)
)
def test_garbage_proves_no_consistency_and_never_raises(
    first: int, first_root: bytes, second: int, second_root: bytes, path: list[bytes]
) -> None:
    believed = verify_consistency(first, first_root, second, second_root, path)
    assert believed == (first == second and first > 0 and first_root == second_root and not path)
