"""Scores of several labels, held against scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from mofang.base.domain.errors import InvalidGate
from mofang.make.evaluate.gate import parse_gate
from mofang.make.evaluate.metrics import score_labels

ROWS, LABELS = 12, ("a", "b", "c")
marks = arrays(np.int64, (ROWS, len(LABELS)), elements=st.integers(0, 1))


@given(truth=marks, predicted=marks)
def test_scores_are_those_of_scikit_learn(truth: np.ndarray, predicted: np.ndarray) -> None:
    scores = score_labels(truth, predicted, LABELS)
    assert scores.subset_accuracy == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert scores.hamming_loss == pytest.approx(metrics.hamming_loss(truth, predicted))
    seen = (truth.any(axis=0) | predicted.any(axis=0)).nonzero()[0]
    for name, measure in (("precision", metrics.precision_score), ("recall", metrics.recall_score),
                          ("f1", metrics.f1_score)):  # fmt: skip
        micro = measure(truth, predicted, average="micro", zero_division=0)
        assert getattr(scores, f"micro_{name}") == pytest.approx(micro)
        each = measure(truth, predicted, average=None, zero_division=0)
        assert [getattr(entry, name) for entry in scores.classes] == pytest.approx(each.tolist())
        macro = each[seen].mean() if len(seen) else 0.0
        assert getattr(scores, f"macro_{name}") == pytest.approx(macro)
    assert [entry.support for entry in scores.classes] == truth.sum(axis=0).tolist()


def test_a_gate_may_ask_for_labels_and_for_nothing_else() -> None:
    truth = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1]])
    scores = score_labels(truth, np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1]]), LABELS)
    assert parse_gate("subset_accuracy >= 0.5 and hamming_loss <= 0.17 and f1[c] >= 1").failures(scores) == ()
    failures = parse_gate("micro_f1 >= 0.9 and recall[b] > 0.5").failures(scores)
    assert failures == ("micro_f1 0.8 < 0.9", "recall[b] 0.5 <= 0.5")
    with pytest.raises(InvalidGate, match="'log_loss', but the data's target holds labels"):
        parse_gate("log_loss <= 1").failures(scores)
    with pytest.raises(InvalidGate, match="'hamming_loss', but the data's target holds classes"):
        parse_gate("hamming_loss <= 1").check_labels(LABELS)
