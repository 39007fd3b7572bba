"""What opens pushed files, called directly: every form a library writes, and files that are not what they seem."""

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import skops.io
import xgboost
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from mofang.base.domain.errors import InvalidModel, PickleRefused
from mofang.base.domain.work import Silent
from mofang.base.engines.catalog import load_engine
from mofang.make.convert.bench import Made, Wishes
from mofang.make.convert.catalog import opener
from mofang.make.convert.estimators import places
from mofang.make.convert.recognise import format_of

ROWS, TARGET = load_breast_cancer(return_X_y=True)
ROWS = ROWS.astype(np.float32)
Open = Callable[..., Made]


@pytest.fixture
def open_file(tmp_path: Path) -> Open:
    def run(content: bytes, **wishes: Any) -> Made:
        path, target = tmp_path / "pushed", tmp_path / "artifact"
        path.write_bytes(content)
        target.mkdir(exist_ok=True)
        found = format_of(path)
        assert found is not None
        with warnings.catch_warnings(action="ignore"):  # as on the bench: converters warn of each other's types
            return opener(found)(path, target, Wishes(**wishes), Silent())

    return run


PIPELINES = {
    "logistic": make_pipeline(StandardScaler(), LogisticRegression()),
    "bare": LogisticRegression(max_iter=5000),
    "histogram": HistGradientBoostingClassifier(max_iter=10),
    "scaled histogram": make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=5)),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_skops_is_answered_as_before(open_file: Open, tmp_path: Path, name: str) -> None:
    model = PIPELINES[name].fit(ROWS, TARGET)
    made = open_file(skops.io.dumps(model))
    assert (made.engine, made.labels, made.proof["passed"]) == ("onnx", ("0", "1"), True)
    answer = load_engine("onnx", tmp_path / "artifact").infer({"features": ROWS})
    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(ROWS), atol=1e-5)
    assert np.array_equal(answer["label"], model.predict(ROWS))


def test_probes_are_drawn_where_the_model_bends() -> None:
    """Thresholds behind a scaler are found where they lie in what the pipeline takes."""
    tree = DecisionTreeClassifier(random_state=0).fit(ROWS, TARGET)
    behind = make_pipeline(StandardScaler(), DecisionTreeClassifier(random_state=0)).fit(ROWS, TARGET)
    split = tree.tree_.feature[0]
    assert tree.tree_.threshold[0] in places(make_pipeline(tree))[split]
    assert np.abs(places(behind)[split] - tree.tree_.threshold[0]).min() < 1e-3


def test_xgboost_in_either_form_is_answered_as_before(open_file: Open) -> None:
    booster = xgboost.train(
        {"objective": "multi:softprob", "num_class": 3}, xgboost.DMatrix(*load_iris(return_X_y=True)), 5
    )
    for form in ("json", "ubj"):
        assert open_file(bytes(booster.save_raw(form))).proof["max_difference"] < 1e-6


def test_boosters_inside_pickles_keep_their_labels(open_file: Open) -> None:
    names = np.array(["setosa", "versicolor", "virginica"])
    features, target = load_iris(return_X_y=True)
    trees = lightgbm.LGBMClassifier(n_estimators=5, verbosity=-1, n_jobs=1).fit(features, names[target])
    made = open_file(pickle.dumps(trees), allow_pickle=True)
    assert (made.engine, made.labels) == ("onnx", tuple(names))
    boosted = xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(features, target)
    made = open_file(pickle.dumps(boosted), allow_pickle=True)
    assert (made.engine, made.labels) == ("onnx", ("0", "1", "2"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"tree\nversion=v4\n" + b"nonsense\n" * 9, "LightGBM .* cannot read the model"),
        (b'{"learner": {}, "version": [3, 2, 0]}', "XGBoost .* cannot read the model"),
        (b'{"learner": ', "XGBoost .* cannot read the model"),
        (pickle.dumps([1, 2]), "holds a builtins.list, no fitted scikit-learn estimator"),
        (pickle.dumps(LogisticRegression()), "no fitted scikit-learn estimator"),
        (pickle.dumps(RandomForestClassifier)[:-9], "the pickle cannot be opened"),
        (skops.io.dumps(np.sin), "holds a numpy.ufunc, no fitted scikit-learn estimator"),
        (skops.io.dumps(Path), "the skops file holds 'pathlib"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the bytes differ from run to run
)
def test_files_that_are_not_what_they_seem_are_refused(open_file: Open, content: bytes, message: str) -> None:
    with pytest.raises(InvalidModel, match=message) as caught:
        open_file(content, allow_pickle=True)
    assert "\n" not in str(caught.value)


def test_a_pickle_that_is_not_allowed_is_not_opened_here_either(open_file: Open) -> None:
    with pytest.raises(PickleRefused):
        open_file(pickle.dumps([1]))
