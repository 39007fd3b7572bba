"""Computes CatBoost models natively, for those with categories, which ONNX cannot express.

Loaded through the catalog, never imported by name. The artifact is ``model.cbm`` and ``signature.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import catboost
import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import EngineFailed, EngineLoadFailed
from mofang.base.domain.tensors import Array
from mofang.base.engines.base import Options
from mofang.base.engines.native import boosted_answers, read_signature, refuse_options


class CatBoostEngine:
    """``folder/model.cbm``: inputs ``features`` and ``categories``, each of its columns in the model's order.

    Outputs ``label`` and ``probabilities``, or ``value``. A category that training did not see is answered as CatBoost
    answers it. No options.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        """Load the model. Raises EngineLoadFailed."""
        refuse_options("catboost", options)
        self.signature = read_signature(folder)
        self._model = catboost.CatBoost()
        try:
            self._model.load_model(str(folder / "model.cbm"), format="cbm")
        except catboost.CatBoostError as error:
            raise EngineLoadFailed(f"CatBoost cannot load the model: {str(error).splitlines()[-1]}") from error
        self._categories = list(self._model.get_cat_feature_indices())
        columns = range(len(self._model.feature_names_))
        self._numbers = [column for column in columns if column not in set(self._categories)]
        named = {spec.name: spec for spec in self.signature.outputs}
        self._classes = named["probabilities"].shape[1] if "probabilities" in named else 0

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs. Raises EngineFailed."""
        kind = "Probability" if self._classes else "RawFormulaVal"
        try:
            found = self._model.predict(self._pool(inputs), prediction_type=kind, thread_count=1)
        except catboost.CatBoostError as error:
            raise EngineFailed(f"CatBoost cannot compute the input: {str(error).splitlines()[-1]}") from error
        return boosted_answers(np.asarray(found), self._classes)

    def _pool(self, inputs: Mapping[str, Array]) -> Any:
        """Put the columns of both inputs into the order in which the model knows them."""
        rows = len(next(iter(inputs.values())))
        table: NDArray[np.object_] = np.empty((rows, len(self._numbers) + len(self._categories)), np.object_)
        if self._numbers:
            table[:, self._numbers] = inputs["features"]
        if self._categories:
            texts = [each.decode("utf-8", "replace") for each in inputs["categories"].ravel().tolist()]
            table[:, self._categories] = np.array(texts, np.object_).reshape(rows, -1)
        return catboost.Pool(table, cat_features=self._categories, thread_count=1)

    def close(self) -> None:
        """Let go of the model."""
        del self._model
