"""Honest timing: it interleaves.

Called by :mod:`mofang.make.compress.arena`. Timing one contestant after the other misleads, since clocks and caches
change in between: here they take turns. Nothing in here knows a model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

_AGREEMENT = 1.25  # medians and minima may tell speed-ups this far apart before the race is run on

Contestant = Callable[[], Sequence[int]]
"""Takes its turn, and returns the nanoseconds of each time it computed in it."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Time of one call, over all rounds."""

    median_us: float
    minimum_us: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a race is run at least: what takes seconds tells enough in few rounds."""

    warm_ups: int = 3
    rounds: int = 15
    races: int = 3


PACE = Pace()


def race(
    contestants: Mapping[str, Contestant],
    seconds: float,
    clock: Callable[[], int] = time.perf_counter_ns,
    pace: Pace = PACE,
) -> dict[str, Timing]:
    """Let the contestants take turns for ``seconds``, each round in another order.

    If median and minimum disagree on how much faster one is than another, the race goes on, up to three times as long.
    """
    samples: dict[str, list[int]] = {name: [] for name in contestants}
    order = list(contestants)
    for turn in (*contestants.values(),) * pace.warm_ups:
        turn()
    for _ in range(pace.races):
        begun, rounds = clock(), 0
        while rounds < pace.rounds or clock() - begun < seconds * 1e9:
            for name in order:
                samples[name] += contestants[name]()
            order.append(order.pop(0))
            rounds += 1
        timings = {name: Timing(median(taken) / 1e3, min(taken) / 1e3, len(taken)) for name, taken in samples.items()}
        if _agree(list(timings.values())):
            break
    return timings


def _agree(timings: list[Timing]) -> bool:
    spreads = [timing.median_us / max(timing.minimum_us, 1e-3) for timing in timings]
    return max(spreads) <= _AGREEMENT * min(spreads)
