"""What all techniques on graphs need: a graph read, put in order, and written again."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, version_converter

from mofang.base.domain.errors import NoVariant
from mofang.make.compress.onnx.compact import compact
from mofang.make.compress.subject import Means, Subject

MODEL = "model.onnx"
_OPSET = 13  # the first whose integers may have a scale for each channel
_ALL = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
_LARGEST_FILE = 1_900_000_000  # bytes; a protobuf ends at 2 GB, and weights beyond it lie beside the graph
_TYPES = {"tensor(float)": TensorProto.FLOAT, "tensor(double)": TensorProto.DOUBLE, "tensor(int64)": TensorProto.INT64}
_WEIGHED = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}  # which input of a product has the weights


def load(folder: Path) -> Any:
    """Return the graph in ``folder``, with its weights."""
    return onnx.load(folder / MODEL)


def store(model: Any, folder: Path) -> None:
    """Write ``folder/model.onnx``, the same bytes for the same graph."""
    if model.ByteSize() > _LARGEST_FILE:
        onnx.save_model(model, folder / MODEL, save_as_external_data=True, location=f"{MODEL}.data")
        return
    (folder / MODEL).write_bytes(model.SerializeToString(deterministic=True))


def operators(model: Any) -> Counter[str]:
    """Count the operators of a graph by type."""
    return Counter(node.op_type for node in model.graph.node)


def products(model: Any) -> list[Any]:
    """Return the nodes that multiply with constant weights: what there is to quantise, in the graph's order."""
    constants = {each.name for each in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type in _WEIGHED and node.input[_WEIGHED[node.op_type]] in constants
    ]


def session(path: Path, level: Any = _ALL, target: Path | None = None) -> Any:
    """Load a graph with ONNX Runtime; ``target`` is where it is written as it is after optimising.

    Raises NoVariant if it cannot be loaded.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = level
    if target is not None:
        options.optimized_model_filepath = str(target)
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        raise NoVariant(f"ONNX Runtime cannot load the graph: {str(error).splitlines()[0]}") from error


def folded(subject: Subject, means: Means) -> Any:
    """Return the graph of ``subject``: constants folded, batch norms in convolutions, types known, nodes named."""
    assert subject.folder is not None
    path = means.scratch() / MODEL
    session(subject.folder / MODEL, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, path)
    return with_names(_typed(_modern(load(path.parent)), means.scratch()))


def with_names(model: Any) -> Any:
    """Give every node of ``model`` a name of its own, where it has none, and return it."""
    taken = Counter(node.name for node in model.graph.node)
    for index, node in enumerate(model.graph.node):
        if not node.name or taken[node.name] > 1:
            node.name = f"{node.op_type}_{index}"
    return model


def prefixed(folder: Path, prefix: str) -> None:
    """Let every name in ``folder/model.onnx`` begin with ``prefix``, those of inputs and outputs too."""
    store(onnx.compose.add_prefix(load(folder), prefix), folder)


def after(subject: Subject, model: Any, means: Means) -> Subject:
    """Return ``subject`` with the files of ``model``, made compact."""
    folder = means.scratch()
    store(compact(model), folder)
    # What the model was before is no longer what the files say.
    return replace(subject, folder=folder, model=None, framework="")


def nothing(model: Any, what: str) -> NoVariant:
    """Say that there is nothing to do in ``model``."""
    return NoVariant(
        f"there is nothing to {what}: the graph has no MatMul, Gemm or Conv with constant weights,"
        f" only {', '.join(sorted(operators(model)))}",
        hint="integers help neural networks; trees and linear models are small already",
    )


def _typed(model: Any, folder: Path) -> Any:
    """Write the types of all tensors into ``model``, as ONNX Runtime knows them."""
    known = {each.name for each in (*model.graph.input, *model.graph.output, *model.graph.value_info)}
    names = {name for node in model.graph.node for name in node.output if name} - known
    if not names:
        return model
    asked = copy.deepcopy(model)
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(names))
    store(asked, folder)
    for each in session(folder / MODEL, ort.GraphOptimizationLevel.ORT_DISABLE_ALL).get_outputs():
        if each.name in names and each.type in _TYPES:
            model.graph.value_info.append(
                helper.make_tensor_value_info(each.name, _TYPES[each.type], each.shape or None)
            )
    return model


def _modern(model: Any) -> Any:
    found = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), _OPSET)
    if found >= _OPSET:
        return model
    try:
        return version_converter.convert_version(model, _OPSET)
    except Exception as error:  # the converter raises what it likes
        raise NoVariant(
            f"the graph is of opset {found}, and cannot be raised to {_OPSET}: {str(error).splitlines()[0]}",
            hint=f"export it with opset {_OPSET} or later",
        ) from error
