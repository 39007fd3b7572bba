"""Dynamic INT8: weights of matrix products as 8-bit integers, activations quantised as they come.

Called by the pipeline on the folder of an ONNX version. It writes the smaller graph and judges nothing: whether it is
good enough is measured elsewhere.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from mofang.base.domain.errors import NoVariant

TECHNIQUE = "int8-dynamic"
# Convolutions are left alone: dynamic INT8 makes them slower on CPUs.
_QUANTISED = ["MatMul", "Gemm"]
_INTEGER_PRODUCTS = {"MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"}


def quantise(source: Path, target: Path) -> None:
    """Write ``target/model.onnx``, the INT8 form of ``source/model.onnx``; raise NoVariant if nothing can be."""
    before = _operators(source / "model.onnx")
    if not before.keys() & set(_QUANTISED):
        raise _nothing(before)
    try:
        quantize_dynamic(
            source / "model.onnx",
            target / "model.onnx",
            op_types_to_quantize=_QUANTISED,
            weight_type=QuantType.QInt8,
            per_channel=True,
            # Types are inferred for the core operators only: what comes after another (an imputer, say) has none. It is
            # that of the weights.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    except (ValueError, RuntimeError, TypeError) as error:
        raise NoVariant(f"the model cannot be quantised: {error}") from error
    if not _operators(target / "model.onnx").keys() & _INTEGER_PRODUCTS:
        raise _nothing(before)


def _operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)


def _nothing(operators: Counter[str]) -> NoVariant:
    return NoVariant(
        "there is nothing to quantise: the graph has no MatMul or Gemm with constant weights,"
        f" only {', '.join(sorted(operators))}",
        hint="INT8 helps neural networks; trees and linear models are small already",
    )
