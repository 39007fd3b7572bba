"""Forests and boosted trees with fewer trees and leaves: smaller files that answer nearly as well."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import onnx
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

from mofang.base.domain.errors import NoVariant
from mofang.base.domain.work import Silent
from mofang.base.engines.catalog import load_engine
from mofang.make.compress.catalog import apply
from mofang.make.compress.onnx.thin import best_parts, best_voters, contributions, fewer_leaves
from mofang.make.compress.step import Thin, told
from mofang.make.compress.subject import Means, Subject
from mofang.make.convert import trees as kept
from mofang.make.convert.catalog import converter
from mofang.make.prepare.dataset import Examples, examples_of
from mofang.make.recipe import DecisionTree, LightGBM, LogisticRegression, RandomForest, Train, XGBoost
from mofang.make.train.catalog import trainer

ENSEMBLES: list[Train] = [
    RandomForest(trees=60),
    LightGBM(rounds=40, early_stopping=0, min_samples_leaf=5),
    XGBoost(rounds=40, early_stopping=0),
]
DATA = {"ten classes": load_digits, "two classes": load_breast_cancer, "numbers": load_diabetes}


def data(name: str) -> tuple[Examples, np.ndarray, np.ndarray]:
    """Return examples to train on, and rows and target to measure on."""
    bunch = DATA[name]()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    rows = bunch.data.astype(np.float32)[order]
    target = bunch.target[order] if name != "numbers" else bunch.target[order].astype(np.float64)
    known = len(rows) * 7 // 10
    return examples_of(rows[:known], target[:known]), rows[known:], target[known:]


def original(spec: Train, examples: Examples) -> Means:
    folder = Path(mkdtemp())
    converter(spec.framework)[0](trainer(spec)(spec, examples, Silent()).pipeline, folder)
    return Means(Subject(folder), lambda: Path(mkdtemp()), examples=examples)


def ensemble(folder: Path | None) -> kept.Trees:
    assert folder is not None
    (found,) = filter(None, map(kept.read, onnx.load(folder / "model.onnx").graph.node))
    return found


def quality(folder: Path | None, rows: np.ndarray, target: np.ndarray) -> float:
    assert folder is not None
    answers = load_engine("onnx", folder).infer({"features": rows})
    if "label" in answers:
        return float((answers["label"] == target).mean())
    return 1 - float(((answers["value"] - target) ** 2).mean() / target.var())


def size(folder: Path | None) -> int:
    assert folder is not None
    return (folder / "model.onnx").stat().st_size


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("spec", ENSEMBLES, ids=lambda spec: spec.algorithm)
def test_fewer_trees_and_leaves_answer_nearly_as_well(spec: Train, name: str) -> None:
    examples, rows, target = data(name)
    tools = original(spec, examples)
    before = ensemble(tools.original.folder)
    thinned = apply(Thin(0.7), tools.original, tools)
    shorter = apply(Thin(leaves=0.3), tools.original, tools)
    assert len(ensemble(thinned.folder).roots) == round(len(before.roots) * 0.3)
    assert len(ensemble(shorter.folder).roots) == len(before.roots)
    assert 0.6 * before.leaves <= ensemble(shorter.folder).leaves <= 0.75 * before.leaves
    was = quality(tools.original.folder, rows, target)
    for variant, share in ((thinned, 0.5), (shorter, 0.85)):
        assert quality(variant.folder, rows, target) > was - 0.06
        assert size(variant.folder) < share * size(tools.original.folder)


def test_trees_are_chosen_by_rows_that_were_kept_aside() -> None:
    """Trees grown on wrong labels are all left out, however they answer the rows that they were grown on."""
    examples, rows, target = data("ten classes")
    wrong = replace(examples, target=(examples.target + 1) % 10)
    good, bad = (original(RandomForest(trees=20, seed=seed), each) for seed, each in ((1, examples), (2, wrong)))
    assert good.original.folder is not None
    assert bad.original.folder is not None
    models = [onnx.load(each.original.folder / "model.onnx") for each in (good, bad)]  # type: ignore[operator]
    nodes = [next(node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier") for model in models]
    ours, others = (kept.read(node) for node in nodes)
    assert ours is not None
    assert others is not None
    joined = {
        name: np.concatenate([getattr(ours, name), getattr(others, name) + shift])
        for name, shift in (("tree", 20), ("yes", len(ours.tree)), ("no", len(ours.tree)), ("leaf", len(ours.tree)))
    }
    rest = {name: np.concatenate([getattr(ours, name), getattr(others, name)])
            for name in ("mode", "feature", "threshold", "missing", "given", "weight")}  # fmt: skip
    both = replace(ours, **joined, **rest)
    kept.write(replace(both, weight=both.weight / 2), nodes[0])
    folder = Path(mkdtemp())
    onnx.save(models[0], folder / "model.onnx")
    tools = replace(good, original=Subject(folder), unseen=np.arange(300))
    thinned = apply(Thin(0.5), tools.original, tools)
    assert quality(folder, rows, target) < 0.8
    assert quality(thinned.folder, rows, target) == pytest.approx(quality(good.original.folder, rows, target), abs=0.01)


def test_labels_are_known_by_name() -> None:
    """A pushed forest may list its classes in another order than the data do."""
    examples, _, _ = data("ten classes")
    tools = original(RandomForest(trees=40), examples)
    assert tools.original.folder is not None
    path = tools.original.folder / "model.onnx"
    model = onnx.load(path)
    (node,) = (node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier")
    found = kept.read(node)
    assert found is not None
    kept.write(replace(found, given=9 - found.given), node)
    labels = next(each for each in node.attribute if each.name == "classlabels_int64s")
    labels.ints[:] = [*reversed(labels.ints)]
    onnx.save(model, path)
    again = original(RandomForest(trees=40), examples)
    backwards, forwards = (ensemble(apply(Thin(0.8), each.original, each).folder) for each in (tools, again))
    assert np.array_equal(backwards.threshold, forwards.threshold)


def test_the_best_voters_are_nearer_to_the_truth_than_any_by_chance() -> None:
    random = np.random.default_rng(3)
    truth = random.random(400)
    opinions = (truth + random.normal(size=(30, 400)) * random.uniform(0.1, 2, (30, 1))).astype(np.float32)
    chosen = best_voters(opinions, truth, 8)
    errors = [((opinions[those].mean(axis=0) - truth) ** 2).mean()
              for those in (chosen, *(random.permutation(30)[:8] for _ in range(50)))]  # fmt: skip
    assert errors[0] < min(errors[1:])


def test_parts_are_put_together_again() -> None:
    """Of parts that are each there twice, half is enough, with twice the weight."""
    random = np.random.default_rng(4)
    said = random.normal(size=(10, 300)).astype(np.float32)
    chosen, scales = best_parts(np.concatenate([said, said]), 10)
    assert sorted(chosen % 10) == list(range(10))
    assert np.allclose(scales, 2, atol=1e-3)


def test_leaves_that_say_the_same_are_joined_without_a_trace() -> None:
    examples, rows, _ = data("ten classes")
    tools = original(DecisionTree(max_depth=8), examples)
    found = ensemble(tools.original.folder)
    leaves = kept.reached(found, rows)
    before = contributions(found, leaves, 10)
    shorter = fewer_leaves(replace(found, weight=np.full_like(found.weight, 0.1)), leaves, 1)
    assert (len(shorter.tree), shorter.leaves) == (1, 1)
    again = fewer_leaves(found, leaves, found.leaves)
    assert np.allclose(contributions(again, kept.reached(again, rows), 10), before, atol=1e-6)


def test_steps_are_told() -> None:
    assert told([Thin(0.8)]) == "thin 80%"
    assert told([Thin(0.8, 0.3)]) == "thin 80% and 30% of leaves"
    assert told([Thin(leaves=0.3)]) == "thin and 30% of leaves"


def test_what_cannot_be_thinned_is_told() -> None:
    examples, _, _ = data("two classes")
    tools = original(LogisticRegression(), examples)
    with pytest.raises(NoVariant, match="0 ensembles of trees"):
        apply(Thin(0.5), tools.original, tools)
    forest = original(RandomForest(trees=3), examples)
    with pytest.raises(NoVariant, match="rows with labels"):
        apply(Thin(0.5), forest.original, replace(forest, examples=None))
    with pytest.raises(NoVariant, match="no tree"):
        apply(Thin(0.01), forest.original, forest)
