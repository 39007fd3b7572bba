"""Data: the datasets that recipes have prepared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mofang.base.domain.work import Job
from mofang.surface.sdk.jobs import Jobs, Submitted
from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.transport import Transport, segment


@dataclass(frozen=True, slots=True)
class Dataset:
    """Prepared data: what it was read from, rows of every split, and the schema of its features and labels."""

    digest: str
    name: str
    source: str
    task: str
    created_at: int
    splits: Mapping[str, int] = field(default_factory=dict)  # split -> rows
    schema: Mapping[str, Any] = field(default_factory=dict)


class Prepare:
    """``client.prepare``."""

    def __init__(self, wire: Transport, jobs: Jobs) -> None:
        self._wire = wire
        self._jobs = jobs

    def run(self, recipe: Path | str, *, filename: str = "") -> Job:
        """Prepare the data of a recipe (a path, or its text) and look at it; return the job.

        The job's result is ``{"dataset", "name", "rows"}``.
        """
        body = recipe_body(recipe, filename)
        return self._jobs.get(self._wire.call("POST", "/runs/prepare", Submitted, body).job)

    def sheet(self, digest: str) -> Mapping[str, Any]:
        """Return a dataset's sheet: rows, columns, classes, duplicates, warnings."""
        return self._wire.get(f"/datasets/{segment(digest)}/sheet", dict[str, Any])

    def sheet_html(self, digest: str) -> str:
        """Return the sheet as a page to look at."""
        return self._wire.text(f"/datasets/{segment(digest)}/sheet.html")

    def list_datasets(self, *, limit: int | None = 100) -> list[Dataset]:
        """Return the newest datasets first."""
        return [*walk(self._wire, "/datasets", Dataset, limit=limit)]

    def get_dataset(self, digest: str) -> Dataset:
        """Return a dataset by its digest."""
        return self._wire.get(f"/datasets/{segment(digest)}", Dataset)


def recipe_body(recipe: Path | str, filename: str) -> dict[str, str]:
    """Return what is sent for a recipe, given as the path of a TOML file or as its text."""
    if isinstance(recipe, Path):
        filename, recipe = filename or recipe.name, recipe.read_text("utf-8")
    return {"recipe": recipe, "filename": filename or "recipe.toml"}
