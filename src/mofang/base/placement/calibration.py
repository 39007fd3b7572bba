"""How many threads a model computes with on this machine, found by measuring when it is loaded for the first time.

Rows of a batch need no such thing: a replica measures them as it goes (``pace.py``). What is found here is recorded in
the revision, and later loads do as it says. A model that answers in a moment is not measured twice: its second thread
would cost more than it brings, and its deployment must not take longer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from mofang.base.domain.deployment import Calibration
from mofang.base.domain.errors import MofangError
from mofang.base.domain.tensors import Array
from mofang.base.engines.base import Engine, Exemplary, Load, Options, example_row
from mofang.base.engines.options import OPTIONS

_MOMENT_SECONDS = 0.002  # a row that takes less is computed by one thread
_MOST_SECONDS = 1.0  # that all of it may take
_WORTH = 1.3  # how much faster a row must be with all cores
_RUNS = 3


def is_calibrated(engine: str, options: Options) -> bool:
    """Tell whether the threads of an engine are found by measuring: it usually takes one, and nobody said otherwise."""
    usual = OPTIONS.get(engine, {}).get("threads")  # what speaks or hears takes all cores as a rule
    return usual is not None and usual.usual == 1 and "threads" not in options


class Calibrator:
    """Loads as ``load`` does, with one thread or as many as there are ``cores``; ``found`` says which, and why."""

    def __init__(self, load: Load, cores: int) -> None:
        self._load = load
        self._cores = cores
        self.found: Calibration | None = None

    def __call__(self, engine: str, folder: Path, options: Options) -> Engine:
        """Return the engine that is faster. Raises as ``load`` does."""
        began = time.perf_counter()
        one = self._load(engine, folder, {**options, "threads": 1})
        try:
            row = one.example() if isinstance(one, Exemplary) else example_row(one)
            alone = _fastest(one, row)
            rows = len(next(iter(row.values())))
        except MofangError:
            return one  # the warm-up says what is wrong
        self.found = _said(1, alone / rows)
        again = 2 * (time.perf_counter() - began)
        if self._cores < 2 or alone < _MOMENT_SECONDS or again > _MOST_SECONDS:
            return one
        many = self._load(engine, folder, {**options, "threads": self._cores})
        together = _fastest(many, row)
        if alone < _WORTH * together:
            many.close()
            return one
        one.close()
        self.found = _said(self._cores, together / rows)
        return many


def _fastest(engine: Engine, row: Mapping[str, Array]) -> float:
    times = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        engine.infer(row)
        times.append(time.perf_counter() - began)
    return min(times)


def _said(threads: int, seconds: float) -> Calibration:
    return Calibration(threads, round(seconds * 1e6))
