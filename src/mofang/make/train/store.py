"""The training runs the platform knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from mofang.base.storage.database import Database

RunState = Literal["running", "succeeded", "failed", "cancelled"]


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


class RunStore:
    """Training runs by id. A run is immutable to its readers; its job saves it again at every stage."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, run: TrainingRun) -> TrainingRun:
        """Insert ``run``, or replace the one of the same id; return it. Ids: ``names.new_id("run")``."""
        raise NotImplementedError

    def get(self, run_id: str) -> TrainingRun:
        """Return the run; raise RunNotFound."""
        raise NotImplementedError

    def find_by_job(self, job_id: str) -> TrainingRun | None:
        """Return the run a job made, if it made one (a job that starts again goes on with it)."""
        raise NotImplementedError

    def list(self, before: str = "", limit: int = 100) -> list[TrainingRun]:
        """Return runs, newest first; those older than the id ``before`` if one is given."""
        raise NotImplementedError
