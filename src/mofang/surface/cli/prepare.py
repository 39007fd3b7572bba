"""`mofang datasets`: the data that recipes have prepared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mofang.base.domain.errors import DatasetNotFound
from mofang.base.domain.names import now_us
from mofang.surface.cli import format, screen
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import topic

if TYPE_CHECKING:
    from mofang.surface.sdk.prepare import Dataset

DATASET_JSON = "digest, name, source, task, splits (rows of each), schema (features, dtype, labels), created_at"

datasets = topic("datasets", "Data sets: what recipes have prepared, by digest.", usual="list")


@datasets.verb("list", example="mofang datasets list", json=f"{{items}}, each: {DATASET_JSON}.")
@click.pass_obj
def list_datasets(session: Session) -> None:
    """List data sets, newest first."""
    found = session.client.prepare.list_datasets()
    now = now_us()
    rows = [
        (d.name, format.short_digest(d.digest), *(_rows(d, split) for split in ("train", "test")), d.source,
         format.ago(d.created_at, now))
        for d in found
    ]  # fmt: skip
    heads = ("data set", "digest", ">train rows", ">test rows", "source", "prepared")
    session.answer_list(
        found, lambda: screen.table(heads, rows, empty="no data yet; `mofang train RECIPE` prepares some")
    )


@datasets.verb("show", example="mofang datasets show 3f9a1c", json=f"One object: {DATASET_JSON}.")
@click.argument("digest")
@click.pass_obj
def show(session: Session, digest: str) -> None:
    """Show one data set; the first characters of its digest are enough."""
    found = _find(session, digest)

    def draw() -> None:
        screen.heading(f"data set {found.name}")
        screen.fields(
            [
                ("digest", found.digest),
                ("source", found.source),
                ("task", found.task),
                *((f"{split} rows", _rows(found, split)) for split in found.splits),
                *((name, _short(value)) for name, value in found.schema.items()),
                ("prepared", format.moment(found.created_at)),
            ]
        )

    session.answer(found, draw)


def _find(session: Session, digest: str) -> Dataset:
    wanted = digest.removeprefix("sha256:")
    if len(wanted) == 64:
        return session.client.prepare.get_dataset(f"sha256:{wanted}")
    found = [d for d in session.client.prepare.list_datasets() if d.digest.removeprefix("sha256:").startswith(wanted)]
    if len(found) != 1:
        problem = "no data set has" if not found else f"{len(found)} data sets have"
        raise DatasetNotFound(
            f"{problem} a digest that starts with {wanted!r}", hint="`mofang datasets list` shows them"
        )
    return found[0]


def _rows(dataset: Dataset, split: str) -> str:
    return format.count(dataset.splits[split]) if split in dataset.splits else "-"


def _short(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return (
            f"{len(value)}: " + ", ".join(map(str, value[:12])) + (" ..." if len(value) > 12 else "") if value else ""
        )
    return str(value)
