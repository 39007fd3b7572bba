"""Datasets: what recipes have prepared."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter
from starlette.responses import Response

from mofang.base.domain.errors import DatasetNotFound
from mofang.make.evaluate.data import sheet_html
from mofang.make.prepare.dataset import Dataset, Schema
from mofang.make.prepare.sheet import Sheet
from mofang.make.prepare.store import DatasetStore
from mofang.surface.api.access import Route, table
from mofang.surface.api.fields import Id, Limit, Page

_HTML = {"response_class": Response, "responses": {200: {"content": {"text/html": {}}}}}
_STILL = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:"}


@dataclass(frozen=True, slots=True)
class DatasetView:
    """A dataset; ``splits`` gives the rows of each."""

    digest: str
    name: str
    source: str
    task: str
    splits: dict[str, int]
    schema: Schema
    removed: dict[str, int]
    created_at: int


class Prepare:
    """The routes of `prepare`."""

    def __init__(self, datasets: DatasetStore) -> None:
        self._datasets = datasets

    def list_datasets(self, limit: Limit = 100) -> Page[DatasetView]:
        """List datasets, newest first."""
        return Page(items=[_view(dataset) for dataset in self._datasets.list(limit)])

    def get_dataset(self, digest: Id) -> DatasetView:
        """Return a dataset by its digest."""
        return _view(self._datasets.get(digest))

    def get_sheet(self, digest: Id) -> Sheet:
        """Return a dataset's sheet: columns, classes, duplicates, drift, warnings."""
        found = self._datasets.find_sheet(digest)
        if found is None:
            raise DatasetNotFound(
                f"dataset {digest!r} was prepared before data was looked at", hint="prepare it again: same recipe"
            )
        return found

    def get_sheet_page(self, digest: Id) -> Response:
        """Return the sheet as a page to look at."""
        dataset = self._datasets.get(digest)
        text = sheet_html(dataset, self.get_sheet(digest))
        return Response(text, media_type="text/html; charset=utf-8", headers=_STILL)


def router(datasets: DatasetStore) -> APIRouter:
    """Make the router of `prepare`."""
    api = Prepare(datasets)
    return table(
        "prepare",
        Route("GET", "/datasets", "read", api.list_datasets),
        Route("GET", "/datasets/{digest}", "read", api.get_dataset),
        Route("GET", "/datasets/{digest}/sheet", "read", api.get_sheet),
        Route("GET", "/datasets/{digest}/sheet.html", "read", api.get_sheet_page, options=_HTML),
    )


def _view(dataset: Dataset) -> DatasetView:
    return DatasetView(
        digest=dataset.digest,
        name=dataset.name,
        source=dataset.source,
        task=dataset.task,
        splits={name: split.rows for name, split in dataset.splits.items()},
        schema=dataset.schema,
        removed=dict(dataset.removed),
        created_at=dataset.created_at,
    )
