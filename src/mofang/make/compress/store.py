"""Variants that were made and measured, those that were refused too.

Called by the pipeline (writes) and the control API (reads).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, Integer, Row, String, Table, Text, insert, select

from mofang.base.domain.names import new_id, now_us
from mofang.base.domain.registry import canonical_json
from mofang.base.storage.database import Database, metadata
from mofang.base.storage.owners import claim, visible
from mofang.make.compress.compare import Comparison

variants = Table(
    "variants",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("model", String(63), nullable=False),
    Column("parent", String(80), nullable=False, index=True),
    Column("technique", String(40), nullable=False),
    Column("digest", String(80), nullable=False),
    Column("dataset", String(80), nullable=False),
    Column("comparison", Text, nullable=False),
    Column("refusal", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Variant:
    """A compressed form of the version ``parent``: how it was made, what was measured, whether it was accepted."""

    model: str
    parent: str  # digest
    technique: str
    digest: str
    dataset: str  # digest of what its quality was measured on
    comparison: Comparison
    refusal: str  # why it was not accepted; empty if it was
    version: int  # its number in the registry; 0 if refused
    id: str = ""
    created_at: int = 0

    @property
    def accepted(self) -> bool:
        """Whether it was registered."""
        return not self.refusal


class VariantStore:
    """The table ``variants``; rows are never changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, variant: Variant) -> Variant:
        """Keep ``variant`` and return it with its id and time."""
        row = {
            **{name: getattr(variant, name) for name in variants.c.keys()},  # noqa: SIM118 - a column collection
            "comparison": canonical_json(asdict(variant.comparison)).decode(),
            "id": new_id("var"),
            "created_at": now_us(),
        }
        with self._database.write() as connection:
            connection.execute(insert(variants).values(row))
            claim(connection, self._database.scope, "variant", row["id"])
            stored = connection.execute(select(variants).where(variants.c.id == row["id"])).one()
        return _variant(stored)

    def list(self, parent: str = "", before: str = "", limit: int = 100) -> list[Variant]:
        """Return variants (of one version's digest, if given), newest first, older than id ``before``."""
        mine = visible(self._database.scope, "variant", variants.c.id)
        query = select(variants).where(mine).order_by(variants.c.id.desc()).limit(limit)
        if parent:
            query = query.where(variants.c.parent == parent)
        if before:
            query = query.where(variants.c.id < before)
        with self._database.read() as connection:
            return [_variant(row) for row in connection.execute(query)]


def _variant(row: Row[Any]) -> Variant:
    comparison = msgspec.json.decode(row.comparison, type=Comparison)
    return Variant(**{**row._asdict(), "comparison": comparison})
