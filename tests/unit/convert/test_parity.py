"""The proof itself: every way of answering differently is found."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from mofang.base.domain.errors import ParityFailed
from mofang.base.domain.tensors import Array
from mofang.base.domain.work import Silent
from mofang.make.convert.parity import ParityProof, prove

FEATURES = np.linspace(-1, 1, 600, dtype=np.float32).reshape(300, 2)
Outputs = dict[str, Array]


def _source(features: Array) -> Outputs:
    total = np.nan_to_num(np.asarray(features, dtype=np.float32)).sum(axis=1)
    return {"label": (total > 0).astype(np.int64), "probabilities": np.stack([total, -total], axis=1)}


def _prove(change: Any, **options: Any) -> ParityProof:
    def infer(inputs: Mapping[str, Array]) -> Outputs:
        outputs = {name: array.copy() for name, array in _source(inputs["features"]).items()}
        changed = change(inputs["features"], outputs)
        return outputs if changed is None else changed

    return prove(_source, infer, FEATURES, Silent(), **options)


def test_equal_answers_pass_and_small_differences_are_kept() -> None:
    def nudge(_: Array, outputs: Outputs) -> None:
        outputs["probabilities"] += np.float32(5e-5)

    proof = _prove(nudge, batch_sizes=(1, 7))
    assert (proof.labels_equal, proof.batch_sizes, proof.missing) == (300, (1, 7), "equal")
    assert 4e-5 < proof.max_difference < 6e-5
    with pytest.raises(ParityFailed, match=r"300 of 300 rows .* probabilities of row \d+ is .*, off by 5e-05 \(for"):
        _prove(nudge, tolerance=1e-5)


def _one_label(features: Array, outputs: Outputs) -> None:
    outputs["label"][features[:, 0] == FEATURES[299, 0]] = 7


def _only_in_large_batches(features: Array, outputs: Outputs) -> None:
    if len(features) > 1 and np.isfinite(features).all():
        outputs["probabilities"][:] = outputs["probabilities"][::-1]


def _nan_answers(features: Array, outputs: Outputs) -> None:
    outputs["probabilities"][0] = np.nan


def _missing_values(features: Array, outputs: Outputs) -> None:
    outputs["label"][np.isnan(features).any(axis=1)] = 5


def _fewer_classes(features: Array, outputs: Outputs) -> Outputs:
    return {"label": outputs["label"], "probabilities": outputs["probabilities"][:, :1]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_one_label, "1 of 300 rows differently in batches of 1: label of row 299 is 7, the source says 1"),
        (_only_in_large_batches, "rows differently in batches of 256"),
        (_nan_answers, r"300 of 300 rows .* probabilities of row 0 is \[nan"),
        (_missing_values, r"rows differently with missing values \(NaN\): label of row"),
        (_fewer_classes, r"other outputs in batches of 1: label \[300\], probabilities \[300, 1\], not"),
    ],
)
def test_differences_are_found_and_told(change: Any, message: str) -> None:
    with pytest.raises(ParityFailed, match=message):
        _prove(change)
