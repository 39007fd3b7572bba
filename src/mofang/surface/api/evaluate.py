"""Evaluations: measure a version, look at reports, pictures and cards."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from mofang.base.domain.errors import EvaluationNotFound, InvalidRequest, VersionNotFound
from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import ModelVersion
from mofang.base.jobs.store import JobStore
from mofang.make.evaluate.card import model_card
from mofang.make.evaluate.gate import parse_gate
from mofang.make.evaluate.page import report_html
from mofang.make.evaluate.picture import confusion_svg
from mofang.make.evaluate.report import Report, Scores
from mofang.make.evaluate.store import Evaluation, EvaluationStore
from mofang.make.register.store import Registry
from mofang.surface.api.access import Caller, Route, table
from mofang.surface.api.changes import Changes
from mofang.surface.api.fields import (
    STILL,
    AfterId,
    Body,
    Id,
    Limit,
    OptionalReference,
    Page,
    Reference,
    Submitted,
    Text,
    page,
)

_SVG = {"response_class": Response, "responses": {200: {"content": {"image/svg+xml": {}}}}}
_HTML = {"response_class": Response, "responses": {200: {"content": {"text/html": {}}}}}
_CARD = {"response_class": Response, "responses": {200: {"content": {"text/markdown": {}}}}}


class EvaluationBody(Body):
    """What to evaluate: a version, on a dataset (empty: the one it came from), against a gate (empty: none).

    ``against``: another version of the model to compare with; ``slices``: columns to tell apart.
    """

    version: Reference
    dataset: Text = Field("", max_length=100)
    gate: Text = Field("", max_length=1000)
    against: OptionalReference = ""
    slices: list[Text] = Field(default_factory=list, max_length=20)


class EvaluationView(BaseModel):
    """An evaluation; ``version`` is empty if the artifact was not registered, because its gate failed."""

    id: str
    model: str
    version: str
    digest: str
    dataset: str
    gate: str
    passed: bool
    metrics: dict[str, float]
    report: Report
    created_at: int


class Evaluate:
    """The routes of `evaluate`."""

    def __init__(self, evaluations: EvaluationStore, registry: Registry, jobs: JobStore, changes: Changes) -> None:
        self._evaluations = evaluations
        self._registry = registry
        self._jobs = jobs
        self._changes = changes

    def start_evaluation(self, body: EvaluationBody, who: Caller) -> Submitted:
        """Evaluate a version, as a job."""
        version = self._registry.get(VersionRef.parse(body.version))
        if body.gate:
            parse_gate(body.gate)
        if body.against and self._registry.get(VersionRef.parse(body.against)).model != version.model:
            raise InvalidRequest(f"{body.against!r} is no version of {version.model!r}: only such can be compared")
        owner = self._registry.owner(version.model)
        with self._changes.record(who, "evaluation.start", str(version), of=owner, before=None) as entry:
            spec = {**body.model_dump(), "version": str(version)}
            job = self._jobs.submit("evaluate", spec, who.key_id, owner)
            entry.after = {"job": job.id}
        return Submitted(job=job.id)

    def list_evaluations(
        self, version: OptionalReference = "", after: AfterId = "", limit: Limit = 100
    ) -> Page[EvaluationView]:
        """List evaluations, newest first; of one version, if ``version`` (MODEL[@VERSION]) is given."""
        digest = self._registry.get(VersionRef.parse(version)).digest if version else ""
        found = self._evaluations.list(digest, after, limit + 1)
        return page([self._view(one) for one in found], limit, lambda one: one.id)

    def get_evaluation(self, evaluation: Id) -> EvaluationView:
        """Return an evaluation by its id."""
        return self._view(self._evaluations.get(evaluation))

    def get_confusion_matrix(self, evaluation: Id) -> Response:
        """Return the confusion matrix as a picture."""
        scores = self._evaluations.get(evaluation).report.scores
        if not isinstance(scores, Scores):
            hint = f"its residuals are in the report: /api/v1/evaluations/{evaluation}"
            raise EvaluationNotFound(
                f"evaluation {evaluation!r} is of numbers: there is no confusion matrix", hint=hint
            )
        return Response(confusion_svg(scores), media_type="image/svg+xml", headers=STILL)

    def get_model_card(self, evaluation: Id) -> Response:
        """Return the model card as Markdown."""
        found = self._evaluations.get(evaluation)
        if (version := self._version(found)) is None:
            hint = f"its report is at /api/v1/evaluations/{evaluation}"
            raise VersionNotFound(f"evaluation {evaluation!r} is of an artifact that was not registered", hint=hint)
        card = model_card(version, found.dataset, found.report)
        return Response(card, media_type="text/markdown; charset=utf-8")

    def get_report(self, evaluation: Id) -> Response:
        """Return the whole report as a page to look at."""
        found = self._evaluations.get(evaluation)
        page = report_html(str(self._version(found) or found.model), found.dataset, found.report)
        return Response(page, media_type="text/html; charset=utf-8", headers=STILL)

    def _version(self, evaluation: Evaluation) -> ModelVersion | None:
        found = self._registry.find_digest(evaluation.digest)
        return next((version for version in found if version.model == evaluation.model), None)

    def _view(self, evaluation: Evaluation) -> EvaluationView:
        report = evaluation.report
        return EvaluationView(
            id=evaluation.id,
            model=evaluation.model,
            version=str(self._version(evaluation) or ""),
            digest=evaluation.digest,
            dataset=evaluation.dataset,
            gate=report.gate,
            passed=report.passed,
            metrics=report.metrics,
            report=report,
            created_at=evaluation.created_at,
        )


def router(evaluations: EvaluationStore, registry: Registry, jobs: JobStore, changes: Changes) -> APIRouter:
    """Make the router of `evaluate`."""
    api = Evaluate(evaluations, registry, jobs, changes)
    one = "/evaluations/{evaluation}"
    return table(
        "evaluate",
        Route("POST", "/evaluations", "make", api.start_evaluation, 202),
        Route("GET", "/evaluations", "read", api.list_evaluations),
        Route("GET", one, "read", api.get_evaluation),
        Route("GET", f"{one}/confusion.svg", "read", api.get_confusion_matrix, options=_SVG),
        Route("GET", f"{one}/report.html", "read", api.get_report, options=_HTML),
        Route("GET", f"{one}/card.md", "read", api.get_model_card, options=_CARD),
    )
