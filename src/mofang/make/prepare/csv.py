"""CSV files: a header, numeric features, and one column to predict: classes, or a number."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from mofang.base.domain.errors import DatasetUnavailable, InvalidDataset
from mofang.make.prepare.table import Table

_LARGEST_WHOLE = 2.0**53  # above, a float tells no more which integer was meant
MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none"})
"""What a missing value looks like, in lower case. Rows with one are dropped and counted."""


def read(where: str, target: str) -> Table:
    """Read the file ``where``; what to predict is in the column ``target`` (empty: the last). Errors name the line."""
    try:
        with open(where, encoding="utf-8-sig", newline="") as file:
            return _Reader(where, _records(where, file)).table(target)
    except UnicodeDecodeError as error:
        raise InvalidDataset(f"{where!r} is not UTF-8 text", hint="save it as UTF-8") from error
    except OSError as error:
        raise DatasetUnavailable(f"{where!r} cannot be read: {error.strerror}") from error


def _records(where: str, lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield every record that is not blank, with the line it begins in."""
    reader = csv.reader(lines, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InvalidDataset(f"{where!r} line {line}: {error}") from error
        if record:
            yield line, record


class _Reader:
    def __init__(self, where: str, records: Iterator[tuple[int, list[str]]]) -> None:
        self._where = where
        self._records = records
        line, header = next(records, (1, []))
        self._columns = [name.strip() for name in header]
        self._check_header(line)

    def table(self, target: str) -> Table:
        """Read all records."""
        position = self._position(target)
        values, found, unlabelled = array("d"), [], 0
        for line, record in self._records:
            if len(record) != len(self._columns):
                self._fail(line, f"{len(record)} fields, but the header has {len(self._columns)}")
            label = record.pop(position).strip()
            numbers = [self._number(line, index, text, position) for index, text in enumerate(record)]
            if label.lower() in MISSING:
                unlabelled += 1
                continue
            values.extend(numbers)
            found.append(label)
        names = tuple(name for index, name in enumerate(self._columns) if index != position)
        return Table(
            name=Path(self._where).stem,
            features=np.frombuffer(values).reshape(len(found), len(names)),
            target=_numbers_or_texts(found),
            names=names,
            removed={"no target": unlabelled} if unlabelled else {},
        )

    def _check_header(self, line: int) -> None:
        if len(self._columns) < 2:
            self._fail(line, f"the header must name at least two columns, got {self._columns}")
        if all(_is_number(name) for name in self._columns):
            self._fail(line, "the first line must be a header, but holds numbers alone")
        for index, name in enumerate(self._columns):
            if not name or name in self._columns[:index]:
                self._fail(
                    line,
                    f"column {index + 1} of the header has {'no name' if not name else f'the name {name!r} again'}",
                )

    def _position(self, target: str) -> int:
        if not target:
            return len(self._columns) - 1
        if target not in self._columns:
            self._fail(1, f"there is no column {target!r}; columns are {', '.join(map(repr, self._columns[:20]))}")
        return self._columns.index(target)

    def _number(self, line: int, index: int, text: str, position: int) -> float:
        if text.strip().lower() in MISSING:
            return float("nan")
        if not _is_number(text):
            column = self._columns[index + (index >= position)]
            self._fail(line, f"column {column!r} must be a number, got {text[:40]!r}")
        return float(text)

    def _fail(self, line: int, message: str) -> NoReturn:
        raise InvalidDataset(f"{self._where!r} line {line}: {message}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # Python reads 1_000, other programs do not


def _numbers_or_texts(found: list[str]) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    """Return integers if all are whole (1.0 is: so programs write them where some are missing), floats, or texts."""
    try:
        return np.array([int(text) for text in found], dtype=np.int64)
    except (ValueError, OverflowError):
        if not all(map(_is_number, found)):
            return np.array(found, dtype=np.str_)
    numbers = np.array(found, dtype=np.float64)
    whole = bool((np.floor(numbers) == numbers).all() and (np.abs(numbers) < _LARGEST_WHOLE).all())
    return numbers.astype(np.int64) if whole else numbers
