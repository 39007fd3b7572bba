"""Loads `model.ubj`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xgboost


def load(folder: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what answers arrays by name with arrays by name."""
    booster = xgboost.Booster(model_file=str(folder / "model.ubj"))
    types = booster.feature_types

    def answer(inputs: dict[str, Any]) -> dict[str, Any]:
        (rows,) = inputs.values()
        table = xgboost.DMatrix(
            rows, feature_names=booster.feature_names, feature_types=types, enable_categorical="c" in (types or ())
        )
        return {"answer": np.asarray(booster.predict(table))}

    return answer
