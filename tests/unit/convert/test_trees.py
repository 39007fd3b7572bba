"""Trees as arrays: read from a graph they answer as it does, and written again they are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline

from mofang.base.domain.work import Silent
from mofang.base.engines.catalog import load_engine
from mofang.make.convert import trees
from mofang.make.convert.lightgbm import to_onnx as lightgbm_to_onnx
from mofang.make.convert.sklearn import to_onnx
from mofang.make.prepare.dataset import examples_of
from mofang.make.recipe import LightGBM
from mofang.make.train.catalog import trainer


@pytest.mark.parametrize("load", [load_digits, load_breast_cancer])
def test_a_forest_is_written_without_zeros_and_answers_alike(load: object, tmp_path: Path) -> None:
    bunch = load()  # type: ignore[operator]
    rows = bunch.data.astype(np.float32)
    forest = make_pipeline(RandomForestClassifier(20, random_state=0).fit(rows[::2], bunch.target[::2]))
    to_onnx(forest, tmp_path)
    answers = load_engine("onnx", tmp_path).infer({"features": rows})
    assert (answers["label"] == forest.predict(rows)).all()
    assert np.allclose(answers["probabilities"], forest.predict_proba(rows), atol=1e-5)
    node = onnx.load(tmp_path / "model.onnx").graph.node[0]
    found = trees.read(node)
    assert found is not None
    assert (found.weight == 0).mean() < 0.5
    assert len(found.weight) < 2.1 * found.leaves  # of ten classes, not ten for each leaf
    assert len(trees.without_zeros(found).weight) == len(found.weight)


def test_leaves_are_reached_as_the_engine_reaches_them(tmp_path: Path) -> None:
    bunch = load_digits()
    rows = bunch.data.astype(np.float32)
    forest = RandomForestClassifier(8, max_depth=6, random_state=0).fit(rows, bunch.target)
    to_onnx(make_pipeline(forest), tmp_path)
    found = trees.read(onnx.load(tmp_path / "model.onnx").graph.node[0])
    assert found is not None
    leaves = trees.reached(found, rows)
    assert leaves.shape == (8, len(rows))
    assert np.array_equal(leaves - found.roots[:, None], forest.apply(rows).T)


def test_missing_values_go_where_the_engine_sends_them(tmp_path: Path) -> None:
    bunch = load_breast_cancer()
    rows = bunch.data.astype(np.float32)
    rows[np.random.default_rng(0).random(rows.shape) < 0.3] = np.nan
    spec = LightGBM(rounds=10, early_stopping=0)
    model = trainer(spec)(spec, examples_of(rows, bunch.target), Silent()).pipeline
    lightgbm_to_onnx(model, tmp_path)
    found = trees.read(next(node for node in onnx.load(tmp_path / "model.onnx").graph.node if "Tree" in node.op_type))
    assert found is not None
    told = np.zeros(len(found.tree))
    np.add.at(told, found.leaf, found.weight)
    chances = 1 / (1 + np.exp(-told[trees.reached(found, rows)].sum(axis=0)))
    answers = load_engine("onnx", tmp_path).infer({"features": rows})["probabilities"]
    assert np.allclose(chances, answers[:, 1], atol=1e-5)


def test_written_trees_are_read_again_the_same(tmp_path: Path) -> None:
    bunch = load_digits()
    forest = make_pipeline(RandomForestClassifier(5, random_state=0).fit(bunch.data, bunch.target))
    to_onnx(forest, tmp_path)
    node = onnx.load(tmp_path / "model.onnx").graph.node[0]
    before = trees.read(node)
    assert before is not None
    trees.write(before, node)
    after = trees.read(node)
    assert after is not None
    for name in trees.Trees.__slots__:
        assert np.array_equal(getattr(before, name), getattr(after, name)), name


def test_other_nodes_have_no_trees() -> None:
    assert trees.read(onnx.helper.make_node("Relu", ["x"], ["y"])) is None
    assert trees.read(onnx.helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml")) is None
