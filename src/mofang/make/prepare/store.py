"""The datasets the platform knows."""

from __future__ import annotations

from mofang.base.storage.database import Database
from mofang.make.prepare.dataset import Dataset


class DatasetStore:
    """Datasets by digest."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, dataset: Dataset) -> Dataset:
        """Keep ``dataset``; one of the same digest that is there already stays, and is returned."""
        raise NotImplementedError

    def get(self, digest: str) -> Dataset:
        """Return the dataset; raise DatasetNotFound."""
        raise NotImplementedError

    def list(self, limit: int = 100) -> list[Dataset]:
        """Return the newest ``limit`` datasets, newest first."""
        raise NotImplementedError
