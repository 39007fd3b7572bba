"""Loads the SavedModel in the folder `model`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf


def load(folder: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what answers arrays by name with arrays by name."""
    model = tf.saved_model.load(str(folder / "model"))
    names = [each["name"] for each in json.loads((folder / "signature.json").read_text("utf-8"))["outputs"]]

    def answer(inputs: dict[str, Any]) -> dict[str, Any]:
        (found,) = (np.asarray(each) for each in [model.serve(*map(tf.constant, inputs.values()))])
        if "label" in names:
            return {"label": found.argmax(axis=1).astype(np.int64), "probabilities": found}
        return {"value": found.reshape(-1)}

    return answer
