"""Which module trains what: a framework is imported only when a recipe asks for it.

The pipeline asks for a trainer before it touches any data, so that a framework that is not installed is told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mofang.base.domain.errors import ExtraMissing
from mofang.make.recipe import Train
from mofang.make.train.labels import each_label
from mofang.make.train.model import Trainer

if TYPE_CHECKING:
    from mofang.make.train.transformers.torch.peft import Tuner

Searcher = Callable[..., Any]
"""``mofang.make.train.optuna.search``."""

_ONE_BY_ONE = ("xgboost", "lightgbm", "catboost")  # they know one class a row: a model for each of several labels
EXTRAS: Mapping[str, str] = MappingProxyType(
    {
        "xgboost": "boosting",
        "lightgbm": "boosting",
        "catboost": "catboost",
        "vowpalwabbit": "vowpalwabbit",
        "torch": "torch",
        "keras": "keras",
        "transformers": "transformers",
    }
)
"""Which extra of the package brings a framework that is not always there."""


def searcher() -> Searcher:
    """Return what looks for better values of [train]; raise ExtraMissing if it is not installed."""
    try:
        from mofang.make.train.optuna import search
    except ModuleNotFoundError as error:
        raise ExtraMissing.of("[search]", error.name, "search") from error
    return search


def tuner() -> type[Tuner]:
    """Return what goes on from a language model; raise ExtraMissing if its framework is not installed."""
    try:
        from mofang.make.train.transformers.torch.peft import Tuner
    except ModuleNotFoundError as error:
        raise ExtraMissing.of("algorithm 'lora'", error.name, EXTRAS["transformers"]) from error
    return Tuner


def trainer(spec: Train, checkpoint: Path | None = None) -> Trainer:
    """Return what fits ``spec``; raise ExtraMissing if its framework is not installed.

    ``checkpoint`` is a file in which a long training keeps how far it is, to go on from there if it is killed.
    """
    try:
        match spec.made_by:
            case "torch":
                from mofang.make.train.torch import train as torch

                return partial(torch.train, checkpoint=checkpoint)
            case "function":
                from mofang.make.train.function import train
            case "catboost":
                from mofang.make.train.catboost import train
            case "vowpalwabbit":
                from mofang.make.train.vowpalwabbit import train
            case "keras":
                from mofang.make.train.keras import train as keras

                return partial(keras.train, checkpoint=checkpoint)
            case "xgboost":
                from mofang.make.train.xgboost import train
            case "lightgbm":
                from mofang.make.train.lightgbm import train
            case _:
                from mofang.make.train.sklearn import train
    except ModuleNotFoundError as error:
        raise ExtraMissing.of(f"algorithm {spec.algorithm!r}", error.name, EXTRAS[spec.made_by]) from error
    return each_label(train) if spec.made_by in _ONE_BY_ONE else train
