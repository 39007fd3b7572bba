"""Gates that compare with another version, and gates on time."""

import numpy as np
import pytest

from mofang.base.domain.errors import InvalidGate
from mofang.make.evaluate.gate import parse_gate
from mofang.make.evaluate.metrics import score
from mofang.make.evaluate.report import Comparison, Latency

SCORES = score(np.array([0, 1, 1, 0]), np.array([0, 1, 1, 1]), ("a", "b"))


def _against(difference: float, p_value: float) -> Comparison:
    return Comparison("champion", "m@1", "accuracy", difference, difference - 0.01, difference + 0.01, p_value)


@pytest.mark.parametrize(
    ("text", "difference", "p_value", "passes"),
    [
        ("not worse_than(champion)", -0.1, 0.001, False),
        ("not worse_than(champion)", -0.1, 0.2, True),
        ("not worse_than( champion ) and accuracy > 0.5", 0.1, 0.001, True),
        ("better_than(champion)", 0.1, 0.001, True),
        ("better_than(champion)", 0.1, 0.2, False),
        ("not better_than(champion)", 0.1, 0.001, False),
        ("accuracy > 0.5 and not worse_than(champion)", -0.1, 0.001, False),
    ],
)
def test_duels_weigh_chance(text: str, difference: float, p_value: float, passes: bool) -> None:
    gate = parse_gate(text)
    assert gate.rivals == ("champion",)
    failures = gate.failures(SCORES, None, [_against(difference, p_value)])
    assert (not failures) is passes
    assert passes or "champion (m@1): accuracy differs by" in failures[0]


def test_a_rival_that_is_not_there_is_no_hindrance() -> None:
    assert parse_gate("not worse_than(champion) and better_than(7)").failures(SCORES) == ()


def test_time_is_held_to_too() -> None:
    gate = parse_gate("latency_p99_ms <= 20 and latency_p50_ms < 1")
    assert gate.failures(SCORES, Latency(0.5, 12.0, 300)) == ()
    assert gate.failures(SCORES, Latency(0.5, 25.0, 300)) == ("latency_p99_ms 25 > 20",)
    gate.check_labels(())
    gate.check_labels(("a", "b"))


def test_a_metric_that_the_model_cannot_tell_fails() -> None:
    assert parse_gate("roc_auc >= 0.5").failures(SCORES) == ("roc_auc cannot be told of this model",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not worse(champion)", "asks 'worse', which does not exist; the nearest is 'worse_than'"),
        ("worse_than()", "cannot be read"),
        ("not accuracy > 0.5", "cannot be read|needs"),
    ],
)
def test_what_is_no_duel_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidGate, match=message):
        parse_gate(text)
