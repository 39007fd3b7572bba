"""scikit-learn pipelines to artifacts: ONNX with the preprocessing inside the graph, or skops for native serving.

Called by the pipeline; ``parity.py`` then proves that an engine answers as :func:`reference` does.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import ConversionFailed, InvalidModel, MofangError, PickleRefused
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.base.domain.work import Progress
from mofang.base.engines.native import TRUSTED_TYPES
from mofang.make.convert import trees
from mofang.make.convert.attempt import Attempt, onnx_or_native
from mofang.make.convert.bench import Made, Wishes
from mofang.make.convert.columns.sklearn import Columns, columns_of
from mofang.make.convert.estimators import places
from mofang.make.convert.graph import (
    labels_signature,
    name_labels,
    name_value,
    regression_signature,
    sort_opsets,
    take_rows,
)
from mofang.make.convert.probes import table_trials
from mofang.make.convert.texts import sklearn as texts

_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def to_onnx(pipeline: Any, folder: Path) -> Signature:
    """Write ``folder/model.onnx`` and return its signature. The same pipeline gives the same bytes.

    Input ``features`` FP32 [n, d]; outputs ``label`` INT64 [n] (BYTES where classes are texts) and ``probabilities``
    FP32 [n, classes], or of a regression ``value`` FP32 [n]. Raises ConversionFailed if a step has no ONNX form.
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator
    from sklearn.preprocessing import StandardScaler

    signature = _signature(pipeline)
    # Without "div" a scaler multiplies by the reciprocal: values move by one unit in the last place, across the
    # thresholds of a tree that follows, and labels change.
    options: dict[Any, Any] = {StandardScaler: {"div": "div"}}
    if hasattr(pipeline, "classes_"):
        options[id(pipeline)] = {"zipmap": False}
    inputs = [("features", FloatTensorType([None, pipeline.n_features_in_]))]
    try:
        model = convert_sklearn(pipeline, name="mofang", initial_types=inputs, options=options)
    except (MissingConverter, MissingShapeCalculator, NameError, RuntimeError, NotImplementedError) as error:
        raise ConversionFailed(f"the pipeline cannot be converted to ONNX: {_first_line(error)}") from error
    _write(model, pipeline, folder)
    return signature


def _write(model: Any, pipeline: Any, folder: Path) -> None:
    """Give what the converter made our outputs, mend it, and write ``folder/model.onnx``."""
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

    if is_multilabel(pipeline):
        name_labels(model.graph, len(pipeline.classes_))
    elif isinstance(pipeline[-1], RandomForestClassifier | ExtraTreesClassifier):
        _vote_for_both_classes(model.graph)
    _leave_out_zeros(model.graph)
    if not hasattr(pipeline, "classes_"):
        name_value(model.graph)
    sort_opsets(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))


def save(pipeline: Any, folder: Path, signature: Signature | None = None) -> Signature:
    """Write ``folder/model.skops`` and ``folder/signature.json`` for the sklearn engine; return the signature.

    The same pipeline gives the same bytes.
    """
    from skops.io import dumps

    signature = signature or _signature(pipeline)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.skops").write_bytes(_canonical(dumps(pipeline)))
    (folder / "signature.json").write_text(json.dumps(asdict(signature), indent=2) + "\n", "utf-8")
    return signature


def open_skops(path: Path, target: Path, wishes: Wishes, progress: Progress) -> Made:
    """Open a skops file and write its estimator as ONNX, or keep it for the engine of scikit-learn.

    Only scikit-learn's own types, and the plain data inside them, are constructed. Raises InvalidModel for others.
    """
    from skops import io as skops_io

    try:
        untrusted = skops_io.get_untrusted_types(file=path)
        strange = sorted(set(untrusted) - TRUSTED_TYPES)
        model = None if strange else skops_io.load(path, trusted=untrusted)
    except Exception as error:  # a damaged archive raises anything
        raise InvalidModel(f"the skops file cannot be read: {_first_line(error)}", hint="save it again") from error
    if strange:
        raise InvalidModel(
            f"the skops file holds {strange[0]!r}, which is not loaded", hint="convert the model to ONNX instead"
        )
    return _open(model, target, progress)


def open_pickle(path: Path, target: Path, wishes: Wishes, progress: Progress) -> Made:
    """Run a pickle, also one of joblib, and write the estimator it makes as ONNX or skops.

    Whatever it does while it is opened, it does here, locked in; no other process ever opens it.
    """
    import joblib

    if not wishes.allow_pickle:
        raise PickleRefused(f"{path.name!r} is a pickle: opening it runs whatever program its maker put into it")
    try:
        model = joblib.load(path)
    except MofangError:
        raise
    except BaseException as error:  # it is a program, and may raise anything, also SystemExit
        raise InvalidModel(
            f"the pickle cannot be opened: {type(error).__name__}: {_first_line(error)}",
            hint="it may need packages or rights that it does not get here; save the model with skops, or as ONNX",
        ) from error
    if hasattr(model, "get_booster"):
        from mofang.make.convert import xgboost

        return xgboost.open_booster(model.get_booster(), target, progress, _texts(model))
    if hasattr(model, "booster_"):
        from mofang.make.convert import lightgbm

        return lightgbm.open_booster(model.booster_, target, progress, _texts(model))
    return _open(model, target, progress)


