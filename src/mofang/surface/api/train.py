"""Training runs: hand in a recipe, look at what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter
from pydantic import Field

from mofang.base.domain.errors import CodeForbidden, SourceForbidden
from mofang.base.jobs.store import JobStore
from mofang.make.evaluate.gate import parse_gate
from mofang.make.recipe import Recipe, parse_recipe
from mofang.make.register.store import Registry
from mofang.make.train.store import RunStore, TrainingRun
from mofang.surface.api.access import Caller, Route, table
from mofang.surface.api.changes import Changes
from mofang.surface.api.fields import AfterId, Body, Id, Limit, Page, Submitted, Text, page

_ANYBODYS = ("sklearn", "http", "https")  # no files of the server; what is fetched must be on a public address


class RecipeBody(Body):
    """A recipe, as the text of its TOML file, and the name to call the file in messages."""

    recipe: Text = Field(max_length=1 << 20)
    filename: Text = Field("recipe.toml", max_length=255)


class Train:
    """The routes of `train`."""

    def __init__(
        self, runs: RunStore, registry: Registry, jobs: JobStore, changes: Changes, folders: Sequence[Path]
    ) -> None:
        self._folders = [folder.resolve() for folder in folders]
        self._runs = runs
        self._registry = registry
        self._jobs = jobs
        self._changes = changes

    def start_run(self, body: RecipeBody, who: Caller) -> Submitted:
        """Check a recipe as a whole, and start it as a job."""
        recipe = self._checked(body, who)
        return self._submit("train", "run.start", recipe.name, body, who)

    def quote_run(self, body: RecipeBody, who: Caller) -> Submitted:
        """Check a recipe as a whole, and start a job that finds out what training it will take."""
        recipe = self._checked(body, who)
        return self._submit("quote", "run.quote", recipe.name, body, who)

    def prepare_data(self, body: RecipeBody, who: Caller) -> Submitted:
        """Check a recipe as a whole, and start a job that prepares its data and looks at it."""
        recipe = self._checked(body, who)
        return self._submit("prepare", "data.prepare", recipe.name, body, who)

    def list_runs(self, after: AfterId = "", limit: Limit = 100) -> Page[TrainingRun]:
        """List runs, newest first."""
        return page(self._runs.list(after, limit + 1), limit, lambda run: run.id)

    def get_run(self, run: Id) -> TrainingRun:
        """Return a run by its id."""
        return self._runs.get(run)

    def _submit(self, kind: str, action: str, name: str, body: RecipeBody, who: Caller) -> Submitted:
        owner = self._registry.owner(name)
        with self._changes.record(who, action, name, of=owner, before=None) as entry:
            job = self._jobs.submit(kind, body.model_dump(), who.key_id, owner)
            entry.after = {"job": job.id}
        return Submitted(job=job.id)

    def _checked(self, body: RecipeBody, who: Caller) -> Recipe:
        recipe = parse_recipe(body.recipe, body.filename, check_gate=parse_gate)
        if not who.may("operate") or who.reach != "platform":
            if recipe.train.runs_code:
                raise CodeForbidden(
                    f"a key of this role may not send code, as algorithm {recipe.train.algorithm!r} does"
                )
            self._check_sources(recipe.prepare.sources)
        return recipe

    def _check_sources(self, sources: Sequence[str]) -> None:
        """Raise SourceForbidden for a file outside of the folders that anybody's recipe may read."""
        for source in sources:
            kind, _, place = source.partition(":")
            path = Path(place).resolve()
            if kind not in _ANYBODYS and not any(path.is_relative_to(folder) for folder in self._folders):
                raise SourceForbidden(f"a key of this role may not read {source!r}")


def router(runs: RunStore, registry: Registry, jobs: JobStore, changes: Changes, folders: Sequence[Path]) -> APIRouter:
    """Make the router of `train`; ``folders`` hold the files that recipes of everybody may read."""
    api = Train(runs, registry, jobs, changes, folders)
    return table(
        "train",
        Route("POST", "/runs", "make", api.start_run, 202),
        Route("POST", "/runs/quote", "make", api.quote_run, 202),
        Route("POST", "/runs/prepare", "make", api.prepare_data, 202),
        Route("GET", "/runs", "read", api.list_runs),
        Route("GET", "/runs/{run}", "read", api.get_run),
    )
