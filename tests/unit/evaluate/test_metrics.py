import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from mofang.make.evaluate.metrics import score

answers = st.integers(2, 6).flatmap(
    lambda k: st.tuples(
        st.just(k), st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=60)
    )
)


@given(answers)
def test_scores_are_those_of_scikit_learn(case: tuple[int, list[tuple[int, int]]]) -> None:
    classes, pairs = case
    truth, predicted = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    scores = score(truth, predicted, tuple(f"class {i}" for i in range(classes)))

    assert scores.accuracy == pytest.approx(accuracy_score(truth, predicted))
    expected = confusion_matrix(truth, predicted, labels=range(classes))
    assert np.array_equal(scores.confusion, expected)
    rows = precision_recall_fscore_support(truth, predicted, labels=range(classes), zero_division=0)
    for entry, *numbers in zip(scores.classes, *rows, strict=True):
        assert (entry.precision, entry.recall, entry.f1, entry.support) == pytest.approx(tuple(numbers))
    macro = precision_recall_fscore_support(truth, predicted, average="macro", zero_division=0)
    assert (scores.macro_precision, scores.macro_recall, scores.macro_f1) == pytest.approx(macro[:3])


def test_a_class_nobody_saw_does_not_pull_the_averages_down() -> None:
    scores = score(np.array([0, 1]), np.array([0, 1]), ("a", "b", "never"))
    assert scores.macro_recall == 1.0
    assert scores.classes[2].support == 0
