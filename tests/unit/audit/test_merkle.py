"""The tree against the definitions of RFC 6962, section 2.1, written down as they stand there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from mofang.base.audit.merkle import (
    Edge,
    Node,
    hash_leaf,
    is_consistent,
    is_included,
    prove_consistency,
    prove_inclusion,
    root_of,
)

_leaves = st.lists(st.binary(max_size=4), min_size=1, max_size=70)


def largest_power_below(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(leaves: Sequence[bytes]) -> bytes:
    """MTH of the RFC."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = largest_power_below(len(leaves))
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH of the RFC."""
    if len(leaves) == 1:
        return []
    k = largest_power_below(len(leaves))
    return [*path(m, leaves[:k]), mth(leaves[k:])] if m < k else [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: Sequence[bytes], b: bool) -> list[bytes]:
    """SUBPROOF of the RFC."""
    n = len(leaves)
    if m == n:
        return [] if b else [mth(leaves)]
    k = largest_power_below(n)
    if m <= k:
        return [*subproof(m, leaves[:k], b), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


class Kept:
    """All complete subtrees, as a store would keep them."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.edge = Edge()
        self.nodes: dict[Node, bytes] = {}
        self.roots = [self.edge.root]
        for leaf in leaves:
            self.nodes.update(self.edge.append(hash_leaf(leaf)))
            self.roots.append(self.edge.root)

    def read(self, nodes: Sequence[Node]) -> list[bytes]:
        return [self.nodes[node] for node in nodes]


@given(_leaves)
def test_a_growing_tree_has_the_roots_of_the_definition(leaves: list[bytes]) -> None:
    kept = Kept(leaves)
    assert kept.roots == [mth(leaves[:size]) for size in range(len(leaves) + 1)]
    assert [root_of(size, kept.read) for size in range(len(leaves) + 1)] == kept.roots
    assert len(kept.nodes) < 2 * len(leaves)


@given(_leaves, st.data())
def test_inclusion_is_proved_as_defined_and_nothing_else_is(leaves: list[bytes], data: st.DataObject) -> None:
    kept, size = Kept(leaves), data.draw(st.integers(1, len(leaves)))
    index = data.draw(st.integers(0, size - 1))
    proof = prove_inclusion(index, size, kept.read)
    assert proof == path(index, leaves[:size])
    leaf, root = hash_leaf(leaves[index]), kept.roots[size]
    assert is_included(leaf, index, size, proof, root)
    assert not is_included(hash_leaf(leaves[index] + b"x"), index, size, proof, root)
    assert not is_included(leaf, index, size, [*proof, root], root)
    assert not is_included(leaf, index, size, proof, hashlib.sha256(root).digest())
    assert not is_included(leaf, size, size, proof, root)
    if proof:
        assert not is_included(leaf, index, size, proof[:-1], root)
        assert not is_included(leaf, index, size, [hashlib.sha256(proof[0]).digest(), *proof[1:]], root)


@given(_leaves, st.data())
def test_growth_is_proved_as_defined_and_nothing_else_is(leaves: list[bytes], data: st.DataObject) -> None:
    kept, second = Kept(leaves), data.draw(st.integers(1, len(leaves)))
    first = data.draw(st.integers(1, second))
    proof = prove_consistency(first, second, kept.read)
    assert proof == subproof(first, leaves[:second], True)
    old, new = kept.roots[first], kept.roots[second]
    assert is_consistent(first, second, old, new, proof)
    other = hashlib.sha256(old).digest()
    assert not is_consistent(first, second, other, new, proof)
    assert not is_consistent(first, second, old, other, proof)
    assert not is_consistent(first, second, old, new, [*proof, other])
    if first < second:
        assert not is_consistent(first, second, old, new, proof[:-1])
        assert not is_consistent(second, first, new, old, proof)


def test_the_vectors_of_the_reference_implementation() -> None:
    """Roots of the eight leaves that Certificate Transparency's own tests use."""
    leaves = [bytes.fromhex(text) for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )]  # fmt: skip
    roots = Kept(leaves).roots
    assert roots[0].hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert roots[1].hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert roots[8].hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
