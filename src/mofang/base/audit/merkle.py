"""The Merkle tree of RFC 6962, section 2.1: roots, and proofs that a leaf is in it or that it only grew. Pure.

A leaf's hash is SHA-256 over 0x00 and its data, a node's over 0x01 and its two children. The left child of a node
spans the largest power of two of leaves that is smaller than all. So a subtree of 2^k leaves that is once complete
never changes: the tree is kept as its complete subtrees, the ``edge`` of those that no larger one spans, and grows in
logarithmic time. Verifying follows RFC 9162, section 2.1.3 and 2.1.4, which has the algorithms that RFC 6962 lacks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

EMPTY_ROOT = hashlib.sha256(b"").digest()
Node = tuple[int, int]
"""Level and index of a complete subtree: the one of the leaves ``index << level`` up to ``(index + 1) << level``."""
Read = Callable[[Sequence[Node]], Sequence[bytes]]
"""Returns the hashes of complete subtrees."""


def hash_leaf(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node with these children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(slots=True)
class Edge:
    """A tree of ``size`` leaves, as the hashes of its largest complete subtrees, from left to right."""

    size: int = 0
    hashes: list[bytes] = field(default_factory=list)

    def append(self, leaf_hash: bytes) -> list[tuple[Node, bytes]]:
        """Add a leaf; return the subtrees that are complete with it, the leaf first."""
        made, level, index, top = [((0, self.size), leaf_hash)], 0, self.size, leaf_hash
        while index & 1:
            top, level, index = hash_node(self.hashes.pop(), top), level + 1, index >> 1
            made.append(((level, index), top))
        self.hashes.append(top)
        self.size += 1
        return made

    @property
    def root(self) -> bytes:
        """The hash of the whole tree."""
        return _join(self.hashes)


def spans(start: int, end: int) -> list[Node]:
    """Return the largest complete subtrees that make up the leaves ``start`` to ``end`` of a node, left to right."""
    found: list[Node] = []
    while start < end:
        level = min((start & -start).bit_length() - 1 if start else 64, (end - start).bit_length() - 1)
        found.append((level, start >> level))
        start += 1 << level
    return found


def root_of(size: int, read: Read) -> bytes:
    """Return the root of the first ``size`` leaves."""
    return _join(read(spans(0, size)))


def prove_inclusion(index: int, size: int, read: Read) -> list[bytes]:
    """Return the audit path of the leaf ``index`` (from 0) in the tree of ``size`` leaves: PATH of RFC 6962."""
    parts: list[list[Node]] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            parts.append(spans(middle, end))
            end = middle
        else:
            parts.append(spans(start, middle))
            start = middle
    return _fetch(parts[::-1], read)


def prove_consistency(first: int, second: int, read: Read) -> list[bytes]:
    """Return the proof that the tree of ``second`` leaves begins with that of ``first``: PROOF of RFC 6962."""
    if not 0 < first < second:
        return []
    parts: list[list[Node]] = []
    start, end, is_known = 0, second, True
    while first - start != end - start:
        middle = start + _split(end - start)
        if first <= middle:
            parts.append(spans(middle, end))
            end = middle
        else:
            parts.append(spans(start, middle))
            start, is_known = middle, False
    if not is_known:
        parts.append(spans(start, end))
    return _fetch(parts[::-1], read)


def is_included(leaf_hash: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Tell whether ``path`` proves that the leaf ``index`` (from 0) of the tree with that root has that hash."""
    if not 0 <= index < size:
        return False
    place, last, top = index, size - 1, leaf_hash
    for sibling in path:
        if last == 0:
            return False
        if place & 1 or place == last:
            top = hash_node(sibling, top)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            top = hash_node(top, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and top == root


def is_consistent(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """Tell whether ``proof`` proves that the tree of ``second`` leaves begins with that of ``first``."""
    if first == second:
        return not proof and first_root == second_root
    if not 0 < first < second:
        return first == 0 and not proof
    hashes = [first_root, *proof] if first & (first - 1) == 0 else [*proof]
    if not hashes:
        return False
    place, last = first - 1, second - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            old, new = hash_node(sibling, old), hash_node(sibling, new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            new = hash_node(new, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


def _split(size: int) -> int:
    """Return the largest power of two below ``size``."""
    return 1 << (size - 1).bit_length() - 1


def _join(hashes: Sequence[bytes]) -> bytes:
    """Return the root over complete subtrees, given from left to right."""
    if not hashes:
        return EMPTY_ROOT
    *rest, top = hashes
    for left in reversed(rest):
        top = hash_node(left, top)
    return top


def _fetch(parts: Sequence[Sequence[Node]], read: Read) -> list[bytes]:
    """Read all subtrees at once, and join those of each part."""
    hashes = iter(read([node for part in parts for node in part]))
    return [_join([next(hashes) for _ in part]) for part in parts]
