"""The trees of an ONNX graph as arrays, and back.

Converters use it to leave out what changes nothing, compression to take trees and leaves away. Of the operators
TreeEnsembleClassifier and TreeEnsembleRegressor (ai.onnx.ml, 1 to 3) with thresholds and weights in 32 bits; it takes
the protobuf of a node, and imports no framework.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

MODES = (b"LEAF", b"BRANCH_LEQ", b"BRANCH_LT", b"BRANCH_GTE", b"BRANCH_GT", b"BRANCH_EQ", b"BRANCH_NEQ")
_WEIGHTS = {"TreeEnsembleClassifier": "class", "TreeEnsembleRegressor": "target"}
_INT, _INTS, _FLOATS, _STRINGS = 2, 7, 6, 8  # AttributeProto's types


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """Nodes of all trees, one tree after the other, and the weights of their leaves.

    Of each node [nodes]: the number of its ``tree``, the ``mode`` (into MODES), ``feature`` and ``threshold`` it asks,
    the nodes that follow a ``yes`` and a ``no`` (a leaf's are itself), and whether a ``missing`` value is a yes. Of
    each weight [weights]: the node that is its ``leaf``, the class or number it is ``given`` to, and the ``weight``.
    """

    tree: Ints
    mode: NDArray[np.uint8]
    feature: Ints
    threshold: Floats
    yes: Ints
    no: Ints
    missing: Mask
    leaf: Ints
    given: Ints
    weight: Floats

    @property
    def roots(self) -> Ints:
        """The first node of each tree [trees]."""
        root = np.ones(len(self.tree), np.bool_)
        inner = self.mode > 0
        root[self.yes[inner]] = root[self.no[inner]] = False
        return np.flatnonzero(root)

    @property
    def leaves(self) -> int:
        """How many leaves all trees have."""
        return int((self.mode == 0).sum())


def read(node: Any) -> Trees | None:
    """Return the trees of ``node``; None if it is no ensemble of trees, or one of another kind than described above."""
    kind = _WEIGHTS.get(node.op_type)
    found = {each.name: each for each in node.attribute}
    if kind is None or "nodes_values" not in found or f"{kind}_weights" not in found:
        return None

    def ints(name: str) -> Ints:
        return np.array(found[name].ints, np.int64)

    trees, ids = ints("nodes_treeids"), ints("nodes_nodeids")
    span = int(ids.max(initial=0)) + 1
    order = np.argsort(trees * span + ids, kind="stable")
    keys = (trees * span + ids)[order]
    modes = np.array([MODES.index(mode) for mode in found["nodes_modes"].strings], np.uint8)[order]

    def place(of: Ints, node_ids: Ints) -> Ints:
        return np.searchsorted(keys, of * span + node_ids)

    own, numbers = trees[order], np.arange(len(order))
    is_leaf = modes == 0
    missing = "nodes_missing_value_tracks_true"
    return Trees(
        tree=np.unique(own, return_inverse=True)[1],
        mode=modes,
        feature=ints("nodes_featureids")[order],
        threshold=np.array(found["nodes_values"].floats, np.float32)[order],
        yes=np.where(is_leaf, numbers, place(own, ints("nodes_truenodeids")[order])),
        no=np.where(is_leaf, numbers, place(own, ints("nodes_falsenodeids")[order])),
        missing=ints(missing)[order] > 0 if missing in found else np.zeros(len(order), np.bool_),
        leaf=place(ints(f"{kind}_treeids"), ints(f"{kind}_nodeids")),
        given=ints(f"{kind}_ids"),
        weight=np.array(found[f"{kind}_weights"].floats, np.float32),
    )


def write(trees: Trees, node: Any) -> None:
    """Put ``trees`` in place of those of ``node``; whatever else it says stays."""
    kind = _WEIGHTS[node.op_type]
    kept = [each for each in node.attribute if not each.name.startswith(("nodes_", *(f"{kind}_{part}" for part in
            ("ids", "nodeids", "treeids", "weights"))))]  # fmt: skip
    others = [type(each).FromString(each.SerializeToString()) for each in kept]
    del node.attribute[:]
    node.attribute.extend(others)
    numbers = np.arange(len(trees.tree)) - np.searchsorted(trees.tree, trees.tree)
    is_leaf = trees.mode == 0
    for name, values in {
        "nodes_treeids": trees.tree,
        "nodes_nodeids": numbers,
        "nodes_featureids": np.where(is_leaf, 0, trees.feature),
        "nodes_truenodeids": np.where(is_leaf, 0, numbers[trees.yes]),
        "nodes_falsenodeids": np.where(is_leaf, 0, numbers[trees.no]),
        "nodes_missing_value_tracks_true": trees.missing & ~is_leaf,
        f"{kind}_treeids": trees.tree[trees.leaf],
        f"{kind}_nodeids": numbers[trees.leaf],
        f"{kind}_ids": trees.given,
    }.items():
        node.attribute.add(name=name, type=_INTS).ints.extend(values.astype(np.int64).tolist())
    node.attribute.add(name="nodes_modes", type=_STRINGS).strings.extend(MODES[mode] for mode in trees.mode)
    node.attribute.add(name="nodes_values", type=_FLOATS).floats.extend(
        np.where(is_leaf, 0, trees.threshold).astype(np.float32).tolist()
    )
    node.attribute.add(name=f"{kind}_weights", type=_FLOATS).floats.extend(trees.weight.tolist())


def without_zeros(trees: Trees) -> Trees:
    """Return ``trees`` without weights of zero: they change no sum. Every leaf keeps one weight.

    Of two classes the second keeps all: if no leaf says anything of it, ONNX Runtime takes the first for its opposite.
    """
    told = (trees.weight != 0) | ((trees.given == 1) & (trees.given.max(initial=0) == 1))
    first = np.zeros(len(trees.leaf), np.bool_)
    first[np.unique(trees.leaf, return_index=True)[1]] = True
    silent = np.ones(len(trees.tree), np.bool_)
    silent[trees.leaf[told]] = False
    return with_weights(trees, told | (first & silent[trees.leaf]))


def with_weights(trees: Trees, kept: Mask) -> Trees:
    """Return ``trees`` with the weights ``kept`` [weights] alone."""
    return replace(trees, leaf=trees.leaf[kept], given=trees.given[kept], weight=trees.weight[kept])


def with_nodes(trees: Trees, kept: Mask) -> Trees:
    """Return ``trees`` with the nodes ``kept`` [nodes] alone, which have no child that is not; trees are renumbered."""
    place = np.cumsum(kept) - 1
    weights = kept[trees.leaf]
    return Trees(
        tree=np.unique(trees.tree[kept], return_inverse=True)[1],
        mode=trees.mode[kept],
        feature=trees.feature[kept],
        threshold=trees.threshold[kept],
        yes=place[trees.yes[kept]],
        no=place[trees.no[kept]],
        missing=trees.missing[kept],
        leaf=place[trees.leaf[weights]],
        given=trees.given[weights],
        weight=trees.weight[weights],
    )


def reached(trees: Trees, rows: Floats) -> Ints:
    """Return the leaf that each of ``rows`` [n, d] comes to in each tree [trees, n]."""
    found = np.empty((len(trees.roots), len(rows)), np.int64)
    every = np.arange(len(rows))
    for number, root in enumerate(trees.roots):
        at = np.full(len(rows), root)
        while (going := trees.mode[at] > 0).any():
            nodes, rows_here = at[going], every[going]
            at[going] = np.where(
                _answers(trees, nodes, rows[rows_here, trees.feature[nodes]]), trees.yes[nodes], trees.no[nodes]
            )
        found[number] = at
    return found


def _answers(trees: Trees, nodes: Ints, values: Floats) -> Mask:
    threshold, mode = trees.threshold[nodes], trees.mode[nodes]
    asked = [values <= threshold, values < threshold, values >= threshold, values > threshold, values == threshold,
             values != threshold]  # fmt: skip
    return np.choose(mode - 1, asked) | (np.isnan(values) & trees.missing[nodes])
