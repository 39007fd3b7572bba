"""Counting answers in gateways, and writing the sums in Prometheus' text format (version 0.0.4) in the controller."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import msgspec

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of latency, in seconds."""


class Series(msgspec.Struct, array_like=True):
    """Answers of one endpoint with one outcome: how many in each bucket (the last is +Inf), and their seconds."""

    endpoint: str
    outcome: str
    buckets: list[int]
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """All answers."""
        return sum(self.buckets)


class Counts(msgspec.Struct):
    """Everything one gateway has counted since it started."""

    series: list[Series] = []
    connections: int = 0
    in_flight: int = 0


class Telemetry:
    """A gateway's counters."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], Series] = {}

    def observe(self, endpoint: str, outcome: str, seconds: float, count: int = 1) -> None:
        """Count answers that took ``seconds`` each."""
        series = self._series.get((endpoint, outcome))
        if series is None:
            series = self._series[endpoint, outcome] = Series(endpoint, outcome, [0] * (len(BUCKETS) + 1))
        series.buckets[bisect_left(BUCKETS, seconds)] += count
        series.seconds += seconds * count

    def counts(self, connections: int, in_flight: int) -> Counts:
        """Return all counters as they stand."""
        return Counts(list(self._series.values()), connections, in_flight)


def exposition(gateways: Iterable[tuple[str, Counts]], gauges: Iterable[tuple[str, str, int]]) -> str:
    """Write the counters of all gateways, and further ``(name, help, value)`` gauges, for Prometheus."""
    lines = [
        "# HELP mofang_serve_seconds Time from a parsed request to its answer.",
        "# TYPE mofang_serve_seconds histogram",
    ]
    states = [*gateways]
    for name, counts in states:
        for series in counts.series:
            lines += _histogram(name, series)
    for metric, help_text, field in (
        ("mofang_serve_connections", "Open HTTP connections.", "connections"),
        ("mofang_serve_in_flight", "Requests being answered now.", "in_flight"),
    ):
        lines += [f"# HELP {metric} {help_text}", f"# TYPE {metric} gauge"]
        lines += [f'{metric}{{gateway="{name}"}} {getattr(counts, field)}' for name, counts in states]
    for metric, help_text, value in gauges:
        lines += [f"# HELP {metric} {help_text}", f"# TYPE {metric} gauge", f"{metric} {value}"]
    return "\n".join(lines) + "\n"


def _histogram(gateway: str, series: Series) -> list[str]:
    labels = f'gateway="{gateway}",endpoint="{series.endpoint}",outcome="{series.outcome}"'
    lines, total = [], 0
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), series.buckets, strict=True):
        total += count
        lines.append(f'mofang_serve_seconds_bucket{{{labels},le="{bound}"}} {total}')
    lines.append(f"mofang_serve_seconds_sum{{{labels}}} {series.seconds:.6f}")
    lines.append(f"mofang_serve_seconds_count{{{labels}}} {total}")
    return lines
