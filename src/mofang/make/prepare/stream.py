"""Tables that need not fit into memory: records come in chunks, and become a matrix in a file.

Readers of CSV, Parquet, ARFF and JSON lines make a :class:`Stream`; :func:`gather` turns it into a Table whose features
are mapped from a scratch file, so that ten million rows take no more memory than a thousand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, compress
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import InvalidDataset
from mofang.make.prepare.columns import MISSING, Column, ColumnReader, Kind, Place, Values, guess, is_number, texts_of
from mofang.make.prepare.marks import MarkedColumns, MarkedLists
from mofang.make.prepare.table import Table
from mofang.make.recipe import Prepare

CHUNK_ROWS = 20_000
SAMPLE_ROWS = 20_000  # tell what kind each column is
_LARGEST_WHOLE = 2.0**53  # above, a float tells no more which integer was meant


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some records: the values of each column, and where row i came from."""

    columns: Sequence[Values]
    place: Place

    @property
    def rows(self) -> int:
        """How many records."""
        return len(self.columns[0])


@dataclass(frozen=True, slots=True)
class Stream:
    """Records under the names of their columns.

    ``kinds`` holds what the source itself says of a column; None: it is for people, and nothing to learn from.
    """

    where: str
    names: tuple[str, ...]
    chunks: Iterator[Chunk]
    kinds: Mapping[str, Kind | None] = field(default_factory=dict)


def gather(stream: Stream, spec: Prepare, scratch: Path) -> Table:
    """Read all of ``stream`` into a Table; its matrix lies in the folder ``scratch``.

    Raises InvalidDataset for columns that are not there, and for values that are not of their column's kind.
    """
    targets = [_name_of(stream, name, "target") for name in spec.targets or stream.names[-1:]]
    aside = _name_of(stream, spec.split.column, "column") if spec.split.column else ""
    for name in spec.columns:
        _name_of(stream, name, "column")
    first, chunks = _peek(stream.chunks)
    path = scratch / "rows"
    with path.open("wb") as file:
        gathered = _Gathered(stream, spec, targets, aside, first, file)
        for chunk in chunks:
            gathered.add(chunk)
    return gathered.table(path)


class _Gathered:
    def __init__(
        self, stream: Stream, spec: Prepare, targets: Sequence[str], aside: str, first: Chunk | None, file: IO[bytes]
    ) -> None:
        self._stream, self._targets, self._aside = stream, [*map(stream.names.index, targets)], aside
        self._readers: dict[int, ColumnReader] = {}
        self._notes: list[str] = []
        for index, name in enumerate(stream.names):
            if index not in self._targets and (kind := self._kind(name, index, spec, first)):
                self._readers[index] = ColumnReader(name, kind)
        if not self._readers:
            raise InvalidDataset(
                f"{stream.where!r} has no column to learn from besides {', '.join(map(repr, targets))}"
            )
        self._apart = ColumnReader(aside, self._aside_kind(first)) if aside else None
        self._file = file
        self._labels = _labels(spec)
        self._apart_values: list[NDArray[np.float64]] = []
        self._rows = self._unlabelled = 0

    def _kind(self, name: str, index: int, spec: Prepare, first: Chunk | None) -> Kind | None:
        """Return what the recipe, the source or a sample says; None for a column that is left out."""
        said = spec.columns.get(name)
        if said:
            return None if said == "drop" else said
        if name == self._aside and spec.split.by == "group":
            return None  # it names what must not leak
        if name in self._stream.kinds:
            return self._stream.kinds[name]
        kind = _guess(first.columns[index]) if first else "number"
        if kind is None:
            self._notes.append(f"column {name!r}: it is empty, or names each row; [prepare.columns] can say what it is")
        return kind

    def _aside_kind(self, first: Chunk | None) -> Kind:
        found = _guess(first.columns[self._stream.names.index(self._aside)]) if first else "number"
        return found if found in ("number", "date") else "category"

    def add(self, chunk: Chunk) -> None:
        """Append the rows of ``chunk`` that have a target."""
        columns = [reader.read(chunk.columns[index], chunk.place) for index, reader in self._readers.items()]
        with np.errstate(over="ignore"):  # what single precision cannot hold becomes infinite, and is dropped as such
            matrix = np.stack(columns, axis=1).astype(np.float32)
        known = self._labels.take([chunk.columns[index] for index in self._targets], chunk.place)
        if self._apart:
            apart = self._apart.read(chunk.columns[self._stream.names.index(self._aside)], chunk.place)
            self._apart_values.append(apart[known])
        self._file.write(np.ascontiguousarray(matrix[known]).data)
        self._rows += int(known.sum())
        self._unlabelled += int((~known).sum())

    def table(self, path: Path) -> Table:
        """Return what was gathered, and written to ``path``."""
        readers = list(self._readers.values())
        shape = (self._rows, len(readers))
        features = np.memmap(path, np.float32, "r", shape=shape) if self._rows else np.empty(shape, np.float32)
        columns = tuple(Column(r.name, r.kind, values=r.values if r.kind == "category" else ()) for r in readers)
        target, labels = self._labels.table()
        mixed = any(column.kind != "number" for column in columns)
        return Table(
            name=Path(self._stream.where).stem,
            features=features,
            target=target,
            labels=labels,
            names=tuple(column.name for column in columns),
            columns=columns if mixed else (),
            texts={reader.name: reader.values for reader in readers if reader.kind == "text"},
            removed={"no target": self._unlabelled} if self._unlabelled else {},
            notes=tuple(self._notes),
            apart=np.concatenate(self._apart_values) if self._apart_values else None,
        )


