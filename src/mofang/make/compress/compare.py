"""Hold a variant against the version it was made from: quality on the same rows, latency in turns, size.

Called by the pipeline with two loaded engines; whether the variant may be registered is decided here, purely.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mofang.base.domain.work import Progress
from mofang.base.engines.base import Engine
from mofang.make.compress.measure import race
from mofang.make.evaluate.chance import mcnemar
from mofang.make.evaluate.metrics import Indices
from mofang.make.evaluate.suite import Rows, inputs_of, predict

BATCHES = (1, 32)


@dataclass(frozen=True, slots=True)
class Latency:
    """Time of one call with ``batch`` rows, of variant and parent, measured in turns."""

    batch: int
    median_us: float
    minimum_us: float
    parent_median_us: float
    parent_minimum_us: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that was measured. ``p_value`` (McNemar, exact): how likely such a change is if both were equally good."""

    rows: int
    accuracy: float
    parent_accuracy: float
    only_variant_right: int  # rows
    only_parent_right: int
    p_value: float
    size_bytes: int
    parent_size_bytes: int
    latencies: tuple[Latency, ...]

    @property
    def drop(self) -> float:
        """Accuracy lost; negative if the variant is better."""
        return (self.only_parent_right - self.only_variant_right) / self.rows


@dataclass(frozen=True, slots=True)
class Contestant:
    """A loaded artifact and its size."""

    engine: Engine
    size_bytes: int


def compare(
    variant: Contestant,
    parent: Contestant,
    data: tuple[Rows, Indices, tuple[str, ...]],
    seconds: float,
    progress: Progress,
) -> Comparison:
    """Measure ``variant`` against ``parent`` on ``data``: rows, class indices [n], labels.

    ``seconds`` is how long each batch size is timed. Raises InvalidModel if the model does not fit the data.
    """
    rows, truth, labels = data
    right = predict(variant.engine, rows, labels, progress).classes == truth
    parent_right = predict(parent.engine, rows, labels, progress).classes == truth
    only_variant, only_parent = int((right & ~parent_right).sum()), int((parent_right & ~right).sum())
    batches = BATCHES if parent.engine.signature.batchable else BATCHES[:1]
    latencies = []
    for index, batch in enumerate(batches):
        progress.report("compress", index / len(batches), f"latency at batch {batch}, in turns")
        latencies.append(_latency(variant.engine, parent.engine, rows, batch, seconds))
    return Comparison(
        rows=len(truth),
        accuracy=float(right.mean()),
        parent_accuracy=float(parent_right.mean()),
        only_variant_right=only_variant,
        only_parent_right=only_parent,
        p_value=mcnemar(only_variant, only_parent),
        size_bytes=variant.size_bytes,
        parent_size_bytes=parent.size_bytes,
        latencies=tuple(latencies),
    )


def refusal(comparison: Comparison, max_drop: float) -> str:
    """Say why the variant is not worth having; empty if it is."""
    if comparison.drop > max_drop:
        return (
            f"accuracy falls from {comparison.parent_accuracy:.4f} to {comparison.accuracy:.4f},"
            f" more than {max_drop:g} (p = {comparison.p_value:.2g})"
        )
    faster = any(entry.median_us < entry.parent_median_us for entry in comparison.latencies)
    if comparison.size_bytes >= comparison.parent_size_bytes and not faster:
        return (
            f"it is neither smaller ({comparison.size_bytes:,} bytes, was {comparison.parent_size_bytes:,}) nor faster"
        )
    return ""


def _latency(variant: Engine, parent: Engine, rows: Rows, batch: int, seconds: float) -> Latency:
    def call(engine: Engine) -> Callable[[], object]:
        known = inputs_of(engine, rows)
        inputs = {name: np.resize(array[:batch], (batch, *array.shape[1:])) for name, array in known.items()}
        return lambda: engine.infer(inputs)

    timings = race({"variant": call(variant), "parent": call(parent)}, seconds)
    ours, theirs = timings["variant"], timings["parent"]
    return Latency(batch, ours.median_us, ours.minimum_us, theirs.median_us, theirs.minimum_us, ours.rounds)
