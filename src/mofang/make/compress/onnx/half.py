"""FP16: weights kept in 16 bits. They become floats again at every load, since CPUs compute halves slowly."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from mofang.make.compress.onnx.graph import after, folded, nothing
from mofang.make.compress.step import Half
from mofang.make.compress.subject import Means, Subject

_LEAST = 256  # numbers of a tensor, from which on it is worth an operator
_LARGEST = 65_504  # that has a half


def halve(step: Half, subject: Subject, means: Means) -> Subject:
    """Return ``subject`` with its large constants in 16 bits. Raises NoVariant if it has none."""
    del step  # it has no settings
    model = folded(subject, means)
    large = [each for each in model.graph.initializer if _has_half(each)]
    if not large:
        raise nothing(model, "halve")
    casts = []
    for each in large:
        values, name = numpy_helper.to_array(each).astype(np.float16), each.name
        half = f"{name}_half"
        each.CopyFrom(numpy_helper.from_array(values, half))
        casts.append(helper.make_node("Cast", [half], [name], name=f"{name}_float", to=TensorProto.FLOAT))
    rest = [*model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend([*casts, *rest])
    return after(subject, model, means)


def _has_half(tensor: Any) -> bool:
    if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims, dtype=np.int64) < _LEAST:
        return False
    return bool(np.abs(numpy_helper.to_array(tensor)).max() < _LARGEST)
