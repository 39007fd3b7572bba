"""Loads `model.cbm`: columns are put into the order in which the model knows them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import catboost
import numpy as np


def load(folder: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what answers arrays by name with arrays by name."""
    model = catboost.CatBoost()
    model.load_model(str(folder / "model.cbm"), format="cbm")
    categories = list(model.get_cat_feature_indices())
    numbers = [column for column in range(len(model.feature_names_)) if column not in categories]

    def answer(inputs: dict[str, Any]) -> dict[str, Any]:
        rows = len(next(iter(inputs.values())))
        table: np.ndarray[Any, Any] = np.empty((rows, len(numbers) + len(categories)), object)
        if numbers:
            table[:, numbers] = inputs["features"]
        if categories:
            table[:, categories] = inputs["categories"]
        return {"answer": np.asarray(model.predict(catboost.Pool(table, cat_features=categories)))}

    return answer
