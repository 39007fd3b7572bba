"""The search for better values of [train], by Optuna: which to try next, and which to give up early.

Called by the pipeline in place of one training. Trials that were made before the job was killed are not made again.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import optuna
from optuna.trial import FrozenTrial, TrialState

from mofang.base.domain.errors import TrainingFailed
from mofang.base.domain.work import Progress
from mofang.make.prepare.dataset import Examples
from mofang.make.recipe import Search, Train
from mofang.make.recipe.search import is_whole
from mofang.make.train.model import TrainedModel, Trainer

Trial = dict[str, Any]
"""keys (of [train], as they were tried), state (complete, pruned, failed), loss, seconds."""
_TRIALS_BEFORE_GIVING_UP = 5  # none is given up before so many tell what is usual


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The best model, what it was trained with, and all that was tried."""

    model: TrainedModel
    spec: Train
    trials: tuple[Trial, ...]


def search(
    search: Search,
    spec: Train,
    train: Trainer,
    examples: Examples,
    progress: Progress,
    *,
    earlier: Sequence[Trial] = (),
    keep: Callable[[tuple[Trial, ...]], None] = lambda trials: None,
) -> Found:
    """Try values of ``search.space`` in ``spec``; return the model with the lowest validation loss.

    ``keep`` is handed all trials after each. Raises TrainingFailed if none succeeds, and what ``progress`` raises.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    hunt = _Hunt(search, spec, train, examples, progress, [*earlier])
    began = time.monotonic()
    while len(hunt.trials) < search.trials and not (hunt.trials and _is_late(search, began)):
        hunt.step()
        keep(tuple(hunt.trials))
    return hunt.found()


def _is_late(search: Search, began: float) -> bool:
    return bool(search.minutes) and time.monotonic() - began > search.minutes * 60


class _Pruned(Exception):
    """A trial is clearly worse than others at the same point."""


class _Hunt:
    def __init__(
        self, search: Search, spec: Train, train: Trainer, examples: Examples, progress: Progress, trials: list[Trial]
    ) -> None:
        self._search, self._spec, self._train = search, spec, train
        self._examples, self._progress = examples, progress
        self._best: tuple[float, TrainedModel] | None = None
        self._study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=search.seed + len(trials)),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_TRIALS_BEFORE_GIVING_UP, n_warmup_steps=1),
        )
        self.trials = trials
        for trial in trials:
            self._study.add_trial(self._frozen(trial))

    def step(self) -> None:
        """Make one trial."""
        asked = self._study.ask()
        keys = {key: self._suggest(asked, key) for key in self._search.space}
        begun, spec = time.perf_counter(), self._with(keys)
        told: Trial = {"keys": keys, "state": "complete", "loss": None}
        try:
            _check(spec, self._examples)
            model = self._train(spec, self._examples, _Watch(self._progress, asked, self))
        except _Pruned:
            told["state"] = "pruned"
            self._study.tell(asked, state=TrialState.PRUNED)
        except TrainingFailed as error:
            told |= {"state": "failed", "error": error.message}
            self._study.tell(asked, state=TrialState.FAIL)
        else:
            told["loss"] = loss_of(model, spec)
            self._study.tell(asked, told["loss"])
            if self._best is None or told["loss"] < self._best[0]:
                self._best = (told["loss"], model)
        self.trials.append({**told, "seconds": time.perf_counter() - begun})

    def found(self) -> Found:
        """Return the best; train it again if it was found before the job was killed."""
        complete = [trial for trial in self.trials if trial["state"] == "complete"]
        if not complete:
            raise TrainingFailed(f"none of {len(self.trials)} trials led to a model", hint="narrow [search.space]")
        best = min(complete, key=lambda trial: float(trial["loss"]))
        spec = self._with(best["keys"])
        if self._best is None or self._best[0] > best["loss"]:
            return Found(self._train(spec, self._examples, self._progress), spec, tuple(self.trials))
        return Found(self._best[1], spec, tuple(self.trials))

    @property
    def number(self) -> int:
        """Which trial this is, from 1."""
        return len(self.trials) + 1

    def told(self, fraction: float) -> tuple[float, str]:
        """Return how far the search is, and a line about it, while a trial is so far."""
        losses = [trial["loss"] for trial in self.trials if trial["loss"] is not None]
        best = f", best loss {min(losses):.4f}" if losses else ""
        return (self.number - 1 + fraction) / self._search.trials, f"trial {self.number} of {self._search.trials}{best}"

    def _with(self, keys: dict[str, Any]) -> Train:
        table = msgspec.to_builtins(self._spec)
        return msgspec.convert({**table, **keys}, type(self._spec))

    def _suggest(self, trial: optuna.Trial, key: str) -> Any:
        values = self._search.space[key]
        if isinstance(values, list):  # lists are no values for Optuna: it chooses a place instead
            return values[trial.suggest_categorical(key, list(range(len(values))))]
        low, high, log = values["low"], values["high"], values.get("log", False)
        if is_whole(type(self._spec), key):
            return trial.suggest_int(key, int(low), int(high), log=log)
        return trial.suggest_float(key, low, high, log=log)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        """Return a trial that was made before, in Optuna's words."""
        places, kinds = {}, {}
        for key, values in self._search.space.items():
            value = trial["keys"][key]
            if isinstance(values, list):
                places[key] = values.index(value)
                kinds[key] = optuna.distributions.CategoricalDistribution(list(range(len(values))))
            else:
                scale = optuna.distributions.FloatDistribution
                if is_whole(type(self._spec), key):
                    scale = optuna.distributions.IntDistribution
                places[key], kinds[key] = value, scale(values["low"], values["high"], log=values.get("log", False))
        state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(trial["state"], TrialState.FAIL)
        return optuna.create_trial(state=state, value=trial["loss"], params=places, distributions=kinds)


class _Watch:
    """The progress of one trial: tells the search's, and gives the trial up where others were better."""

    def __init__(self, progress: Progress, trial: optuna.Trial, hunt: _Hunt) -> None:
        self._progress, self._trial, self._hunt = progress, trial, hunt

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        """See :class:`Progress`."""
        done, told = self._hunt.told(fraction)
        self._progress.report("search", min(done, 1.0), told, trial=self._hunt.number)
        if "epoch" in data and "loss" in data:
            self._trial.report(float(data["loss"]), int(data["epoch"]))
            if self._trial.should_prune():
                raise _Pruned


def loss_of(model: TrainedModel, spec: Train) -> float:
    """Return the validation loss of what was kept: with early stopping the lowest of the curve, else the last."""
    losses = [point["loss"] for point in model.curve]
    return float(min(losses) if getattr(spec, "early_stopping", 0) else losses[-1])


def _check(spec: Train, examples: Examples) -> None:
    """Raise TrainingFailed for values that do not go together, each of which is well by itself."""
    problem = spec.complaint("classification" if examples.schema.labels else "regression")
    if problem is not None:
        raise TrainingFailed(f"{problem[0]} {problem[1]}")
