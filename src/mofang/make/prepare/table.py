"""What every reader of data gives: rows in memory, still as they were found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from mofang.make.prepare.columns import Column


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Features [rows, n] of any real dtype (NaN: missing), or images [rows, height, width(, channels)] of uint8.

    What to predict is [rows].

    The target holds integers or texts where it names classes, floats where it measures. Where rows have any number of
    labels it is [rows, labels] of 0 and 1, and ``labels`` names them.

    If ``test_rows`` is not 0, that many rows at the end are the data's own held-out split. ``labels`` names the classes
    0, 1, ... where the data says more than their numbers. ``removed`` counts rows the reader had to leave out, and
    ``notes`` name them where they have names. ``encoded``: the images came as files, and so will those that the model
    is asked about.

    A table that holds more than numbers has ``columns``, and ``texts`` holds what the positions in text columns stand
    for. ``apart`` [rows] is the column that rows are split by.
    """

    name: str
    features: NDArray[Any]
    target: NDArray[Any]
    test_rows: int = 0
    names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    removed: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    encoded: bool = False
    columns: tuple[Column, ...] = ()
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    apart: NDArray[Any] | None = None
