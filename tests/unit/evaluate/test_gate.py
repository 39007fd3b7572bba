import numpy as np
import pytest

from mofang.base.domain.errors import InvalidGate
from mofang.make.evaluate.gate import parse_gate
from mofang.make.evaluate.metrics import score
from mofang.make.evaluate.report import Scores


@pytest.fixture(scope="module")
def scores() -> Scores:
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    predicted = np.array([0, 0, 0, 1, 1, 1, 0, 2, 2, 2])
    return score(truth, predicted, ("0", "Ankle boot", "T-shirt/top"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "accuracy >= 0.7",
        "accuracy>=.7 and macro_f1>0.5",
        "recall[Ankle boot] >= 0.5",
        'precision["T-shirt/top"] > 0.6 and f1[0]<1',
        "macro_recall <= 1 and macro_precision <= 1e0",
    ],
)
def test_a_gate_that_holds_has_no_failures(scores: Scores, text: str) -> None:
    assert parse_gate(text).failures(scores) == ()


def test_each_failed_clause_says_why(scores: Scores) -> None:
    gate = parse_gate("accuracy >= 0.85 and recall[0] > 0.75 and recall[Ankle boot] >= 0.5 and macro_f1 < 0.1")
    assert gate.failures(scores) == (
        "accuracy 0.7 < 0.85",
        "recall[0] 0.75 <= 0.75",
        f"macro_f1 {scores.macro_f1:.4g} >= 0.1",
    )


def test_a_near_miss_is_shown_with_enough_digits() -> None:
    truth = np.zeros(100_000, dtype=np.int64)
    predicted = truth.copy()
    predicted[:15_001] = 1
    failures = parse_gate("accuracy >= 0.85").failures(score(truth, predicted, ("a", "b")))
    assert failures == ("accuracy 0.84999 < 0.85",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acuracy >= 0.85", "'acuracy', which does not exist; the nearest is 'accuracy'"),
        ("macro_f2 >= 0.85", "the nearest is 'macro_f1'"),
        ("accuracy >= 85", "outside 0 to 1"),
        ("accuracy >= nan", "outside 0 to 1"),
        ("accuracy >= high", "'high' in gate 'accuracy >= high' is no number"),
        ("recall >= 0.8", "is of one class"),
        ("accuracy[3] >= 0.8", "is not of one class"),
        ("accuracy >= 0.8 or macro_f1 > 0.5", "needs `and` before"),
        ("accuracy >= 0.8 and", "ends with `and`"),
        ("accuracy = 0.8", "cannot be read at 'accuracy = 0.8'"),
        ("0.8 <= accuracy", "cannot be read"),
        ("accuracy >= 0.8 andmacro_f1 > 0", "needs `and`"),
    ],
)
def test_what_is_no_gate_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidGate, match="gate") as caught:
        parse_gate(text)
    assert message in str(caught.value)
    assert caught.value.hint


def test_a_class_the_data_does_not_have_is_named_with_the_nearest(scores: Scores) -> None:
    gate = parse_gate("recall[ankle boots] >= 0.7")
    with pytest.raises(InvalidGate, match="nearest is 'Ankle boot'") as caught:
        gate.failures(scores)
    assert "T-shirt/top" in caught.value.hint
