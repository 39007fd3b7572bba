"""What is known of a route before any request comes."""

from __future__ import annotations

import pytest

from mofang.base.domain.deployment import Revision, Route
from mofang.base.domain.tensors import Signature, TensorSpec
from mofang.run.serve.plan import Plan
from mofang.run.serve.statistics import Entry


@pytest.mark.parametrize(("outputs", "meters"), [(("y",), ()), (("y", "images"), ("images",))])
def test_a_model_that_meters_itself_is_asked_one_by_one(outputs: tuple[str, ...], meters: tuple[str, ...]) -> None:
    """Requests that travel together share one line of the journal, which has no place for meters of a model's own."""
    specs = tuple(TensorSpec(name, "INT64", (-1,)) for name in outputs)
    signature = Signature((TensorSpec("x", "FP32", (-1, 4)),), specs)
    plan = Plan(Route(Revision("e", 1, "m", 1, "sha256:1", "test", signature), ()), Entry())
    assert plan.meters == meters
    assert bool(plan.together) == (not meters)
