"""A Dataset: what `prepare` leaves behind, addressed by a digest over its content.

Training and evaluation read its splits through :func:`load_split`; stores and the API show the rest. It knows blobs
only through what it is handed.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import DigestMismatch, InvalidDataset
from mofang.base.domain.registry import canonical_json
from mofang.base.storage.blobs import Blobs
from mofang.make.prepare.augment import augment
from mofang.make.prepare.columns import Column
from mofang.make.prepare.encode import Texts, encode
from mofang.make.prepare.normalise import Scaling
from mofang.make.prepare.split import By, choose, classes_in, strata
from mofang.make.prepare.words import FIRST
from mofang.make.recipe import Augment, Task

Target = NDArray[np.int64] | NDArray[np.float64]
SplitName = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Split:
    """One part of the rows: SHA-256 (hex) of the .npy blobs of its features [rows, n] and target [rows].

    Where rows were not held out at random, ``apart`` is the blob of what they were held out by [rows].
    """

    rows: int
    features: str
    target: str
    by: By = "rows"
    apart: str = ""


@dataclass(frozen=True, slots=True)
class Schema:
    """What a row looks like: how many numbers a model sees of it, of which dtype they are stored, names of the classes.

    Class ``i`` of the data is ``labels[i]``; there are none if the target is a number. Images have a ``shape``,
    (height, width) or (height, width, channels), and are ``encoded`` if they were made from PNG or JPEG files. Tables
    that hold more than numbers have ``columns``, in the order of ``names``, and ``texts`` is the SHA-256 of the blob of
    what text columns hold. ``scaling`` is the last that numbers pass before a model sees them. Rows are stored before
    all of this.
    """

    features: int
    dtype: str
    labels: tuple[str, ...]
    names: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    encoded: bool = False
    scaling: Scaling | None = None
    columns: tuple[Column, ...] = ()
    texts: str = ""

    @property
    def sequence(self) -> tuple[int, int] | None:
        """The length of a sequence of token ids and how many ids there are, if that is what a model sees; else None."""
        if len(self.columns) == 1 and self.columns[0].encoding == "tokens":
            return self.columns[0].length, FIRST + len(self.columns[0].values)
        return None

    def prepared(self, features: NDArray[Any], texts: Texts = MappingProxyType({})) -> NDArray[np.float32]:
        """Return stored rows as a model sees them: images in their shape, everything else [n, features]."""
        if self.columns:
            features = encode(self.columns, features, texts)
        if self.scaling is None:
            return features.astype(np.float32)
        inner = self.shape or (self.features,)
        channels = inner if len(inner) != 2 else (*inner, 1)
        return self.scaling(features.reshape(len(features), *channels)).reshape(features.shape)


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


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Rows of a dataset, and how a model sees them: features [n, ...] as stored, and target [n] or [n, labels].

    Models that see everything at once take :meth:`rows`, those that learn in steps take :meth:`batch`; either measure
    themselves on the rows that :meth:`aside` names. ``apart`` [n] is what rows are held out ``by``.
    """

    features: NDArray[Any]
    target: Target
    schema: Schema
    augmentation: Augment = field(default_factory=Augment)
    texts: Texts = field(default_factory=dict)
    by: By = "rows"
    apart: NDArray[np.float64] | None = None

    def aside(self, share: float, seed: int) -> NDArray[np.bool_]:
        """Return a mask of about ``share`` of the rows, held out by the rule of the dataset; the rest has every class.

        Raises InvalidDataset if there are too few to keep any aside.
        """
        chosen = choose(self.by, self.apart, strata(self.target), share, seed)
        if self.target.dtype.kind != "f":
            lacking = np.setdiff1d(classes_in(self.target), classes_in(self.target[~chosen]))
            several = self.target.ndim == 2
            unknown = self.target[:, lacking].any(axis=1) if several else np.isin(self.target, lacking)
            chosen &= ~(unknown if self.apart is None else np.isin(self.apart, self.apart[unknown]))
        if not chosen.any():
            raise InvalidDataset(f"{len(self.target)} rows are too few to keep some aside for the curve")
        return chosen

    def rows(self) -> NDArray[np.float32]:
        """Return all features [n, d] as a model sees them, images flattened, nothing augmented."""
        return self.prepared().reshape(len(self.features), -1)

    def batch(self, index: NDArray[Any], random: np.random.Generator | None = None) -> NDArray[np.float32]:
        """Return the features of rows ``index`` [b] as [b, d] or [b, *schema.shape], as a model sees them.

        With ``random`` images are augmented first: give it to train on them, leave it out to measure.
        """
        return self.some(index, random).prepared()

    def some(self, index: NDArray[Any], random: np.random.Generator | None = None) -> Examples:
        """Return the examples ``index`` [b] alone, as stored; with ``random`` their images are augmented."""
        chosen = self.features[index]
        if random is not None and self.augmentation and self.schema.shape:
            chosen = augment(self.augmentation, chosen, random)
        apart = None if self.apart is None else self.apart[index]
        target = self.target[index] if len(self.target) else self.target
        return replace(self, features=chosen, target=target, apart=apart)

    def prepared(self) -> NDArray[np.float32]:
        """Return all features as a model sees them, images in their shape, nothing augmented."""
        return self.schema.prepared(self.features, self.texts)


