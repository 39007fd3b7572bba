"""INT4: weights of matrix products in 4 bits, with a scale for each block of them; products are of 8-bit integers."""

from __future__ import annotations

import logging

from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.quantization.onnx_model import ONNXModel

from mofang.base.domain.errors import NoVariant
from mofang.make.compress.onnx.graph import after, folded, nothing, operators, with_names
from mofang.make.compress.onnx.tables import with_small_tables
from mofang.make.compress.step import Int4
from mofang.make.compress.subject import Means, Subject

_INTEGERS = 4  # accuracy level of the operator: activations become 8-bit integers


def quantise(step: Int4, subject: Subject, means: Means) -> Subject:
    """Return ``subject`` with weights of MatMul and Gemm in 4 bits. Raises NoVariant if it has none."""
    plain = ONNXModel(folded(subject, means))
    plain.replace_gemm_with_matmul()
    model = with_names(plain.model)
    logging.disable(logging.WARNING)
    try:
        quantizer = MatMulNBitsQuantizer(
            model, bits=4, block_size=step.block, is_symmetric=True, accuracy_level=_INTEGERS
        )
        quantizer.process()
    except (ValueError, RuntimeError, TypeError) as error:
        raise NoVariant(f"the model cannot be quantised: {error}") from error
    finally:
        logging.disable(logging.NOTSET)
    made = quantizer.model.model
    if "MatMulNBits" not in operators(made):
        raise nothing(made, "keep in 4 bits")
    return after(subject, with_small_tables(made), means)
