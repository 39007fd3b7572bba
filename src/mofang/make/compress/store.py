"""Candidates of searches: what was made and measured, what was picked of it, and what was refused and why.

Called by the pipeline (writes) and the control API (reads). The artifacts themselves are in the registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Integer,
    Row,
    String,
    Table,
    Text,
    delete,
    false,
    insert,
    select,
    text,
)

from mofang.base.domain.names import new_ids, now_us
from mofang.base.domain.registry import canonical_json
from mofang.base.storage.database import Database, metadata
from mofang.base.storage.owners import claim, visible
from mofang.make.compress.compare import Comparison, Latency
from mofang.make.compress.pick import Wish, pick
from mofang.make.compress.quality import Quality

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
    Column("job", String(64), nullable=False, server_default=text("''")),
    Column("steps", Text, nullable=False, server_default=text("''")),
    Column("told", Text, nullable=False, server_default=text("''")),
    Column("is_front", Boolean, nullable=False, server_default=false()),
    Column("is_picked", Boolean, nullable=False, server_default=false()),
    Column("settings", Text, nullable=False, server_default=text("'{}'")),
)


@dataclass(frozen=True, slots=True)
class Variant:
    """A compressed form of the version ``parent``: how it was made, what was measured, what became of it."""

    model: str
    parent: str  # digest
    technique: str  # its name among the variants of its version
    digest: str  # of its artifact; empty if there is none
    dataset: str  # digest of what its quality was measured on; empty if it was a sample without truth
    comparison: Comparison | None  # None if it could not be made
    refusal: str  # why it was not registered; empty if it was
    version: int  # number of the version it is registered with; 0 if refused
    job: str = ""  # of the search that tried it
    steps: str = ""  # JSON: how to make it again
    told: str = ""  # the same in one line
    is_front: bool = False  # whether no other of its search is better in every way
    is_picked: bool = False  # whether it is what the search was for
    settings: Mapping[str, Any] = field(default_factory=dict)  # how it runs best here, see ``tuning.told``; of the pick
    id: str = ""
    created_at: int = 0

    @property
    def accepted(self) -> bool:
        """Whether it was registered."""
        return not self.refusal


class VariantStore:
    """The table ``variants``; ids are in the order in which candidates were tried."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, found: Iterable[Variant]) -> list[Variant]:
        """Keep the candidates of one search, all or none, in place of what the same job kept before; return them."""
        given = list(found)
        rows = [
            {**_row(each), "id": key, "created_at": now_us()}
            for each, key in zip(given, sorted(new_ids("var", len(given))), strict=True)
        ]
        jobs = {each.job for each in given} - {""}
        with self._database.write() as connection:
            connection.execute(delete(variants).where(variants.c.job.in_(jobs)))
            for row in rows:
                connection.execute(insert(variants).values(row))
                claim(connection, self._database.scope, "variant", row["id"])
            kept = connection.execute(select(variants).where(variants.c.id.in_([row["id"] for row in rows])))
            by_id = {row.id: _variant(row) for row in kept}
        return [by_id[row["id"]] for row in rows]

    def newest(self, parent: str) -> list[Variant]:
        """Return the candidates of the newest search on a version's digest, in the order they were tried."""
        newest = select(variants.c.job, variants.c.id).where(self._visible(), variants.c.parent == parent)
        with self._database.read() as connection:
            last = connection.execute(newest.order_by(variants.c.id.desc()).limit(1)).first()
            if last is None:
                return []
            query = select(variants).where(self._visible(), variants.c.parent == parent, variants.c.job == last.job)
            query = query if last.job else query.where(variants.c.id == last.id)
            return [_variant(row) for row in connection.execute(query.order_by(variants.c.id))]

    def list(self, parent: str = "", before: str = "", limit: int = 100) -> list[Variant]:
        """Return candidates (of one version's digest, if given), newest first, older than id ``before``."""
        query = select(variants).where(self._visible()).order_by(variants.c.id.desc()).limit(limit)
        if parent:
            query = query.where(variants.c.parent == parent)
        if before:
            query = query.where(variants.c.id < before)
        with self._database.read() as connection:
            return [_variant(row) for row in connection.execute(query)]

    def settings(self, digest: str) -> Mapping[str, Any]:
        """Return how the variant of this digest runs best, as its newest search found; empty if that is not known."""
        query = select(variants.c.settings).where(self._visible(), variants.c.digest == digest)
        query = query.where(variants.c.settings != "{}").order_by(variants.c.id.desc()).limit(1)
        with self._database.read() as connection:
            found = connection.execute(query).scalar()
        return msgspec.json.decode(found) if found else {}

    def _visible(self) -> ColumnElement[bool]:
        return visible(self._database.scope, "variant", variants.c.id)


def best(found: Iterable[Variant], wish: Wish) -> Variant:
    """Return the best of those ``found`` that are registered; raise NoVariant if ``wish`` accepts none."""
    by_digest = {each.digest: each for each in found if each.accepted and each.job and each.comparison is not None}
    return pick([_Registered(each) for each in by_digest.values()], wish).variant


@dataclass(frozen=True, slots=True)
class _Registered:
    variant: Variant

    @property
    def comparison(self) -> Comparison:
        assert self.variant.comparison is not None
        return self.variant.comparison

    def __str__(self) -> str:
        return self.variant.technique


def _row(variant: Variant) -> dict[str, Any]:
    comparison = None if variant.comparison is None else asdict(variant.comparison)
    values = {name: getattr(variant, name) for name in variants.c.keys()}  # noqa: SIM118 - a column collection
    settings = canonical_json(dict(variant.settings)).decode()
    return {**values, "comparison": canonical_json(comparison).decode(), "settings": settings}


def _variant(row: Row[Any]) -> Variant:
    settings = msgspec.json.decode(row.settings)
    return Variant(**{**row._asdict(), "comparison": _comparison(row.comparison), "settings": settings})


def _comparison(stored: str) -> Comparison | None:
    found = msgspec.json.decode(stored)
    if found is None or "quality" in found:
        return msgspec.convert(found, Comparison | None)
    # Of a release that knew accuracy alone, and neither memory nor threads.
    kept = (found["accuracy"], found["parent_accuracy"])
    lost = kept[1] - kept[0]
    return Comparison(
        quality=Quality("accuracy", found["rows"], *kept, lost, lost, found["p_value"], ""),
        size_bytes=found["size_bytes"],
        parent_size_bytes=found["parent_size_bytes"],
        memory_bytes=0,
        parent_memory_bytes=0,
        latencies=tuple(Latency(threads=1, **each) for each in found["latencies"]),
    )
