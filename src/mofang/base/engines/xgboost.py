"""Computes XGBoost boosters natively, for those that ONNX cannot express, such as native categories.

Loaded through the catalog, never imported by name. The artifact is ``model.ubj`` and ``signature.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import xgboost

from mofang.base.domain.errors import EngineFailed, EngineLoadFailed
from mofang.base.domain.tensors import Array
from mofang.base.engines.base import Options
from mofang.base.engines.native import boosted_answers, read_signature, refuse_options


class XGBoostEngine:
    """``folder/model.ubj``: one input, outputs ``label`` and ``probabilities``, or ``value``. No options."""

    def __init__(self, folder: Path, options: Options) -> None:
        """Load the booster. Raises EngineLoadFailed."""
        refuse_options("xgboost", options)
        self.signature = read_signature(folder)
        self._booster = xgboost.Booster({"nthread": 1})
        try:
            self._booster.load_model(bytearray((folder / "model.ubj").read_bytes()))
        except (OSError, xgboost.core.XGBoostError) as error:
            raise EngineLoadFailed(f"XGBoost cannot load the model: {str(error).splitlines()[0]}") from error
        types = self._booster.feature_types
        self._types = types if "c" in (types or ()) else None
        named = {spec.name: spec for spec in self.signature.outputs}
        self._classes = named["probabilities"].shape[1] if "probabilities" in named else 0

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs. Raises EngineFailed, also for codes of categories that training did not see."""
        (features,) = inputs.values()
        try:
            rows = xgboost.DMatrix(
                features,
                feature_names=self._booster.feature_names,
                feature_types=self._types,
                enable_categorical=self._types is not None,
                nthread=1,
            )
            found = self._booster.predict(rows)
        except (ValueError, xgboost.core.XGBoostError) as error:
            raise EngineFailed(f"XGBoost cannot compute the input: {str(error).splitlines()[0]}") from error
        return boosted_answers(found, self._classes)

    def close(self) -> None:
        """Let go of the booster."""
        del self._booster
