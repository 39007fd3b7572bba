"""scikit-learn pipelines to artifacts: ONNX with the preprocessing inside the graph, or skops for native serving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mofang.base.domain.tensors import Array, Signature


def to_onnx(pipeline: Any, folder: Path) -> Signature:
    """Write ``folder/model.onnx`` and return its signature. The same pipeline gives the same bytes.

    Input ``features`` FP32 [n, d]; outputs ``label`` INT64 [n] (BYTES where classes are strings) and ``probabilities``
    FP32 [n, classes]. Raises ConversionFailed if a step has no ONNX form.
    """
    raise NotImplementedError


def save(pipeline: Any, folder: Path) -> Signature:
    """Write ``folder/model.skops`` and ``folder/signature.json`` for the sklearn engine; return the signature."""
    raise NotImplementedError


def reference(pipeline: Any, features: Array) -> dict[str, Array]:
    """Return what the pipeline itself answers: the outputs by name, to hold an engine against."""
    raise NotImplementedError
