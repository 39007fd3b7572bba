"""Loads `model.onnx`; pictures are decoded before it, exactly as the server does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


def load(folder: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what answers arrays by name with arrays by name."""
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    image = session.get_modelmeta().custom_metadata_map.get("mofang.image", "")
    shapes = {each.name: each.shape for each in session.get_inputs()}

    def answer(inputs: dict[str, Any]) -> dict[str, Any]:
        if image:
            from pictures import pixels  # type: ignore[import-not-found]  # another of the files here

            inputs = {**inputs, image: np.stack([pixels(file, shapes[image][1:]) for file in inputs[image]])}
        return dict(zip(names, session.run(names, inputs), strict=True))

    return answer
