"""A data sheet as one page people want to look at: HTML with its pictures inside, no script, no other file.

Called by the control API, from what is stored; it is here, beside the page of reports, since both look alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from mofang.make.evaluate.page import STYLE
from mofang.make.prepare.dataset import Dataset
from mofang.make.prepare.sheet import ColumnSheet, Sheet

_WIDTH, _HEIGHT = 180, 44  # of a column's picture, in px


def sheet_html(dataset: Dataset, sheet: Sheet) -> str:
    """Write the page of ``sheet``."""
    rows = ", ".join(f"{count:,} {name}" for name, count in sheet.rows.items())
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{escape(dataset.name)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(dataset.name)}</h1>",
        f'<p class="soft">{escape(dataset.source)}; rows: {rows}; {escape(dataset.digest[:19])}</p>',
        *_warnings(sheet),
        *_removed(dataset),
        *_classes(sheet),
        *([_table("Target", [sheet.target])] if sheet.target else []),
        *([_table("Columns", sheet.columns)] if sheet.columns else []),
        *([f'<p class="soft">and {sheet.more_columns:,} more columns</p>'] if sheet.more_columns else []),
        '<p class="soft">Bars: training rows; the line: held-out rows.</p>' if sheet.columns or sheet.target else "",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _warnings(sheet: Sheet) -> Iterator[str]:
    for warning in sheet.warnings:
        yield f'<div class="verdict bad"><b>{escape(warning.kind)}</b>: {escape(warning.message)}</div>'
    if not sheet.warnings:
        yield '<div class="verdict good">Nothing about these rows looks suspicious.</div>'


def _removed(dataset: Dataset) -> Iterator[str]:
    if dataset.removed:
        told = "; ".join(f"{count:,} {escape(reason)}" for reason, count in dataset.removed.items())
        yield f"<p>Left out: {told}.</p>"


def _classes(sheet: Sheet) -> Iterator[str]:
    if not sheet.classes:
        return
    most = max(pair[0] for pair in sheet.classes.values()) or 1
    yield "<h2>Classes</h2><table><tr><th>class</th><th></th><th>training rows</th><th>held-out rows</th></tr>"
    for label, (train, test) in sheet.classes.items():
        bar = f'<span class="bar" style="--w:{100 * train / most:.0f}%"></span>'
        yield f"<tr><td>{escape(label)}</td><td>{bar}</td><td>{train:,}</td><td>{test:,}</td></tr>"
    yield "</table>"


def _table(title: str, columns: Sequence[ColumnSheet]) -> str:
    heads = ("column", "kind", "missing", "range", "mean", "deviation", "PSI", "p", "tells", "")
    head = "".join(f"<th>{each}</th>" for each in heads)
    return "\n".join([f"<h2>{title}</h2><table><tr>{head}</tr>", *map(_row, columns), "</table>"])


def _row(column: ColumnSheet) -> str:
    has_range = column.kind != "category"
    cells = [
        escape(column.name),
        column.kind,
        f"{column.missing[0]:.1%}" if any(column.missing) else "-",
        f"{column.low:.6g} to {column.high:.6g}" if has_range else f"{column.distinct:,} values",
        f"{column.mean:.4g}" if has_range else "-",
        f"{column.deviation:.4g}" if has_range else "-",
        f"{column.drift.psi:.3f}" if column.drift else "-",
        f"{column.drift.p:.2g}" if column.drift else "-",
        f"{column.tells:.2f}" if column.tells else "-",
        _picture(column),
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _picture(column: ColumnSheet) -> str:
    """Draw both distributions, each as shares of its own rows."""
    if not sum(column.train):
        return ""
    shares = [[count / max(sum(counts), 1) for count in counts] for counts in (column.train, column.test)]
    most, step = max(map(max, shares)) or 1.0, _WIDTH / len(column.train)
    heights = [[share / most * (_HEIGHT - 4) for share in each] for each in shares]
    named = column.values or [""] * len(column.train)
    bars = "".join(
        f'<rect x="{index * step:.1f}" y="{_HEIGHT - high:.1f}" width="{step - 1:.1f}" height="{high:.1f}"'
        f' fill="#1f6feb" fill-opacity=".55"><title>{escape(named[index])} {column.train[index]:,}</title></rect>'
        for index, high in enumerate(heights[0])
    )
    line = " ".join(f"{(i + 0.5) * step:.1f},{_HEIGHT - high:.1f}" for i, high in enumerate(heights[1]))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img"'
        f' aria-label="distribution of {escape(column.name)}">{bars}'
        f'<polyline points="{line}" fill="none" stroke="#d1242f" stroke-width="1.5"/></svg>'
    )
