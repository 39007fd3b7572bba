"""The table of files that batches read and write. Their bytes are blobs; the owners' table says whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from mofang.base.domain.errors import FileNotHere
from mofang.base.domain.names import new_id, now_us
from mofang.base.storage.database import Database, metadata
from mofang.base.storage.owners import claim, visible

Purpose = Literal["batch", "batch_output", "batch_error"]

files = sa.Table(
    "files",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("purpose", sa.String(16), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("job", sa.String(40), nullable=False, index=True),  # the batch that wrote it; empty: it was uploaded
    sa.Column("created_at", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file: lines of JSON."""

    id: str
    name: str
    purpose: Purpose
    sha256: str
    size_bytes: int
    job: str
    created_at: int


class FileStore:
    """Files by id, seen through the scope the database is used in."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, purpose: Purpose, sha256: str, size_bytes: int, job: str = "") -> StoredFile:
        """Record a file for whoever uses the database; one of a job and a purpose only once."""
        with self._database.write() as tx:
            if job and (row := tx.execute(self._of(job).where(files.c.purpose == purpose)).mappings().first()):
                return StoredFile(**row)
            file = StoredFile(new_id("file"), name, purpose, sha256, size_bytes, job, now_us())
            tx.execute(sa.insert(files).values({column.name: getattr(file, column.name) for column in files.c}))
            claim(tx, self._database.scope, "file", file.id)
        return file

    def get(self, file_id: str) -> StoredFile:
        """Return a file, or raise FileNotHere."""
        with self._database.read() as tx:
            row = tx.execute(sa.select(files).where(files.c.id == file_id, self._visible())).mappings().first()
        if row is None:
            raise FileNotHere(f"there is no file {file_id[:80]!r}")
        return StoredFile(**row)

    def of_job(self, job: str) -> Sequence[StoredFile]:
        """Return the files that a batch wrote."""
        with self._database.read() as tx:
            return [StoredFile(**row) for row in tx.execute(self._of(job)).mappings()]

    def list(self, after: str = "", limit: int = 100) -> Sequence[StoredFile]:
        """Return files, newest first; those older than the file ``after``."""
        query = sa.select(files).where(self._visible()).order_by(files.c.id.desc()).limit(limit)
        with self._database.read() as tx:
            return [
                StoredFile(**row) for row in tx.execute(query.where(files.c.id < after) if after else query).mappings()
            ]

    def delete(self, file_id: str) -> StoredFile:
        """Forget a file, and return what it was; raise FileNotHere."""
        with self._database.write() as tx:
            file = self.get(file_id)
            tx.execute(sa.delete(files).where(files.c.id == file_id))
        return file

    def _of(self, job: str) -> sa.Select[tuple[object, ...]]:
        return sa.select(files).where(files.c.job == job)

    def _visible(self) -> sa.ColumnElement[bool]:
        return visible(self._database.scope, "file", files.c.id)
