"""CatBoost files (cbm) to ONNX, by CatBoost's own exporter; models with categories are kept for CatBoost's engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import catboost
import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import ConversionFailed, InvalidModel
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.base.domain.work import Progress
from mofang.base.engines.native import boosted_answers
from mofang.make.convert.attempt import Attempt, onnx_or_native, write_signature
from mofang.make.convert.bench import Made, Wishes
from mofang.make.convert.graph import boosted_signature, name_value, sort_opsets
from mofang.make.convert.onnx import rewrite
from mofang.make.convert.probes import table_trials

_CLASSIFIERS = ("Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll")


def open_file(path: Path, target: Path, wishes: Wishes, progress: Progress) -> Made:
    """Open what ``save_model`` wrote in the format cbm."""
    model = catboost.CatBoost()
    try:
        model.load_model(str(path), format="cbm")
    except catboost.CatBoostError as error:
        raise InvalidModel(
            f"CatBoost {catboost.__version__} cannot read the model: {str(error).splitlines()[-1][:200]}",
            hint="save it again with `save_model(path)`",
        ) from error
    if model.get_text_feature_indices() or model.get_embedding_feature_indices():
        raise InvalidModel("the model takes texts or embeddings", hint="only numbers and categories can be served")
    classes = [str(each) for each in model.classes_] if _is_classifier(model) else []
    columns = len(model.feature_names_)
    borders = model.get_borders()
    places = [np.array(borders.get(column, ()), np.float64) for column in range(columns)]
    return onnx_or_native(
        Attempt(
            write=lambda folder: _to_onnx(model, len(classes), folder),
            source=lambda asked: reference(model, asked["features"], len(classes)),
            trials=table_trials(places),
            keep=lambda folder: _keep(model, path, len(classes), folder),
            packages=("catboost",),
            labels=tuple(classes),
        ),
        target,
        progress,
    )


def to_onnx(model: Any, folder: Path) -> Signature:
    """Write ``folder/model.onnx`` and return its signature; raise ConversionFailed for what has no ONNX form.

    Input ``features`` FP32 [n, d], missing values NaN; outputs ``label`` INT64 [n] (class indices) and
    ``probabilities`` FP32 [n, classes], or ``value`` FP32 [n]. The same model gives the same bytes.
    """
    classes = len(model.classes_) if _is_classifier(model) else 0
    folder.mkdir(parents=True, exist_ok=True)
    _to_onnx(model, classes, folder)
    return boosted_signature(len(model.feature_names_), classes)


def source(model: Any, features: NDArray[np.float32]) -> dict[str, Array]:
    """Return what a model that was trained here answers, by output."""
    return reference(model, features, len(model.classes_) if _is_classifier(model) else 0)


def reference(model: Any, features: NDArray[Any], classes: int) -> dict[str, Array]:
    """Return what the model itself answers, by output; classes are indices."""
    kind = "Probability" if classes else "RawFormulaVal"
    return boosted_answers(np.asarray(model.predict(features, prediction_type=kind, thread_count=1)), classes)


def _is_classifier(model: Any) -> bool:
    loss = str(model.get_all_params().get("loss_function", "")).partition(":")[0]
    return loss in _CLASSIFIERS


def _to_onnx(model: Any, classes: int, folder: Path) -> None:
    if model.get_cat_feature_indices():
        raise ConversionFailed("categorical features of CatBoost have no ONNX form", hint="")
    path = folder / "model.onnx"
    try:
        model.save_model(str(path), format="onnx", export_parameters={"onnx_graph_name": "mofang"})
    except catboost.CatBoostError as error:
        raise ConversionFailed(f"CatBoost cannot export the model: {str(error).splitlines()[-1][:200]}") from error

    def finish(made: Any) -> None:
        _rename(made.graph, classes)
        del made.metadata_props[:]  # when it was trained, and a number drawn for it
        sort_opsets(made)

    rewrite(path, finish)


def _rename(graph: Any, classes: int) -> None:
    """Give the exporter's graph our outputs: probabilities as one tensor, labels as indices of classes."""
    if not classes:
        name_value(graph)
        return
    (forest,) = (node for node in graph.node if node.op_type == "TreeEnsembleClassifier")
    forest.output[:] = ["named", "probabilities"]
    for attribute in list(forest.attribute):
        if attribute.name.startswith("classlabels"):
            forest.attribute.remove(attribute)
    forest.attribute.add(name="classlabels_int64s", ints=range(classes), type=7)
    del graph.node[:], graph.output[:]
    graph.node.append(forest)
    graph.node.add(name="winner", op_type="Identity", input=["named"], output=["label"])
    for name, kind, dims in (("label", 7, ("n",)), ("probabilities", 1, ("n", classes))):
        declared = graph.output.add(name=name).type.tensor_type
        declared.elem_type = kind
        for size in dims:
            declared.shape.dim.add(**({"dim_param": size} if isinstance(size, str) else {"dim_value": size}))


def _keep(model: Any, path: Path, classes: int, folder: Path) -> str:
    """Write what the engine of CatBoost loads, and return its name: numbers and categories are inputs of their own."""
    columns, categories = len(model.feature_names_), len(model.get_cat_feature_indices())
    plain = boosted_signature(columns - categories, classes)
    given = [*plain.inputs] if columns > categories else []
    if categories:
        given.append(TensorSpec("categories", "BYTES", (-1, categories)))
    (folder / "model.cbm").write_bytes(path.read_bytes())
    write_signature(Signature(tuple(given), plain.outputs), folder)
    return "catboost"
