"""Which layers lose most when they are made coarser, by measuring each alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import NoVariant
from mofang.make.compress.onnx.calibrate import batches
from mofang.make.compress.onnx.graph import MODEL, session, store
from mofang.make.compress.subject import Means

_ROWS = 64


def most_sensitive(
    model: Any, layers: Sequence[str], coarser: Callable[[Sequence[str]], Any], count: int, means: Means
) -> list[str]:
    """Return the ``count`` of ``layers`` that change what ``model`` answers most, the worst first.

    ``coarser`` makes a graph in which only the named layers are coarse. The loss is the share of the answers' energy
    that is wrong, on calibration rows. Raises NoVariant without such rows.
    """
    if not means.calibration:
        raise NoVariant(
            "which layers lose most is measured on rows, and there are none",
            hint="give a sample of what the model is asked: `--calibration FILE` or a dataset",
        )
    rows = {name: array[:_ROWS] for name, array in means.calibration.items()}
    asked = [*batches(model, rows)]
    exact = _answers(model, asked, means)
    losses = []
    for done, layer in enumerate(layers):
        means.progress.report("compress", done / len(layers), f"what {layer} loses alone")
        losses.append(_loss(exact, _answers(coarser([layer]), asked, means)))
    return [layers[index] for index in np.argsort(losses, kind="stable")[::-1][:count]]


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
