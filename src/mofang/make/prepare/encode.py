"""What a model sees of the columns of a table: fitted to the training rows, then numbers for any rows.

``prepare/onnx.py`` builds the same as a graph, and property tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.make.prepare.clean import spans
from mofang.make.prepare.columns import DATE_PARTS, Column
from mofang.make.prepare.words import count, ids, learn
from mofang.make.recipe import Encode

Texts = Mapping[str, Sequence[str]]  # of each text column, what its positions stand for
_WEIGHT_OF_ALL = 20.0  # rows: a category with as many counts half for itself


def fit(
    columns: Sequence[Column], spec: Encode, features: NDArray[Any], training: NDArray[np.bool_], target: NDArray[Any],
    texts: Texts,
) -> tuple[Column, ...]:  # fmt: skip
    """Fit every column to the ``training`` rows of ``features`` [n, columns]; ``target`` [n] counts for means."""
    rows = np.flatnonzero(training)
    fitted = []
    for index, column in enumerate(columns):
        if column.kind == "category":
            codes = np.asarray(features[rows, index])
            fitted.append(_fit_category(column, spec, codes, target[rows]))
        elif column.kind == "text":
            codes = np.asarray(features[rows, index])
            positions = np.unique(codes[~np.isnan(codes)]).astype(np.int64)
            known = [texts[column.name][position] for position in positions.tolist()]
            vocabulary, weights = learn(known, spec.text, spec.vocabulary)
            is_tokens = spec.text == "tokens"
            fitted.append(
                replace(
                    column, encoding=spec.text, values=vocabulary, weights=() if is_tokens else weights,
                    length=spec.length if is_tokens else 0,
                )
            )  # fmt: skip
        else:
            fitted.append(column)
    return tuple(fitted)


def _fit_category(column: Column, spec: Encode, codes: NDArray[np.float32], target: NDArray[Any]) -> Column:
    there = ~np.isnan(codes)
    index = codes[there].astype(np.int64)
    counts = np.bincount(index, minlength=len(column.values))
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda position: (-counts[position], column.values[position]))
    if spec.categories == "one_hot":
        return replace(column, encoding="one_hot", shown=tuple(order[: spec.most]))
    if target.ndim == 2:  # of several labels, what most rows have
        target = target[:, target.sum(axis=0).argmax()]
    wanted = target if target.dtype.kind == "f" else (target == np.bincount(target).argmax())
    mean = float(wanted.mean())
    sums = np.bincount(index, weights=wanted[there].astype(np.float64), minlength=len(column.values))
    weights = (sums + mean * _WEIGHT_OF_ALL) / (counts + _WEIGHT_OF_ALL)
    shown = np.array(order, np.int64)
    single = weights[shown].astype(np.float32).tolist()
    return replace(column, encoding="mean", shown=tuple(order), weights=tuple(single), unseen=float(np.float32(mean)))


def encode(columns: Sequence[Column], features: NDArray[Any], texts: Texts) -> NDArray[np.float32]:
    """Return [n, width of all columns] for ``features`` [n, columns]; NaN where a number or date is missing."""
    encoded = np.empty((len(features), sum(column.width for column in columns)), np.float32)
    for span in spans(len(features)):
        at = 0
        for index, column in enumerate(columns):
            values = np.asarray(features[span, index], np.float32)
            encoded[span, at : at + column.width] = _encode(column, values, texts).reshape(len(values), -1)
            at += column.width
    return encoded


def _encode(column: Column, values: NDArray[np.float32], texts: Texts) -> NDArray[np.float32]:
    match column.encoding:
        case "one_hot":
            return np.asarray(values[:, None] == np.array(column.shown, np.float32), np.float32)
        case "mean":
            known = np.full(len(column.values) + 1, column.unseen, np.float32)
            known[list(column.shown)] = column.weights
            return known[np.where(np.isnan(values), len(column.values), values).astype(np.int64)]
        case "words" | "characters":
            return count(strings(column, values, texts), column.encoding, column.values, column.weights)
        case "tokens":
            return ids(strings(column, values, texts), column.values, column.length)
        case _:
            return date_parts(values) if column.kind == "date" else values


def date_parts(hours: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return year, month, day, weekday (Monday 0) and hour [n, 5] of whole hours since 1970; NaN for NaN."""
    there = ~np.isnan(hours)
    whole = np.where(there, hours, 0).astype(np.int64)
    times = whole.astype("datetime64[h]")
    months, days = times.astype("datetime64[M]"), times.astype("datetime64[D]")
    parts = np.stack(
        [
            times.astype("datetime64[Y]").astype(np.int64) + 1970,
            months.astype(np.int64) % 12 + 1,
            (days - months.astype("datetime64[D]")).astype(np.int64) + 1,
            (days.astype(np.int64) + 3) % 7,  # the first of January 1970 was a Thursday
            whole % 24,
        ],
        axis=1,
    ).astype(np.float32)
    parts[~there] = np.nan
    return parts


def strings(column: Column, values: NDArray[Any], texts: Texts) -> list[str]:
    """Return the values [n] of a category, text or date as a client would write them; empty where missing."""
    if column.kind == "date":
        there = ~np.isnan(values)
        times = np.where(there, values, 0).astype(np.int64).astype("datetime64[h]").astype("datetime64[s]")
        return [str(time) if known else "" for time, known in zip(times, there.tolist(), strict=True)]
    known = column.values if column.kind == "category" else texts[column.name]
    return ["" if value != value else known[int(value)] for value in values.tolist()]


def names_of(columns: Sequence[Column]) -> list[str]:
    """Name every number a model sees: ``carrier=UA``, ``time.hour``, ``distance``."""
    names: list[str] = []
    for column in columns:
        if column.encoding == "one_hot":
            names.extend(f"{column.name}={column.values[position]}" for position in column.shown)
        elif column.kind == "date":
            names.extend(f"{column.name}.{part}" for part in DATE_PARTS)
        elif column.width == 1:
            names.append(column.name)
        else:
            names.extend(f"{column.name}[{index}]" for index in range(column.width))
    return names
