"""Training by a function of the user's own, from the code in the recipe.

The code runs in the process of the job, as the server's user: whoever may send it may do anything this process may.
What it raises becomes an error that names the line of the code.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import MofangError, TrainingFailed
from mofang.base.domain.tensors import Array
from mofang.base.domain.work import Progress
from mofang.make.prepare.dataset import Examples
from mofang.make.recipe import Function, Train
from mofang.make.train.model import TrainedModel

Activation = Literal["none", "relu", "tanh", "sigmoid", "softmax", "shares"]
_FILE = "code"  # what the recipe's code is called in messages


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """``activation(x @ weights + bias)``: weights [inputs, outputs], bias [outputs]; "shares" divides by the sum."""

    weights: NDArray[Any]
    bias: NDArray[Any]
    activation: Activation = "none"


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """What a training function returns: how the model predicts, and the same as layers, to be served.

    ``predict`` takes rows float32 [n, d]. Of classes it returns probabilities [n, classes], or [n] of the second of
    two; of numbers [n]. The layers must compute just that: the proof of parity compares the two.
    """

    predict: Callable[[NDArray[np.float32]], NDArray[Any]]
    layers: Sequence[Layer]


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A model, and what it is for: rows of ``features`` numbers, probabilities of ``classes``; 0: a number."""

    model: Model
    features: int
    classes: int

    def answers(self, rows: NDArray[np.float32]) -> dict[str, Array]:
        """Return what the model itself says, by output; raise ValueError for missing values, which it need not know."""
        if not np.isfinite(rows).all():
            raise ValueError("the function's model takes no missing values")
        found = np.asarray(self.model.predict(rows), np.float64)
        found = found.reshape(len(rows), -1)
        if not self.classes:
            return {"value": found[:, 0].astype(np.float32)}
        both = np.concatenate([1 - found, found], axis=1) if found.shape[1] == 1 and self.classes == 2 else found
        return {"label": both.argmax(axis=1).astype(np.int64), "probabilities": both.astype(np.float32)}


def train(spec: Train, examples: Examples, progress: Progress) -> TrainedModel:
    """Run the recipe's function on rows float32 [n, d] and target [n]; the model is a :class:`Fitted`.

    ``progress(step, steps, **numbers)`` adds a point to the curve and tells it. Raises TrainingFailed if the code fails
    or returns anything but a :class:`Model`.
    """
    assert isinstance(spec, Function)
    curve: list[dict[str, float]] = []
    begun = time.perf_counter()

    def tell(step: int, steps: int, **numbers: float) -> None:
        point = {name: float(value) for name, value in numbers.items()}
        curve.append({"epoch": float(step), **point, "seconds": time.perf_counter() - begun})
        shown = ", ".join(f"{name} {value:.4g}" for name, value in point.items())
        progress.report("train", min(step / max(steps, 1), 1.0), f"step {step} of {steps}: {shown}", **curve[-1])

    model = _run(spec, examples, tell)
    schema = examples.schema
    return TrainedModel(Fitted(model, schema.features, len(schema.labels)), tuple(curve), time.perf_counter() - begun)


def _run(spec: Function, examples: Examples, tell: Callable[..., None]) -> Model:
    module: dict[str, Any] = {
        "__name__": "recipe"
    }  # not "__main__": what a script does when it is run is not asked for
    try:
        exec(compile(spec.code, _FILE, "exec", dont_inherit=True), module)  # noqa: S102
        function = module.get(spec.name)
        if not callable(function):
            raise TrainingFailed(f"the code defines no function {spec.name!r}", hint="name it: [train] name")
        model = function(examples.rows(), examples.target, tell)
    except MofangError:
        raise
    except (Exception, SystemExit) as error:  # whatever people write
        _blame(spec, error)
    if not isinstance(model, Model):
        raise TrainingFailed(
            f"{spec.name}() returned a {type(model).__name__}, not a mofang.train.Model",
            hint="return Model(predict, [Layer(weights, bias, activation), ...])",
        )
    return model


def _blame(spec: Function, error: BaseException) -> NoReturn:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _FILE]
    where = f" in line {lines[-1]} of the code" if lines else ""
    said = str(error).strip().splitlines()[:1]
    raise TrainingFailed(
        f"{spec.name}() failed{where}: {type(error).__name__}{f': {said[0]}' if said else ''}", hint="mend the code"
    ) from error
