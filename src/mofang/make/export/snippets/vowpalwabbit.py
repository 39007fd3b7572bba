"""Loads `model.vw`: an example is one line of Vowpal Wabbit's text format, without a label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import vowpalwabbit


def load(folder: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what answers arrays by name with arrays by name."""
    workspace = vowpalwabbit.Workspace(arg_list=["--quiet", "--testonly", "-i", str(folder / "model.vw")])
    return lambda inputs: {"value": np.array([workspace.predict(line) for line in inputs["examples"]], np.float32)}
