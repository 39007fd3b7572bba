"""The parity proof: does the converted model answer as its source does?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.tensors import Array
from mofang.base.domain.work import Progress

Infer = Callable[[Mapping[str, Array]], dict[str, Array]]


@dataclass(frozen=True, slots=True)
class ParityProof:
    """What was compared and how it came out; ``missing`` is how rows with NaN are answered."""

    rows: int
    labels_equal: int  # of rows
    max_difference: float
    tolerance: float
    batch_sizes: tuple[int, ...]
    missing: Literal["equal", "refused", "different"]
    passed: bool


def prove(
    source: Callable[[Array], dict[str, Array]],
    infer: Infer,
    features: NDArray[np.float32],
    progress: Progress,
    *,
    tolerance: float = 1e-4,
    batch_sizes: tuple[int, ...] = (1, 256),
) -> ParityProof:
    """Compare ``infer`` (an Engine's) with ``source`` (``sklearn.reference`` of the pipeline) on all of ``features``.

    Every label must be equal and no probability further off than ``tolerance``, at every batch size; rows with NaN
    must be answered alike too, unless the source refuses them. Raises ParityFailed, which names the first difference.
    """
    raise NotImplementedError
