"""How the next token is chosen from logits: temperature, top-k, top-p, penalties, seeds. Pure numpy.

For engines whose library only computes logits. What is told of a token is its probability as the model gave it, before
temperature and cuts, as the OpenAI API means it.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.generation import Sampling

Logits = NDArray[np.float32]
_CANDIDATES = 1024  # that are sorted for top-p, if they are enough


class Choice(NamedTuple):
    """A token, its logarithmic probability, and the likeliest ones with theirs; NaN and none if not asked for."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Chooser:
    """Chooses the tokens of one stream, one after the other; the same seed chooses the same of the same logits."""

    __slots__ = ("_random", "_said", "_sampling")

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(None if sampling.seed is None else sampling.seed % 2**63)
        self._said: Counter[int] = Counter()

    def choose(self, logits: Logits) -> Choice:
        """Return the next token after ``logits`` FP32 [vocabulary], which are not changed."""
        sampling = self._sampling
        wanted = self._penalised(logits)
        token = int(wanted.argmax()) if sampling.temperature <= 0 else self._drawn(wanted)
        self._said[token] += 1
        if sampling.logprobs is None:
            return Choice(token, float("nan"))
        logprobs = logits - _log_sum(logits)
        top = _largest(logprobs, sampling.logprobs)
        return Choice(token, float(logprobs[token]), tuple((int(each), float(logprobs[each])) for each in top))

    def _penalised(self, logits: Logits) -> Logits:
        sampling = self._sampling
        if not self._said or not (sampling.presence_penalty or sampling.frequency_penalty):
            return logits
        said = np.fromiter(self._said.keys(), np.int64)
        times = np.fromiter(self._said.values(), np.float32)
        less = logits.copy()
        less[said] -= sampling.presence_penalty + sampling.frequency_penalty * times
        return less

    def _drawn(self, logits: Logits) -> int:
        """Draw from the distribution of ``logits`` over the temperature, cut to top-k and then to top-p."""
        sampling = self._sampling
        weights = np.exp((logits.astype(np.float64) - logits.max()) / max(sampling.temperature, 1e-3))
        if not sampling.top_k and sampling.top_p >= 1:
            return self._one_of(weights)
        kept = _largest(logits, sampling.top_k or _CANDIDATES)
        total = weights[kept].sum() if sampling.top_k else weights.sum()
        mass = weights[kept].cumsum()
        if mass[-1] < sampling.top_p * total:  # a flat distribution: all have to be looked at
            kept = _largest(logits, len(logits))
            mass = weights[kept].cumsum()
        nucleus = kept[: int(np.searchsorted(mass, sampling.top_p * total)) + 1]  # one at least
        return int(nucleus[self._one_of(weights[nucleus])])

    def _one_of(self, weights: NDArray[np.float64]) -> int:
        mass = weights.cumsum()
        return min(int(np.searchsorted(mass, self._random.random() * mass[-1], side="right")), len(mass) - 1)


def _largest(values: Logits, count: int) -> NDArray[np.int64]:
    """Return the places of the ``count`` largest, the largest first."""
    if not count:
        return np.empty(0, np.int64)
    count = min(count, len(values))
    found = np.argpartition(values, -count)[-count:]
    return found[np.argsort(-values[found], kind="stable")]


def _log_sum(logits: Logits) -> float:
    peak = float(logits.max())
    return peak + float(np.log(np.exp(logits - peak).sum(dtype=np.float64)))