def _peek(chunks: Iterator[Chunk]) -> tuple[Chunk | None, Iterator[Chunk]]:
    first = next(chunks, None)
    return first, chain([] if first is None else [first], chunks)


def _name_of(stream: Stream, name: str, what: str) -> str:
    if name not in stream.names:
        _fail(stream, f"there is no {what} {name!r}" if what == "column" else f"there is no column {name!r}")
    return name


def _fail(stream: Stream, problem: str) -> NoReturn:
    raise InvalidDataset(f"{stream.where!r}: {problem}; columns are {', '.join(map(repr, stream.names[:20]))}")


def _guess(values: Values) -> Kind | None:
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        return "number"
    return guess(texts_of(values[:SAMPLE_ROWS]) if isinstance(values, np.ndarray) else values[:SAMPLE_ROWS])


def _present(labels: Values) -> NDArray[np.bool_]:
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "biu":
        return np.ones(len(labels), np.bool_)
    if isinstance(labels, np.ndarray) and labels.dtype.kind == "f":
        return ~np.isnan(labels)
    texts = texts_of(labels) if isinstance(labels, np.ndarray) else labels
    missing = {text for text in set(texts) if text.strip().lower() in MISSING}
    if not missing:
        return np.ones(len(texts), np.bool_)
    return np.fromiter((text not in missing for text in texts), np.bool_, len(texts))


def _labels(spec: Prepare) -> _Labels | MarkedColumns | MarkedLists:
    if not isinstance(spec.target, str):
        return MarkedColumns(spec.target)
    return MarkedLists() if spec.task == "multilabel" else _Labels()


class _Labels:
    """The target of all rows: integers, floats, or positions in a list of names, which take little memory."""

    def __init__(self) -> None:
        self._parts: list[NDArray[Any]] = []
        self._named: list[bool] = []
        self._names: dict[str, int] = {}

    def take(self, columns: Sequence[Values], place: Place) -> NDArray[np.bool_]:
        """Append the labels that are there, and return which rows these are."""
        (labels,) = columns
        known = _present(labels)
        self._add(labels, known)
        return known

    def _add(self, labels: Values, known: NDArray[np.bool_]) -> None:
        if isinstance(labels, np.ndarray) and labels.dtype.kind in "biuf":
            self._append(labels[known])
            return
        texts = texts_of(labels) if isinstance(labels, np.ndarray) else labels
        kept = list(map(str.strip, compress(texts, known.tolist())))
        try:
            self._append(np.fromiter(map(int, kept), np.int64, len(kept)))
        except (ValueError, OverflowError):
            if all(map(is_number, kept)):
                self._append(np.array(kept, np.float64))
            else:
                self._append(self._positions(kept), named=True)

    def table(self) -> tuple[NDArray[Any], tuple[str, ...]]:
        """Return the target [n], and the names of classes 0, 1, ... if it holds names."""
        if not self._parts:
            return np.empty(0, np.int64), ()
        if not any(self._named):
            return _numbers(np.concatenate(self._parts)), ()
        parts = [
            part if named else self._positions([str(value) for value in part.tolist()])
            for part, named in zip(self._parts, self._named, strict=True)
        ]
        names = sorted(self._names)
        new = np.empty(len(names), np.int32)
        new[[self._names[name] for name in names]] = np.arange(len(names))
        return new[np.concatenate(parts)].astype(np.int64), tuple(names)

    def _append(self, part: NDArray[Any], *, named: bool = False) -> None:
        self._parts.append(part)
        self._named.append(named)

    def _positions(self, texts: list[str]) -> NDArray[np.int32]:
        names = self._names
        return np.fromiter((names.setdefault(text, len(names)) for text in texts), np.int32, len(texts))


def _numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Return integers if all are whole (1.0 is: so programs write them where some are missing), else floats."""
    if values.dtype.kind in "biu":
        return values.astype(np.int64)
    whole = bool((np.floor(values) == values).all() and (np.abs(values) < _LARGEST_WHOLE).all())
    return values.astype(np.int64) if whole else values
