"""Training with LightGBM: trees on raw features, missing values included.

Called through the catalog with arrays; it knows no store and no file.
"""

from __future__ import annotations

from typing import Any

import lightgbm

from mofang.base.domain.errors import TrainingFailed
from mofang.base.domain.work import Progress
from mofang.make.prepare.dataset import Examples, Target
from mofang.make.recipe import LightGBM, Train
from mofang.make.train.boosting import Curve, validation_rows
from mofang.make.train.model import TrainedModel


def train(spec: Train, examples: Examples, progress: Progress) -> TrainedModel:
    """Boost for ``spec.rounds`` rounds, or until the validation loss stops falling; keep the rounds up to the best.

    The model is a ``lightgbm.Booster``. The same arguments make the same one.
    """
    assert isinstance(spec, LightGBM)
    features, target = examples.rows(), examples.target
    aside = validation_rows(spec, examples)
    known = lightgbm.Dataset(features[~aside], target[~aside], params={"verbosity": -1})
    checked = lightgbm.Dataset(features[aside], target[aside], reference=known)
    curve = Curve(spec.rounds, int((~aside).sum()), target[aside], progress)
    callbacks: list[Any] = [_watch(curve)]
    if spec.early_stopping:
        callbacks.append(lightgbm.early_stopping(spec.early_stopping, first_metric_only=True, verbose=False))
    try:
        booster = lightgbm.train(
            _settings(spec, target), known, spec.rounds, valid_sets=[checked], valid_names=["validation"],
            callbacks=callbacks,
        )  # fmt: skip
    except lightgbm.basic.LightGBMError as error:
        raise TrainingFailed(f"LightGBM failed: {str(error).splitlines()[0]}") from error
    # What comes after the best round is cut off for good: readers differ in whether they heed a note to skip it.
    rounds = curve.best_rounds if spec.early_stopping else len(curve.points)
    kept = lightgbm.Booster(model_str=booster.model_to_string(num_iteration=rounds))
    return TrainedModel(kept, tuple(curve.points), curve.seconds)


def _watch(curve: Curve) -> Any:
    def note(env: Any) -> None:
        found = {entry[1]: entry[2] for entry in env.evaluation_result_list}
        loss = next(found[name] for name in ("l2", "binary_logloss", "multi_logloss") if name in found)
        curve.add(float(loss), float(found.get("binary_error", found.get("multi_error", 0.0))))

    return note


def _settings(spec: LightGBM, target: Target) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "learning_rate": spec.learning_rate,
        "num_leaves": spec.leaves,
        "min_data_in_leaf": spec.min_samples_leaf,
        "lambda_l2": spec.l2,
        "bagging_fraction": spec.subsample,
        "bagging_freq": int(spec.subsample < 1),
        "feature_fraction": spec.colsample,
        "seed": spec.seed,
        "deterministic": True,
        "force_row_wise": True,  # else a race of both ways decides, and with it the model
        "num_threads": 1,  # more threads change the order of sums
        "verbosity": -1,
    }
    if target.dtype.kind == "f":
        return {**settings, "objective": "regression", "metric": ["l2"]}
    classes = int(target.max()) + 1
    if classes == 2:
        return {**settings, "objective": "binary", "metric": ["binary_logloss", "binary_error"]}
    return {**settings, "objective": "multiclass", "num_class": classes, "metric": ["multi_logloss", "multi_error"]}
