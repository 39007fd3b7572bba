"""What is known of a route before any request comes: the lane makes a plan for each, once per Snapshot."""

from __future__ import annotations

from mofang.base.domain.deployment import Route
from mofang.base.domain.errors import TensorName
from mofang.base.domain.tensors import InputCheck, TensorSpec
from mofang.base.domain.usage import METERED
from mofang.run.serve.statistics import Entry


class Plan:
    """One route: the check of its inputs, the names of its outputs, its counters."""

    __slots__ = ("check", "meters", "outputs", "revision", "route", "row", "statistics")

    def __init__(self, route: Route, statistics: Entry) -> None:
        revision = route.revision
        self.statistics = statistics
        self.route = route
        self.revision = revision.key
        self.check = InputCheck(revision.signature, f"endpoint {revision.endpoint!r}")
        self.outputs = tuple(spec.name for spec in revision.signature.outputs)
        self.meters = tuple(METERED.intersection(self.outputs))  # an output that is called like a meter is counted
        self.row = _row(route)

    def check_outputs(self, wanted: tuple[str, ...]) -> None:
        """Raise TensorName for an output the model does not have."""
        for name in wanted:
            if name not in self.outputs:
                shown = ", ".join(map(repr, self.outputs))
                endpoint = self.route.revision.endpoint
                raise TensorName(f"output {name!r} is unknown: endpoint {endpoint!r} gives {shown}")


def _row(route: Route) -> TensorSpec | None:
    """Return the only input, if requests of this route can travel together: fixed rows of floats."""
    signature = route.revision.signature
    if not signature.batchable or len(signature.inputs) != 1 or not route.revision.limits.join:
        return None
    [spec] = signature.inputs
    fixed = all(size > 0 for size in spec.shape[1:])
    return spec if fixed and spec.datatype == "FP32" else None
