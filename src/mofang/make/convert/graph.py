"""What graphs of all converters have in common: the names and shapes of what they answer.

Called by the converters with the protobuf of a graph; it imports no framework itself.
"""

from __future__ import annotations

from typing import Any

from mofang.base.domain.tensors import Signature, TensorSpec


def regression_signature(features: int) -> Signature:
    """Return the signature of every regression made here: ``features`` FP32 [n, d] to ``value`` FP32 [n]."""
    return Signature((TensorSpec("features", "FP32", (-1, features)),), (TensorSpec("value", "FP32", (-1,)),))


def name_value(graph: Any) -> None:
    """Let the graph answer ``value`` [n] in place of its one output [n, 1], whatever that is called."""
    (output,) = graph.output
    shape = graph.initializer.add(name="one_axis", dims=[1], data_type=7)  # TensorProto.INT64
    shape.int64_data.append(-1)
    graph.node.add(name="value_of_rows", op_type="Reshape", input=[output.name, "one_axis"], output=["value"])
    output.name = "value"
    rows = output.type.tensor_type.shape.dim[0]
    del output.type.tensor_type.shape.dim[:]
    output.type.tensor_type.shape.dim.add(dim_param=rows.dim_param or "n")