def _open(model: Any, target: Path, progress: Progress) -> Made:
    from sklearn.base import BaseEstimator
    from sklearn.pipeline import Pipeline, make_pipeline

    if texts.reads_texts(model):
        return _open_texts(model, target, progress)
    if (columns := columns_of(model)) is not None:
        return _open_columns(columns, target, progress)
    if not isinstance(model, BaseEstimator) or not hasattr(model, "n_features_in_"):
        raise InvalidModel(
            f"the file holds a {type(model).__module__}.{type(model).__qualname__}, no fitted scikit-learn estimator",
            hint="push a fitted estimator or pipeline; other frameworks have file formats of their own",
        )
    pipeline = model if isinstance(model, Pipeline) else make_pipeline(model)
    return onnx_or_native(
        Attempt(
            write=lambda folder: to_onnx(pipeline, folder),
            source=lambda asked: reference(pipeline, asked["features"]),
            trials=table_trials(places(pipeline)),
            keep=lambda folder: "sklearn" if save(pipeline, folder) else "",
            packages=("scikit-learn", "skl2onnx"),
            labels=_texts(pipeline),
        ),
        target,
        progress,
    )


def _open_texts(pipeline: Any, target: Path, progress: Progress) -> Made:
    signature = texts.signature(_outputs(pipeline))
    return onnx_or_native(
        Attempt(
            write=lambda folder: texts.write(pipeline, signature, folder),
            source=lambda asked: reference(pipeline, texts.strings(asked)),
            trials=texts.trials(pipeline),
            keep=lambda folder: "sklearn" if save(pipeline, folder, signature) else "",
            packages=("scikit-learn", "skl2onnx"),
            labels=_texts(pipeline),
        ),
        target,
        progress,
    )


def _open_columns(columns: Columns, target: Path, progress: Progress) -> Made:
    signature = Signature(columns.inputs, _outputs(columns.pipeline))
    return onnx_or_native(
        Attempt(
            write=lambda folder: _columns_to_onnx(columns, folder),
            source=lambda asked: reference(columns.pipeline, columns.rows(asked)),
            trials=columns.trials(),
            keep=lambda folder: "sklearn" if save(columns.pipeline, folder, signature) else "",
            packages=("scikit-learn", "skl2onnx"),
            labels=_texts(columns.pipeline),
        ),
        target,
        progress,
    )


def _columns_to_onnx(columns: Columns, folder: Path) -> None:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.preprocessing import StandardScaler

    pipeline = columns.pipeline
    options: dict[Any, Any] = {StandardScaler: {"div": "div"}}
    if hasattr(pipeline, "classes_"):
        options[id(pipeline)] = {"zipmap": False}
    for counter in columns.counters():
        options |= texts.splitting(counter)
    kinds = {"BYTES": StringTensorType, "FP32": FloatTensorType}
    known = [f"c{at}" for at in range(len(columns.inputs))]
    given = [(name, kinds[spec.datatype]([None, 1])) for name, spec in zip(known, columns.inputs, strict=True)]
    try:
        model = convert_sklearn(pipeline, "mofang", given, options=options)
    except Exception as error:  # converters raise whatever they like of what they do not know
        raise ConversionFailed(f"the pipeline cannot be converted to ONNX: {_first_line(error)}") from error
    take_rows(model.graph, known, columns.inputs)
    _write(model, pipeline, folder)


def _texts(model: Any) -> tuple[str, ...]:
    return tuple(str(each) for each in getattr(model, "classes_", ()))


def reference(pipeline: Any, features: NDArray[np.float32] | list[str]) -> dict[str, Array]:
    """Return what the pipeline itself answers, by output; raise ValueError for features it refuses."""
    label = pipeline.predict(features)
    if is_multilabel(pipeline):
        found = pipeline.predict_proba(features).astype(np.float32)
        return {"labels": np.asarray(label, np.int64), "probabilities": found}
    if not hasattr(pipeline, "classes_"):
        return {"value": label.astype(np.float32).reshape(-1)}
    if label.dtype.kind in "biu":
        label = label.astype(np.int64)
    else:
        label = np.array([str(each).encode() for each in label], dtype=np.object_)
    return {"label": label, "probabilities": pipeline.predict_proba(features).astype(np.float32)}


