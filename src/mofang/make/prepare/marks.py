"""Targets of several labels: which of them each row has.

They come as a column of yes and no for each label, or as one column of lists. Used by ``stream.py`` in place of a
target of one class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import InvalidDataset
from mofang.make.prepare.columns import MISSING, Place, Values, texts_of

SEPARATOR = "|"  # between the labels of a list in one cell
_MARKS = {"1": 1, "1.0": 1, "true": 1, "yes": 1, "0": 0, "0.0": 0, "false": 0, "no": 0}
_MOST_LABELS = 1_000


class MarkedColumns:
    """A column for each label, of 1 and 0, true and false, or yes and no; a row that lacks one is left out."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._parts: list[NDArray[np.uint8]] = []

    def take(self, columns: Sequence[Values], place: Place) -> NDArray[np.bool_]:
        """Append the rows that are known in all ``columns``, and return which these are; raise InvalidDataset."""
        marks = np.stack([self._read(*pair, place) for pair in zip(self._names, columns, strict=True)], axis=1)
        known = np.asarray((marks >= 0).all(axis=1), np.bool_)
        self._parts.append(marks[known].astype(np.uint8))
        return known

    def table(self) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Return the target [n, labels] of 0 and 1, and the names of the labels."""
        empty = np.empty((0, len(self._names)), np.uint8)
        return np.concatenate([empty, *self._parts]), self._names

    def _read(self, name: str, values: Values, place: Place) -> NDArray[np.int8]:
        texts = texts_of(values) if isinstance(values, np.ndarray) else values
        read = {
            text: -1 if text.strip().lower() in MISSING else _MARKS.get(text.strip().lower()) for text in set(texts)
        }
        wrong = next((row for row, text in enumerate(texts) if read[text] is None), None)
        if wrong is not None:
            raise InvalidDataset(
                f"{place(wrong)}: label {name!r} must be 0 or 1, got {texts[wrong][:40]!r}",
                hint="several targets are labels that a row has or has not; for one class of many name one target",
            )
        return np.fromiter(map(read.__getitem__, texts), np.int8, len(texts))


class MarkedLists:
    """One column of lists of labels; an empty one is of a row that has none."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._rows: list[NDArray[np.int64]] = []
        self._labels: list[NDArray[np.int64]] = []
        self._count = 0

    def take(self, columns: Sequence[Values], place: Place) -> NDArray[np.bool_]:
        """Append all rows; raise InvalidDataset if there are too many labels."""
        (values,) = columns
        texts = texts_of(values) if isinstance(values, np.ndarray) else values
        rows, labels = [], []
        for row, text in enumerate(texts):
            for name in filter(None, map(str.strip, text.split(SEPARATOR))):
                rows.append(self._count + row)
                labels.append(self._places.setdefault(name, len(self._places)))
        if len(self._places) > _MOST_LABELS:
            raise InvalidDataset(f"there are more than {_MOST_LABELS:,} different labels")
        self._rows.append(np.array(rows, np.int64))
        self._labels.append(np.array(labels, np.int64))
        self._count += len(texts)
        return np.ones(len(texts), np.bool_)

    def table(self) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Return the target [n, labels] of 0 and 1, and the names of the labels, in alphabetical order."""
        names = sorted(self._places)
        order = np.empty(len(names), np.int64)
        order[[self._places[name] for name in names]] = np.arange(len(names))
        target = np.zeros((self._count, len(names)), np.uint8)
        if self._count:
            target[np.concatenate(self._rows), order[np.concatenate(self._labels)]] = 1
        return target, tuple(names)
