"""Stored rows as a client would send them: what evaluation and the parity proof ask a model with.

It knows signatures, not engines.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.tensors import NUMPY, Array, Signature
from mofang.make.prepare.dataset import Schema


def feed(features: NDArray[Any], schema: Schema, signature: Signature) -> dict[str, Array]:
    """Return ``features`` [n, d] as the inputs of a model of ``signature``, n rows each.

    Images become PNG files where the model takes files. Raises InvalidModel if the model takes something else.
    """
    spec = signature.inputs[0]
    if len(signature.inputs) == 1 and spec.datatype == "BYTES" and schema.shape and spec.shape in ((-1,), (-1, 1)):
        return {spec.name: _files(features, schema.shape).reshape(-1, *spec.shape[1:])}
    rest = spec.shape[1:]
    fits = rest == (-1,) or (all(dim >= 0 for dim in rest) and int(np.prod(rest)) == schema.features)
    if len(signature.inputs) > 1 or spec.datatype == "BYTES" or spec.shape[:1] not in ((-1,), (1,)) or not fits:
        raise InvalidModel(
            f"the data has rows of {schema.features} numbers, but the model takes"
            f" {'; '.join(map(str, signature.inputs))}",
            hint="evaluate it on a dataset it was made for: `--dataset DIGEST`",
        )
    inner = rest if rest != (-1,) else (schema.features,)
    return {spec.name: np.ascontiguousarray(features, dtype=NUMPY[spec.datatype]).reshape(-1, *inner)}


def _files(features: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.object_]:
    from mofang.base.engines.pillow import png

    files = np.empty(len(features), np.object_)
    for row, image in enumerate(features.reshape(-1, *shape)):
        files[row] = png(image)
    return files
