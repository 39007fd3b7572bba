"""Training: hand in a recipe, look at runs and their curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mofang.base.domain.work import Job
from mofang.surface.sdk.jobs import Jobs, Submitted
from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.prepare import recipe_body
from mofang.surface.sdk.transport import Transport, segment


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One training: the recipe it followed, the curve it drew, and what became of it."""

    id: str
    job: str
    recipe_name: str
    recipe_digest: str
    recipe: str  # its text
    algorithm: str
    state: Literal["running", "succeeded", "failed", "cancelled"]
    created_at: int
    dataset: str = ""  # digest
    curve: list[dict[str, float]] = field(default_factory=list)  # epoch, loss, accuracy, seconds
    artifact: str = ""  # digest
    conversion: Mapping[str, Any] = field(default_factory=dict)  # the parity proof
    evaluation: str = ""  # id
    version: str = ""  # model@number
    seconds: float = 0.0  # of training alone
    code: str = ""
    error: Mapping[str, Any] = field(default_factory=dict)  # code, message, hint
    ended_at: int = 0
    network: str = ""  # SHA-256 of the blob with the architecture and the weights of a network
    provenance: Mapping[str, Any] = field(default_factory=dict)  # machine, packages
    estimate: Mapping[str, Any] = field(default_factory=dict)  # what was expected before, and what came
    trials: list[Mapping[str, Any]] = field(default_factory=list)  # of a search: what was tried, and what it gave


class Train:
    """``client.train``."""

    def __init__(self, wire: Transport, jobs: Jobs) -> None:
        self._wire = wire
        self._jobs = jobs

    def run(self, recipe: Path | str, *, filename: str = "") -> Job:
        """Start a recipe, given as the path of a TOML file or as its text; return the job.

        The job's result is ``{"run", "model", "version", "digest", "created", "evaluation"}``.
        """
        return self._submit("/runs", recipe, filename)

    def quote(self, recipe: Path | str, *, filename: str = "") -> Job:
        """Start finding out what a recipe takes, without making a model; return the job.

        Its result is ``{"seconds", "memory_bytes", "parameters", "model_bytes", "rows", "length", "dataset",
        "calibration_seconds"}``.
        """
        return self._submit("/runs/quote", recipe, filename)

    def _submit(self, path: str, recipe: Path | str, filename: str) -> Job:
        return self._jobs.get(self._wire.call("POST", path, Submitted, recipe_body(recipe, filename)).job)

    def list_runs(self, *, limit: int | None = 100) -> list[TrainingRun]:
        """Return the newest runs first."""
        return [*walk(self._wire, "/runs", TrainingRun, limit=limit)]

    def get_run(self, run: str) -> TrainingRun:
        """Return a run by its id."""
        return self._wire.get(f"/runs/{segment(run)}", TrainingRun)
