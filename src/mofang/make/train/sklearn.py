"""Training with scikit-learn: a pipeline with its preprocessing, and the curve of how it came to be.

Called by the pipeline with arrays; it knows no store and no file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from mofang.base.domain.errors import InvalidDataset, TrainingFailed
from mofang.base.domain.work import Progress
from mofang.make.prepare.dataset import Examples, Target
from mofang.make.recipe import DecisionTree, LinearRegression, LogisticRegression, Mlp, RandomForest, Train
from mofang.make.train.model import Rows, TrainedModel, curve_report

_FOREST_STEPS = 10
"""A forest grows in so many steps, so that it has a curve and can be cancelled."""


def train(spec: Train, examples: Examples, progress: Progress) -> TrainedModel:
    """Fit what ``spec`` says to the examples; report loss and quality every epoch.

    The target is class indices (integers), or numbers (floats). The same arguments make the same model. Raises
    InvalidDataset if the rows cannot be trained on, TrainingFailed if the loss runs away.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    target = examples.target
    if len(np.unique(target)) < 2:
        what = "numbers that differ" if target.dtype.kind == "f" else "rows of two classes or more"
        raise InvalidDataset(f"training needs {what}")
    # The number of threads changes the order of sums, and with it the model: one thread makes the same everywhere.
    with threadpool_limits(1, user_api="blas"):
        return _train(spec, examples, progress)


def _train(spec: Train, examples: Examples, progress: Progress) -> TrainedModel:
    from sklearn.pipeline import Pipeline

    started = time.perf_counter()
    features, target = examples.rows(), examples.target
    validation = examples.aside(spec.validation_fraction, spec.seed)
    preprocessing = Pipeline(_preprocessing(spec))
    rows, known = preprocessing.fit_transform(features[~validation]), target[~validation]
    checked, expected = preprocessing.transform(features[validation]), target[validation]
    estimator = _estimator(spec, known)
    steps, curve = _steps(spec, known), []
    for epoch, _ in enumerate(_fit(spec, estimator, rows, known), 1):
        seconds = time.perf_counter() - started
        point = {"epoch": float(epoch), **_quality(estimator, checked, expected), "seconds": seconds}
        curve.append({**point, "rows_per_second": epoch * len(rows) / seconds})
        curve_report(progress, epoch, steps, curve[-1])
    for name in ("_optimizer", "_random_state"):  # what only more training would need; twice the size of the weights
        vars(estimator).pop(name, None)
    model = Pipeline([*preprocessing.steps, ("model", estimator)])
    return TrainedModel(model, tuple(curve), time.perf_counter() - started)


def _preprocessing(spec: Train) -> list[tuple[str, Any]]:
    """Fill missing values with the mean, so that every model answers them; scale where scale matters."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    impute = ("impute", SimpleImputer(keep_empty_features=True))
    return [impute] if isinstance(spec, DecisionTree | RandomForest) else [impute, ("scale", StandardScaler())]


def _estimator(spec: Train, target: Target) -> Any:
    if target.dtype.kind == "f":
        return _regressor(spec)
    estimator = _classifier(spec, len(target))
    if target.ndim == 1 or isinstance(spec, Mlp):  # a perceptron has an output for each label
        return estimator
    from sklearn.multiclass import OneVsRestClassifier

    return OneVsRestClassifier(estimator)


def _classifier(spec: Train, rows: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import SGDClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.tree import DecisionTreeClassifier

    match spec:
        case LogisticRegression():
            return SGDClassifier(
                loss="log_loss",
                learning_rate="constant",
                eta0=spec.learning_rate,
                alpha=spec.alpha,
                max_iter=spec.epochs,
                tol=None,
                random_state=spec.seed,
                n_jobs=-1,
            )
        case Mlp():
            return MLPClassifier(
                spec.hidden,
                learning_rate_init=spec.learning_rate,
                alpha=spec.alpha,
                batch_size=min(spec.batch_size, rows),
                random_state=spec.seed,
            )
        case RandomForest():
            return RandomForestClassifier(spec.trees, **_growth(spec), warm_start=True, n_jobs=-1)
        case DecisionTree():
            return DecisionTreeClassifier(**_growth(spec))
    raise TypeError(f"no classifier for {spec!r}")


def _regressor(spec: Train) -> Any:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import LinearRegression as LeastSquares
    from sklearn.linear_model import Ridge
    from sklearn.tree import DecisionTreeRegressor

    match spec:
        case LinearRegression():
            return Ridge(alpha=spec.alpha) if spec.alpha else LeastSquares()
        case RandomForest():
            return RandomForestRegressor(spec.trees, **_growth(spec), warm_start=True, n_jobs=-1)
        case DecisionTree():
            return DecisionTreeRegressor(**_growth(spec))
    raise TypeError(f"no regressor for {spec!r}")


def _growth(spec: RandomForest | DecisionTree) -> dict[str, int]:
    """Return how trees grow, in scikit-learn's words."""
    return {"max_depth": spec.max_depth, "min_samples_leaf": spec.min_samples_leaf, "random_state": spec.seed}


def _steps(spec: Train, target: Target) -> int:
    match spec:
        case RandomForest() | LogisticRegression() if target.ndim == 2:  # a model of each label, one after the other
            return 1
        case LogisticRegression() | Mlp():
            return spec.epochs
        case RandomForest():
            return min(_FOREST_STEPS, spec.trees)
    return 1


def _fit(spec: Train, estimator: Any, rows: Rows, target: Target) -> Iterator[None]:
    """Train step by step; the estimator can predict after each."""
    kinds = np.arange(target.shape[1]) if target.ndim == 2 else np.unique(target)
    steps = _steps(spec, target)
    for step in range(steps):
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                match spec:
                    case LogisticRegression() if target.ndim == 1:
                        # Each call would shuffle alike: another seed gives another order of rows.
                        estimator.set_params(random_state=(spec.seed + step) % 2**32)
                        estimator.partial_fit(rows, target, classes=kinds)
                    case Mlp():
                        estimator.partial_fit(rows, target, classes=kinds)
                    case RandomForest() if steps > 1:
                        trees = spec.trees * (step + 1) // steps
                        estimator.set_params(n_estimators=trees).fit(rows, target)
                    case _:
                        estimator.fit(rows, target)
        except ValueError as error:  # how scikit-learn reports weights that are not finite
            raise TrainingFailed(f"training failed in epoch {step + 1}: {error}") from error
        yield


def _quality(estimator: Any, rows: Rows, target: Target) -> dict[str, float]:
    if target.dtype.kind == "f":
        errors = estimator.predict(rows).astype(np.float64) - target
        loss, spread = (errors**2).mean(), target.var()
        quality = {"r2": float(1 - loss / spread) if spread else 0.0}
    elif target.ndim == 2:
        found = np.clip(estimator.predict_proba(rows).astype(np.float64), 1e-15, 1 - 1e-15)
        loss = -np.where(target == 1, np.log(found), np.log1p(-found)).mean()
        quality = {"accuracy": float(((found > 0.5) == (target == 1)).all(axis=1).mean())}  # all labels of a row
    else:
        probabilities = estimator.predict_proba(rows).astype(np.float64)
        right = np.clip(probabilities[np.arange(len(target)), target.astype(np.int64)], 1e-15, 1.0)
        loss = -np.log(right).mean()
        quality = {"accuracy": float((probabilities.argmax(axis=1) == target).mean())}
    if not np.isfinite(loss):
        raise TrainingFailed("the loss is not finite any more")
    return {"loss": float(loss), **quality}
