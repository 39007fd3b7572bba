"""Which layers lose most when they are made coarser: measured, halves first."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import NoVariant
from mofang.make.compress.onnx.calibrate import batches
from mofang.make.compress.onnx.graph import MODEL, session, store
from mofang.make.compress.subject import Means

_ROWS = 32


def most_sensitive(
    model: Any, layers: Sequence[str], coarser: Callable[[Sequence[str]], Any], count: int, means: Means
) -> list[str]:
    """Return the ``count`` of ``layers`` that change what ``model`` answers most, the worst first.

    ``coarser`` makes a graph in which only the named layers are coarse. The loss is the share of the answers' energy
    that is wrong, on calibration rows; it is measured once for each set of layers of one model. Raises NoVariant
    without such rows.
    """
    if not means.calibration:
        raise NoVariant(
            "which layers lose most is measured on rows, and there are none",
            hint="give a sample of what the model is asked: `--calibration FILE` or a dataset",
        )
    asked = [*batches(model, {name: array[:_ROWS] for name, array in means.calibration.items()})]
    digest = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    exact: list[list[NDArray[np.float64]]] = []

    def loss(those: Sequence[str]) -> float:
        key = f"{digest} {' '.join(those)}"
        if key not in means.measured:
            means.progress.report("compress", 0.5, f"what {_told(those)} lose{'s' if len(those) == 1 else ''} alone")
            if not exact:
                exact.append(_answers(model, asked, means))
            means.measured[key] = _loss(exact[0], _answers(coarser(those), asked, means))
        return means.measured[key]

    return [*islice(worst_first(layers, loss), count)]


def worst_first(layers: Sequence[str], loss: Callable[[Sequence[str]], float]) -> Iterator[str]:
    """Give ``layers`` by what they lose alone, the worst first, as far as a set loses about what its members do.

    The set that loses most is halved until one layer is left of it: of hundreds of layers a few dozen sets are measured
    to find the worst.
    """
    waiting: list[tuple[float, int, Sequence[str]]] = [(0.0, 0, layers)] if layers else []
    place = {name: number for number, name in enumerate(layers)}
    while waiting:
        _, _, worst = heapq.heappop(waiting)
        if len(worst) == 1:
            yield worst[0]
            continue
        middle = len(worst) // 2
        for half in (worst[:middle], worst[middle:]):
            heapq.heappush(waiting, (-loss(half), place[half[0]], half))


def _told(those: Sequence[str]) -> str:
    return those[0] if len(those) == 1 else f"{len(those)} layers from {those[0]} on"


def _answers(model: Any, asked: Sequence[Any], means: Means) -> list[NDArray[np.float64]]:
    folder = means.scratch()
    store(model, folder)
    running = session(folder / MODEL)
    names = [each.name for each in running.get_outputs() if "float" in each.type]
    found = [running.run(names, inputs) for inputs in asked]
    return [np.concatenate([np.ravel(batch[at]) for batch in found]).astype(np.float64) for at in range(len(names))]


def _loss(exact: Sequence[NDArray[np.float64]], coarse: Sequence[NDArray[np.float64]]) -> float:
    wrong = sum(float(np.square(ours - theirs).sum()) for ours, theirs in zip(exact, coarse, strict=True))
    return wrong / max(sum(float(np.square(ours).sum()) for ours in exact), 1e-30)
