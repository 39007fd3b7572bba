"""Counting answers in gateways, and writing the sums in Prometheus' text format (version 0.0.4) in the controller."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from mofang.base.domain.generation import Occupancy
from mofang.run.serve.desk import Stages
from mofang.run.serve.pieces import Speech
from mofang.surface.server.lately import CACHE_SECONDS, RATE_SECONDS, Pace, Talk

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of latency, in seconds."""
STAGE_BUCKETS = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, *BUCKETS)
"""Upper bounds of the time in one stage, in seconds."""
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Upper bounds of the rows of a batch."""
_COUNTED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Metric:
    """A histogram: what it tells, and by which label besides gateway and endpoint."""

    name: str
    about: str
    label: str
    bounds: tuple[float, ...]


SECONDS = Metric("mofang_serve_seconds", "Time from a parsed request to its answer.", "outcome", BUCKETS)
STAGE = Metric("mofang_serve_stage_seconds", "Time that answered requests spent in a stage.", "stage", STAGE_BUCKETS)
BATCH = Metric("mofang_serve_batch_rows", "Rows of the batch in which a request was computed.", "", BATCH_BUCKETS)
FIRST_TOKEN = Metric(
    "gen_ai_server_time_to_first_token_seconds", "Time from a parsed request to its first token.", "",
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)  # fmt: skip
NEXT_TOKEN = Metric(
    "gen_ai_server_time_per_output_token_seconds", "Time between two tokens of an answer, on average.", "",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)  # fmt: skip
TOKENS = Metric(
    "gen_ai_client_token_usage", "Tokens of an answer: of its prompt, those of it that were cached, and said.",
    "gen_ai_token_type", tuple(4**power for power in range(11)),
)  # fmt: skip
SPEECH_QUEUE = Metric(
    "mofang_generate_queue_seconds", "Time that a request waited for a slot of a language model.", "", BUCKETS
)
"""Those of language models. Names and bounds of the first three are OpenTelemetry's semantic conventions for generative
AI, in Prometheus' spelling: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/"""
HISTOGRAMS: Mapping[str, Metric] = {
    each.name: each for each in (SECONDS, STAGE, BATCH, FIRST_TOKEN, NEXT_TOKEN, TOKENS, SPEECH_QUEUE)
}
OCCUPANCY: Mapping[str, tuple[str, str]] = {
    "mofang_generate_running": ("running", "Streams that a language model computes, of all gateways."),
    "mofang_generate_waiting": ("waiting", "Streams that wait for a slot of a language model, of all gateways."),
    "mofang_generate_cache_tokens": ("cache_tokens", "Tokens whose keys and values streams hold in the cache now."),
    "mofang_generate_cache_room_tokens": ("room_tokens", "Tokens that have room in the cache."),
}
"""Gauges of language models: the field of :class:`Occupancy`, and what it is."""


class Series(msgspec.Struct, array_like=True):
    """What one gateway counted of a metric: how many in each bucket (the last is +Inf), and their sum."""

    metric: str
    endpoint: str
    label: str
    buckets: list[int]
    total: float = 0.0

    def add(self, bounds: tuple[float, ...], value: float, count: int) -> None:
        """Count a value so many times."""
        self.buckets[bisect_left(bounds, value)] += count
        self.total += value * count

    @property
    def count(self) -> int:
        """All that was counted."""
        return sum(self.buckets)


class Counts(msgspec.Struct):
    """Everything one gateway has counted since it started."""

    series: list[Series] = []
    connections: int = 0
    in_flight: int = 0
    waiting: dict[str, int] = {}  # calls that replicas have taken and not answered, by endpoint
    occupancy: dict[str, Occupancy] = {}  # of language models, by endpoint
    paces: dict[str, Pace] = {}  # of language models, by endpoint


