"""What is known of a route before any request comes: the lane makes a plan for each, once per Snapshot."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mofang.base.domain.deployment import Route
from mofang.base.domain.errors import TensorName
from mofang.base.domain.tensors import NUMPY, InputCheck, TensorSpec
from mofang.base.domain.usage import METERED
from mofang.run.serve.statistics import Entry


@dataclass(frozen=True, slots=True)
class Column:
    """The array that holds an input's rows of all requests that travel together."""

    name: str
    shape: tuple[int, ...]  # when it is full
    dtype: np.dtype[np.generic]
    row_bytes: int


class Plan:
    """One route: the check of its inputs, the names of its outputs, its counters."""

    __slots__ = (
        "check", "columns", "full", "meters", "outputs", "revision", "route", "row_bytes", "statistics", "together",
    )  # fmt: skip

    def __init__(self, route: Route, statistics: Entry) -> None:
        revision = route.revision
        self.statistics = statistics
        self.route = route
        self.revision = revision.key
        self.check = InputCheck(revision.signature, f"endpoint {revision.endpoint!r}")
        self.outputs = tuple(spec.name for spec in revision.signature.outputs)
        self.meters = tuple(METERED.intersection(self.outputs))  # an output that is called like a meter is counted
        self.together = () if self.meters else _together(route)
        self.full = revision.limits.max_batch_rows
        self.columns = tuple(_column(spec, self.full) for spec in self.together)
        self.row_bytes = [column.row_bytes for column in self.columns]

    def check_outputs(self, wanted: tuple[str, ...]) -> None:
        """Raise TensorName for an output the model does not have."""
        for name in wanted:
            if name not in self.outputs:
                shown = ", ".join(map(repr, self.outputs))
                endpoint = self.route.revision.endpoint
                raise TensorName(f"output {name!r} is unknown: endpoint {endpoint!r} gives {shown}")


def _together(route: Route) -> tuple[TensorSpec, ...]:
    """Return the inputs, if requests of this route can travel together: rows of numbers, of fixed shapes."""
    signature = route.revision.signature
    if not signature.batchable or not route.revision.limits.join:
        return ()
    fixed = all(min(spec.shape[1:], default=1) > 0 and spec.datatype != "BYTES" for spec in signature.inputs)
    return signature.inputs if fixed else ()


def _column(spec: TensorSpec, rows: int) -> Column:
    dtype = np.dtype(NUMPY[spec.datatype])
    return Column(spec.name, (rows, *spec.shape[1:]), dtype, dtype.itemsize * math.prod(spec.shape[1:]))
