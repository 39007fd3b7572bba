"""Stored rows as a client would send them: what evaluation and the parity proof ask a model with.

It knows signatures, not engines.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.tensors import NUMPY, Array, Signature, TensorSpec
from mofang.make.prepare.columns import Column
from mofang.make.prepare.dataset import Examples
from mofang.make.prepare.encode import Texts, strings


def feed(examples: Examples, signature: Signature) -> dict[str, Array]:
    """Return ``examples`` as the inputs of a model of ``signature``, n rows each.

    Images become PNG files where the model takes files; of a table with ``schema.columns`` every column becomes an
    input. Raises InvalidModel if the model takes something else.
    """
    inputs, schema = signature.inputs, examples.schema
    features = examples.features.reshape(len(examples.features), -1)
    if schema.columns:
        if [spec.datatype for spec in inputs] != [datatype(column) for column in schema.columns]:
            columns = ", ".join(f"{column.name} ({column.kind})" for column in schema.columns)
            raise _unfit(f"the data has columns {columns}", signature)
        pairs = enumerate(zip(inputs, schema.columns, strict=True))
        return {spec.name: _column(features[:, index], column, examples.texts) for index, (spec, column) in pairs}
    spec = inputs[0]
    if len(inputs) == 1 and spec.datatype == "BYTES" and schema.shape and spec.shape in ((-1,), (-1, 1)):
        return {spec.name: _files(features, schema.shape).reshape(-1, *spec.shape[1:])}
    rest = spec.shape[1:]
    fits = rest == (-1,) or (all(dim >= 0 for dim in rest) and int(np.prod(rest)) == schema.features)
    if len(inputs) > 1 or spec.datatype == "BYTES" or spec.shape[:1] not in ((-1,), (1,)) or not fits:
        raise _unfit(f"the data has rows of {schema.features} numbers", signature)
    inner = rest if rest != (-1,) else (schema.features,)
    return {spec.name: np.ascontiguousarray(features, dtype=NUMPY[spec.datatype]).reshape(-1, *inner)}


def datatype(column: Column) -> str:
    """Return the datatype of the input of ``column``."""
    return "FP32" if column.kind == "number" else "BYTES"


def spec_of(column: Column, taken: set[str]) -> TensorSpec:
    """Return the input of ``column`` [n], under its name; an output of that name makes it another."""
    name = column.name + "_" if column.name in taken else column.name
    return TensorSpec(name, "FP32" if column.kind == "number" else "BYTES", (-1,))


def _unfit(found: str, signature: Signature) -> InvalidModel:
    return InvalidModel(
        f"{found}, but the model takes {'; '.join(map(str, signature.inputs))}",
        hint="evaluate it on a dataset it was made for: `--dataset DIGEST`",
    )


def _column(values: NDArray[Any], column: Column, texts: Texts) -> Array:
    if column.kind == "number":
        return np.ascontiguousarray(values, np.float32)
    return np.array([text.encode() for text in strings(column, values, texts)], np.object_)


def _files(features: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.object_]:
    from mofang.base.engines.pillow import png

    files = np.empty(len(features), np.object_)
    for row, image in enumerate(features.reshape(-1, *shape)):
        files[row] = png(image)
    return files
