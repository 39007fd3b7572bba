"""Training with XGBoost: trees on raw features, missing values included.

Called through the catalog with arrays; it knows no store and no file.
"""

from __future__ import annotations

from typing import Any

import xgboost

from mofang.base.domain.errors import TrainingFailed
from mofang.base.domain.work import Progress
from mofang.make.prepare.dataset import Examples, Target
from mofang.make.recipe import Train, XGBoost
from mofang.make.train.boosting import Curve, validation_rows
from mofang.make.train.model import TrainedModel


def train(spec: Train, examples: Examples, progress: Progress) -> TrainedModel:
    """Boost for ``spec.rounds`` rounds, or until the validation loss stops falling; keep the rounds up to the best.

    The model is an ``xgboost.Booster``. The same arguments make the same one.
    """
    assert isinstance(spec, XGBoost)
    features, target = examples.rows(), examples.target
    aside = validation_rows(spec, examples)
    known = xgboost.DMatrix(features[~aside], target[~aside], nthread=1)
    checked = xgboost.DMatrix(features[aside], target[aside], nthread=1)
    curve = Curve(spec.rounds, int((~aside).sum()), target[aside], progress)
    try:
        booster = xgboost.train(
            _settings(spec, target),
            known,
            spec.rounds,
            evals=[(checked, "validation")],
            early_stopping_rounds=spec.early_stopping or None,
            verbose_eval=False,
            callbacks=[_Watch(curve)],
        )
    except xgboost.core.XGBoostError as error:
        raise TrainingFailed(f"XGBoost failed: {str(error).splitlines()[0]}") from error
    # What comes after the best round is cut off for good: readers differ in whether they heed a note to skip it.
    booster = booster[: curve.best_rounds] if spec.early_stopping else booster
    booster.set_attr(best_iteration=None, best_score=None)
    return TrainedModel(booster, tuple(curve.points), curve.seconds)


class _Watch(xgboost.callback.TrainingCallback):  # type: ignore[misc]
    def __init__(self, curve: Curve) -> None:
        super().__init__()
        self._curve = curve

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Note the round; never ask to stop."""
        found = {name: values[-1] for name, values in evals_log["validation"].items()}
        loss = next(found[name] for name in ("rmse", "logloss", "mlogloss") if name in found)
        self._curve.add(
            float(loss**2 if "rmse" in found else loss), float(found.get("error", found.get("merror", 0.0)))
        )
        return False


def _settings(spec: XGBoost, target: Target) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "eta": spec.learning_rate,
        "max_depth": spec.max_depth,
        "lambda": spec.l2,
        "subsample": spec.subsample,
        "colsample_bytree": spec.colsample,
        "seed": spec.seed,
        "tree_method": "hist",
        "nthread": 1,  # more threads change the order of sums, and with it the model
        "verbosity": 0,
    }
    if target.dtype.kind == "f":
        return {**settings, "objective": "reg:squarederror", "eval_metric": ["rmse"]}
    classes = int(target.max()) + 1
    if classes == 2:
        return {**settings, "objective": "binary:logistic", "eval_metric": ["error", "logloss"]}
    # The last metric decides when to stop.
    return {**settings, "objective": "multi:softprob", "num_class": classes, "eval_metric": ["merror", "mlogloss"]}
