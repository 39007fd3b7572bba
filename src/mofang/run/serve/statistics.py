"""What one gateway has answered since it started, by endpoint and version: the numbers of the statistics extension.

The lane counts; protocols show. Times are what is measured here: the whole request, its time in the queue, and its
share of the engine's time. ``compute_input`` and ``compute_output`` of the extension are not measured apart from that,
and are absent, as is ``cache_miss``: whatever is computed was one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from mofang.base.domain.deployment import Revision
from mofang.base.domain.inference import Answer

_MAX_ENTRIES = 10_000  # of versions that were served once; the oldest are forgotten


@dataclass(slots=True)
class _Computed:
    """Calls that were computed in batches of one size."""

    calls: int = 0
    rows: int = 0
    compute_us: int = 0


@dataclass(slots=True)
class Entry:
    """The counters of one version."""

    succeeded: int = 0
    succeeded_seconds: float = 0.0
    failed: int = 0
    failed_seconds: float = 0.0
    queue_us: int = 0
    cached: int = 0  # answers that were computed for somebody else
    last_ns: int = 0
    batches: dict[int, _Computed] = field(default_factory=dict)  # by rows of the batch

    def computed(self, rows: int, answer: Answer) -> None:
        """Count what an engine has computed."""
        if answer.is_cached:
            self.cached += 1
            return
        self.queue_us += answer.queue_us
        batch = self.batches.get(answer.batch_rows)
        if batch is None:
            batch = self.batches[answer.batch_rows] = _Computed()
        batch.calls += 1
        batch.rows += rows
        batch.compute_us += answer.compute_us

    def computed_together(self, calls: int, answer: Answer, recalled: int = 0) -> None:
        """Count what an engine has computed for ``calls`` at once, but for those that were ``recalled``."""
        self.cached += recalled
        calls -= recalled
        if not calls:
            return
        self.queue_us += answer.queue_us * calls
        batch = self.batches.get(answer.batch_rows)
        if batch is None:
            batch = self.batches[answer.batch_rows] = _Computed()
        batch.calls += calls
        batch.rows += answer.batch_rows
        batch.compute_us += answer.compute_us

    def ended(self, well: bool, seconds: float, count: int = 1) -> None:
        """Count requests that were answered, or failed, after ``seconds`` each."""
        if well:
            self.succeeded += count
            self.succeeded_seconds += seconds * count
            self.last_ns = time.time_ns()
        else:
            self.failed += count
            self.failed_seconds += seconds * count


class Statistics:
    """The counters."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, int], Entry] = {}

    def show(self, endpoint: str, version: int) -> dict[str, Any]:
        """Return the extension's entry of one version, zeros if it was never asked."""
        entry = self._entries.get((endpoint, version), Entry())
        batches = entry.batches.items()
        calls = sum(batch.calls for _, batch in batches)
        compute_us = sum(batch.compute_us for _, batch in batches)
        return {
            "name": endpoint,
            "version": str(version),
            "last_inference": entry.last_ns // 1_000_000,
            "inference_count": sum(batch.rows for _, batch in batches),
            "execution_count": sum(_executions(size, batch) for size, batch in batches),
            "inference_stats": {
                "success": _duration(entry.succeeded, entry.succeeded_seconds * 1e9),
                "fail": _duration(entry.failed, entry.failed_seconds * 1e9),
                "queue": _duration(calls, entry.queue_us * 1000),
                "compute_infer": _duration(calls, compute_us * 1000),
                **({"cache_hit": _duration(entry.cached, 0)} if entry.cached else {}),
            },
            "batch_stats": [
                {
                    "batch_size": size,
                    "compute_infer": _duration(_executions(size, batch), batch.compute_us * 1000),
                }
                for size, batch in sorted(batches)
            ],
        }

    def entry(self, revision: Revision) -> Entry:
        """Return the counters of a revision's version."""
        key = (revision.endpoint, revision.version)
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= _MAX_ENTRIES:
                del self._entries[next(iter(self._entries))]
            entry = self._entries[key] = Entry()
        return entry


def _executions(size: int, batch: _Computed) -> int:
    """Return how many batches of ``size`` rows the calls make up; those of other gateways may have shared them."""
    return max(1, round(batch.rows / size))


def _duration(count: int, ns: float) -> dict[str, int]:
    return {"count": count, "ns": round(ns)}
