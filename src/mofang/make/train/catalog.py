"""Which module trains what: a framework is imported only when a recipe asks for it.

The pipeline asks for a trainer before it touches any data, so that a framework that is not installed is told at once.
"""

from __future__ import annotations

from collections.abc import Callable

from mofang.base.domain.errors import ExtraMissing
from mofang.base.domain.work import Progress
from mofang.make.prepare.dataset import Examples
from mofang.make.recipe import Train
from mofang.make.train.model import TrainedModel

Trainer = Callable[[Train, Examples, Progress], TrainedModel]


def trainer(spec: Train) -> Trainer:
    """Return what fits ``spec``; raise ExtraMissing if its framework is not installed."""
    try:
        match spec.framework:
            case "xgboost":
                from mofang.make.train.xgboost import train
            case "lightgbm":
                from mofang.make.train.lightgbm import train
            case _:
                from mofang.make.train.sklearn import train
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            f"algorithm {spec.algorithm!r} needs the package {error.name!r}, which is not installed",
            hint="install it where the server runs: `pip install 'mofang[boosting]'`",
        ) from error
    return train
