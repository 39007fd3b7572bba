"""XGBoost boosters to ONNX. Called by the pipeline; ``parity.py`` proves that an engine answers as ``reference`` does.

onnxmltools reads a bare booster by guessing its objective from the statistics of its leaves, and now and then takes a
classifier for a regression. It is therefore given the estimator that fits the objective the booster itself names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from mofang.base.domain.errors import ConversionFailed, InvalidModel
from mofang.base.domain.tensors import Array, Signature
from mofang.base.domain.work import Progress
from mofang.base.engines.native import boosted_answers
from mofang.make.convert.attempt import Attempt, onnx_or_native, write_signature
from mofang.make.convert.bench import Made, Wishes
from mofang.make.convert.graph import boosted_signature, write_boosted
from mofang.make.convert.probes import table_trials

_OPSET = 15
_REGRESSIONS = ("reg:squarederror", "reg:squaredlogerror", "reg:absoluteerror", "reg:pseudohubererror")
_LOG_LINK = ("count:poisson", "reg:gamma", "reg:tweedie")


def to_onnx(booster: Any, folder: Path) -> Signature:
    """Write ``folder/model.onnx`` and return its signature; raise ConversionFailed for what has no ONNX form.

    Input ``features`` FP32 [n, d], missing values NaN; outputs ``label`` INT64 [n] (class indices) and
    ``probabilities`` FP32 [n, classes], or ``value`` FP32 [n]. The same booster gives the same bytes.
    """
    from onnxmltools.convert import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    classes = _classes(booster)
    if categories(booster):
        raise ConversionFailed("native categorical features of XGBoost cannot be converted", hint="encode them first")
    raw = booster.copy()
    raw.feature_names, raw.feature_types = None, None
    if classes > 2:  # the converter leaves out the softmax of multi:softmax, which differs in nothing else
        raw.set_param({"objective": "multi:softprob"})
    estimator = xgboost.XGBClassifier() if classes else xgboost.XGBRegressor()
    estimator.load_model(bytearray(raw.save_raw("ubj")))
    inputs = [("features", FloatTensorType([None, booster.num_features()]))]
    try:
        model = convert_xgboost(estimator, name="mofang", initial_types=inputs, target_opset=_OPSET)
    except (RuntimeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise ConversionFailed(f"the booster cannot be converted to ONNX: {str(error).splitlines()[0]}") from error
    write_boosted(model, classes, folder)
    return boosted_signature(booster.num_features(), classes)


def open_file(path: Path, target: Path, wishes: Wishes, progress: Progress) -> Made:
    """Open what ``save_model`` wrote (JSON or UBJSON) and write it as ONNX; what has no such form is kept as it is."""
    booster = xgboost.Booster({"nthread": 1})
    try:
        booster.load_model(bytearray(path.read_bytes()))
    except xgboost.core.XGBoostError as error:
        raise InvalidModel(
            f"XGBoost {xgboost.__version__} cannot read the model: {str(error).strip().splitlines()[-1][:200]}",
            hint="save it again with `save_model`, by the same version or an earlier one",
        ) from error
    return open_booster(booster, target, progress)


def open_booster(booster: Any, target: Path, progress: Progress, labels: tuple[str, ...] = ()) -> Made:
    """Write a booster as ONNX, or keep it for XGBoost's own engine."""
    return onnx_or_native(
        Attempt(
            write=lambda folder: to_onnx(booster, folder),
            source=lambda asked: reference(booster, asked["features"]),
            trials=table_trials(_places(booster), categories(booster)),
            keep=lambda folder: _keep(booster, folder),
            packages=("xgboost-cpu", "xgboost", "onnxmltools"),
            labels=labels,
        ),
        target,
        progress,
    )


def _keep(booster: Any, folder: Path) -> str:
    """Write what the engine of XGBoost loads, and return its name."""
    signature = boosted_signature(booster.num_features(), _classes(booster))
    (folder / "model.ubj").write_bytes(booster.save_raw("ubj"))
    write_signature(signature, folder)
    return "xgboost"


def categories(booster: Any) -> list[int]:
    """Return which columns hold codes of categories."""
    return [column for column, kind in enumerate(booster.feature_types or ()) if kind == "c"]


def _places(booster: Any) -> list[NDArray[np.float64]]:
    """Return the thresholds of every column, of categories the codes themselves."""
    names = booster.feature_names or [f"f{column}" for column in range(booster.num_features())]
    found: dict[str, set[float]] = {name: set() for name in names}

    def walk(node: dict[str, Any]) -> None:
        condition = node.get("split_condition")
        if condition is not None:
            found[node["split"]].update(condition if isinstance(condition, list) else [condition])
        for child in node.get("children", ()):
            walk(child)

    if json.loads(booster.save_config())["learner"]["gradient_booster"]["name"] != "gblinear":
        for tree in booster.get_dump(dump_format="json"):
            walk(json.loads(tree))
    return [np.array(sorted(found[name]), np.float64) for name in names]


def reference(booster: Any, features: NDArray[np.float32]) -> dict[str, Array]:
    """Return what the booster itself answers, by output."""
    types = booster.feature_types if categories(booster) else None
    rows = xgboost.DMatrix(
        features, feature_names=booster.feature_names, feature_types=types, enable_categorical=bool(types), nthread=1
    )
    classes = _classes(booster)
    if classes > 2:  # multi:softmax predicts labels alone
        margins = booster.predict(rows, output_margin=True).astype(np.float64)
        odds = np.exp(margins - margins.max(axis=1, keepdims=True))
        return boosted_answers(odds / odds.sum(axis=1, keepdims=True), classes)
    return boosted_answers(booster.predict(rows), classes)


def _classes(booster: Any) -> int:
    """Return how many classes the booster knows, 0 if it predicts a number."""
    learner = json.loads(booster.save_config())["learner"]
    objective, known = learner["objective"]["name"], learner["learner_model_param"]
    if int(known.get("num_target", "1")) > 1:
        raise ConversionFailed("a booster of several targets cannot be converted", hint="push one for each target")
    if objective == "binary:logistic":
        return 2
    if objective in ("multi:softprob", "multi:softmax"):
        return int(known["num_class"])
    if objective in (*_REGRESSIONS, *_LOG_LINK):
        return 0
    raise ConversionFailed(f"boosters of the objective {objective!r} cannot be converted")
