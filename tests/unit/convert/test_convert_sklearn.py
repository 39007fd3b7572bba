"""Pipelines to ONNX and skops, and the proof that ONNX answers alike: with real engines on real data."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression as PlainLogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from mofang.base.domain.errors import ConversionFailed, ParityFailed
from mofang.base.domain.tensors import Signature, TensorSpec
from mofang.base.domain.work import Silent
from mofang.base.engines.catalog import load_engine
from mofang.make.convert.parity import ParityProof, prove
from mofang.make.convert.sklearn import reference, save, to_onnx
from mofang.make.prepare.dataset import examples_of
from mofang.make.recipe import DecisionTree, LogisticRegression, Mlp, RandomForest, Train
from mofang.make.train.sklearn import train

Rows = NDArray[np.float32]
Check = Callable[[Any, Rows], ParityProof]
SPECS = [LogisticRegression(epochs=2), Mlp(epochs=2, batch_size=64), DecisionTree(), RandomForest(trees=20)]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Convert a pipeline and compare it with its ONNX form in the engine that serves it."""

    def run(pipeline: Any, features: Rows) -> ParityProof:
        signature = to_onnx(pipeline, tmp_path)
        engine = load_engine("onnx", tmp_path)
        assert engine.signature == signature
        return prove(partial(reference, pipeline), engine.infer, features, Silent())

    return run


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.algorithm)
def test_what_recipes_train_converts_exactly(check: Check, spec: Train) -> None:
    bunch = load_digits()
    features = bunch.data.astype(np.float32)
    proof = check(train(spec, examples_of(features, bunch.target), Silent()).pipeline, features)
    assert (proof.rows, proof.labels_equal, proof.batch_sizes) == (1797, 1797, (1, 256))
    assert proof.max_difference < 1e-6
    assert proof.missing == "equal"
    assert proof.passed


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.algorithm)
def test_two_classes_and_wide_ranges_convert_too(check: Check, spec: Train) -> None:
    bunch = load_breast_cancer()
    features = bunch.data.astype(np.float32)
    proof = check(train(spec, examples_of(features, bunch.target), Silent()).pipeline, features)
    assert (proof.labels_equal, proof.missing) == (569, "equal")


@pytest.mark.parametrize("trees", [2, 20, 100])
def test_evenly_split_forests_take_the_first_class(check: Check, trees: int) -> None:
    """An even vote of a forest of two classes is a tie; summed in float32, it went to the second class."""
    bunch = load_breast_cancer()
    features = bunch.data.astype(np.float32)
    pipeline = train(
        RandomForest(trees=trees, seed=1), examples_of(features[::2], bunch.target[::2]), Silent()
    ).pipeline
    assert check(pipeline, features).labels_equal == 569
    votes = pipeline.predict_proba(features)
    assert trees > 20 or (votes[:, 0] == votes[:, 1]).any()


@pytest.mark.parametrize("kind", [DecisionTreeClassifier, RandomForestClassifier, ExtraTreesClassifier])
def test_bare_trees_are_refused_for_their_answers_to_nan(check: Check, kind: type[Any]) -> None:
    # sklearn-onnx#1253: the ONNX form sends NaN to the other child.
    bunch = load_breast_cancer()
    features = bunch.data.astype(np.float32)
    with pytest.raises(ParityFailed, match=r"answers \d+ of 256 rows differently with missing values"):
        check(make_pipeline(kind(random_state=0)).fit(features, bunch.target), features)


def test_a_source_that_refuses_nan_is_no_difference(check: Check) -> None:
    bunch = load_breast_cancer()
    features = bunch.data.astype(np.float32)
    model = make_pipeline(StandardScaler(), PlainLogisticRegression()).fit(features, bunch.target)
    assert check(model, features).missing == "refused"


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_scalers_before_trees_move_no_value_over_a_threshold(tmp_path: Path, scale: float) -> None:
    """Values one unit in the last place apart: multiplying by the reciprocal, as converters do, changes labels."""
    random = np.random.default_rng(0)
    steps = random.integers(0, 400, (2000, 8))
    center = np.float32(scale * 1.37)
    features = np.where(random.random((2000, 8)) < 0.4, -1, 1) * (center + steps * np.spacing(center))
    features = features.astype(np.float32)
    pipeline = make_pipeline(StandardScaler(), DecisionTreeClassifier(random_state=0))
    pipeline.fit(features, random.integers(0, 2, 2000))
    to_onnx(pipeline, tmp_path)
    found = load_engine("onnx", tmp_path).infer({"features": features})
    assert (found["label"] == pipeline.predict(features)).all()


def test_text_classes_become_bytes(check: Check, tmp_path: Path) -> None:
    bunch = load_digits(n_class=3)
    names = np.array(["zero", "one", "zwei"])[bunch.target]
    pipeline = make_pipeline(StandardScaler(), PlainLogisticRegression()).fit(bunch.data, names)
    assert check(pipeline, bunch.data.astype(np.float32)).labels_equal == len(names)
    assert to_onnx(pipeline, tmp_path).outputs == (
        TensorSpec("label", "BYTES", (-1,)), TensorSpec("probabilities", "FP32", (-1, 3)),
    )  # fmt: skip


@pytest.mark.parametrize(
    "pipeline",
    [
        make_pipeline(FunctionTransformer(np.sin), DecisionTreeClassifier()).fit([[0.0], [1.0]], [0, 1]),
        make_pipeline(StandardScaler()).fit([[0.0], [1.0]]),
    ],
    ids=["no ONNX form", "no classifier"],
)
def test_what_cannot_be_converted_is_told(tmp_path: Path, pipeline: Any) -> None:
    with pytest.raises(ConversionFailed) as caught:
        to_onnx(pipeline, tmp_path / "model")
    assert "\n" not in caught.value.message
    assert not (tmp_path / "model").exists()


def test_skops_artifacts_have_a_signature_beside_them(tmp_path: Path) -> None:
    from skops.io import get_untrusted_types, load

    bunch = load_digits()
    pipeline = train(Mlp(epochs=1), examples_of(bunch.data.astype(np.float32), bunch.target), Silent()).pipeline
    signature = save(pipeline, tmp_path)
    assert signature == Signature(
        (TensorSpec("features", "FP32", (-1, 64)),),
        (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 10))),
    )
    written = json.loads((tmp_path / "signature.json").read_text())
    assert written["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 64]}]
    path = tmp_path / "model.skops"
    types = get_untrusted_types(file=path)
    assert all(name.startswith(("sklearn.", "numpy.")) for name in types)
    loaded = load(path, trusted=types)
    assert (loaded.predict_proba(bunch.data) == pipeline.predict_proba(bunch.data)).all()
