"""How much quality a variant loses against its parent, on the same held-out rows, and how sure that is.

With the truth at hand it is accuracy, or R² of numbers. Without, the parent is what counts: the share of rows on which
both name the same class (agreement), or how alike their vectors point (cosine). Of a language model it is perplexity,
and the share by which that rises counts as lost. Pure: it is handed what was answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import NoVariant
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.make.evaluate.chance import compare_classes

if TYPE_CHECKING:  # the store of variants needs no language models
    from mofang.make.evaluate.language import Likelihood

Metric = Literal["accuracy", "r2", "agreement", "cosine", "perplexity"]
Wanted = Literal["auto", "agreement", "cosine"]
_ROUNDS = 500  # of a bootstrap
_EQUAL = 1e-4  # numbers that differ less, of answers up to about one, are told as equal
_SCORES = {"label", "labels", "probabilities", "logits", "scores", "classes"}
_MOST_NATS = 50.0  # a token, that a broken variant may lose
_SURE = 1.96  # standard deviations to each side that hold 95 %


@dataclass(frozen=True, slots=True)
class Quality:
    """What both reach by ``metric`` on ``rows``; ``low`` to ``high`` is the 95 % interval of what is lost.

    ``p_value``: how likely such a loss is if both were equally good. ``parity`` tells how alike the answers are:
    "equal", or "within x". Where less is better, what is lost is ``relative``: by what share of the parent's it rises.
    """

    metric: Metric
    rows: int
    value: float
    parent: float
    low: float
    high: float
    p_value: float
    parity: str
    relative: bool = False

    @property
    def drop(self) -> float:
        """What is lost; negative if the variant is better."""
        return self.value / self.parent - 1 if self.relative else self.parent - self.value


def by_classes(found: NDArray[np.int64], parent: NDArray[np.int64], truth: NDArray[np.int64]) -> Quality:
    """Compare the classes that both answered [n] with the truth [n]."""
    right, parent_right = found == truth, parent == truth
    told = compare_classes("", "", right, parent_right)
    same = float((found == parent).mean())
    value, before = float(right.mean()), float(parent_right.mean())
    return Quality("accuracy", len(truth), value, before, -told.high, -told.low, told.p_value, _points(same))


def by_numbers(found: NDArray[np.float64], parent: NDArray[np.float64], truth: NDArray[np.float64]) -> Quality:
    """Compare the numbers that both answered [n] with the truth [n], by R²; the interval is of a paired bootstrap."""
    ours, theirs = np.square(found - truth), np.square(parent - truth)
    spread = max(float(truth.var()), 1e-30)
    lost = (ours - theirs) / spread
    low, high, p_value = _drawn(lambda some: float(lost[some].mean()), len(lost))
    value, before = 1 - float(ours.mean()) / spread, 1 - float(theirs.mean()) / spread
    apart = float(np.abs(found - parent).max(initial=0)) / spread**0.5
    parity = "equal" if apart <= _EQUAL else f"within {apart:.2g} standard deviations"
    return Quality("r2", len(truth), value, before, low, high, p_value, parity)


def by_likelihood(found: Likelihood, parent: Likelihood) -> Quality:
    """Compare how likely both found the same texts, by perplexity; the interval is of a paired bootstrap over texts.

    With perplexity the mean number of tokens that one was as good as chosen from, 0.05 are lost if there are 5 % more.
    """
    lost, tokens = parent.log - found.log, parent.tokens
    low, high, p_value = _drawn(lambda some: _rise(lost[some], tokens[some]), len(lost))
    apart = float((np.abs(lost) / np.maximum(tokens, 1)).max(initial=0))
    parity = "equal" if apart <= _EQUAL else f"within {apart:.2g} nats a token"
    return Quality(
        "perplexity", len(lost), found.perplexity, parent.perplexity, low, high, p_value, parity, relative=True
    )


def by_parity(
    found: Mapping[str, Array], parent: Mapping[str, Array], signature: Signature, wanted: Wanted = "auto"
) -> Quality:
    """Compare the answers of both [n, ...] with each other. Raises NoVariant if there is nothing to compare."""
    spec = _compared(signature)
    ours, theirs = (_rows(answers[spec.name]) for answers in (found, parent))
    is_class = ours.shape[1] == 1 or bool(_SCORES & {each.name for each in signature.outputs}) or sums_to_one(theirs)
    if wanted == "agreement" or (wanted == "auto" and is_class):
        return _agreement(ours, theirs)
    return _cosine(ours, theirs)


def sums_to_one(scores: NDArray[np.float64]) -> bool:
    """Whether ``scores`` [n, k] are probabilities."""
    return bool(scores.min(initial=0) >= 0 and np.abs(scores.sum(axis=1) - 1).max(initial=0) < 1e-3)


def _drawn(measure: Callable[[NDArray[np.int64]], float], rows: int) -> tuple[float, float, float]:
    """Return the 95 % interval of a loss, and the p-value of there being none, by drawing ``rows`` again and again."""
    random = np.random.default_rng(0)
    drawn = np.array([measure(random.integers(0, rows, rows)) for _ in range(_ROUNDS)])
    low, high = np.percentile(drawn, (2.5, 97.5)).tolist()
    beyond = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return low, high, min(1.0, 2 * (beyond + 1) / (_ROUNDS + 1))


def _rise(lost: NDArray[np.float64], tokens: NDArray[np.float64]) -> float:
    """Return by what share perplexity rises where so many nats of so many tokens are lost."""
    return float(np.exp(np.minimum(lost.sum() / tokens.sum(), _MOST_NATS)) - 1)


def by_choices(found: Sequence[str], parent: Sequence[str]) -> Quality:
    """Compare the tokens that both chose at the same places of texts."""
    return _same(np.array([ours == theirs for ours, theirs in zip(found, parent, strict=True)]), "tokens")


def _agreement(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Quality:
    named = [np.rint(side[:, 0]) if side.shape[1] == 1 else side.argmax(axis=1) for side in (ours, theirs)]
    return _same(named[0] == named[1], "classes")


def _same(same: NDArray[np.bool_], what: str) -> Quality:
    told = compare_classes("", "", same, np.ones(len(same), np.bool_))
    value = float(same.mean())
    return Quality("agreement", len(same), value, 1.0, -told.high, -told.low, told.p_value, _points(value, what))


def _cosine(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Quality:
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    alike = np.where(
        lengths > 0, (ours * theirs).sum(axis=1) / np.maximum(lengths, 1e-30), (ours == theirs).all(axis=1)
    )
    value = float(alike.mean())
    off = _SURE * float(alike.std()) / len(alike) ** 0.5
    equal = float(np.abs(ours - theirs).max(initial=0)) <= _EQUAL * max(1.0, float(np.abs(theirs).max(initial=0)))
    parity = "equal" if equal else f"cosine of {float(alike.min()):.4f} or more"
    # Of vectors that cannot point better than the parent's there is no test: what is lost is lost.
    return Quality("cosine", len(alike), value, 1.0, 1 - value - off, 1 - value + off, 1.0 if equal else 0.0, parity)


def _compared(signature: Signature) -> TensorSpec:
    """Return the output to compare: scores or vectors before labels, of a row before those of its parts."""
    floats = [spec for spec in signature.outputs if spec.datatype.startswith("FP")]
    floats.sort(key=lambda spec: len(spec.shape) > 2)
    others = [spec for spec in signature.outputs if spec.datatype.startswith(("INT", "UINT"))]
    if not floats and not others:
        raise NoVariant("the model answers neither numbers nor classes: there is nothing to compare")
    return (floats or others)[0]


def _rows(answers: Array) -> NDArray[np.float64]:
    return np.asarray(answers, np.float64).reshape(len(answers), -1)


def _points(same: float, what: str = "classes") -> str:
    where = "rows" if what == "classes" else "places"
    return "equal" if same == 1 else f"other {what} on {100 * (1 - same):.2g} % of the {where}"
