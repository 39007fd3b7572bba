"""What warming up finds that loading does not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from mofang.base.domain.errors import WarmUpFailed
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.base.engines.base import warm_up


class TracedAtOneRow:
    """Promises batches, but was exported for one row only."""

    signature = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": inputs["x"].reshape(1, 2)}

    def close(self) -> None:
        return


def test_a_batch_that_only_the_signature_promises_does_not_warm_up() -> None:
    with pytest.raises(WarmUpFailed, match=r"x: \[2, 2\]"):
        warm_up(TracedAtOneRow())
    with pytest.raises(WarmUpFailed, match=r"x: \[2, 2\]"):
        warm_up(TracedAtOneRow(), {"x": np.zeros((1, 2), np.float32)})
