"""LightGBM boosters to ONNX. Called by the pipeline; ``parity.py`` proves that an engine answers as ``reference`` does.

LightGBM compares with thresholds in double precision, ONNX in single: a threshold that rounds up would let values pass
that LightGBM stops, so that each is rounded down instead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import ConversionFailed, InvalidModel
from mofang.base.domain.tensors import Array, Signature
from mofang.base.domain.work import Progress
from mofang.base.engines.native import boosted_answers
from mofang.make.convert.attempt import Attempt, onnx_or_native
from mofang.make.convert.bench import Made, Wishes
from mofang.make.convert.graph import boosted_signature, write_boosted
from mofang.make.convert.probes import table_trials

_OPSET = 15
_REGRESSIONS = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "poisson", "gamma", "tweedie")


def to_onnx(booster: Any, folder: Path) -> Signature:
    """Write ``folder/model.onnx`` and return its signature; raise ConversionFailed for what has no ONNX form.

    Input ``features`` FP32 [n, d], missing values NaN; outputs ``label`` INT64 [n] (class indices) and
    ``probabilities`` FP32 [n, classes], or ``value`` FP32 [n]. The same booster gives the same bytes.
    """
    from onnxmltools.convert import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    dump = booster.dump_model()
    classes = _classes(dump)
    inputs = [("features", FloatTensorType([None, booster.num_feature()]))]
    try:
        model = convert_lightgbm(booster, name="mofang", initial_types=inputs, zipmap=False, target_opset=_OPSET)
    except (RuntimeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise ConversionFailed(f"the booster cannot be converted to ONNX: {str(error).splitlines()[0]}") from error
    _round_down(model.graph, dump)
    write_boosted(model, classes, folder)
    return boosted_signature(booster.num_feature(), classes)


def open_file(path: Path, target: Path, wishes: Wishes, progress: Progress) -> Made:
    """Open what ``Booster.save_model`` wrote and write it as ONNX. Raises InvalidModel for a damaged file."""
    import lightgbm

    try:
        booster = lightgbm.Booster(model_str=path.read_text("utf-8"))
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError, ValueError) as error:
        raise InvalidModel(
            f"LightGBM {lightgbm.__version__} cannot read the model: {str(error).splitlines()[0][:200]}",
            hint="save it again with `Booster.save_model`",
        ) from error
    return open_booster(booster, target, progress)


def open_booster(booster: Any, target: Path, progress: Progress, labels: tuple[str, ...] = ()) -> Made:
    """Write a booster as ONNX."""
    dump = booster.dump_model()
    places: list[set[float]] = [set() for _ in range(booster.num_feature())]
    categories: set[int] = set()
    for tree in dump["tree_info"]:
        for feature, kind, value in _splits(tree["tree_structure"]):
            places[feature].update([float(value)] if kind == "<=" else map(float, str(value).split("||")))
            categories.update({feature} if kind == "==" else ())
    return onnx_or_native(
        Attempt(
            write=lambda folder: to_onnx(booster, folder),
            source=lambda asked: reference(booster, asked["features"]),
            trials=table_trials([np.array(sorted(each), np.float64) for each in places], sorted(categories)),
            keep=None,
            packages=("lightgbm", "onnxmltools"),
            labels=labels,
        ),
        target,
        progress,
    )


def reference(booster: Any, features: NDArray[np.float32]) -> dict[str, Array]:
    """Return what the booster itself answers, by output."""
    return boosted_answers(np.asarray(booster.predict(features, num_threads=1)), _classes(booster.dump_model()))


def _classes(dump: Mapping[str, Any]) -> int:
    """Return how many classes the booster knows, 0 if it predicts a number."""
    objective = str(dump.get("objective", "")).partition(" ")[0]
    if objective == "binary":
        return 2
    if objective in ("multiclass", "multiclassova"):
        return int(dump["num_class"])
    if objective in _REGRESSIONS:
        return 0
    raise ConversionFailed(f"boosters of the objective {objective or 'unknown'!r} cannot be converted")


def _round_down(graph: Any, dump: Mapping[str, Any]) -> None:
    """Lower every threshold that lies above the double it came from to the next smaller number."""
    exact: dict[tuple[int, float], set[float]] = defaultdict(set)
    for tree in dump["tree_info"]:
        for feature, threshold in _thresholds(tree["tree_structure"]):
            with np.errstate(over="ignore"):  # missing values alone are split at the largest of doubles
                exact[feature, float(np.float32(threshold))].add(threshold)
    for node in graph.node:
        found = {attribute.name: attribute for attribute in node.attribute}
        if "nodes_values" not in found:
            continue
        modes, features = found["nodes_modes"].strings, found["nodes_featureids"].ints
        values = found["nodes_values"].floats
        for index, value in enumerate(values):
            doubles = exact.get((features[index], value), set())
            if modes[index] == b"BRANCH_LEQ" and doubles and max(doubles) < value:
                values[index] = float(np.nextafter(np.float32(value), np.float32(-np.inf)))


def _thresholds(node: Mapping[str, Any]) -> Iterator[tuple[int, float]]:
    return ((feature, float(value)) for feature, kind, value in _splits(node) if kind == "<=")


def _splits(node: Mapping[str, Any]) -> Iterator[tuple[int, str, Any]]:
    """Yield feature, kind and value of every split: a threshold, or codes of categories joined by ``||``."""
    if "split_feature" not in node:
        return
    yield int(node["split_feature"]), node["decision_type"], node["threshold"]
    for side in ("left_child", "right_child"):
        yield from _splits(node[side])
