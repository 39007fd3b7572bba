"""Data in: read the first source that is there, clean it, split it, store it."""

from __future__ import annotations

from mofang.base.domain.work import Progress
from mofang.base.storage.blobs import Blobs
from mofang.make.prepare.dataset import Dataset
from mofang.make.recipe import Prepare


def prepare(spec: Prepare, blobs: Blobs, progress: Progress) -> Dataset:
    """Read, clean, split and store the data ``spec`` names.

    Raises DatasetUnavailable if none of its sources is there, and InvalidDataset if the one that is cannot be used.
    The same data, seed and fractions give the same digest. Nothing is recorded: DatasetStore.record does that.
    """
    raise NotImplementedError
