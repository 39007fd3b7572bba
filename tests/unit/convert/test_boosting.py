"""Gradient boosting, trained and converted: real libraries, real data, the engine that serves it."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
import pytest
import xgboost
from numpy.typing import NDArray
from onnxmltools.convert import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn import datasets

from mofang.base.domain.errors import ConversionFailed, ExtraMissing, InvalidDataset, JobCancelled, TrainingFailed
from mofang.base.domain.work import Silent
from mofang.base.engines.catalog import load_engine
from mofang.make.convert import lightgbm as from_lightgbm
from mofang.make.convert import xgboost as from_xgboost
from mofang.make.convert.catalog import converter
from mofang.make.convert.graph import write_boosted
from mofang.make.convert.parity import ParityProof, prove
from mofang.make.prepare.dataset import examples_of
from mofang.make.recipe import LightGBM, XGBoost
from mofang.make.train.catalog import trainer

Rows = NDArray[np.float32]
SPECS = [XGBoost(rounds=40, early_stopping=5), LightGBM(rounds=40, early_stopping=5, min_samples_leaf=5)]
DATA = [("breast_cancer", 2), ("iris", 3), ("diabetes", 0)]


def _load(name: str, classes: int) -> tuple[Rows, NDArray[Any]]:
    bunch = getattr(datasets, f"load_{name}")()
    return bunch.data.astype(np.float32), bunch.target.astype(np.int64 if classes else np.float64)


def _prove(framework: str, model: Any, features: Rows, folder: Path) -> ParityProof:
    to_onnx, reference = converter(framework)
    signature = to_onnx(model, folder)
    engine = load_engine("onnx", folder)
    assert engine.signature == signature
    return prove(partial(reference, model), engine.infer, features, Silent(), batch_sizes=(1, 64))


@pytest.mark.parametrize("kind", [XGBoost, LightGBM])
def test_trees_may_each_see_a_share_of_rows_and_columns(kind: type[XGBoost | LightGBM], tmp_path: Path) -> None:
    features, target = _load("breast_cancer", 2)
    models = [
        trainer(spec)(spec, examples_of(features, target), Silent())
        for spec in (kind(rounds=20), kind(rounds=20, colsample=0.2), kind(rounds=20, subsample=0.5)) * 2
    ]
    losses = [[point["loss"] for point in model.curve] for model in models]
    assert losses[:3] == losses[3:]  # the same seed draws the same
    assert len({tuple(each) for each in losses[:3]}) == 3
    assert _prove(kind.framework, models[1].pipeline, features, tmp_path).passed


@pytest.mark.parametrize(("name", "classes"), DATA)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.algorithm)
def test_what_recipes_boost_converts_exactly_missing_values_too(
    spec: XGBoost | LightGBM, name: str, classes: int, tmp_path: Path
) -> None:
    features, target = _load(name, classes)
    model = trainer(spec)(spec, examples_of(features, target), Silent())
    proof = _prove(spec.framework, model.pipeline, features, tmp_path)
    assert (proof.passed, proof.missing, proof.rows) == (True, "equal", len(features))
    assert proof.max_difference < 1e-5
    quality = "accuracy" if classes else "r2"
    assert set(model.curve[0]) == {"epoch", "loss", quality, "seconds", "rows_per_second"}
    assert min(point["loss"] for point in model.curve) < 0.9 * model.curve[0]["loss"]
    again = trainer(spec)(spec, examples_of(features, target), Silent())
    converter(spec.framework)[0](again.pipeline, tmp_path / "again")
    assert (tmp_path / "again" / "model.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()


def test_operator_sets_are_written_in_order_whatever_the_converter_did(tmp_path: Path) -> None:
    """Converters take them from a set, whose order is another one in the next process."""
    made = set()
    for domains in (["", "ai.onnx.ml"], ["ai.onnx.ml", ""]):
        model = onnx.helper.make_model(
            onnx.helper.make_graph([], "g", [], [onnx.helper.make_tensor_value_info("variable", 1, ["n", 1])]),
            opset_imports=[onnx.helper.make_opsetid(domain, 1) for domain in domains],
        )
        write_boosted(model, 0, tmp_path)
        made.add((tmp_path / "model.onnx").read_bytes())
    assert len(made) == 1


def test_rounds_after_the_best_are_cut_off() -> None:
    features, target = _load("diabetes", 0)
    for spec in SPECS:
        model = trainer(spec)(spec, examples_of(features, target), Silent())
        best = int(np.argmin([point["loss"] for point in model.curve])) + 1
        kept = model.pipeline.num_boosted_rounds() if spec.framework == "xgboost" else model.pipeline.num_trees()
        assert kept == best <= len(model.curve)


def test_the_share_of_right_classes_is_told_each_round_and_a_cancel_stops_it() -> None:
    features, target = _load("iris", 3)

    class Impatient(Silent):
        def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
            assert message.startswith("round 1 of 40: loss ")
            assert "accuracy" in data
            raise JobCancelled("cancelled")

    for spec in SPECS:
        with pytest.raises(JobCancelled):
            trainer(spec)(spec, examples_of(features, target), Impatient())


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.algorithm)
def test_one_class_is_nothing_to_learn(spec: XGBoost | LightGBM) -> None:
    with pytest.raises(InvalidDataset, match="two classes"):
        trainer(spec)(spec, examples_of(np.zeros((9, 2), np.float32), np.zeros(9, np.int64)), Silent())


def test_a_loss_that_runs_away_is_told() -> None:
    features, target = _load("diabetes", 0)
    spec = XGBoost(rounds=300, learning_rate=10, early_stopping=0)
    with pytest.raises(TrainingFailed, match="not finite"):
        trainer(spec)(spec, examples_of(features, target * 1e30), Silent())


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.algorithm)
def test_a_library_that_is_not_installed_says_what_to_install(
    spec: XGBoost | LightGBM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, f"mofang.make.train.{spec.framework}", raising=False)
    monkeypatch.setitem(sys.modules, spec.framework, None)
    with pytest.raises(ExtraMissing, match=f"needs the package '{spec.framework}'") as caught:
        trainer(spec)
    assert "mofang[boosting]" in str(caught.value.hint)


# --- conversions that are wrong without a word --------------------------------------------------------------------


def test_a_classifier_whose_leaves_look_like_a_regressions_stays_a_classifier(tmp_path: Path) -> None:
    """onnxmltools takes a bare booster whose covers are all whole numbers for a regression."""
    features = np.repeat(np.arange(4, dtype=np.float32), 16)[:, None]
    target = (features[:, 0] > 1).astype(np.int64)
    settings = {"objective": "binary:logistic", "max_depth": 2, "base_score": 0.5, "nthread": 1}
    booster = xgboost.train(settings, xgboost.DMatrix(features, target), 1)
    naive = convert_xgboost(booster, initial_types=[("features", FloatTensorType([None, 1]))], target_opset=15)
    assert [output.name for output in naive.graph.output] == ["variable"]  # if not, the care taken here can go
    assert _prove("xgboost", booster, features, tmp_path).passed


def test_a_regressor_of_a_logistic_objective_is_converted_with_its_link(tmp_path: Path) -> None:
    features, target = _load("breast_cancer", 2)
    regressor = xgboost.XGBRegressor(objective="binary:logistic", n_estimators=20, n_jobs=1).fit(features, target)
    assert _prove("xgboost", regressor.get_booster(), features, tmp_path).max_difference < 1e-6


@pytest.mark.parametrize("objective", ["count:poisson", "reg:gamma", "reg:tweedie", "reg:absoluteerror"])
def test_every_link_of_a_regression_is_converted(objective: str, tmp_path: Path) -> None:
    features, target = _load("diabetes", 0)
    booster = xgboost.train({"objective": objective, "nthread": 1}, xgboost.DMatrix(features, target), 20)
    assert _prove("xgboost", booster, features, tmp_path).passed


def test_a_softmax_that_answers_labels_alone_gets_its_probabilities(tmp_path: Path) -> None:
    features, target = _load("iris", 3)
    settings = {"objective": "multi:softmax", "num_class": 3, "nthread": 1}
    booster = xgboost.train(settings, xgboost.DMatrix(features, target), 10)
    assert _prove("xgboost", booster, features, tmp_path).passed


def test_thresholds_between_two_floats_do_not_round_up_to_the_next(tmp_path: Path) -> None:
    """LightGBM splits in double precision: half way between two neighbouring floats there is no float."""
    features = (np.float32(2**24) + 2 * np.arange(64, dtype=np.float32))[:, None].repeat(8, axis=0)
    target = np.random.default_rng(0).random(64).repeat(8)
    settings = {"objective": "regression", "min_data_in_leaf": 1, "num_leaves": 64, "num_threads": 1, "verbosity": -1}
    booster = lightgbm.train(settings, lightgbm.Dataset(features, target, params={"min_data_in_bin": 1}), 5)
    assert _prove("lightgbm", booster, features, tmp_path).max_difference < 1e-6


def test_labels_are_declared_open_and_batches_are_no_surprise(tmp_path: Path) -> None:
    features, target = _load("iris", 3)
    model = trainer(SPECS[1])(SPECS[1], examples_of(features, target), Silent())
    from_lightgbm.to_onnx(model.pipeline, tmp_path)
    label = onnx.load(tmp_path / "model.onnx").graph.output[0]
    assert [dim.dim_param for dim in label.type.tensor_type.shape.dim] == ["n"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "rank:pairwise"}, "objective 'rank:pairwise'"),
        ({"objective": "binary:logitraw"}, "objective 'binary:logitraw'"),
    ],
)
def test_boosters_for_something_else_are_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    features, target = _load("breast_cancer", 2)
    booster = xgboost.train({**settings, "nthread": 1}, xgboost.DMatrix(features, target), 2)
    with pytest.raises(ConversionFailed, match=message):
        from_xgboost.to_onnx(booster, tmp_path)
