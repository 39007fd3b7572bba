"""Training with Keras as a recipe says: the networks it names, or the one its own function builds.

Called through the catalog with prepared examples; it knows no store. A training that is killed goes on after the last
epoch it has kept, to the same weights.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import InvalidDataset, MofangError, TrainingFailed
from mofang.base.domain.work import Progress
from mofang.make.prepare.dataset import Examples, Schema
from mofang.make.recipe import Cnn, Keras, Network, ResNet, Rnn, Train, Transformer, Vgg
from mofang.make.train.keras.batches import batches
from mofang.make.train.keras.layers import LABELS, body, keras
from mofang.make.train.model import TrainedModel, curve_report
from mofang.make.train.rates import Rates, epochs_since_best, falls
from mofang.make.train.torch.batches import Prepared
from mofang.make.train.torch.checkpoint import Checkpoint

_ROWS_TO_SCALE_BY = 10_000
_ROWS_AT_ONCE = 1_024
_LEAST = 1e-7  # of a probability, before its logarithm is taken


def train(spec: Train, examples: Examples, progress: Progress, checkpoint: Path | None = None) -> TrainedModel:
    """Fit the network that ``spec`` says; the model is a ``keras.Model`` of flat rows. Same arguments, same weights.

    With ``checkpoint``, a file that need not exist, it goes on where an earlier such call was killed.
    Raises InvalidDataset if the rows cannot be trained on, TrainingFailed if the loss runs away or the code fails.
    """
    assert isinstance(spec, Network)
    target = examples.target
    if len(np.unique(target)) < 2:
        raise InvalidDataset("training needs rows of two classes or more, or numbers that differ")
    if examples.schema.sequence is not None:
        raise InvalidDataset(
            "networks of Keras take no token ids here", hint='leave out `library = "keras"`, or [prepare.encode] text'
        )
    keras.utils.set_random_seed(spec.seed)
    aside = examples.aside(spec.validation_fraction, spec.seed)
    known, checked = np.flatnonzero(~aside), np.flatnonzero(aside)
    model = build(spec, examples, known)
    loop = _Loop(spec, examples, known, checked, progress)
    model.compile(_optimiser(spec), _loss(spec, target[known]), run_eagerly=False)
    if checkpoint is not None:
        about = f"keras {keras.__version__} {spec!r} {Prepared(examples, known).fingerprint()}"
        loop.go_on(model, Checkpoint(checkpoint, about))
    try:
        _fit(model, loop, batches(spec, examples, known, spec.batch_size or len(known)))
    except MofangError:
        raise
    except ValueError as error:
        raise TrainingFailed(f"Keras failed: {str(error).strip().splitlines()[0][:300]}") from error
    if loop.best is not None:
        model.set_weights(loop.best)
    return TrainedModel(model, tuple(loop.curve), loop.curve[-1]["seconds"], _saved(model))


def _fit(model: Any, loop: _Loop, drawn: Any) -> None:
    done = drawn.epoch = len(loop.curve)
    if done < loop.spec.epochs and not loop.is_over:
        model.fit(
            drawn, epochs=loop.spec.epochs, initial_epoch=done, shuffle=False, verbose=0, callbacks=[_Watch(loop)]
        )


def build(spec: Network, examples: Examples, known: NDArray[np.int64]) -> Any:
    """Return a new network for flat rows [n, features], scaled to the ``known`` examples."""
    schema, target = examples.schema, examples.target
    some = known[np.linspace(0, len(known) - 1, min(len(known), _ROWS_TO_SCALE_BY)).astype(np.int64)]
    shape, classes = _shape(spec, schema), len(schema.labels)
    rows = examples.batch(some).reshape(len(some), *shape)
    axes = tuple(range(rows.ndim - 1))
    mean, deviation = np.nanmean(rows, axis=axes), np.nanstd(rows, axis=axes)
    inputs = keras.Input((math.prod(shape),), name="features")
    scaled = keras.layers.Reshape(shape)(inputs) if len(shape) > 1 else inputs
    scaled = (scaled - np.nan_to_num(mean)) / np.where(deviation > 0, np.nan_to_num(deviation), 1)
    scaled = keras.ops.nan_to_num(scaled, nan=0.0)  # what is missing counts as the mean
    if isinstance(spec, Keras):
        found = _own(spec, shape, classes)(scaled)
    else:
        found = body(spec, scaled, classes or 1)
        if classes:
            found = keras.layers.Activation("softmax" if target.ndim == 1 else "sigmoid")(found)
    if tuple(found.shape[1:]) != (classes or 1,):
        raise TrainingFailed(
            f"the network answers {list(found.shape[1:])} numbers for a row, {classes or 1} are needed",
            hint="end it in a share of each class (softmax), a probability of each label (sigmoid), or one number",
        )
    if target.ndim == 2:
        found = keras.layers.Identity(name=LABELS)(found)  # tells the converter
    if not classes:
        spread = float(target[known].std()) or 1.0
        found = keras.layers.Rescaling(spread, float(target[known].mean()))(found)
    return keras.Model(inputs, found)


def _shape(spec: Network, schema: Schema) -> tuple[int, ...]:
    features = schema.features
    if isinstance(spec, Cnn | Vgg | ResNet) or (isinstance(spec, Keras) and schema.shape):
        side = math.isqrt(features)
        shape = (*schema.shape, 1)[:3] if schema.shape else (side, side, 1)
    elif isinstance(spec, Rnn | Transformer):
        steps = spec.steps or features
        shape = (steps, features // steps)
    else:
        shape = (features,)
    if math.prod(shape) != features:
        raise InvalidDataset(
            f"rows of {features} numbers do not have the shape this network takes",
            hint="choose a network for tables: algorithm = 'dense', or set [train] steps to a divisor",
        )
    return shape


def _own(spec: Keras, shape: tuple[int, ...], classes: int) -> Any:
    module: dict[str, Any] = {"__name__": "recipe"}
    try:
        exec(compile(spec.code, "code", "exec", dont_inherit=True), module)  # noqa: S102 (only an operator may send it)
        made = module[spec.name](shape, classes)
    except KeyError as error:
        raise TrainingFailed(f"the code defines no function {spec.name!r}", hint="name it: [train] name") from error
    except (Exception, SystemExit) as error:  # whatever people write
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TrainingFailed(f"{spec.name}() failed: {said[:300]}", hint="mend the code") from error
    if not isinstance(made, keras.Model):
        raise TrainingFailed(f"{spec.name}() returned a {type(made).__name__}, not a keras.Model", hint="return one")
    return made


def _optimiser(spec: Network) -> Any:
    rate, decay = spec.learning_rate, spec.weight_decay or None
    clip = {"global_clipnorm": spec.clip} if spec.clip else {}
    match spec.optimiser:
        case "adam":
            return keras.optimizers.Adam(rate, weight_decay=decay, **clip)
        case "adamw":
            return keras.optimizers.AdamW(rate, weight_decay=spec.weight_decay, **clip)
        case _:
            momentum = 0.0 if spec.optimiser == "sgd" else spec.momentum
            nesterov = spec.optimiser == "nesterov" and momentum > 0
            return keras.optimizers.SGD(rate, momentum, nesterov, weight_decay=decay, **clip)


def _loss(spec: Network, target: NDArray[Any]) -> Any:
    if target.ndim == 2:
        return _label_loss(spec, target)
    if target.dtype.kind != "f":
        return keras.losses.CategoricalCrossentropy(label_smoothing=spec.label_smoothing)
    spread = float(target.std()) or 1.0
    compare = {"mae": keras.losses.mean_absolute_error, "huber": keras.losses.huber}.get(
        spec.loss, keras.losses.mean_squared_error
    )
    return lambda wanted, found: compare(wanted / spread, found / spread)  # in deviations, as PyTorch's loop has it


def _label_loss(spec: Network, target: NDArray[Any]) -> Any:
    """Return the binary cross-entropy of several labels; balanced: those that few rows have count as much as others."""
    have = target.sum(axis=0)
    weights = (len(target) - have) / np.maximum(have, 1) if spec.class_weights == "balanced" else np.ones(len(have))

    def loss(wanted: Any, found: Any) -> Any:
        smooth = wanted * (1 - spec.label_smoothing) + spec.label_smoothing / 2
        sure = keras.ops.clip(found, _LEAST, 1 - _LEAST)
        gained = keras.ops.multiply(weights.astype(np.float32), smooth) * keras.ops.log(sure)
        return -keras.ops.mean(gained + (1 - smooth) * keras.ops.log(1 - sure), axis=-1)

    return loss


class _Loop:
    """What is known while Keras trains: the curve, the best weights, and when to stop."""

    def __init__(
        self,
        spec: Network,
        examples: Examples,
        known: NDArray[np.int64],
        checked: NDArray[np.int64],
        progress: Progress,
    ) -> None:
        self.spec, self.examples, self.checked, self.progress = spec, examples, checked, progress
        self.rows = len(known)
        self.steps = math.ceil(len(known) / (spec.batch_size or len(known)))
        self.rates = Rates(spec, self.steps)
        self.curve: list[dict[str, float]] = []
        self.best: list[NDArray[Any]] | None = None
        self.begun = time.perf_counter()
        self._checkpoint: Checkpoint | None = None

    @property
    def losses(self) -> list[float]:
        return [point["loss"] for point in self.curve]

    @property
    def is_over(self) -> bool:
        """Whether it has been getting no better for too long."""
        patience = self.spec.early_stopping
        return bool(patience and self.curve) and epochs_since_best(self.losses) >= patience

    def go_on(self, model: Any, checkpoint: Checkpoint) -> None:
        """Keep what was learned in ``checkpoint`` from now on, and take up what it holds."""
        self._checkpoint = checkpoint
        model.optimizer.build(model.trainable_variables)
        state = checkpoint.load()
        if state is None:
            return
        for variable, value in zip(_variables(model), state["variables"], strict=True):
            variable.assign(value)
        self.curve, self.best = state["curve"], [keras.ops.convert_to_numpy(value) for value in state["best"]] or None
        self.begun -= state["seconds"]

    def _keep(self, model: Any) -> None:
        if self._checkpoint is None or not self._checkpoint.is_due():
            return
        variables = [each.value.detach().clone() for each in _variables(model)]
        seconds = time.perf_counter() - self.begun
        best = [keras.ops.convert_to_tensor(each) for each in self.best or ()]
        self._checkpoint.save({"variables": variables, "curve": self.curve, "best": best, "seconds": seconds})

    def end_epoch(self, model: Any, train_loss: float, rate: float) -> bool:
        """Measure and note an epoch; tell whether it was the last."""
        measured = self._measure(model)
        if not (math.isfinite(measured["loss"]) and math.isfinite(train_loss)):
            raise TrainingFailed(f"the loss is not finite any more after epoch {len(self.curve) + 1}")
        seconds, epoch = time.perf_counter() - self.begun, len(self.curve) + 1
        told = {"train_loss": train_loss, "learning_rate": rate, "seconds": seconds}
        self.curve.append({"epoch": float(epoch), **measured, **told, "rows_per_second": epoch * self.rows / seconds})
        if self.spec.early_stopping and not epochs_since_best(self.losses):
            self.best = model.get_weights()
        self._keep(model)
        curve_report(self.progress, epoch, self.spec.epochs, self.curve[-1], rows=epoch * self.rows)
        return self.is_over

    def _measure(self, model: Any) -> dict[str, float]:
        pieces = np.array_split(self.checked, max(1, len(self.checked) // _ROWS_AT_ONCE))
        rows = (self.examples.batch(index).reshape(len(index), -1) for index in pieces)
        found = np.concatenate([keras.ops.convert_to_numpy(model(each, training=False)) for each in rows])
        target = self.examples.target[self.checked]
        if target.dtype.kind == "f":
            loss, spread = float(((found[:, 0] - target) ** 2).mean()), float(target.var())
            return {"loss": loss, "r2": 1 - loss / spread if spread else 0.0}
        if target.ndim == 2:
            sure = np.clip(found, _LEAST, 1 - _LEAST)
            loss = -np.where(target, np.log(sure), np.log(1 - sure)).mean()
            return {"loss": float(loss), "accuracy": float(((found > 0.5) == (target == 1)).all(axis=1).mean())}
        right = np.clip(found[np.arange(len(target)), target], 1e-15, 1.0)
        return {"loss": float(-np.log(right).mean()), "accuracy": float((found.argmax(axis=1) == target).mean())}


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]  # a class of Keras
    """Sets the rate of every step, and hands the end of every epoch to the loop."""

    def __init__(self, loop: _Loop) -> None:
        super().__init__()
        self._loop = loop
        self._step = len(loop.curve) * loop.steps

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Seed what draws from the common source, so that an epoch is the same wherever training began."""
        keras.utils.set_random_seed((self._loop.spec.seed * 1_000_003 + epoch) % 2**32)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Move the learning rate."""
        spec = self._loop.spec
        lost = falls(self._loop.losses, spec.decay_epochs) if spec.decay == "plateau" else 0
        self.model.optimizer.learning_rate = self._loop.rates.rate(self._step, lost)
        self._step += 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Measure, tell, and stop if it gets no better."""
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        if self._loop.end_epoch(self.model, float((logs or {})["loss"]), rate):
            self.model.stop_training = True


def _variables(model: Any) -> list[Any]:
    """Return all that training moves: weights, random states, and what the optimiser remembers."""
    return [*model.variables, *model.optimizer.variables]


def _saved(model: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return path.read_bytes()


assert os.environ["KERAS_BACKEND"]  # set before Keras was imported, by the layers
