"""Evaluations, kept: one row each, with the whole report as JSON.

Called by the pipeline (writes) and the control API (reads). Pictures and cards are made from the stored report.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

import msgspec
from sqlalchemy import BigInteger, Column, ColumnElement, Row, String, Table, Text, insert, select

from mofang.base.domain.errors import EvaluationNotFound
from mofang.base.domain.names import new_id, now_us
from mofang.base.domain.registry import canonical_json
from mofang.base.storage.database import Database, metadata
from mofang.base.storage.owners import claim, visible
from mofang.make.evaluate.report import (
    AnyScores,
    LabelScores,
    LanguageScores,
    RegressionScores,
    Report,
    RetrievalScores,
    Scores,
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("model", String(63), nullable=False),
    Column("digest", String(80), nullable=False, index=True),
    Column("dataset", String(80), nullable=False),
    Column("report", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

_TELLING: dict[str, type[AnyScores]] = {
    "accuracy": Scores,
    "hamming_loss": LabelScores,
    "mrr": RetrievalScores,
    "perplexity": LanguageScores,
}
"""What kind of scores a field is of."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A report on an artifact (``digest``: the artifact may not be registered, if its gate failed) and a dataset."""

    id: str
    model: str
    digest: str
    dataset: str  # digest
    report: Report
    created_at: int


class EvaluationStore:
    """The table ``evaluations``; rows are never changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, model: str, digest: str, dataset: str, report: Report) -> Evaluation:
        """Keep ``report`` and return it with its id."""
        evaluation = Evaluation(new_id("eval"), model, digest, dataset, report, now_us())
        with self._database.write() as connection:
            connection.execute(
                insert(evaluations).values(
                    id=evaluation.id,
                    model=model,
                    digest=digest,
                    dataset=dataset,
                    report=canonical_json(asdict(report)).decode(),
                    created_at=evaluation.created_at,
                )
            )
            claim(connection, self._database.scope, "evaluation", evaluation.id)
        return evaluation

    def get(self, evaluation_id: str) -> Evaluation:
        """Return the evaluation; raise EvaluationNotFound."""
        with self._database.read() as connection:
            query = select(evaluations).where(evaluations.c.id == evaluation_id, self._visible())
            row = connection.execute(query).first()
        if row is None:
            raise EvaluationNotFound(
                f"there is no evaluation {evaluation_id!r}", hint="`mofang evaluate MODEL@VERSION` makes one"
            )
        return _evaluation(row)

    def list(self, digest: str = "", before: str = "", limit: int = 100) -> list[Evaluation]:
        """Return evaluations (of one artifact, if ``digest`` is given), newest first, older than id ``before``."""
        query = select(evaluations).where(self._visible()).order_by(evaluations.c.id.desc()).limit(limit)
        if digest:
            query = query.where(evaluations.c.digest == digest)
        if before:
            query = query.where(evaluations.c.id < before)
        with self._database.read() as connection:
            return [_evaluation(row) for row in connection.execute(query)]

    def _visible(self) -> ColumnElement[bool]:
        return visible(self._database.scope, "evaluation", evaluations.c.id)


def _evaluation(row: Row[Any]) -> Evaluation:
    told = msgspec.json.decode(row.report)
    found = told.pop("scores")
    kind = next((kind for name, kind in _TELLING.items() if name in found), RegressionScores)
    scores = msgspec.convert(found, kind)
    kinds = get_type_hints(Report)
    rest = {name: msgspec.convert(value, kinds[name]) for name, value in told.items()}
    return Evaluation(row.id, row.model, row.digest, row.dataset, Report(scores, **rest), row.created_at)
