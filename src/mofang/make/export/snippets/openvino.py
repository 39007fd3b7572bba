"""Loads `model.gguf` and goes on with a text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino_genai


def load(folder: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what answers prompts, ``text`` [n], with what follows, ``text`` [n]."""
    pipe = openvino_genai.LLMPipeline(str(folder / "model.gguf"), "CPU")
    return lambda inputs: {
        "text": np.array([str(pipe.generate(text, max_new_tokens=32)) for text in inputs["text"]], object)
    }
