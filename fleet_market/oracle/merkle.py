"""A Merkle tree that only grows: root, inclusion proofs, and proofs that an older root is of the same log.

Source: RFC 9162 section 2.1 (as RFC 6962): leaves are hashed with the byte 00 in front, nodes with 01, so that no node can
be shown as a leaf (second preimage). The tree of n leaves splits at the largest power of two below n.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

LEAF, NODE = b"\x00", b"\x01"
EMPTY = hashlib.sha256(b"").digest()
"""Root of the empty tree."""
MAX_PROOF = 64
"""Longest proof that is looked at: of 2**64 leaves."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node over its two children."""
    return hashlib.sha256(NODE + left + right).digest()


class MerkleTree:
    """The hashes of all full subtrees, level by level: about twice the leaves, 32 bytes each."""

    def __init__(self) -> None:
        self._levels: list[list[bytes]] = [[]]
        self._firsts = [0]
        """Of each level how many nodes are not kept."""

    @classmethod
    def resumed(cls, first: int, frontier: Sequence[bytes]) -> MerkleTree:
        """Return the tree that goes on after `first` leaves which are not kept themselves.

        Parameters
        ----------
        frontier : sequence of bytes
            As `frontier(first)` told.

        Raises
        ------
        IndexError
            If there are more or fewer hashes than full subtrees.
        """
        if first < 0 or len(frontier) != first.bit_count():
            raise IndexError(f"there must be {max(0, first).bit_count()} hashes for {first} leaves, was {len(frontier)}")
        tree, left = cls(), list(frontier)
        tree._levels = [[] for _ in range(max(1, first.bit_length()))]
        tree._firsts = [first >> level for level in range(len(tree._levels))]
        for level in reversed(range(len(tree._levels))):
            if first >> level & 1:
                tree._firsts[level] -= 1
                tree._levels[level].append(left.pop(0))
        return tree

    def frontier(self, size: int) -> tuple[bytes, ...]:
        """Return the hashes of the full subtrees that the first `size` leaves consist of, the largest first.

        With these alone the tree can go on: roots, and proofs of later leaves, need nothing else of what is before.
        """
        found, start = [], 0
        for level in reversed(range(self._checked(size).bit_length())):
            if size >> level & 1:
                found.append(self._subtree(start, 1 << level))
                start += 1 << level
        return tuple(found)

    def __len__(self) -> int:
        return self._firsts[0] + len(self._levels[0])

    def append(self, leaf: bytes) -> int:
        """Take one more leaf hash; return its index."""
        index = len(self)
        self._levels[0].append(leaf)
        level = 0
        while (self._firsts[level] + len(self._levels[level])) % 2 == 0:
            if level + 1 == len(self._levels):
                self._levels.append([])
                self._firsts.append(0)
            self._levels[level + 1].append(node_hash(*self._levels[level][-2:]))
            level += 1
        return index

    def root(self, size: int | None = None) -> bytes:
        """Return the root over the first `size` leaves, of all by default."""
        size = len(self) if size is None else self._checked(size)
        return self._subtree(0, size) if size else EMPTY

    def proof(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """Return the inclusion proof of a leaf in the tree of the first `size` leaves, lowest node first.

        Raises
        ------
        IndexError
            If there is no such leaf, or no longer.
        """
        size = len(self) if size is None else self._checked(size)
        if not 0 <= index < size:
            raise IndexError(f"leaf must be from 0 to {size - 1}, was {index}")
        found: list[bytes] = []
        start, width = 0, size
        while width > 1:
            split = _split(width)
            if index - start < split:
                found.append(self._subtree(start + split, width - split))
                width = split
            else:
                found.append(self._subtree(start, split))
                start, width = start + split, width - split
        return tuple(reversed(found))

    def consistency(self, old: int, size: int | None = None) -> tuple[bytes, ...]:
        """Return the proof that the tree of the first `old` leaves, at least 1, is the beginning of that of `size`."""
        size = len(self) if size is None else self._checked(size)
        if not 1 <= old <= size:
            raise IndexError(f"old must be from 1 to {size}, was {old}")
        found: list[bytes] = []
        start, width, whole = 0, size, True
        while old - start != width:
            split = _split(width)
            if old - start <= split:
                found.append(self._subtree(start + split, width - split))
                width = split
            else:
                found.append(self._subtree(start, split))
                start, width, whole = start + split, width - split, False
        if not whole:
            found.append(self._subtree(start, width))
        return tuple(reversed(found))

    def _checked(self, size: int) -> int:
        if not 0 <= size <= len(self):
            raise IndexError(f"size must be from 0 to {len(self)}, was {size}")
        return size

    def _subtree(self, start: int, width: int) -> bytes:
        """Return the hash over `width` leaves from `start`, which is a multiple of the power of two at or above width."""
        if width & (width - 1) == 0:
            level = width.bit_length() - 1
            if (at := (start >> level) - self._firsts[level]) < 0:
                raise IndexError(f"of the leaves from {start} to {start + width - 1} no hash is kept")
            return self._levels[level][at]
        split = _split(width)
        return node_hash(self._subtree(start, split), self._subtree(start + split, width - split))


def is_included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether `leaf` is the hash of leaf `index` of the tree of `size` leaves with this root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or len(proof) > MAX_PROOF:
        return False
    at, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node_hash(sibling, found)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and found == root


def is_consistent(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Return whether the tree of `old` leaves, at least 1, is the beginning of that of `size` (RFC 9162, 2.1.4.2)."""
    if not 1 <= old <= size or len(proof) > 2 * MAX_PROOF:
        return False
    if old == size:
        return not proof and old_root == root
    rest = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not rest:
        return False
    at, last = old - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = rest[0]
    for sibling in rest[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and first == old_root and second == root


def _split(width: int) -> int:
    """Return the largest power of two below `width`."""
    return 1 << (width - 1).bit_length() - 1
