"""Linear models of Vowpal Wabbit that were trained here to ONNX: a Gemm, and what makes shares of its sums.

Called by the pipeline; ``parity.py`` proves that an engine answers as :func:`reference`, Vowpal Wabbit itself, does.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import vowpalwabbit
from numpy.typing import NDArray

from mofang.base.domain.tensors import Array, Signature
from mofang.base.engines.native import boosted_answers
from mofang.make.convert.layers import onnx
from mofang.make.train.function import Layer
from mofang.make.train.vowpalwabbit import Linear, answers


def to_onnx(model: Linear, folder: Path) -> Signature:
    """Write ``folder/model.onnx`` and return its signature. The same weights give the same bytes.

    Input ``features`` FP32 [n, d], zero where it is missing; outputs ``label`` INT64 [n] and ``probabilities`` FP32
    [n, classes], or ``value`` FP32 [n].
    """
    layers = [Layer(model.weights, model.bias, "sigmoid" if model.classes else "none")]
    if model.classes > 2:  # --probabilities: each class by itself, then as shares of all
        layers.append(Layer(np.eye(model.classes), np.zeros(model.classes), "shares"))
    return onnx.write(layers, len(model.weights), model.classes, folder, fill=True)


def reference(model: Linear, features: NDArray[np.float32]) -> dict[str, Array]:
    """Return what Vowpal Wabbit itself answers, by output."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.vw"
        path.write_bytes(model.file)
        told = ["--probabilities"] if model.classes > 2 else []  # which a model does not keep
        workspace = vowpalwabbit.Workspace(arg_list=["--quiet", "--testonly", "-i", str(path), *told])
        found = answers(workspace, features, model.classes)
        workspace.finish()
    return boosted_answers(found, model.classes)
