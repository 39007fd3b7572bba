"""The datasets the platform knows: one row each, their content in blobs."""

from __future__ import annotations

from dataclasses import asdict

import msgspec
from sqlalchemy import JSON, BigInteger, Column, ColumnElement, Row, String, Table, insert, select

from mofang.base.domain.errors import DatasetNotFound
from mofang.base.storage.database import Database, metadata
from mofang.base.storage.owners import claim, visible
from mofang.make.prepare.dataset import Dataset

datasets = Table(
    "datasets",
    metadata,
    Column("digest", String(71), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("source", String(4096), nullable=False),
    Column("task", String(32), nullable=False),
    Column("splits", JSON, nullable=False),
    Column("schema", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False, index=True),
    Column("removed", JSON, nullable=False),
)


class DatasetStore:
    """Datasets by digest. They are immutable: recorded once, never changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, dataset: Dataset) -> Dataset:
        """Keep ``dataset``; one of the same digest that is there already stays, and is returned."""
        with self._database.write() as connection:
            row = connection.execute(select(datasets).where(datasets.c.digest == dataset.digest)).one_or_none()
            if row is None:
                connection.execute(insert(datasets).values(asdict(dataset)))
            claim(connection, self._database.scope, "dataset", dataset.digest)
            return dataset if row is None else _dataset(row)

    def find(self, digest: str) -> Dataset | None:
        """Return the dataset, if it is known."""
        with self._database.read() as connection:
            row = connection.execute(select(datasets).where(datasets.c.digest == digest, self._visible())).one_or_none()
        return None if row is None else _dataset(row)

    def get(self, digest: str) -> Dataset:
        """Return the dataset; raise DatasetNotFound."""
        dataset = self.find(digest)
        if dataset is None:
            raise DatasetNotFound(f"no dataset has the digest {digest!r}")
        return dataset

    def list(self, limit: int = 100) -> list[Dataset]:
        """Return the newest ``limit`` datasets, newest first."""
        newest = select(datasets).where(self._visible()).order_by(datasets.c.created_at.desc(), datasets.c.digest)
        with self._database.read() as connection:
            return [_dataset(row) for row in connection.execute(newest.limit(limit))]

    def _visible(self) -> ColumnElement[bool]:
        return visible(self._database.scope, "dataset", datasets.c.digest)


def _dataset(row: Row[tuple[object, ...]]) -> Dataset:
    return msgspec.convert(row, Dataset, from_attributes=True)
