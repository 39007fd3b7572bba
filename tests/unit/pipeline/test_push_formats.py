"""Models of other frameworks through the whole push job: recognised, converted on the bench, proven, registered."""

import io
import pickle
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pytest
import skops.io
import xgboost
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mofang.base.domain.errors import ConversionFailed, PickleRefused
from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import ModelVersion
from mofang.base.domain.tensors import Array
from mofang.base.domain.work import Progress
from mofang.make.pipeline import push_files
from mofang.make.workshop import Workshop

CANCER = load_breast_cancer()
ROWS = CANCER.data.astype(np.float32)


def _push(tools: Workshop, progress: Progress, content: bytes, **wishes: Any) -> ModelVersion:
    ref = tools.blobs.put([content])
    files = [{"path": "model.bin", "sha256": ref.sha256, "size_bytes": ref.size_bytes}]
    push_files({"model": "pushed", "files": files, "wishes": wishes}, tools, progress)
    version = tools.registry.get(VersionRef.parse("pushed"))
    assert list(tools.scratch.iterdir()) == []
    return version


def _ask(tools: Workshop, version: ModelVersion, rows: Array, root: Path) -> dict[str, Array]:
    with tools.engine(version.artifact.engine, tools.registry.folder(version, root)) as engine:
        return engine.infer({"features": rows})


def _dumped(model: Any) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(model, buffer, compress=3)
    return buffer.getvalue()


@pytest.mark.pushes("xgboost")
def test_xgboost_is_served_as_it_answered(tools: Workshop, progress: Progress, tmp_path: Path) -> None:
    booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(ROWS, CANCER.target), 20)
    version = _push(tools, progress, bytes(booster.save_raw("json")))
    assert version.artifact.engine == "onnx"
    assert [str(spec) for spec in version.artifact.signature.inputs] == ["features: [n, 30] FP32"]
    answer = _ask(tools, version, ROWS, tmp_path)
    np.testing.assert_allclose(answer["probabilities"][:, 1], booster.predict(xgboost.DMatrix(ROWS)), atol=1e-6)
    conversion = version.lineage.conversion
    assert conversion is not None
    assert (conversion.format, [entry.path for entry in conversion.files]) == ("xgboost", ["model.bin"])
    assert conversion.proof["max_difference"] < 1e-6
    assert list(conversion.proof["trials"]) == [
        "in batches of 1",
        "in batches of 256",
        "with values born in double precision",
        "with missing values (NaN)",
    ]
    assert "xgboost" in version.lineage.code


@pytest.mark.pushes("lightgbm")
def test_lightgbm_with_categories_is_served_as_it_answered(tools: Workshop, progress: Progress, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = np.stack([random.integers(0, 9, 2000), random.normal(size=2000)], axis=1).astype(np.float32)
    target = (rows[:, 0] % 3) + rows[:, 1]
    data = lightgbm.Dataset(rows, target, categorical_feature=[0])
    booster = lightgbm.train({"objective": "regression", "verbosity": -1, "num_threads": 1}, data, 20)
    version = _push(tools, progress, booster.model_to_string().encode())
    np.testing.assert_allclose(_ask(tools, version, rows, tmp_path)["value"], booster.predict(rows), atol=1e-4)
    conversion = version.lineage.conversion
    assert conversion is not None
    assert "with categories never seen" in conversion.proof["trials"]
    assert conversion.proof["compared"] == "values"


def test_categories_of_xgboost_are_served_by_xgboost(tools: Workshop, progress: Progress, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = np.stack([random.integers(0, 9, 500), random.normal(size=500)], axis=1).astype(np.float32)
    data = xgboost.DMatrix(rows, (rows[:, 0] % 3 > 1), feature_types=["c", "q"], enable_categorical=True)
    booster = xgboost.train({"objective": "binary:logistic", "max_cat_to_onehot": 1}, data, 10)
    version = _push(tools, progress, bytes(booster.save_raw("ubj")))
    assert version.artifact.engine == "xgboost"
    assert version.lineage.conversion is not None
    assert "native categorical features" in version.lineage.conversion.why_native
    answer = _ask(tools, version, rows, tmp_path)
    np.testing.assert_allclose(answer["probabilities"][:, 1], booster.predict(data), atol=1e-6)


@pytest.mark.pushes("skops")
def test_what_onnx_answers_wrongly_is_served_natively(tools: Workshop, progress: Progress, tmp_path: Path) -> None:
    """sklearn-onnx#1253: a forest's ONNX form sends NaN to the other child."""
    model = RandomForestClassifier(10, random_state=0).fit(ROWS, CANCER.target)
    version = _push(tools, progress, skops.io.dumps(model))
    assert version.artifact.engine == "sklearn"
    assert version.lineage.conversion is not None
    assert "rows differently with missing values (NaN)" in version.lineage.conversion.why_native
    rows = ROWS.copy()
    rows[::2, ::3] = np.nan
    assert np.array_equal(_ask(tools, version, rows, tmp_path)["label"], model.predict(rows))


@pytest.mark.pushes("pickle")
def test_a_pickle_is_opened_only_if_allowed(tools: Workshop, progress: Progress, tmp_path: Path) -> None:
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(ROWS, CANCER.target)
    with pytest.raises(PickleRefused, match="is a pickle") as caught:
        _push(tools, progress, _dumped(model))
    assert "--allow-pickle" in caught.value.hint
    version = _push(tools, progress, _dumped(model), allow_pickle=True)
    assert version.artifact.engine == "onnx"
    np.testing.assert_allclose(_ask(tools, version, ROWS, tmp_path)["value"], model.predict(ROWS), atol=1e-4)
    assert [entry.path for entry in version.artifact.files] == ["model.onnx"]  # the pickle is never opened again


class _Crash:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("__import__('ctypes').string_at(0)",)


def test_a_process_that_dies_over_a_file_takes_nothing_along(tools: Workshop, progress: Progress) -> None:
    with pytest.raises(ConversionFailed, match="was ended by signal 11"):
        _push(tools, progress, pickle.dumps(_Crash()), allow_pickle=True)
