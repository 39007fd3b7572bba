"""`mofang prepare` and `mofang datasets`: the data that recipes prepare, and what it looks like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mofang.base.domain.errors import DatasetNotFound
from mofang.base.domain.names import now_us
from mofang.surface.cli import format, screen
from mofang.surface.cli.progress import follow_job
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import topic

if TYPE_CHECKING:
    from mofang.surface.sdk.prepare import Dataset

DATASET_JSON = "digest, name, source, task, splits (rows of each), schema (features, dtype, labels), created_at"

SHEET_JSON = (
    "One object: rows, columns (name, kind, missing, distinct, low, high, mean, deviation, values, train, test, drift, "
    "tells), more_columns, classes, target, duplicates, warnings (kind, column, message)."
)

prepare = topic("prepare", "Data of recipes: prepared, and looked at, before anything is trained.", usual="show")


@prepare.verb("run", example="mofang prepare run examples/digits.toml", json="One object: job, dataset, name, rows.")
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def run(session: Session, recipe: Path) -> None:
    """Prepare the data of a recipe and look at it; nothing is trained."""
    job = follow_job(session, session.client.prepare.run(recipe).id)
    result = {"job": job.id, **job.result}

    def draw() -> None:
        screen.heading(f"prepared {result['name']}")
        screen.fields(
            [("digest", result["dataset"]), *((f"{n} rows", format.count(c)) for n, c in result["rows"].items())]
        )
        screen.then(f"mofang prepare show {format.short_digest(result['dataset'])}")

    session.answer(result, draw)


@prepare.verb("show", example="mofang prepare show 3f9a1c --html sheet.html", json=SHEET_JSON)
@click.argument("digest", default="")
@click.option("--html", type=click.Path(path_type=Path), help="Write the sheet there, as a page.")
@click.pass_obj
def show_sheet(session: Session, digest: str, html: Path | None) -> None:
    """Show the sheet of a data set (the newest, if none is named): columns, classes, drift, and warnings."""
    found = _find(session, digest)
    sheet = session.client.prepare.sheet(found.digest)
    session.answer(sheet, lambda: _draw_sheet(found, sheet))
    if html:
        html.write_text(session.client.prepare.sheet_html(found.digest), "utf-8")
        screen.say(f"the sheet is in {html}", err=True)


def _draw_sheet(dataset: Dataset, sheet: Mapping[str, Any]) -> None:
    screen.heading(f"data set {dataset.name}, {format.short_digest(dataset.digest)}")
    equal = sheet["duplicates"]
    rows = [(f"{name} rows", format.count(count)) for name, count in sheet["rows"].items()]
    screen.fields(
        [
            *rows,
            ("repeated", f"{format.count(equal['train'])} of the training rows repeat another"),
            ("in both", f"{format.count(equal['across'])} held-out rows are also trained on"),
            *(("look at", warning["message"]) for warning in sheet["warnings"]),
        ]
    )
    if sheet["classes"]:
        screen.say()
        heads = ("  class", ">train", ">test")
        screen.table(heads, [(f"  {name}", *map(format.count, pair)) for name, pair in sheet["classes"].items()])
    columns = [*([sheet["target"]] if sheet["target"] else []), *sheet["columns"]]
    if columns:
        screen.say()
        titles = ("  column", "kind", ">missing", ">low", ">high", ">mean", ">PSI", ">p", ">tells")
        screen.table(titles, [tuple(_cells(column)) for column in columns])
    if sheet["more_columns"]:
        screen.say(f"  and {format.count(sheet['more_columns'])} more columns")


def _cells(column: Mapping[str, Any]) -> Iterator[str]:
    drift, is_category = column["drift"], column["kind"] == "category"
    yield f"  {column['name']}"
    yield f"{column['distinct']} categories" if is_category else column["kind"]
    yield f"{column['missing'][0]:.1%}" if any(column["missing"]) else "-"
    for name in ("low", "high", "mean"):
        yield "-" if is_category else f"{column[name]:.4g}"
    yield f"{drift['psi']:.3f}" if drift else "-"
    yield f"{drift['p']:.2g}" if drift else "-"
    yield f"{column['tells']:.2f}" if column["tells"] else "-"


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
        screen.then(f"mofang prepare show {format.short_digest(found.digest)}")

    session.answer(found, draw)


def _find(session: Session, digest: str) -> Dataset:
    wanted = digest.removeprefix("sha256:")
    if not wanted:
        newest = session.client.prepare.list_datasets(limit=1)
        if not newest:
            raise DatasetNotFound("no data was prepared yet", hint="`mofang prepare run RECIPE` prepares some")
        return newest[0]
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
