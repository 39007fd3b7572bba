"""Training with CatBoost: symmetric trees on raw features, missing values included.

Called through the catalog with arrays; it knows no store and no file.
"""

from __future__ import annotations

from typing import Any

import catboost

from mofang.base.domain.errors import TrainingFailed
from mofang.base.domain.work import Progress
from mofang.make.prepare.dataset import Examples, Target
from mofang.make.recipe import CatBoost, Train
from mofang.make.train.boosting import Curve, validation_rows
from mofang.make.train.model import TrainedModel


def train(spec: Train, examples: Examples, progress: Progress) -> TrainedModel:
    """Boost for ``spec.rounds`` rounds, or until the validation loss stops falling; keep the rounds up to the best.

    The model is a ``catboost.CatBoost``. The same arguments make the same one.
    """
    assert isinstance(spec, CatBoost)
    features, target = examples.rows(), examples.target
    aside = validation_rows(spec, examples)
    known = catboost.Pool(features[~aside], target[~aside], thread_count=1)
    checked = catboost.Pool(features[aside], target[aside], thread_count=1)
    watch = _Watch(Curve(spec.rounds, int((~aside).sum()), target[aside], progress))
    model = catboost.CatBoost(_settings(spec, target))
    try:
        model.fit(known, eval_set=checked, callbacks=[watch])
    except catboost.CatBoostError as error:
        raise TrainingFailed(f"CatBoost failed: {str(error).strip().splitlines()[-1][:300]}") from error
    if watch.refusal is not None:  # it came through a callback, where CatBoost would make it an error of its own
        raise watch.refusal
    curve = watch.curve
    if spec.early_stopping and curve.best_rounds < model.tree_count_:
        model.shrink(curve.best_rounds)
    return TrainedModel(model, tuple(curve.points), curve.seconds)


class _Watch:
    def __init__(self, curve: Curve) -> None:
        self.curve = curve
        self.refusal: Exception | None = None

    def after_iteration(self, info: Any) -> bool:
        """Note the round; go on unless someone asked to stop, or the loss ran away."""
        found = {name: values[-1] for name, values in info.metrics["validation"].items()}
        loss = next(found[name] for name in ("RMSE", "Logloss", "MultiClass") if name in found)
        try:
            self.curve.add(float(loss**2 if "RMSE" in found else loss), 1 - float(found.get("Accuracy", 0.0)))
        except Exception as error:
            self.refusal = error
            return False
        return True


def _settings(spec: CatBoost, target: Target) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "iterations": spec.rounds,
        "learning_rate": spec.learning_rate,
        "depth": spec.max_depth,
        "l2_leaf_reg": spec.l2,
        "random_seed": spec.seed,
        "thread_count": 1,  # more threads change the order of sums, and with it the model
        "allow_writing_files": False,
        "use_best_model": False,  # the curve decides, as it does for the other boosters
        "logging_level": "Silent",
    }
    if spec.subsample < 1:
        settings |= {"bootstrap_type": "Bernoulli", "subsample": spec.subsample}
    if spec.colsample < 1:
        settings["rsm"] = spec.colsample
    if spec.early_stopping:
        settings |= {"od_type": "Iter", "od_wait": spec.early_stopping}
    if target.dtype.kind == "f":
        return {**settings, "loss_function": "RMSE"}
    loss = "Logloss" if int(target.max()) == 1 else "MultiClass"
    return {**settings, "loss_function": loss, "eval_metric": loss, "custom_metric": ["Accuracy"]}
