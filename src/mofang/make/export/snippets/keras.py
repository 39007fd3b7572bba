"""Loads the network of Keras in this folder, with PyTorch below it (or TensorFlow: set KERAS_BACKEND)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np


def load(folder: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what answers arrays by name with arrays by name."""
    (path,) = (each for each in folder.glob("model.*") if each.suffix in (".keras", ".h5"))
    model = keras.saving.load_model(path, compile=False, safe_mode=True)
    names = [each["name"] for each in json.loads((folder / "signature.json").read_text("utf-8"))["outputs"]]

    def answer(inputs: dict[str, Any]) -> dict[str, Any]:
        given = list(inputs.values())
        found = model.predict(given if len(given) > 1 else given[0], verbose=0)
        several = list(found) if isinstance(found, (list, tuple)) else [found]
        if "label" in names:
            return {"label": several[0].argmax(axis=1).astype(np.int64), "probabilities": several[0]}
        return {name: each.reshape(-1) if name == "value" else each for name, each in zip(names, several, strict=True)}

    return answer
