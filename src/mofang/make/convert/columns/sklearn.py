"""Pipelines of scikit-learn that begin with a ColumnTransformer: every column they read becomes an input of its own.

Called by ``convert/sklearn.py``. A pipeline fitted on a data frame names its columns; it is asked here by their
positions, so that no data frame is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.tensors import Array, TensorSpec
from mofang.make.convert.estimators import ranges
from mofang.make.convert.parity import MISSING, Trial
from mofang.make.convert.probes import rows_at
from mofang.make.convert.texts.sklearn import sentences

_ROWS, _ROWS_ONE_BY_ONE, _BATCH = 1024, 64, 256
_KINDS = (2, 3)  # near the places where models bend, and anywhere
_SHARE_MISSING = 0.3
_UNSEEN = "never seen"


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns a pipeline reads: what they are called, what each may hold, and the pipeline that takes positions.

    ``texts`` has what is known of the columns of texts: categories, or the words of a counter (``counted``).
    """

    pipeline: Any
    names: tuple[str, ...]
    texts: Mapping[int, tuple[str, ...]]
    counted: frozenset[int]
    places: Sequence[NDArray[np.float64]]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Return one input for each column, [n]: BYTES of texts, FP32 of numbers."""
        return tuple(
            TensorSpec(name, "BYTES" if at in self.texts else "FP32", (-1,)) for at, name in enumerate(self.names)
        )

    def counters(self) -> list[Any]:
        """Return the steps that count words."""
        steps = [inner for _, step, _ in self.pipeline[0].transformers_ for inner in _steps(step)]
        return [step for step in steps if hasattr(step, "vocabulary_")]

    def rows(self, asked: Mapping[str, Array]) -> NDArray[Any]:
        """Return the table [n, columns] as the pipeline takes it."""
        table = np.empty((len(next(iter(asked.values()))), len(self.names)), np.object_)
        for at, name in enumerate(self.names):
            values = asked[name].tolist()
            table[:, at] = [each.decode("utf-8", "replace") for each in values] if at in self.texts else values
        return table

    def trials(self) -> list[Trial]:
        """Return rows of what the columns may hold, of missing numbers, and of texts that no training has seen."""
        random = np.random.default_rng(0)
        numbers = rows_at(self.places, random, _ROWS, _KINDS).astype(np.float32)
        drawn = {
            name: self._texts(at, random) if at in self.texts else numbers[:, at] for at, name in enumerate(self.names)
        }
        some = {name: values[:_BATCH] for name, values in drawn.items()}
        missing = {name: _with_gaps(each, random) if each.dtype.kind == "f" else each for name, each in some.items()}
        strange = {
            name: each if each.dtype.kind == "f" else np.array([*each[1:], _UNSEEN.encode()], np.object_)
            for name, each in some.items()
        }
        return [
            Trial("in batches of 1", {name: each[:_ROWS_ONE_BY_ONE] for name, each in drawn.items()}, batch=1),
            Trial(f"in batches of {_BATCH}", drawn, batch=_BATCH),
            Trial(MISSING, missing, may_refuse=True),
            Trial("with texts never seen", strange, may_refuse=True),
        ]

    def _texts(self, at: int, random: np.random.Generator) -> Array:
        if at in self.counted:
            return sentences(self.texts[at], _ROWS, random)[:_ROWS]
        return np.array([each.encode() for each in random.choice(self.texts[at], _ROWS).tolist()], np.object_)


def columns_of(model: Any) -> Columns | None:
    """Return what ``model`` reads, if it is a pipeline over columns that have names or hold texts; None otherwise."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    if not (
        isinstance(model, Pipeline) and isinstance(model[0], ColumnTransformer) and hasattr(model[0], "output_indices_")
    ):
        return None
    pipeline = deepcopy(model)
    first = pipeline[0]
    read = _read(first)
    used = sorted({at for _, _, found in read for at in found})
    names = [
        str(each)
        for each in getattr(first, "feature_names_in_", [f"column_{at}" for at in range(first.n_features_in_)])
    ]
    place = {old: new for new, old in enumerate(used)}
    texts: dict[int, tuple[str, ...]] = {}
    counted: set[int] = set()
    spots: list[set[float]] = [set() for _ in used]
    for _, step, found in read:
        for inner in _steps(step):
            for column, known, counts in _known_texts(inner):
                at = place[found[column]]
                texts[at] = known or texts.get(at, ())
                counted |= {at} if counts else set()
            for column, values in ranges(inner, len(found)):
                spots[place[found[column]]].update(values)
    if not texts and not hasattr(first, "feature_names_in_"):
        return None
    _by_position(first, read, place)
    places = [np.array(sorted(each), np.float64) for each in spots]
    return Columns(pipeline, tuple(names[at] for at in used), texts, frozenset(counted), places)


def _read(first: Any) -> list[tuple[str, Any, list[int]]]:
    """Return name, fitted step and positions of the columns of each part that is not dropped."""
    where = first._transformer_to_input_indices  # kept by scikit-learn since it slices by position itself
    return [(name, step, [*where[name]]) for name, step, _ in first.transformers_ if step != "drop" and [*where[name]]]


def _by_position(first: Any, read: Sequence[tuple[str, Any, list[int]]], place: Mapping[int, int]) -> None:
    """Let a fitted ColumnTransformer find its columns by position among those that are read."""
    alone = {name for name, _, columns in first.transformers_ if isinstance(columns, str | int)}
    moved = {name: [place[at] for at in found] for name, _, found in read}
    first.transformers_ = [(name, step, moved[name][0] if name in alone else moved[name]) for name, step, _ in read]
    first._transformer_to_input_indices = moved
    first.n_features_in_ = len(place)
    if hasattr(first, "feature_names_in_"):
        del first.feature_names_in_


def _steps(step: Any) -> Iterator[Any]:
    yield from (inner for _, inner in step.steps) if hasattr(step, "steps") else (step,)


def _known_texts(step: Any) -> Iterator[tuple[int, tuple[str, ...], bool]]:
    """Yield the columns of a step that hold texts: which, the texts it knows, and whether they are words it counts."""
    if hasattr(step, "vocabulary_"):
        yield 0, tuple(sorted(map(str, step.vocabulary_))), True
    for column, known in enumerate(getattr(step, "categories_", ())):
        words = [each for each in np.asarray(known).tolist() if isinstance(each, str)]
        if words:
            yield column, tuple(words), False


def _with_gaps(values: Array, random: np.random.Generator) -> Array:
    values = values.copy()
    values[random.random(len(values)) < _SHARE_MISSING] = np.nan
    return values
