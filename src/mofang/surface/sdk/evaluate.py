"""Evaluation: measure a version on held-out data, look at reports, pictures and model cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mofang.base.domain.work import Job
from mofang.surface.sdk.jobs import Jobs, Submitted
from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.transport import Transport, segment


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A report on one version (or on a candidate its gate refused), and whether it passed its gate."""

    id: str
    model: str
    digest: str  # of the artifact
    version: str  # model@number; empty for a candidate that was not registered
    dataset: str  # digest
    report: Mapping[str, Any]  # scores (with classes and confusion), seconds, gate, failures
    created_at: int
    gate: str = ""
    passed: bool = True
    metrics: Mapping[str, float] = field(default_factory=dict)


class Evaluate:
    """``client.evaluate``."""

    def __init__(self, wire: Transport, jobs: Jobs) -> None:
        self._wire = wire
        self._jobs = jobs

    def run(
        self, version: str, *, dataset: str = "", gate: str = "", against: str = "", slices: Sequence[str] = ()
    ) -> Job:
        """Evaluate ``MODEL@VERSION`` (on the data it came from, if ``dataset`` is left out); return the job.

        ``against`` names another version of the model to compare with, ``slices`` columns to tell apart.

        The job's result is ``{"evaluation", "passed"}``.
        """
        body = {"version": version, "dataset": dataset, "gate": gate, "against": against, "slices": [*slices]}
        return self._jobs.get(self._wire.call("POST", "/evaluations", Submitted, body).job)

    def list_evaluations(self, version: str | None = None, *, limit: int | None = 100) -> list[Evaluation]:
        """Return the newest evaluations first, of one ``MODEL@VERSION`` if given."""
        return [*walk(self._wire, "/evaluations", Evaluation, {"version": version}, limit=limit)]

    def get_evaluation(self, evaluation: str) -> Evaluation:
        """Return an evaluation by its id."""
        return self._wire.get(f"/evaluations/{segment(evaluation)}", Evaluation)

    def confusion_svg(self, evaluation: str) -> str:
        """Return the confusion matrix as an SVG picture."""
        return self._wire.text(f"/evaluations/{segment(evaluation)}/confusion.svg")

    def report_html(self, evaluation: str) -> str:
        """Return the whole report as a page to look at."""
        return self._wire.text(f"/evaluations/{segment(evaluation)}/report.html")

    def model_card(self, evaluation: str) -> str:
        """Return the model card as Markdown."""
        return self._wire.text(f"/evaluations/{segment(evaluation)}/card.md")
