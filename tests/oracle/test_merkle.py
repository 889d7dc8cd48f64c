"""The Merkle tree against its definition in RFC 9162, and against whoever would cheat with it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_market.oracle.merkle import EMPTY, MerkleTree, is_consistent, is_included, leaf_hash, node_hash


def root_of(leaves):
    """Root by the recursive definition (RFC 9162, 2.1.1)."""
    if not leaves:
        return EMPTY
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split = 1
    while 2 * split < len(leaves):
        split *= 2
    return node_hash(root_of(leaves[:split]), root_of(leaves[split:]))


def tree_of(leaves):
    tree = MerkleTree()
    for leaf in leaves:
        tree.append(leaf_hash(leaf))
    return tree


LEAVES = st.lists(st.binary(max_size=8), max_size=70)


@given(LEAVES)
def test_the_root_is_that_of_the_definition_at_every_size(leaves):
    tree = tree_of(leaves)
    assert [tree.root(n) for n in range(len(leaves) + 1)] == [root_of(leaves[:n]) for n in range(len(leaves) + 1)]


@given(LEAVES.filter(bool), st.data())
def test_every_leaf_is_proved_and_no_other_passes_for_it(leaves, data):
    tree, size = tree_of(leaves), len(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof, root, leaf = tree.proof(index), tree.root(), leaf_hash(leaves[index])
    assert is_included(leaf, index, size, proof, root)
    assert not is_included(leaf_hash(leaves[index] + b"!"), index, size, proof, root)
    assert not is_included(leaf, index, size, [*proof, leaf], root)
    assert not is_included(leaf, index, size, proof[:-1], root) or not proof
    assert not is_included(leaf, size, size, proof, root)
    assert not is_included(leaf, -1, size, proof, root)
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        forged = [node if k != place else bytes([node[0] ^ 1]) + node[1:] for k, node in enumerate(proof)]
        assert not is_included(leaf, index, size, forged, root)


@given(st.lists(st.binary(max_size=8), min_size=2, max_size=40, unique=True), st.data())
def test_a_leaf_is_not_proved_at_the_place_of_another(leaves, data):
    tree, size = tree_of(leaves), len(leaves)
    index, other = data.draw(st.lists(st.integers(0, size - 1), min_size=2, max_size=2, unique=True))
    assert not is_included(leaf_hash(leaves[index]), other, size, tree.proof(index), tree.root())


def test_a_node_is_no_leaf():
    tree = tree_of([b"a", b"b"])
    inner = leaf_hash(b"a") + leaf_hash(b"b")
    assert leaf_hash(inner) != tree.root()


@given(LEAVES.filter(bool), st.data())
def test_an_older_root_is_shown_to_be_the_beginning_and_a_rewritten_one_is_not(leaves, data):
    tree, size = tree_of(leaves), len(leaves)
    old = data.draw(st.integers(1, size))
    proof = tree.consistency(old)
    assert is_consistent(old, tree.root(old), size, tree.root(), proof)
    rewritten = tree_of([*leaves[: old - 1], leaves[old - 1] + b"!"])
    assert not is_consistent(old, rewritten.root(), size, tree.root(), proof)


@given(LEAVES, st.data())
def test_a_tree_goes_on_from_its_frontier_as_if_it_had_kept_everything(leaves, data):
    whole = tree_of(leaves)
    first = data.draw(st.integers(0, len(leaves)))
    tree = MerkleTree.resumed(first, whole.frontier(first))
    for leaf in leaves[first:]:
        tree.append(leaf_hash(leaf))
    assert len(tree) == len(whole)
    for size in range(max(1, first), len(leaves) + 1):
        assert tree.root(size) == whole.root(size)
        assert tree.frontier(size) == whole.frontier(size)
        assert [tree.proof(i, size) for i in range(first, size)] == [whole.proof(i, size) for i in range(first, size)]
        if first:
            assert tree.consistency(first, size) == whole.consistency(first, size)


def test_what_was_not_kept_is_not_proved_with_something_else():
    whole = tree_of([bytes([i]) for i in range(8)])
    tree = MerkleTree.resumed(8, whole.frontier(8))
    with pytest.raises(IndexError, match="no hash is kept"):
        tree.proof(3)
    with pytest.raises(IndexError, match="must be 1 hashes"):
        MerkleTree.resumed(8, [])
