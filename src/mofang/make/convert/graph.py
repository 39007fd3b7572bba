"""What graphs of all converters have in common: the names and shapes of what they answer.

Called by the converters with the protobuf of a graph; it imports no framework itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import ConversionFailed
from mofang.base.domain.tensors import Array, Signature, TensorSpec

ToOnnx = Callable[[Any, Path], Signature]
"""Writes a trained model as ``model.onnx`` into a folder."""
Reference = Callable[[Any, NDArray[np.float32]], dict[str, Array]]
"""Returns what a trained model itself answers, by output."""
_FLOAT, _INT64, _BYTES = 1, 7, 8  # TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
_INT = 2  # AttributeProto.INT
_OVER_HALF = 0.500001  # sums of votes are rounded: what lies within a millionth of a half is a half, and no label


def regression_signature(features: int) -> Signature:
    """Return the signature of every regression made here: ``features`` FP32 [n, d] to ``value`` FP32 [n]."""
    return Signature((TensorSpec("features", "FP32", (-1, features)),), (TensorSpec("value", "FP32", (-1,)),))


def labels_signature(features: int, labels: int) -> Signature:
    """Return the signature of models of several labels: ``features`` to 0 or 1 and a probability for each of them."""
    outputs = (TensorSpec("labels", "INT64", (-1, labels)), TensorSpec("probabilities", "FP32", (-1, labels)))
    return Signature((TensorSpec("features", "FP32", (-1, features)),), outputs)


def label_answers(probabilities: NDArray[Any]) -> dict[str, Array]:
    """Name what a model of several labels predicts, [n, labels], as :func:`name_labels` has a graph answer it."""
    return {
        "labels": (probabilities > _OVER_HALF).astype(np.int64),
        "probabilities": probabilities.astype(np.float32, copy=False),
    }


def name_labels(graph: Any, labels: int) -> None:
    """Let a graph that answers ``probabilities`` [n, labels] also answer ``labels``, 1 where one is over a half."""
    half = graph.initializer.add(name="half", dims=[], data_type=_FLOAT)
    half.float_data.append(_OVER_HALF)
    graph.node.add(name="over_half", op_type="Greater", input=["probabilities", "half"], output=["is_over_half"])
    cast = graph.node.add(name="as_numbers", op_type="Cast", input=["is_over_half"], output=["labels"])
    cast.attribute.add(name="to", i=_INT64, type=_INT)
    (probabilities,) = [output for output in graph.output if output.name == "probabilities"]
    kept = [type(probabilities).FromString(probabilities.SerializeToString())]
    del graph.output[:]
    answered = graph.output.add(name="labels").type.tensor_type
    answered.elem_type = _INT64
    answered.shape.dim.add(dim_param="n")
    answered.shape.dim.add(dim_value=labels)
    graph.output.extend(kept)


def boosted_signature(features: int, classes: int) -> Signature:
    """Return the signature of boosted trees: of a regression if there are no classes, else of class indices."""
    if not classes:
        return regression_signature(features)
    outputs = (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, classes)))
    return Signature((TensorSpec("features", "FP32", (-1, features)),), outputs)


def write_boosted(model: Any, classes: int, folder: Path) -> None:
    """Give the graph of a boosting converter our outputs, and write ``folder/model.onnx``.

    Converters guess what a model is for; one that guessed otherwise is refused here.
    """
    names = [output.name for output in model.graph.output]
    if names != (["label", "probabilities"] if classes else ["variable"]):
        raise ConversionFailed(f"the converter took the model for another kind: it answers {', '.join(names)}")
    if classes:
        label = model.graph.output[0].type.tensor_type.shape
        del label.dim[:]
        label.dim.add(dim_param="n")  # onnxmltools declares one row for LightGBM, and the runtime complains of others
    else:
        name_value(model.graph)
    sort_opsets(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))


def name_value(graph: Any) -> None:
    """Let the graph answer ``value`` [n] in place of its one output [n, 1], whatever that is called."""
    (output,) = graph.output
    shape = graph.initializer.add(name="one_axis", dims=[1], data_type=_INT64)
    shape.int64_data.append(-1)
    graph.node.add(name="value_of_rows", op_type="Reshape", input=[output.name, "one_axis"], output=["value"])
    output.name = "value"
    del output.type.tensor_type.shape.dim[:]
    output.type.tensor_type.shape.dim.add(dim_param="n")


def name_winner(graph: Any) -> None:
    """Let a graph that answers ``probabilities`` [n, classes] also answer ``label`` [n], the first of the largest."""
    (probabilities,) = graph.output
    best = graph.node.add(name="winner", op_type="ArgMax", input=[probabilities.name], output=["label"])
    for name, value in (("axis", 1), ("keepdims", 0)):
        best.attribute.add(name=name, i=value, type=_INT)
    label = graph.output.add(name="label").type.tensor_type
    label.elem_type = _INT64
    label.shape.dim.add(dim_param="n")
    graph.output.sort(key=lambda output: output.name)


def take_rows(graph: Any, known: Sequence[str], inputs: Sequence[TensorSpec]) -> None:
    """Let a graph take ``inputs`` [n] where it takes columns [n, 1], called ``known``; texts of any locale."""
    columns = {name: f"column of {spec.name}" for name, spec in zip(known, inputs, strict=True)}
    for node in graph.node:
        node.input[:] = [columns.get(name, name) for name in node.input]
        if node.op_type == "StringNormalizer":  # the locale it asks for is not everywhere; this one is
            kept = [attribute for attribute in node.attribute if attribute.name != "locale"]
            del node.attribute[:]
            node.attribute.extend(kept)
            node.attribute.add(name="locale", s=b"C", type=3)
    shape = graph.initializer.add(name="one_column", dims=[2], data_type=_INT64)
    shape.int64_data.extend([-1, 1])
    first = []
    for column, spec in zip(columns.values(), inputs, strict=True):
        first.append(type(graph.node[0])(op_type="Reshape", name=column, input=[spec.name, "one_column"]))
        first[-1].output.append(column)
    nodes = [*first, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    for each, spec in zip(graph.input, inputs, strict=True):
        each.name, taken = spec.name, each.type.tensor_type
        taken.elem_type = _BYTES if spec.datatype == "BYTES" else _FLOAT
        del taken.shape.dim[:]
        taken.shape.dim.add(dim_param="n")


def sort_opsets(model: Any) -> None:
    """List every operator set once, in order: converters take them from a set, whose order changes from run to run."""
    versions = {opset.domain: opset.version for opset in sorted(model.opset_import, key=lambda opset: opset.version)}
    del model.opset_import[:]
    for domain in sorted(versions):
        model.opset_import.add(domain=domain, version=versions[domain])