def is_multilabel(pipeline: Any) -> bool:
    """Tell whether a fitted pipeline answers any number of labels for a row, with one array of probabilities."""
    binarizer = getattr(pipeline[-1], "label_binarizer_", None) or getattr(pipeline[-1], "_label_binarizer", None)
    return getattr(binarizer, "y_type_", "") == "multilabel-indicator"


def _signature(pipeline: Any) -> Signature:
    from sklearn.base import is_regressor

    if is_multilabel(pipeline):
        return labels_signature(int(pipeline.n_features_in_), len(pipeline.classes_))
    if is_regressor(pipeline):
        return regression_signature(int(pipeline.n_features_in_))
    return Signature((TensorSpec("features", "FP32", (-1, int(pipeline.n_features_in_))),), _outputs(pipeline))


def _outputs(pipeline: Any) -> tuple[TensorSpec, ...]:
    from sklearn.base import is_regressor

    if is_regressor(pipeline):
        return (TensorSpec("value", "FP32", (-1,)),)
    if not hasattr(pipeline, "predict_proba") or not hasattr(pipeline, "classes_"):
        raise ConversionFailed("the pipeline is not a fitted classifier with probabilities", hint="fit it first")
    classes = np.asarray(pipeline.classes_)
    return (
        TensorSpec("label", "INT64" if classes.dtype.kind in "biu" else "BYTES", (-1,)),
        TensorSpec("probabilities", "FP32", (-1, len(classes))),
    )


def _vote_for_both_classes(graph: Any) -> None:
    """Let a forest of two classes count the votes for each, and take the first class with the most.

    skl2onnx keeps the votes for the second class alone. Their sum is compared with one half, and rounding lifts it over
    that where the trees are split evenly: such rows got the second class, and get the first from scikit-learn.
    """
    from skl2onnx.proto import onnx_proto

    forest = next(node for node in graph.node if node.op_type == "TreeEnsembleClassifier")
    votes = {each.name: each for each in forest.attribute if each.name.startswith("class")}
    if len(set(votes["class_ids"].ints)) != 1:
        return
    weights, count = votes["class_weights"].floats, len(votes["class_ids"].ints)
    each_tree = np.float32(1 / len(set(votes["class_treeids"].ints)))
    weights.extend([float(each_tree - np.float32(weight)) for weight in weights])
    votes["class_ids"].ints[:] = [1] * count + [0] * count
    for name in ("class_treeids", "class_nodeids"):
        votes[name].ints.extend(list(votes[name].ints))
    label, forest.output[0] = forest.output[0], "label_by_half"
    most = graph.node.add(name="most_votes", op_type="ArgMax", input=[forest.output[1]], output=["winner"])
    for name, value in (("axis", 1), ("keepdims", 0)):
        most.attribute.add(name=name, i=value, type=onnx_proto.AttributeProto.INT)
    classes = graph.initializer.add(name="classes", dims=[2])
    if "classlabels_strings" in votes:
        classes.data_type = onnx_proto.TensorProto.STRING
        classes.string_data.extend(votes["classlabels_strings"].strings)
    else:
        classes.data_type = onnx_proto.TensorProto.INT64
        classes.int64_data.extend(votes["classlabels_int64s"].ints)
    graph.node.add(name="winning_class", op_type="Gather", input=["classes", "winner"], output=[label])


def _leave_out_zeros(graph: Any) -> None:
    """Drop votes of zero: skl2onnx writes one for every class in every leaf, most of a forest's file."""
    for node in graph.node:
        found = trees.read(node)
        if found is not None:
            trees.write(trees.without_zeros(found), node)


def _canonical(archive: bytes) -> bytes:
    """Return a skops archive without what changes from run to run: addresses of objects, and times."""
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    schema = json.loads(files.pop("schema.json"))
    ids: dict[int, int] = {}
    names: dict[str, str] = {}
    _renumber(schema, ids, names)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as packed:
        packed.writestr(zipfile.ZipInfo("schema.json", _LONG_AGO), json.dumps(schema))
        for old, new in names.items():
            packed.writestr(zipfile.ZipInfo(new, _LONG_AGO), files[old])
    return target.getvalue()


def _renumber(node: Any, ids: dict[int, int], names: dict[str, str]) -> None:
    """Replace addresses by counting, and the names of files, which are addresses too, likewise."""
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _renumber(part, ids, names)
    if not isinstance(node, dict):
        return
    if isinstance(node.get("__id__"), int):
        node["__id__"] = ids.setdefault(node["__id__"], len(ids))
    if isinstance(node.get("file"), str):
        node["file"] = names.setdefault(node["file"], f"{len(names)}{Path(node['file']).suffix}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
