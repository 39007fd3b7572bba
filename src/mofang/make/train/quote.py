"""What a training will take, found by doing a little of it: seconds, memory, and the size of what comes out.

The time is ``(fixed + each * length) * rows``: the length is what the recipe says (epochs, rounds, trees), and both
coefficients are measured here, by two short trainings on a sample of the very data. Trees ask more questions the more
rows there are, so that their rows count with their logarithm.
"""

from __future__ import annotations

import math
import resource
import time
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from mofang.base.domain.work import Progress, Silent
from mofang.make.prepare.dataset import Examples
from mofang.make.prepare.split import draw, strata
from mofang.make.recipe import DecisionTree, Descent, Keras, Lora, Network, RandomForest, Train
from mofang.make.train.model import Trainer

_WARM_ROWS = 256
_FIRST_ROWS = 2_048  # with fewer, what every training pays once looks like what each row costs
_LONG_ROWS = 16  # of a language model, a row of which costs as much as thousands of others
_ENOUGH_SECONDS = 0.6  # a training of this length can be told from noise
_SHORT, _LONG = 1, 4  # lengths of the two trainings
_COPIES = 3  # of all rows as float32, that algorithms hold which take everything at once


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is expected of a training, at most: early stopping may end it sooner."""

    seconds: float
    memory_bytes: int  # peak of the process, frameworks and data included
    length: int  # epochs, rounds or trees; 1 where there is no such thing
    rows: int
    parameters: int  # weights of a network; 0 of others
    model_bytes: int  # of a network's weights; 0 of others
    calibration_seconds: float  # what finding this out took


def estimate(spec: Train, examples: Examples, train: Trainer, progress: Progress) -> Estimate:
    """Measure ``train`` on samples of the examples, and say what all of it will take."""
    begun, rows = time.perf_counter(), len(examples.features)
    sample, short = _sample(spec, examples, train, progress)
    weight = _weight(spec, rows) / _weight(spec, len(sample.features))
    length = getattr(spec, spec.length) if spec.length else 1
    if spec.length and length > _LONG:
        progress.report("quote", 0.7, f"training {_LONG} {spec.length} on {len(sample.features):,} rows")
        each = max(_seconds(spec, sample, train, _LONG) - short, 0.0) / (_LONG - _SHORT)
        seconds = (short + each * (length - _SHORT)) * weight
    else:
        seconds = short * length * weight
    parameters = _parameters(spec, examples)
    progress.report("quote", 1.0, f"about {seconds:.1f} s of training")
    return Estimate(
        seconds=seconds,
        memory_bytes=peak_bytes() + _rows_bytes(spec, examples) - _rows_bytes(spec, sample),
        length=length,
        rows=rows,
        parameters=parameters,
        model_bytes=4 * parameters,
        calibration_seconds=time.perf_counter() - begun,
    )


def peak_bytes() -> int:
    """Return the most memory this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _sample(spec: Train, examples: Examples, train: Trainer, progress: Progress) -> tuple[Examples, float]:
    """Return as many examples as make a short training long enough to measure, and what it took."""
    rows = len(examples.features)
    is_long = isinstance(spec, Lora)
    count, warm = (min(each, rows) for each in ((_LONG_ROWS,) * 2 if is_long else (_FIRST_ROWS, _WARM_ROWS)))
    _seconds(spec, _some(examples, warm), train, _SHORT)  # the first pays for more than itself
    while True:
        sample = _some(examples, count)
        progress.report("quote", 0.5 * count / rows, f"training on {len(sample.features):,} of {rows:,} rows")
        seconds = min(_seconds(spec, sample, train, _SHORT) for _ in range(2))  # of two, the less disturbed
        if seconds >= _ENOUGH_SECONDS or count >= rows:
            return sample, seconds
        count = min(count * min(max(int(_ENOUGH_SECONDS / max(seconds, 1e-3)), 2), 16), rows)


def _some(examples: Examples, count: int) -> Examples:
    """Return about ``count`` examples, of every class."""
    share = 1 - count / len(examples.features)
    if share <= 0:
        return examples
    kept = np.flatnonzero(~draw(strata(examples.target), share, 0))
    return replace(examples.some(kept), by="rows", apart=None)  # a sample has too few whole groups


def _seconds(spec: Train, examples: Examples, train: Trainer, length: int) -> float:
    keys: dict[str, float] = {spec.length: length} if spec.length else {}
    if "early_stopping" in spec.__struct_fields__:
        keys["early_stopping"] = 0
    if isinstance(spec, Descent):
        keys["warmup_epochs"] = 0.0
    return train(msgspec.structs.replace(spec, **keys), examples, Silent()).seconds


def _weight(spec: Train, rows: int) -> float:
    """Return how much work so many rows are."""
    return rows * (math.log2(max(rows, 2)) if isinstance(spec, DecisionTree | RandomForest) else 1)


def _rows_bytes(spec: Train, examples: Examples) -> int:
    return 0 if isinstance(spec, Descent) else _COPIES * 4 * len(examples.features) * examples.schema.features


def _parameters(spec: Train, examples: Examples) -> int:
    if not isinstance(spec, Network) or isinstance(spec, Keras):  # what a user's own function builds is not known
        return 0
    from mofang.make.train.torch.network import count_parameters

    return count_parameters(spec, examples.schema)
