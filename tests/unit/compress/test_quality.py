import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofang.base.domain.errors import NoVariant
from mofang.base.domain.tensors import Signature, TensorSpec
from mofang.make.compress.quality import by_choices, by_classes, by_likelihood, by_numbers, by_parity
from mofang.make.evaluate.language import Likelihood

_CLASSES = st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=60).map(lambda rows: np.array(rows).T)


@given(_CLASSES)
def test_what_is_lost_is_the_difference_of_both_and_lies_in_its_interval(classes: np.ndarray) -> None:
    found, parent, truth = classes
    quality = by_classes(found, parent, truth)
    assert quality.drop == pytest.approx((parent == truth).mean() - (found == truth).mean())
    assert quality.low <= quality.drop + 1e-9
    assert quality.drop <= quality.high + 1e-9
    assert (quality.parity == "equal") == bool((found == parent).all())
    again = by_classes(parent, found, truth)
    assert (again.drop, again.p_value) == pytest.approx((-quality.drop, quality.p_value))


def test_a_hundred_rows_lost_are_no_chance_and_one_is() -> None:
    truth = np.zeros(1000, np.int64)
    worse = np.where(np.arange(1000) < 100, 1, 0)
    assert by_classes(worse, truth, truth).p_value < 1e-9
    assert by_classes(np.where(np.arange(1000) < 1, 1, 0), truth, truth).p_value == 1.0


def test_numbers_are_compared_by_how_much_of_their_variance_is_explained() -> None:
    random = np.random.default_rng(0)
    truth = random.standard_normal(500)
    parent, found = truth + 0.1 * random.standard_normal(500), truth + 0.5 * random.standard_normal(500)
    quality = by_numbers(found, parent, truth)
    assert quality.metric == "r2"
    assert quality.parent == pytest.approx(0.99, abs=0.01)
    assert 0.1 < quality.low < quality.drop < quality.high < 0.4
    assert quality.p_value < 0.01
    assert by_numbers(parent, parent, truth).parity == "equal"


def _signature(name: str, width: int) -> Signature:
    return Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec(name, "FP32", (-1, width)),))


def test_without_the_truth_classes_are_compared_with_the_original() -> None:
    scores = np.random.default_rng(0).standard_normal((200, 5)).astype(np.float32)
    other = scores.copy()
    other[:10] = -other[:10]
    quality = by_parity({"logits": other}, {"logits": scores}, _signature("logits", 5))
    assert (quality.metric, quality.parent, quality.value) == ("agreement", 1.0, 0.95)
    assert quality.parity == "other classes on 5 % of the rows"
    assert by_parity({"logits": scores}, {"logits": scores}, _signature("logits", 5)).parity == "equal"


def test_without_the_truth_vectors_are_compared_by_where_they_point() -> None:
    vectors = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
    near = vectors + 0.05 * np.random.default_rng(1).standard_normal((200, 8)).astype(np.float32)
    quality = by_parity({"embedding": near}, {"embedding": vectors}, _signature("embedding", 8))
    assert quality.metric == "cosine"
    assert 0.99 < quality.value < 1.0
    assert quality.parity.startswith("cosine of 0.9")
    same = by_parity({"embedding": 2 * vectors}, {"embedding": vectors}, _signature("embedding", 8))
    assert same.value == pytest.approx(1.0)
    assert same.parity != "equal"
    asked = by_parity({"embedding": near}, {"embedding": vectors}, _signature("embedding", 8), "agreement")
    assert asked.metric == "agreement"


def test_texts_cannot_be_compared() -> None:
    signature = Signature((), (TensorSpec("text", "BYTES", (-1,)),))
    with pytest.raises(NoVariant, match="nothing to compare"):
        by_parity({}, {}, signature)


def test_of_a_language_model_the_share_is_lost_by_which_perplexity_rises() -> None:
    random = np.random.default_rng(0)
    tokens = random.integers(5, 50, 60).astype(np.float64)
    parent = Likelihood(-2.0 * tokens, tokens, 4 * tokens)
    found = Likelihood(parent.log - tokens * random.normal(0.05, 0.02, 60), tokens, parent.size_bytes)
    quality = by_likelihood(found, parent)
    assert quality.parent == pytest.approx(np.exp(2))
    assert quality.drop == pytest.approx(quality.value / np.exp(2) - 1)
    assert 0.03 < quality.low < quality.drop < quality.high < 0.07
    assert quality.p_value < 0.01
    same = by_likelihood(parent, parent)
    assert (same.drop, same.parity, same.p_value) == (0.0, "equal", 1.0)


def test_where_only_answers_are_known_the_same_tokens_count() -> None:
    quality = by_choices(["a", "b", "c", "d"], ["a", "b", "c", "e"])
    assert (quality.metric, quality.drop, quality.parity) == ("agreement", 0.25, "other tokens on 25 % of the places")
