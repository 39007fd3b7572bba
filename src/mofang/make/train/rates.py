"""The learning rate of every step, as pure functions of where training is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mofang.make.recipe import Descent


@dataclass(frozen=True, slots=True)
class Rates:
    """How the rate moves over all epochs, each of so many ``steps``: up from zero at first, then down by the decay."""

    spec: Descent
    steps: int  # of one epoch

    def rate(self, step: int, falls: int = 0) -> float:
        """Return the learning rate of ``step`` (from 0, of the whole run), after so many ``falls`` on plateaus."""
        spec = self.spec
        warm = round(spec.warmup_epochs * self.steps)
        if step < warm:
            return spec.learning_rate * (step + 1) / warm
        match spec.decay:
            case "step":
                return spec.learning_rate * spec.decay_factor ** (step // self.steps // spec.decay_epochs)
            case "cosine":
                share = (step - warm) / max(spec.epochs * self.steps - warm, 1)
                return spec.learning_rate * (1 + math.cos(math.pi * share)) / 2
            case "plateau":
                return spec.learning_rate * spec.decay_factor**falls
        return spec.learning_rate


def falls(losses: Sequence[float], patience: int) -> int:
    """Count how often ``losses`` (one an epoch) went ``patience`` epochs without a better one; each time anew."""
    best, since, count = math.inf, 0, 0
    for loss in losses:
        best, since = (loss, 0) if loss < best else (best, since + 1)
        if since == patience:
            count, since = count + 1, 0
    return count


def epochs_since_best(losses: Sequence[float]) -> int:
    """Return how many epochs ago the lowest loss was, the first such."""
    return len(losses) - 1 - min(range(len(losses)), key=losses.__getitem__)
