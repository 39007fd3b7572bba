"""Computes scikit-learn estimators natively, for those that ONNX cannot express. Loaded through the catalog.

The artifact is ``model.skops`` and ``signature.json``. A skops file names the types it is made of; only those of
scikit-learn's own estimators and of the plain data inside them are constructed, whatever the file asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from skops import io as skops_io

from mofang.base.domain.errors import EngineFailed, EngineLoadFailed
from mofang.base.domain.tensors import NUMPY, Array, Signature
from mofang.base.engines.base import Options
from mofang.base.engines.native import TRUSTED_TYPES, read_signature, refuse_options

_OUTPUTS: Mapping[str, str] = {"label": "predict", "probabilities": "predict_proba", "value": "predict"}


class SklearnEngine:
    """``folder/model.skops``: outputs ``label`` and ``probabilities``, or ``value``. No options.

    It takes one input, or several columns [n] that are one table for it.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        """Load the estimator. Raises EngineLoadFailed."""
        refuse_options("sklearn", options)
        self.signature = _fitting(read_signature(folder))
        self._estimator = _read_estimator(folder / "model.skops")
        for spec in self.signature.outputs:
            if spec.name not in _OUTPUTS or not hasattr(self._estimator, _OUTPUTS[spec.name]):
                raise EngineLoadFailed(f"a {type(self._estimator).__name__} has no output {spec.name!r}")

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs. Raises EngineFailed."""
        features = _features([inputs[spec.name] for spec in self.signature.inputs])
        outputs: dict[str, Array] = {}
        for spec in self.signature.outputs:
            try:
                found = np.asarray(getattr(self._estimator, _OUTPUTS[spec.name])(features))
            except Exception as error:  # estimators raise whatever numpy or they like
                raise EngineFailed(f"the estimator cannot compute the input: {error}") from error
            if spec.datatype == "BYTES":
                texts = [str(each).encode() for each in found.flat]
                outputs[spec.name] = np.array(texts, dtype=np.object_).reshape(found.shape)
            else:
                outputs[spec.name] = found.astype(NUMPY[spec.datatype], copy=False)
        return outputs

    def close(self) -> None:
        """Let go of the estimator."""
        del self._estimator


def _strings(texts: Array) -> Any:
    try:
        return [text.decode() for text in texts.tolist()]
    except UnicodeDecodeError as error:
        raise EngineFailed(f"a text is no UTF-8: {error}") from error


def _features(columns: list[Array]) -> Any:
    if len(columns) == 1:
        return _strings(columns[0]) if columns[0].dtype == np.object_ else columns[0]
    table = np.empty((len(columns[0]), len(columns)), np.object_)
    for at, values in enumerate(columns):
        table[:, at] = _strings(values) if values.dtype == np.object_ else values.tolist()
    return table


def _fitting(signature: Signature) -> Signature:
    several = len(signature.inputs) > 1 and all(spec.shape == (-1,) for spec in signature.inputs)
    if len(signature.inputs) != 1 and not several:
        raise EngineLoadFailed(
            f"an estimator takes one input, or columns [n]; 'signature.json' names {len(signature.inputs)} inputs"
        )
    return signature


def _read_estimator(path: Path) -> Any:
    try:
        untrusted = skops_io.get_untrusted_types(file=path)
        strange = sorted(set(untrusted) - TRUSTED_TYPES)
        if not strange:
            return skops_io.load(path, trusted=untrusted)
    except Exception as error:  # a damaged archive raises anything
        raise EngineLoadFailed(f"'model.skops' cannot be read: {error}") from error
    raise EngineLoadFailed(
        f"'model.skops' holds {strange[0]!r}, which is not loaded", hint="convert the model to ONNX instead"
    )
