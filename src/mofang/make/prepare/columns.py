"""The columns of a table: what kind each is, how its values are read, and what is fitted to it.

A table in memory is a matrix of single-precision numbers, whatever its columns hold: categories and texts are positions
in a list of values, dates are whole hours since 1970, and what is missing is NaN. Readers fill it chunk by chunk.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import InvalidDataset

Kind = Literal["number", "category", "date", "text"]
Values = Sequence[str] | NDArray[Any]  # of one column: texts as they were written, or numbers already
Place = Callable[[int], str]  # says where row i of a chunk came from: "line 17"

MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none"})
"""What a missing value looks like, in lower case."""
_DAY = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?"
DATE = rf"{_DAY}(?:[ T]{_TIME}(?:Z|[+-]\d{{2}}:?\d{{2}})?)?"
"""ISO 8601; the offset from UTC is passed over, so that hours are local. The served graph matches the same pattern."""
DATE_PARTS = ("year", "month", "day", "weekday", "hour")  # what a model sees of a date; Monday is 0
MAX_CATEGORIES = 10_000

_DATE = re.compile(DATE, re.ASCII)
_SURE = 0.95  # of the values that are there must read as numbers or dates for the column to be one
_WORDS_OF_TEXT = 4  # on average; categories are shorter
_MOST_REMEMBERED = 100_000
_LARGEST_POSITION = 1 << 24  # single precision counts no further


@dataclass(frozen=True, slots=True)
class Column:
    """One column, and what was fitted to it on the training rows.

    ``encoding`` says what a model sees of it. Category: ``values`` are all its values, ``shown`` the positions of those
    that are told apart. Text: ``values`` is the vocabulary. ``weights`` goes with them: the mean of the target, or how
    rare a word is; ``unseen`` is the weight of every other category. ``length`` is the number of token ids.
    """

    name: str
    kind: Kind
    encoding: str = ""  # "" | one_hot | mean | words | characters | tokens
    values: tuple[str, ...] = ()
    shown: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    unseen: float = 0.0
    length: int = 0

    @property
    def width(self) -> int:
        """How many numbers a model sees of one value."""
        match self.encoding:
            case "one_hot":
                return len(self.shown)
            case "words" | "characters":
                return len(self.values)
            case "tokens":
                return self.length
            case _:
                return len(DATE_PARTS) if self.kind == "date" else 1


def guess(values: Sequence[str]) -> Kind | None:
    """Say what kind of column a sample of ``values`` is from; None if no value is there or each names one row alone."""
    present = [value for value in values if value.strip().lower() not in MISSING]
    if not present:
        return None
    if sum(map(is_number, present)) >= _SURE * len(present):
        return "number"
    if sum(_DATE.fullmatch(value.strip()) is not None for value in present) >= _SURE * len(present):
        return "date"
    different = len(set(present))
    if different > 20 and sum(len(value.split()) for value in present) >= _WORDS_OF_TEXT * len(present):
        return "text"
    return None if different > MAX_CATEGORIES or (different > 50 and different > 0.9 * len(present)) else "category"


def is_number(text: str) -> bool:
    """Tell whether ``text`` is a number as other programs write them."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # Python reads 1_000, other programs do not


class ColumnReader:
    """Turns the values of one column into numbers, chunk by chunk."""

    def __init__(self, name: str, kind: Kind) -> None:
        self.name, self.kind = name, kind
        self._positions = _Positions()
        self._times = _Memory(_hour)

    @property
    def values(self) -> tuple[str, ...]:
        """The values that positions stand for, of a category or text."""
        return tuple(self._positions)

    def read(self, values: Values, place: Place) -> NDArray[np.float64]:
        """Return [n] numbers, NaN where one is missing. Raises InvalidDataset naming the place of a wrong value."""
        if isinstance(values, np.ndarray) and values.dtype.kind in "biuf" and self.kind == "number":
            return values.astype(np.float64)
        if isinstance(values, np.ndarray):
            values = texts_of(values)
        match self.kind:
            case "number":
                return self._numbers(values, place)
            case "date":
                return self._hours(values, place)
            case _:
                return self._codes(values)

    def _numbers(self, values: Sequence[str], place: Place) -> NDArray[np.float64]:
        try:
            numbers = np.fromiter(map(float, values), np.float64, len(values))
            if "_" not in "".join(values):
                return numbers
        except ValueError:
            pass
        read = _Memory(_number)
        for row, value in enumerate(values):
            if read[value] is None:
                raise self._wrong(place(row), "a number", value)
        return np.fromiter(map(read.__getitem__, values), np.float64, len(values))

    def _hours(self, values: Sequence[str], place: Place) -> NDArray[np.float64]:
        read = self._times
        for row, value in enumerate(values):
            if read[value] is None:
                raise self._wrong(place(row), "a date such as 2026-11-25 or 2026-11-25T18:00", value)
        return np.fromiter(map(read.__getitem__, values), np.float64, len(values))

    def _codes(self, values: Sequence[str]) -> NDArray[np.float64]:
        positions = self._positions
        codes = np.fromiter(map(positions.__getitem__, map(str.strip, values)), np.float64, len(values))
        if len(positions) > _LARGEST_POSITION:
            raise InvalidDataset(f"column {self.name!r} has more than {_LARGEST_POSITION:,} different values")
        return codes

    def _wrong(self, place: str, wanted: str, value: str) -> InvalidDataset:
        return InvalidDataset(
            f"{place}: column {self.name!r} must be {wanted}, got {value[:40]!r}",
            hint=f'if it holds names, say so in the recipe: [prepare.columns] {self.name} = "category"',
        )


class _Positions(dict[str, float]):
    """Positions of values in the order they came; of what is missing NaN, which takes no position."""

    def __missing__(self, value: str) -> float:
        if value.lower() in MISSING:
            return float("nan")
        position = self[value] = float(len(self))
        return position


class _Memory(dict[str, "float | None"]):
    """What texts read as, each read once; None for one that is wrong."""

    def __init__(self, read: Callable[[str], float | None]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, text: str) -> float | None:
        if len(self) >= _MOST_REMEMBERED:
            self.clear()
        found = self[text] = math.nan if text.strip().lower() in MISSING else self._read(text.strip())
        return found


def _number(text: str) -> float | None:
    return float(text) if is_number(text) else None


def _hour(text: str) -> float | None:
    """Return whole hours since 1970."""
    if _DATE.fullmatch(text) is None:
        return None
    try:
        return float(np.datetime64(text[:13].replace(" ", "T"), "h").astype(np.int64))
    except ValueError:  # such as the 31st of February
        return None


def texts_of(values: NDArray[Any]) -> list[str]:
    """Return the elements as they would be written; None and NaN are missing."""
    return ["" if value is None or value != value else _written(value) for value in values.tolist()]


def _written(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