class Telemetry:
    """A gateway's counters."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str, str], Series] = {}
        self._stages: dict[str, tuple[Series, list[Series]]] = {}  # batches of an endpoint, and its stages in order
        self._seconds: dict[tuple[str, str], Series] = {}  # of an endpoint's answers, by outcome
        self._measured: list[tuple[str, Stages, int, int]] = []  # not counted yet
        self._talks: defaultdict[str, Talk] = defaultdict(Talk)  # of endpoints

    def observe(self, endpoint: str, outcome: str, seconds: float, count: int = 1) -> None:
        """Count answers that took ``seconds`` each."""
        series = self._seconds.get((endpoint, outcome))
        if series is None:
            series = self._seconds[endpoint, outcome] = self._find(SECONDS, endpoint, outcome)
        series.buckets[bisect_left(BUCKETS, seconds)] += count
        series.total += seconds * count

    def measure(self, endpoint: str, seconds: Stages, batch_rows: int, count: int = 1) -> None:
        """Count where the time of answers went, each, and with how many rows they were computed.

        Many are counted in one go: alone, each would cost four times as much.
        """
        self._measured.append((endpoint, seconds, batch_rows, count))
        if len(self._measured) >= _COUNTED_AT_ONCE:
            self._count_measured()

    def hear(self, endpoint: str, tokens: int) -> None:
        """Count tokens that a language model said, as they are handed out."""
        self._talks[endpoint].said(tokens)

    def listen(self, endpoint: str, speech: Speech) -> None:
        """Count the answer of a language model, which has ended."""
        self._talks[endpoint].read(speech.input_tokens, speech.cached_tokens)
        timed = ((FIRST_TOKEN, speech.first_seconds), (NEXT_TOKEN, speech.token_seconds),
                 (SPEECH_QUEUE, speech.queue_seconds))  # fmt: skip
        for metric, seconds in timed:
            if seconds is not None:
                self._find(metric, endpoint, "").add(metric.bounds, seconds, 1)
        for kind, tokens in (("input", speech.input_tokens), ("cached", speech.cached_tokens),
                             ("output", speech.output_tokens)):  # fmt: skip
            self._find(TOKENS, endpoint, kind).add(TOKENS.bounds, tokens, 1)

    def counts(
        self,
        connections: int,
        in_flight: int,
        waiting: Mapping[str, int] | None = None,
        occupancy: Mapping[str, Occupancy] | None = None,
    ) -> Counts:
        """Return all counters as they stand."""
        self._count_measured()
        paces = {endpoint: talk.pace for endpoint, talk in self._talks.items()}
        series = list(self._series.values())
        return Counts(series, connections, in_flight, dict(waiting or {}), dict(occupancy or {}), paces)

    def _count_measured(self) -> None:
        measured, self._measured = self._measured, []
        for endpoint, seconds, batch_rows, count in measured:
            known = self._stages.get(endpoint)
            if known is None:
                stages = [self._find(STAGE, endpoint, stage) for stage in Stages._fields]
                known = self._stages[endpoint] = (self._find(BATCH, endpoint, ""), stages)
            batches, stages = known
            batches.add(BATCH_BUCKETS, batch_rows, count)
            for series, spent in zip(stages, seconds, strict=True):
                series.add(STAGE_BUCKETS, spent, count)

    def _find(self, metric: Metric, endpoint: str, label: str) -> Series:
        series = self._series.get((metric.name, endpoint, label))
        if series is None:
            empty = [0] * (len(metric.bounds) + 1)
            series = self._series[metric.name, endpoint, label] = Series(metric.name, endpoint, label, empty)
        return series


def exposition(gateways: Iterable[tuple[str, Counts]], gauges: Iterable[tuple[str, str, int]]) -> str:
    """Write the counters of all gateways, and further ``(name, help, value)`` gauges, for Prometheus."""
    lines: list[str] = []
    states = [*gateways]
    for metric in HISTOGRAMS.values():
        lines += _head(metric.name, metric.about, "histogram")
        for name, counts in states:
            for series in counts.series:
                if series.metric == metric.name:
                    lines += _histogram(metric, name, series)
    for gauge, about, field in (
        ("mofang_serve_connections", "Open HTTP connections.", "connections"),
        ("mofang_serve_in_flight", "Requests being answered now.", "in_flight"),
    ):
        lines += _head(gauge, about, "gauge")
        lines += [f'{gauge}{{gateway="{name}"}} {getattr(counts, field)}' for name, counts in states]
    lines += _head("mofang_serve_waiting", "Requests that replicas have taken and not computed yet.", "gauge")
    for name, counts in states:
        for endpoint, waiting in counts.waiting.items():
            lines.append(f'mofang_serve_waiting{{gateway="{name}",endpoint="{endpoint}"}} {waiting}')
    for gauge, (field, about) in OCCUPANCY.items():
        lines += _head(gauge, about, "gauge")
        lines += [
            f'{gauge}{{gateway="{name}",endpoint="{endpoint}"}} {getattr(occupancy, field)}'
            for name, counts in states
            for endpoint, occupancy in counts.occupancy.items()
        ]
    lines += _speeds(states)
    for gauge, about, value in gauges:
        lines += [*_head(gauge, about, "gauge"), f"{gauge} {value}"]
    return "\n".join(lines) + "\n"


def _speeds(states: Sequence[tuple[str, Counts]]) -> list[str]:
    """Write how fast language models are just now, and what their caches save."""
    speed = f"Tokens a second, of the last {RATE_SECONDS} s: said, and of prompts."
    hits = f"Share of the prompts of the last {CACHE_SECONDS} s that was cached, 0 to 1, by tokens."
    rates, shares = _head("mofang_generate_tokens_per_second", speed, "gauge"), []
    for name, counts in states:
        for endpoint, pace in counts.paces.items():
            place = f'gateway="{name}",endpoint="{endpoint}"'
            rates += [
                f'mofang_generate_tokens_per_second{{{place},gen_ai_token_type="{kind}"}} {rate:.1f}'
                for kind, rate in (("input", pace.input), ("output", pace.output))
            ]
            if pace.cached is not None:
                shares.append(f"mofang_generate_cache_hit_ratio{{{place}}} {pace.cached:.4f}")
    return [*rates, *_head("mofang_generate_cache_hit_ratio", hits, "gauge"), *shares]


def _head(name: str, about: str, kind: str) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]


def _histogram(metric: Metric, gateway: str, series: Series) -> list[str]:
    labels = f'gateway="{gateway}",endpoint="{series.endpoint}"'
    if metric.label:
        labels += f',{metric.label}="{series.label}"'
    lines, total = [], 0
    for bound, count in zip((*map(str, metric.bounds), "+Inf"), series.buckets, strict=True):
        total += count
        lines.append(f'{metric.name}_bucket{{{labels},le="{bound}"}} {total}')
    lines.append(f"{metric.name}_sum{{{labels}}} {series.total:.6f}")
    lines.append(f"{metric.name}_count{{{labels}}} {total}")
    return lines
