"""The datasets the platform knows: a row for each project that has prepared one, their content in blobs.

Content is addressed by its digest and kept once. What a project calls it, where it came from, and what was left out on
the way are the project's own: the same content prepared by two of them tells neither of the other.
"""

from __future__ import annotations

from dataclasses import asdict

import msgspec
from sqlalchemy import JSON, BigInteger, Column, Row, Select, String, Table, delete, func, insert, select, true

from mofang.base.domain.errors import DatasetNotFound
from mofang.base.storage.database import Database, metadata
from mofang.make.prepare.dataset import Dataset
from mofang.make.prepare.sheet import Sheet

prepared = Table(
    "prepared",
    metadata,
    Column("digest", String(71), primary_key=True),
    Column("project", String(63), primary_key=True),
    Column("tenant", String(63), nullable=False),
    Column("name", String(255), nullable=False),
    Column("source", String(4096), nullable=False),
    Column("task", String(32), nullable=False),
    Column("splits", JSON, nullable=False),
    Column("schema", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False, index=True),
    Column("removed", JSON, nullable=False),
)
sheets = Table(
    "sheets",
    metadata,
    Column("digest", String(71), primary_key=True),
    Column("sheet", JSON, nullable=False),
)


class DatasetStore:
    """Datasets by digest. They are immutable: recorded once in each project, never changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, dataset: Dataset) -> Dataset:
        """Keep ``dataset``; one of the same digest that the project has already stays, and is returned."""
        scope = self._database.scope
        with self._database.write() as connection:
            own = select(prepared).where(prepared.c.digest == dataset.digest, prepared.c.project == scope.project)
            row = connection.execute(own).one_or_none()
            if row is None:
                place = {"project": scope.project, "tenant": scope.tenant}
                connection.execute(insert(prepared).values(**asdict(dataset), **place))
            return dataset if row is None else _dataset(row)

    def find(self, digest: str) -> Dataset | None:
        """Return the dataset, if it is known."""
        seen = self._seen()
        with self._database.read() as connection:
            row = connection.execute(seen.where(seen.selected_columns.digest == digest)).one_or_none()
        return None if row is None else _dataset(row)

    def get(self, digest: str) -> Dataset:
        """Return the dataset; raise DatasetNotFound."""
        dataset = self.find(digest)
        if dataset is None:
            raise DatasetNotFound(f"no dataset has the digest {digest!r}")
        return dataset

    def keep_sheet(self, digest: str, sheet: Sheet) -> None:
        """Remember what the dataset looks like, in place of what was remembered before."""
        with self._database.write() as connection:
            connection.execute(delete(sheets).where(sheets.c.digest == digest))
            connection.execute(insert(sheets).values(digest=digest, sheet=msgspec.to_builtins(sheet)))

    def find_sheet(self, digest: str) -> Sheet | None:
        """Return what a dataset looks like, if that was looked at. Raises DatasetNotFound."""
        self.get(digest)  # content is everybody's, but only who has prepared it may know of it
        with self._database.read() as connection:
            found = connection.scalar(select(sheets.c.sheet).where(sheets.c.digest == digest))
        return None if found is None else msgspec.convert(found, Sheet)

    def list(self, limit: int = 100) -> list[Dataset]:
        """Return the newest ``limit`` datasets, newest first."""
        seen = self._seen()
        newest = seen.order_by(seen.selected_columns.created_at.desc(), seen.selected_columns.digest)
        with self._database.read() as connection:
            return [_dataset(row) for row in connection.execute(newest.limit(limit))]

    def _seen(self) -> Select[tuple[object, ...]]:
        """Select what is within reach; who reaches several projects sees what the first of them has called it."""
        scope, columns = self._database.scope, prepared.c
        reached = columns.tenant == scope.tenant if scope.reach == "tenant" else columns.project == scope.project
        number = func.row_number().over(partition_by=columns.digest, order_by=(columns.created_at, columns.project))
        inner = select(prepared, number.label("number")).where(true() if scope.reach == "platform" else reached)
        found = inner.subquery()
        return select(*(found.c[column.name] for column in columns)).where(found.c.number == 1)


def _dataset(row: Row[tuple[object, ...]]) -> Dataset:
    return msgspec.convert(row, Dataset, from_attributes=True)
