"""What engines of other frameworks have in common: the signature beside the model, and how answers are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import EngineLoadFailed, InvalidSettings
from mofang.base.domain.tensors import Array, Signature
from mofang.base.engines.base import Options

SIGNATURE_FILE = "signature.json"

# What fitted estimators hold that skops does not trust by itself. Named one by one: a prefix such as "numpy." would
# admit functions that run whatever they are given. A forged tree can still read beyond its arrays: hence workers.
TRUSTED_TYPES = frozenset(
    {
        "numpy.dtype",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
    }
)


def read_signature(folder: Path) -> Signature:
    """Return what ``folder/signature.json`` says; raise EngineLoadFailed if it is missing or damaged."""
    try:
        return msgspec.json.decode((folder / SIGNATURE_FILE).read_bytes(), type=Signature)
    except (OSError, msgspec.MsgspecError) as error:
        raise EngineLoadFailed(f"{SIGNATURE_FILE!r} cannot be read: {error}") from error


def refuse_options(name: str, options: Options) -> None:
    """Raise InvalidSettings if there are any."""
    if options:
        raise InvalidSettings(f"engine {name!r} has no option {min(options)!r}", hint="it knows none")


def boosted_answers(found: NDArray[Any], classes: int) -> dict[str, Array]:
    """Name what a booster predicts: values [n], the probability of the second class [n], or of every class [n, k]."""
    if not classes:
        return {"value": found.astype(np.float32).reshape(-1)}
    both = np.stack([1 - found, found], axis=1) if found.ndim == 1 else found
    return {"label": both.argmax(axis=1).astype(np.int64), "probabilities": both.astype(np.float32)}
