"""Which module converts the models of which framework, imported only when one is there to convert."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.tensors import Array, Signature

ToOnnx = Callable[[Any, Path], Signature]
Reference = Callable[[Any, NDArray[np.float32]], dict[str, Array]]


def converter(framework: str) -> tuple[ToOnnx, Reference]:
    """Return what writes a model of ``framework`` as ONNX, and what asks the model itself."""
    match framework:
        case "function":
            from mofang.make.convert.layers import onnx as layers

            return layers.to_onnx, layers.reference
        case "torch":
            from mofang.make.convert import torch

            return torch.to_onnx, torch.reference
        case "xgboost":
            from mofang.make.convert import xgboost

            return xgboost.to_onnx, xgboost.reference
        case "lightgbm":
            from mofang.make.convert import lightgbm

            return lightgbm.to_onnx, lightgbm.reference
        case _:
            from mofang.make.convert import sklearn

            return sklearn.to_onnx, sklearn.reference