def examples_of(features: NDArray[Any], target: NDArray[Any]) -> Examples:
    """Make examples of arrays alone: features [n, d] or images [n, height, width(, channels)], target [n]."""
    shape = features.shape[1:]
    labels = () if target.dtype.kind == "f" else tuple(map(str, range(int(target.max()) + 1)))
    schema = Schema(math.prod(shape), str(features.dtype), labels, shape=shape if len(shape) > 1 else ())
    return Examples(features, target.astype(np.int64) if labels else target.astype(np.float64), schema)


def dataset_digest(splits: Mapping[str, Split], schema: Schema) -> str:
    """Return ``sha256:<hex>`` over every value of every row, and over the schema; where it came from does not count."""
    parts = {name: asdict(split) for name, split in splits.items()}
    for part in parts.values():
        if not part["apart"]:  # what rows at random do not have takes no part, or older digests would be others now
            del part["by"], part["apart"]
    content = {"splits": parts, "schema": asdict(schema)}
    return "sha256:" + hashlib.sha256(canonical_json(content)).hexdigest()


def load_split(blobs: Blobs, dataset: Dataset, split: SplitName) -> tuple[NDArray[np.float32], Target]:
    """Return features [rows, n] as stored, and target [rows], class indices or numbers.

    Raises BlobNotFound or DigestMismatch.
    """
    features, target = _load(blobs, dataset, split)
    return features.reshape(len(features), -1).astype(np.float32), target


def load_examples(
    blobs: Blobs, dataset: Dataset, augmentation: Augment | None = None, split: SplitName = "train"
) -> Examples:
    """Return a split with all it takes to see it as a model does; raises BlobNotFound or DigestMismatch."""
    schema = dataset.schema
    texts: Texts = {}
    if schema.texts:
        texts = msgspec.msgpack.decode(blobs.read(schema.texts), type=dict[str, list[str]])
    held = dataset.splits[split]
    apart = np.load(io.BytesIO(blobs.read(held.apart)), allow_pickle=False) if held.apart else None
    return Examples(*_load(blobs, dataset, split), schema, augmentation or Augment(), texts, held.by, apart)


def _load(blobs: Blobs, dataset: Dataset, split: SplitName) -> tuple[NDArray[Any], Target]:
    parts = dataset.splits[split]
    target = np.load(io.BytesIO(blobs.read(parts.target)), allow_pickle=False)
    whole = dataset.task in ("classification", "multilabel")
    return _mapped(blobs, parts.features), target.astype(np.int64 if whole else np.float64)


def _mapped(blobs: Blobs, sha256: str) -> NDArray[Any]:
    """Return the array in a blob, verified, as a map of its file: what is not looked at takes no memory."""
    with blobs.open(sha256) as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:  # type: ignore[arg-type]  # a file is one
            raise DigestMismatch(f"object {sha256!r} is damaged")
        file.seek(0)
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if math.prod(shape) == 0:
            return np.empty(shape, dtype)
        return np.memmap(file, dtype, "r", file.tell(), shape)
