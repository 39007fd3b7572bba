"""A Dataset: what `prepare` leaves behind, addressed by a digest over its content.

Training and evaluation read its splits through :func:`load_split`; stores and the API show the rest. It knows blobs
only through what it is handed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.registry import canonical_json
from mofang.base.storage.blobs import Blobs
from mofang.make.recipe import Task

Target = NDArray[np.int64] | NDArray[np.float64]
SplitName = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Split:
    """One part of the rows: SHA-256 (hex) of the .npy blobs of its features [rows, n] and target [rows]."""

    rows: int
    features: str
    target: str


@dataclass(frozen=True, slots=True)
class Schema:
    """What a row looks like: how many features of which dtype, their names if they have any, names of the classes.

    Class ``i`` of the data is ``labels[i]``; there are none if the target is a number.
    """

    features: int
    dtype: str
    labels: tuple[str, ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """Immutable, digest-addressed rows, ready to train on. ``removed`` counts rows that were left out, by reason."""

    digest: str
    name: str
    source: str
    task: Task
    splits: Mapping[str, Split]
    schema: Schema
    created_at: int
    removed: Mapping[str, int] = field(default_factory=dict)


def dataset_digest(splits: Mapping[str, Split], schema: Schema) -> str:
    """Return ``sha256:<hex>`` over every value of every row, and over the schema; where it came from does not count."""
    content = {"splits": {name: asdict(split) for name, split in splits.items()}, "schema": asdict(schema)}
    return "sha256:" + hashlib.sha256(canonical_json(content)).hexdigest()


def load_split(blobs: Blobs, dataset: Dataset, split: SplitName) -> tuple[NDArray[np.float32], Target]:
    """Return features [rows, n] and target [rows], class indices or numbers; raises BlobNotFound or DigestMismatch."""
    parts = dataset.splits[split]
    features = np.load(io.BytesIO(blobs.read(parts.features)), allow_pickle=False)
    target = np.load(io.BytesIO(blobs.read(parts.target)), allow_pickle=False)
    kind = np.float64 if dataset.task == "regression" else np.int64
    return features.astype(np.float32), target.astype(kind)
