"""Loads `model.skops`; look at the types it lists before you trust it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from skops import io

ASKED = {"label": "predict", "probabilities": "predict_proba", "value": "predict"}
DTYPES = {"INT64": np.int64, "FP32": np.float32, "BYTES": np.str_}


def load(folder: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what answers arrays by name with arrays by name."""
    path = folder / "model.skops"
    model = io.load(path, trusted=io.get_untrusted_types(file=path))
    outputs = json.loads((folder / "signature.json").read_text("utf-8"))["outputs"]

    def answer(inputs: dict[str, Any]) -> dict[str, Any]:
        (rows,) = inputs.values()
        return {
            each["name"]: np.asarray(getattr(model, ASKED[each["name"]])(rows)).astype(DTYPES[each["datatype"]])
            for each in outputs
        }

    return answer
