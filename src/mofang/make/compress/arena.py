"""The arena: the original on stands of its own, against which one variant after the other is timed in turns."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from mofang.base.domain.tensors import Array
from mofang.base.domain.work import Progress
from mofang.base.engines.options import OPTIONS
from mofang.make.compress.compare import Latency, Of
from mofang.make.compress.measure import PACE, Contestant, Pace, race
from mofang.make.compress.stand import Rows, Stand

BATCHES = (1, 32)
_TURN_NS = 2_000_000  # of one turn, at least: what is fast computes several times, so that waking up counts for little
_MOST_TIMES = 50
_LONG_NS = 20_000_000  # of one call: what computes so long need not be woken up first


Times = tuple[tuple[Latency, ...], int, int]
"""Latencies beside the original's, and the resident bytes of the variant's and of the original's process."""


class Grounds(Protocol):
    """Where a variant is timed beside its parent."""

    def time(self, folder: Path, seconds: float, progress: Progress) -> Times:
        """Time the variant in ``folder``, ``seconds`` for each thing that is timed."""
        ...


class Arena:
    """The original, loaded once for each number of threads, and the rows all are timed with. Use :func:`arena`."""

    def __init__(self, engine: str, original: Mapping[int, Stand], batches: Mapping[int, Rows]) -> None:
        self._engine = engine
        self._original = original
        self._batches = batches

    def time(self, folder: Path, seconds: float, progress: Progress) -> Times:
        """Time the variant in ``folder`` against the original, ``seconds`` for each batch and number of threads.

        Memory is that on one thread.
        """
        found, memory = [], (0, 0)
        for threads, original in self._original.items():
            with stand(self._engine, folder, threads) as variant:
                for batch, rows in self._batches.items():
                    progress.report("compress", 0.5, f"timing batches of {batch} on {threads} threads, in turns")
                    turns = _contestant(variant, rows), _contestant(original, rows)
                    found.append(compared(*turns, batch, threads, seconds))
                memory = memory if memory[0] else (variant.resident_bytes, original.resident_bytes)
        return tuple(found), *memory


def takes_threads(engine: str) -> bool:
    """Tell whether an engine has the option ``threads``."""
    return "threads" in OPTIONS.get(engine, {})


@contextmanager
def arena(engine: str, folder: Path, rows: Mapping[str, Array], *, batchable: bool) -> Iterator[Arena]:
    """Load the original, on one thread and, where the engine can, on all cores; ``rows`` are what is asked."""
    cores = len(os.sched_getaffinity(0))
    threads = sorted({1, cores}) if takes_threads(engine) else [1]
    batches = {batch: _batch(rows, batch) for batch in (BATCHES if batchable else BATCHES[:1])}
    with ExitStack() as stack:
        yield Arena(engine, {each: stack.enter_context(stand(engine, folder, each)) for each in threads}, batches)


@contextmanager
def stand(engine: str, folder: Path, threads: int = 0) -> Iterator[Stand]:
    """Load an artifact in a process of its own, and end it afterwards; 0 threads: as many as the engine likes."""
    options = {"threads": threads} if threads and takes_threads(engine) else {}
    made = Stand(engine, folder, options)
    try:
        yield made
    finally:
        made.close()


def _batch(rows: Mapping[str, Array], batch: int) -> Rows:
    return {name: np.resize(array[:batch], (batch, *array.shape[1:])) for name, array in rows.items()}


def compared(
    variant: Contestant,
    parent: Contestant,
    batch: int,
    threads: int,
    seconds: float,
    of: Of = "rows",
    pace: Pace = PACE,
) -> Latency:
    """Race a variant against its parent; return the times of both."""
    timings = race({"variant": variant, "parent": parent}, seconds, pace=pace)
    ours, theirs = timings["variant"], timings["parent"]
    times = (ours.median_us, ours.minimum_us, theirs.median_us, theirs.minimum_us)
    return Latency(batch, threads, *times, ours.rounds, of)


def _contestant(stand: Stand, rows: Rows) -> Contestant:
    """Return what computes ``rows`` in its turn: once to wake up, then as often as fits."""
    alone = min(stand.time(rows, 2))
    if alone > _LONG_NS:
        return lambda: stand.time(rows)
    times = min(max(_TURN_NS // max(alone, 1), 1), _MOST_TIMES)
    return lambda: stand.time(rows, times + 1)[1:]
