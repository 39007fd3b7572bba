"""Settings of a version on this machine, found by measuring: instances, threads and rows of a batch.

Every way to share the cores is loaded side by side, in processes of their own as replicas are, and takes turns with the
others (``measure.race``), so that clocks and caches favour none. Instances of one way compute at the same time. Batches
grow until no way keeps the latency goal: a request waits for the batch before it, then for its own, so that its latency
is taken to be two batches.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mofang.base.domain.tensors import Array
from mofang.base.domain.work import Progress
from mofang.make.compress.arena import stand, takes_threads
from mofang.make.compress.measure import Contestant, race
from mofang.make.compress.stand import Rows, Stand

BATCHES = (1, 2, 4, 8, 16, 32, 64)
_BATCHES_A_REQUEST_WAITS = 2


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to run a version, and what was measured of it."""

    instances: int
    threads: int
    batch_rows: int
    batch_ms: float  # median, with all instances computing

    @property
    def latency_ms(self) -> float:
        """About how long a request waits when all instances are busy."""
        return self.batch_ms * _BATCHES_A_REQUEST_WAITS

    @property
    def rows_per_second(self) -> float:
        """Rows that all instances compute together."""
        return self.instances * self.batch_rows * 1000.0 / self.batch_ms


def best(settings: Sequence[Setting], goal_ms: float) -> Setting:
    """Return what computes most rows within the goal; if nothing keeps it, what answers soonest.

    Of what is about as good (5%), the one with fewer instances and smaller batches: it takes less memory.
    """
    within = [each for each in settings if each.latency_ms <= goal_ms]
    if not within:
        return min(settings, key=lambda each: each.latency_ms)
    enough = max(each.rows_per_second for each in within) * 0.95
    good = [each for each in within if each.rows_per_second >= enough]
    return min(good, key=lambda each: (each.instances, each.batch_rows, each.threads))


def front(settings: Sequence[Setting]) -> list[Setting]:
    """Return those that no other beats in both latency and rows a second, fastest answer first."""
    kept: list[Setting] = []
    for each in sorted(settings, key=lambda one: (one.latency_ms, -one.rows_per_second)):
        if not kept or each.rows_per_second > kept[-1].rows_per_second:
            kept.append(each)
    return kept


def told(setting: Setting, engine: str) -> dict[str, Any]:
    """Return what was measured, and under ``deploy`` what a deployment needs for it, as jobs and variants keep it."""
    return {
        **asdict(setting),
        "latency_ms": setting.latency_ms,
        "rows_per_second": setting.rows_per_second,
        "deploy": {
            "replicas": setting.instances,
            "limits": {"max_batch_rows": setting.batch_rows},
            "options": {"threads": setting.threads} if takes_threads(engine) else {},
        },
    }


def measure(
    engine: str,
    folder: Path,
    row: Mapping[str, Array],
    goal_ms: float,
    seconds: float,
    progress: Progress,
    *,
    batchable: bool,
) -> list[Setting]:
    """Return what was measured, for about ``seconds`` in all; ``row`` is an input of one row."""
    found: list[Setting] = []
    batches = BATCHES if batchable else BATCHES[:1]
    with _layouts(engine, folder, len(os.sched_getaffinity(0))) as layouts:
        for number, batch in enumerate(batches):
            progress.report("tune", number / len(batches), f"batches of {batch}, {len(layouts)} ways in turns")
            rows = {name: np.repeat(array, batch, axis=0) if batchable else array for name, array in row.items()}
            turns: dict[str, Contestant] = {}
            for instances, threads in layouts:
                turns[f"{instances} {threads}"] = _turn(layouts[instances, threads], rows)
            timings = race(turns, seconds / len(batches))
            now = [
                Setting(instances, threads, batch, timings[f"{instances} {threads}"].median_us / 1000)
                for instances, threads in layouts
            ]
            found += now
            if all(each.latency_ms > goal_ms for each in now):
                break
    return found


@contextmanager
def _layouts(engine: str, folder: Path, cores: int) -> Iterator[dict[tuple[int, int], list[Stand]]]:
    """Load the version once for every instance of every way to share the cores: all on one, each alone, halves."""
    threads = sorted({1, cores, max(1, cores // 2)}) if takes_threads(engine) else [1]
    ways = {(1, each) for each in threads} | {(max(1, cores // each), each) for each in threads}
    with ExitStack() as stack:
        yield {
            (instances, each): [stack.enter_context(stand(engine, folder, each)) for _ in range(instances)]
            for instances, each in sorted(ways)
        }


def _turn(stands: Sequence[Stand], rows: Rows) -> Contestant:
    if len(stands) == 1:
        return lambda: stands[0].time(rows)

    def together() -> list[int]:
        with ThreadPoolExecutor(len(stands)) as pool:
            return [taken for times in pool.map(lambda each: each.time(rows, 3), stands) for taken in times]

    return together
