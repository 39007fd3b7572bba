"""INT8: products of 8-bit integers instead of floats.

Static: weights S8 with a scale for each channel, activations U8 (the pair that CPUs multiply fastest), written as
QuantizeLinear and DequantizeLinear around every operator, from which the engine makes integer kernels. Dynamic: ranges
of activations are found with every request, which pays for matrix products only.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from mofang.base.domain.errors import NoVariant
from mofang.make.compress.onnx.calibrate import ranges
from mofang.make.compress.onnx.equalise import corrected, equalised
from mofang.make.compress.onnx.graph import MODEL, after, folded, load, nothing, operators, products, store, with_names
from mofang.make.compress.onnx.infloat import left_in_float
from mofang.make.compress.onnx.sensitive import most_sensitive
from mofang.make.compress.onnx.tables import with_small_tables
from mofang.make.compress.step import Int8
from mofang.make.compress.subject import Means, Subject

_STATIC = [
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Relu", "Clip", "LeakyRelu", "MaxPool", "AveragePool",
    "GlobalAveragePool", "Concat", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze",
]  # fmt: skip
_CUTS = {"Relu", "Clip"}
_INTEGER_PRODUCTS = {"MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "ConvInteger"}


def quantise(step: Int8, subject: Subject, means: Means) -> Subject:
    """Return ``subject`` with integer products. Raises NoVariant if there is none to have, or no calibration row."""
    return (_dynamic if step.how == "dynamic" else _static)(step, subject, means)


def _dynamic(step: Int8, subject: Subject, means: Means) -> Subject:
    # Convolutions are left alone: dynamic INT8 makes them slower on CPUs.
    plain = ONNXModel(folded(subject, means))
    plain.replace_gemm_with_matmul()
    model = with_names(plain.model)
    names = [node.name for node in products(model) if node.op_type == "MatMul"]
    if not names:
        raise nothing(model, "quantise")

    def only(chosen: Sequence[str]) -> Any:
        return _with_lookup(model, chosen, means)

    kept = set(most_sensitive(model, names, only, step.in_float, means) if step.in_float else ())
    _check_left(names, kept)
    made = only([name for name in names if name not in kept])
    return _checked(subject, made, means, _INTEGER_PRODUCTS)


def _with_lookup(model: Any, chosen: Sequence[str], means: Means) -> Any:
    """Return ``model`` with products of integers at the ``chosen`` nodes, whose ranges are looked up each time."""
    source, target = means.scratch(), means.scratch()
    store(model, source)
    try:
        with _quiet():
            quantize_dynamic(
                source / MODEL,
                target / MODEL,
                nodes_to_quantize=[*chosen],
                op_types_to_quantize=["MatMul"],
                weight_type=QuantType.QInt8,
                per_channel=True,
                # Types are inferred for the core operators only: what comes after another (an imputer, say) has none.
                # It is that of the weights.
                extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
            )
    except (ValueError, RuntimeError, TypeError) as error:
        raise NoVariant(f"the model cannot be quantised: {error}") from error
    return load(target)


def _static(step: Int8, subject: Subject, means: Means) -> Subject:
    model = folded(subject, means)
    names = [node.name for node in products(model)]
    if not names:
        raise nothing(model, "quantise")
    if step.equalised:
        model = equalised(model, means)
    known = ranges(model, step.calibration, _STATIC, means)
    apart = [node.name for node in model.graph.node if node.op_type == "MatMul" and node.name not in set(names)]

    def only(chosen: Sequence[str]) -> Any:
        return _with_scales(model, known, operators=_STATIC, only=_with_cuts(model, chosen))

    kept = most_sensitive(model, names, only, step.in_float, means) if step.in_float else []
    _check_left(names, kept)
    if step.equalised:
        model = corrected(model, set(names) - set(kept), means)
    made = _with_scales(model, known, operators=_STATIC, apart=[*apart, *_with_cuts(model, kept)])
    return _checked(subject, made, means, {"QuantizeLinear"})


def _with_cuts(model: Any, chosen: Sequence[str]) -> list[str]:
    """Return ``chosen`` nodes and those right after them that cut what they compute: one range holds for both."""
    computed = {name for node in model.graph.node if node.name in set(chosen) for name in node.output}
    cuts = [node.name for node in model.graph.node if node.op_type in _CUTS and node.input[0] in computed]
    return [*chosen, *cuts]


def _with_scales(
    model: Any, known: Any, *, operators: list[str], only: Sequence[str] = (), apart: Sequence[str] = ()
) -> Any:
    """Return ``model`` with QuantizeLinear and DequantizeLinear around its operators, or around those in ``only``."""
    with _quiet():
        quantizer = QDQQuantizer(
            copy.deepcopy(model),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=known,
            nodes_to_quantize=[*only],
            nodes_to_exclude=[*apart],
            op_types_to_quantize=operators,
            extra_options={"QuantizeBias": False},  # the engine does, as it loads: here they take a third of the bytes
        )
        quantizer.quantize_model()
    return left_in_float(quantizer.model.model)


def _checked(subject: Subject, made: Any, means: Means, needed: Collection[str]) -> Subject:
    if not operators(made).keys() & set(needed):
        raise nothing(made, "quantise")
    return after(subject, with_small_tables(made), means)


def _check_left(names: Sequence[str], kept: Collection[str]) -> None:
    if len(kept) == len(names):
        raise NoVariant(f"all {len(names)} layers would stay in float", hint="keep fewer of them")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantisers from logging what is no news to the reader of a job."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
