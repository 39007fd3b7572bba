"""The training runs the platform knows."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import msgspec
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Float,
    Row,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    text,
    update,
)

from mofang.base.domain.errors import RunNotFound
from mofang.base.storage.database import Database, metadata
from mofang.base.storage.owners import claim, visible

RunState = Literal["running", "succeeded", "failed", "cancelled"]

runs = Table(
    "runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("job", String(64), nullable=False, index=True),
    Column("recipe_name", String(63), nullable=False),
    Column("recipe_digest", String(71), nullable=False),
    Column("recipe", Text, nullable=False),
    Column("algorithm", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("dataset", String(71), nullable=False),
    Column("curve", JSON, nullable=False),
    Column("artifact", String(71), nullable=False),
    Column("conversion", JSON, nullable=False),
    Column("evaluation", String(64), nullable=False),
    Column("version", String(128), nullable=False),
    Column("seconds", Float, nullable=False),
    Column("code", String(255), nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("error", JSON, nullable=False),
    Column("network", String(64), nullable=False, server_default=text("''")),
    Column("provenance", JSON, nullable=False, server_default="{}"),
    Column("estimate", JSON, nullable=False, server_default="{}"),
    Column("trials", JSON, nullable=False, server_default="[]"),
)
quotes = Table(
    "quotes",
    metadata,
    Column("recipe_digest", String(71), primary_key=True),
    Column("estimate", JSON, nullable=False),
)


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One attempt to make a model from a recipe, and everything that came of it. Empty: not reached yet."""

    id: str
    job: str
    recipe_name: str
    recipe_digest: str
    recipe: str  # the text
    algorithm: str
    state: RunState
    created_at: int
    dataset: str = ""  # digest
    curve: tuple[dict[str, float], ...] = ()
    artifact: str = ""  # digest
    conversion: dict[str, Any] = field(default_factory=dict)  # the parity proof
    evaluation: str = ""  # id
    version: str = ""  # model@number
    seconds: float = 0.0  # of training alone
    code: str = ""  # versions of mofang and of the framework
    ended_at: int = 0
    error: dict[str, Any] = field(default_factory=dict)  # code, message, hint
    network: str = ""  # SHA-256 (hex) of the blob with architecture and weights, of a network that was trained here
    provenance: dict[str, Any] = field(default_factory=dict)  # machine, packages
    estimate: dict[str, Any] = field(default_factory=dict)  # what was expected before, and what came
    trials: tuple[dict[str, Any], ...] = ()  # of a search: keys that were tried, and what they gave


class RunStore:
    """Training runs by id. A run is immutable to its readers; its job saves it again at every stage."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, run: TrainingRun) -> TrainingRun:
        """Insert ``run``, or replace the one of the same id; return it. Ids: ``names.new_id("run")``."""
        values = asdict(run)
        with self._database.write() as connection:
            changed = connection.execute(update(runs).where(runs.c.id == run.id).values(values))
            if changed.rowcount == 0:
                connection.execute(insert(runs).values(values))
                claim(connection, self._database.scope, "run", run.id)
        return run

    def get(self, run_id: str) -> TrainingRun:
        """Return the run; raise RunNotFound."""
        with self._database.read() as connection:
            row = connection.execute(select(runs).where(runs.c.id == run_id, self._visible())).one_or_none()
        if row is None:
            raise RunNotFound(f"no run has the id {run_id!r}")
        return _run(row)

    def keep_quote(self, recipe_digest: str, estimate: dict[str, Any]) -> None:
        """Remember what a recipe is expected to take, in place of what was expected before."""
        with self._database.write() as connection:
            connection.execute(delete(quotes).where(quotes.c.recipe_digest == recipe_digest))
            connection.execute(insert(quotes).values(recipe_digest=recipe_digest, estimate=estimate))

    def find_quote(self, recipe_digest: str) -> dict[str, Any]:
        """Return what a recipe is expected to take; empty if nobody asked."""
        with self._database.read() as connection:
            found = connection.scalar(select(quotes.c.estimate).where(quotes.c.recipe_digest == recipe_digest))
        return dict(found or {})

    def find_by_job(self, job_id: str) -> TrainingRun | None:
        """Return the run a job made last, if it made one (a job that starts again goes on with it)."""
        query = select(runs).where(runs.c.job == job_id).order_by(runs.c.id.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _run(row)

    def list(self, before: str = "", limit: int = 100) -> list[TrainingRun]:
        """Return runs, newest first; those older than the id ``before`` if one is given."""
        query = select(runs).where(self._visible()).order_by(runs.c.id.desc()).limit(limit)
        if before:
            query = query.where(runs.c.id < before)
        with self._database.read() as connection:
            return [_run(row) for row in connection.execute(query)]

    def _visible(self) -> ColumnElement[bool]:
        return visible(self._database.scope, "run", runs.c.id)


def _run(row: Row[tuple[object, ...]]) -> TrainingRun:
    return msgspec.convert(row, TrainingRun, from_attributes=True)
