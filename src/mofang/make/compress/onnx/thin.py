"""Thinning: fewer trees and fewer leaves in an ensemble, by what each contributes to rows that were kept aside.

On the graph itself, so that forests of any framework can be thinned, also pushed ones. Forests, whose trees vote alike,
keep the subset that comes nearest to the labels, chosen one by one (Caruana et al., 2004). Boosted trees, which correct
each other, keep those that explain most of what all say together, and get new weights (orthogonal matching pursuit,
Pati et al., 1993). Leaves go where joining them costs least for what they save (cost complexity, Breiman et al., 1984).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from mofang.base.domain.errors import NoVariant
from mofang.base.engines.catalog import load_engine
from mofang.make.compress.onnx.graph import MODEL, load, session, store
from mofang.make.compress.step import Thin
from mofang.make.compress.subject import Means, Subject
from mofang.make.convert.trees import Trees, reached, read, with_nodes, without_zeros, write
from mofang.make.prepare.dataset import Examples
from mofang.make.prepare.feed import feed

Floats = NDArray[np.float64]

_MOST_NUMBERS = 60_000_000  # trees x rows x outputs that are looked at
_MOST_ROWS = 20_000
_REFITS = 64
_ALIKE = 1e-3  # votes of a forest's leaves may differ by this share


def thin(step: Thin, subject: Subject, means: Means) -> Subject:
    """Return ``subject`` with fewer trees and leaves. Raises NoVariant if it has none, or no rows to measure on."""
    assert subject.folder is not None
    model = load(subject.folder)
    nodes = [node for node in model.graph.node if node.op_type.startswith("TreeEnsemble")]
    trees = read(nodes[0]) if len(nodes) == 1 else None
    if trees is None:
        raise NoVariant(
            f"the graph has {len(nodes)} ensembles of trees; one can be thinned"
            if len(nodes) != 1
            else f"trees of the operator {nodes[0].op_type!r} are kept in a way that is not known here",
            hint="" if nodes else "thinning is for forests and boosted trees; networks are pruned",
        )
    if means.examples is None or not len(means.examples.target):
        raise NoVariant(
            "what a tree contributes is measured on rows with labels, and there are none",
            hint="push the model with the digest of a dataset",
        )
    trees = without_zeros(trees)
    count, before = len(trees.roots), trees.leaves
    if step.share:
        means.progress.report("compress", 0.0, f"what each of {count} trees contributes")
        # Rows that the trees were not grown on, where it is known which.
        some = means.examples if means.unseen is None else means.examples.some(means.unseen)
        rows = _given(subject, model, nodes[0].input[0], some, means)
        trees = _fewer_trees(trees, nodes[0], rows, some, max(1, round(count * (1 - step.share))))
    if step.leaves:
        means.progress.report("compress", 0.5, f"what each of {trees.leaves:,} leaves contributes")
        rows = _given(subject, model, nodes[0].input[0], means.examples, means)
        trees = fewer_leaves(trees, reached(trees, rows), round(trees.leaves * (1 - step.leaves)))
    if (len(trees.roots), trees.leaves) == (count, before):
        raise NoVariant("no tree and no leaf could go", hint="leave out a larger share")
    write(trees, nodes[0])
    folder = means.scratch()
    store(model, folder)
    return replace(subject, folder=folder, model=None, framework="")


def _given(subject: Subject, model: Any, name: str, examples: Examples, means: Means) -> NDArray[np.float32]:
    """Return what the trees are given for some ``examples`` [n, d], after all that the graph does before them."""
    assert subject.folder is not None
    examples = examples.some(np.arange(len(examples.features))[:_MOST_ROWS])
    engine = load_engine(subject.engine, subject.folder)
    try:
        inputs = feed(examples, engine.signature)
    finally:
        engine.close()
    if examples.schema.shape and any(array.dtype == object for array in inputs.values()):
        raise NoVariant("trees that are given files of images cannot be thinned", hint="train them on pixels")
    if name in inputs:
        return np.asarray(inputs[name], np.float32)
    watched = type(model)()
    watched.CopyFrom(model)
    watched.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    folder = means.scratch()
    store(watched, folder)
    (given,) = session(folder / MODEL).run([name], dict(inputs))
    return np.asarray(given, np.float32)


def _fewer_trees(trees: Trees, node: Any, rows: NDArray[np.float32], some: Examples, kept: int) -> Trees:
    outputs = max(int(trees.given.max(initial=0)) + 1, len(some.schema.labels))
    rows = rows[: max(1, _MOST_NUMBERS // (len(trees.roots) * outputs))]
    said = contributions(trees, reached(trees, rows), outputs)
    if votes_alike(trees, node):
        truth = np.eye(outputs)[_places(node, some.schema.labels)[some.target[: len(rows)].astype(np.int64)]]
        chosen = best_voters(said * len(said), truth.ravel(), kept)
        scales = np.full(kept, len(said) / kept)
    else:
        chosen, scales = best_parts(said, kept)
    scale = np.zeros(len(said))
    scale[chosen] = scales
    heavier = (trees.weight * scale[trees.tree[trees.leaf]]).astype(np.float32)
    return with_nodes(replace(trees, weight=heavier), np.isin(trees.tree, chosen))


def _places(node: Any, labels: Sequence[str]) -> NDArray[np.int64]:
    """Return which output of the trees stands for each of ``labels``: by name if they know it, else in their order."""
    told = {each.name: each for each in node.attribute}
    if "classlabels_strings" in told:
        names = [name.decode() for name in told["classlabels_strings"].strings]
    else:
        names = [str(number) for number in told["classlabels_int64s"].ints]
    if set(names) != set(labels):
        return np.arange(len(labels))
    return np.array([names.index(label) for label in labels], np.int64)


def contributions(trees: Trees, leaves: NDArray[np.int64], outputs: int) -> NDArray[np.float32]:
    """Return what each tree adds to each output of each row [trees, n * outputs], where rows reach ``leaves``."""
    said = np.empty((len(leaves), leaves.shape[1] * outputs), np.float32)
    order = np.argsort(trees.leaf, kind="stable")
    owners = trees.tree[trees.leaf[order]]
    for number, part in enumerate(np.split(order, np.searchsorted(owners, np.arange(1, len(leaves))))):
        first, last = np.searchsorted(trees.tree, [number, number + 1])
        table = np.zeros((last - first, outputs), np.float32)
        np.add.at(table, (trees.leaf[part] - first, trees.given[part]), trees.weight[part])
        said[number] = table[leaves[number] - first].ravel()
    return said


def votes_alike(trees: Trees, node: Any) -> bool:
    """Tell whether each tree gives a whole opinion: votes for classes that come to the same in every leaf."""
    told = {each.name: each for each in node.attribute}
    if node.op_type != "TreeEnsembleClassifier" or told["post_transform"].s != b"NONE" or "base_values" in told:
        return False
    sums = np.bincount(trees.leaf, trees.weight, len(trees.tree))[trees.mode == 0]
    return bool(len(np.unique(trees.given)) > 1 and np.ptp(sums) <= _ALIKE * sums.max() and sums.max() > 0)


def best_voters(opinions: NDArray[np.float32], truth: Floats, kept: int) -> NDArray[np.int64]:
    """Return the trees whose mean opinion [trees, m] comes nearest to ``truth`` [m], in squares, chosen one by one."""
    gram = (opinions @ opinions.T).astype(np.float64)
    right = (opinions @ truth.astype(np.float32)).astype(np.float64)
    chosen: list[int] = []
    with_chosen, square, agreed = np.zeros(len(gram)), 0.0, 0.0
    left = np.ones(len(gram), np.bool_)
    for count in range(1, kept + 1):
        errors = (square + 2 * with_chosen + gram.diagonal()) / count**2 - 2 * (agreed + right) / count
        best = int(np.where(left, errors, np.inf).argmin())
        square += 2 * with_chosen[best] + gram[best, best]
        agreed += right[best]
        with_chosen = with_chosen + gram[best]
        left[best] = False
        chosen.append(best)
    return np.sort(chosen)


def best_parts(said: NDArray[np.float32], kept: int) -> tuple[NDArray[np.int64], Floats]:
    """Return the trees from whose contributions [trees, m] that of all is best put together, and how much of each."""
    gram = (said @ said.T).astype(np.float64)
    whole = gram.sum(axis=1)
    ridge = 1e-6 * np.trace(gram) / len(gram)
    chosen = np.empty(0, np.int64)
    scales = np.empty(0)
    while len(chosen) < kept:
        more = min(max(1, kept // _REFITS), kept - len(chosen))
        gains = (whole - gram[:, chosen] @ scales) ** 2 / np.maximum(gram.diagonal(), 1e-12)
        gains[chosen] = -1
        chosen = np.sort(np.concatenate([chosen, np.argsort(-gains, kind="stable")[:more]]))
        among = gram[np.ix_(chosen, chosen)] + ridge * np.eye(len(chosen))
        scales = np.linalg.solve(among, whole[chosen])
    return chosen, scales


def fewer_leaves(trees: Trees, leaves: NDArray[np.int64], kept: int) -> Trees:
    """Return ``trees`` with about ``kept`` leaves, where rows reach ``leaves`` [trees, n] in trees as they are.

    A node becomes a leaf, with the mean of what the rows in it were told, if the squares that this costs are few for
    the leaves that it saves.
    """
    outputs = int(trees.given.max(initial=0)) + 1
    levels = _levels(trees)
    rows = np.bincount(leaves.ravel(), minlength=len(trees.tree)).astype(np.float64)
    rows[trees.mode == 0] += 1e-3  # a leaf that no row reaches counts a little
    table = np.zeros((len(trees.tree), outputs), np.float32)
    np.add.at(table, (trees.leaf, trees.given), trees.weight)
    sums = table * rows[:, None].astype(np.float32)
    squares = (table.astype(np.float64) ** 2).sum(axis=1) * rows
    under = (trees.mode == 0).astype(np.int64)
    for level in reversed(levels):
        inner = level[trees.mode[level] > 0]
        for each in (sums, squares, rows, under):
            each[inner] = each[trees.yes[inner]] + each[trees.no[inner]]
    means = np.asarray(sums / rows[:, None], np.float32)
    cost = squares - (sums.astype(np.float64) * means).sum(axis=1)
    price = np.where(under > 1, np.maximum(cost, 0) / np.maximum(under - 1, 1), np.inf)
    return _collapsed(trees, levels, _ends(trees, levels, under, price, kept), means)


def _levels(trees: Trees) -> list[NDArray[np.int64]]:
    """Return the nodes of all trees by their depth."""
    levels = [trees.roots]
    while len(inner := levels[-1][trees.mode[levels[-1]] > 0]):
        levels.append(np.concatenate([trees.yes[inner], trees.no[inner]]))
    return levels


def _ends(
    trees: Trees, levels: list[NDArray[np.int64]], under: NDArray[np.int64], price: Floats, kept: int
) -> NDArray[np.bool_]:
    """Return the nodes at which trees are to end, so that about ``kept`` leaves are left: the cheapest."""
    prices = np.unique(price[np.isfinite(price)])
    low, high = 0, len(prices)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if _left(trees, levels, price <= prices[middle]) > kept else (low, middle)
    return price <= prices[min(low, len(prices) - 1)] if len(prices) else np.zeros(len(price), np.bool_)


def _alive(trees: Trees, levels: list[NDArray[np.int64]], ends: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the nodes that are left if trees end at ``ends``, those included."""
    alive = np.zeros(len(trees.tree), np.bool_)
    alive[levels[0]] = True
    for level in levels:
        going = level[alive[level] & (trees.mode[level] > 0) & ~ends[level]]
        alive[trees.yes[going]] = alive[trees.no[going]] = True
    return alive


def _left(trees: Trees, levels: list[NDArray[np.int64]], ends: NDArray[np.bool_]) -> int:
    return int((_alive(trees, levels, ends) & (ends | (trees.mode == 0))).sum())


def _collapsed(
    trees: Trees, levels: list[NDArray[np.int64]], ends: NDArray[np.bool_], means: NDArray[np.float32]
) -> Trees:
    alive = _alive(trees, levels, ends)
    new = np.flatnonzero(alive & ends & (trees.mode > 0))
    leaf, given = np.indices(means[new].shape).reshape(2, -1)
    itself = np.arange(len(trees.tree))
    shorter = replace(
        trees,
        mode=np.where(ends, 0, trees.mode).astype(np.uint8),
        yes=np.where(ends, itself, trees.yes),
        no=np.where(ends, itself, trees.no),
        leaf=np.concatenate([trees.leaf, new[leaf]]),
        given=np.concatenate([trees.given, given]),
        weight=np.concatenate([trees.weight, means[new].ravel()]),
    )
    return without_zeros(with_nodes(shorter, alive))
