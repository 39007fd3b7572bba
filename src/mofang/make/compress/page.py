"""All that a search measured as one page: the picture of the front and a table, no script, no other file.

Called by the control API, from what is stored; nothing is drawn before somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from mofang.make.compress.compare import Comparison
from mofang.make.compress.pick import points
from mofang.make.compress.picture import front_svg
from mofang.make.compress.store import Variant
from mofang.make.evaluate.page import STYLE

_MORE = """
.picked { font-weight: 600; } td.left { text-align: left; } tr.off td { color: var(--soft); }
.point { fill: var(--soft); fill-opacity: .35; stroke: var(--soft); } .best { fill: var(--bar); stroke: var(--bar); }
.chosen { fill: var(--good); stroke: var(--good); fill-opacity: .55; } .line { stroke: var(--bar); fill: none; }
.limit { stroke: var(--bad); stroke-dasharray: 4 4; }
"""

_TOKEN_TIMES = ("first token", "next token, one stream", "tokens, many streams")
_TIMES = ("one row, 1 thread", "one row, all cores", "many rows, 1 thread", "many rows, all cores")


def variants_html(version: str, found: Sequence[Variant]) -> str:
    """Write the page of the candidates of one search on ``version``."""
    compared = [each for each in found if each.comparison is not None]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>Variants of {_text(version)}</title><style>{STYLE}{_MORE}</style></head><body>",
        f"<h1>Variants of {_text(version)}</h1>",
        f'<p class="soft">{len(found)} candidates, {len(compared)} of them measured beside the original, in turns</p>',
        *_verdict(version, found),
        *([f'<div class="pictures">{front_svg(compared)}</div>'] if compared else []),
        *_table(compared),
        *_refused([each for each in found if each.comparison is None]),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _verdict(version: str, found: Sequence[Variant]) -> Iterator[str]:
    picked = next((each for each in found if each.is_picked), None)
    if picked is None or picked.comparison is None:
        yield '<div class="verdict bad"><b>None was good enough</b>: nothing was registered</div>'
        return
    name = f"{version}+{picked.technique}"
    yield f'<div class="verdict good"><b>{_text(name)}</b>: {_text(picked.told)}</div>'
    yield '<div class="tiles">'
    compared = picked.comparison
    what = "token" if compared.first else "row"
    tiles = [
        ("size", f"{1 / compared.size_ratio:.1f}x smaller", f"{compared.size_bytes / 1e6:.3g} MB"),
        (f"one {what}", f"{1 / compared.one.ratio:.1f}x faster", f"{compared.one.median_us / 1e3:.3g} ms"),
        (f"many {what}s", f"{1 / compared.many.ratio:.1f}x faster", f"{compared.many.rows_per_second:,.0f} {what}s/s"),
        (compared.quality.metric, f"{points(compared.drop)} points", _between(compared)),
        ("answers", compared.quality.parity or "not compared", "beside the original's"),
    ]
    if settings := picked.settings:
        rows = f"{settings['rows_per_second']:,.0f} rows/s"
        tiles.append(("runs best with", rows, _setting(settings)))
    for name, value, beside in tiles:
        yield f'<div class="tile"><span>{_text(name)}</span><b>{_text(value)}</b><span>{_text(beside)}</span></div>'
    yield "</div>"


def _table(compared: Sequence[Variant]) -> Iterator[str]:
    if not compared:
        return
    speaks = any(each.comparison and each.comparison.first for each in compared)
    heads = (
        "steps",
        "quality",
        "change, points",
        "95 %",
        "p",
        "size",
        *(_TOKEN_TIMES if speaks else _TIMES),
        "memory",
        "",
    )
    yield "<h2>What was measured</h2><table><tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"
    for each in compared:
        found = each.comparison
        assert found is not None
        word = "picked" if each.is_picked else "front" if each.is_front else "off"
        cells = (
            f"{found.quality.value:.4f}",
            points(found.drop),
            _between(found),
            f"{found.quality.p_value:.2g}",
            f"{found.size_bytes / 1e6:.3g} MB ({1 / found.size_ratio:.1f}x)",
            *_times(found),
            f"{found.memory_bytes / 1e6:.0f} MB" if found.memory_bytes else "",
        )
        said = "registered" if each.accepted else each.refusal
        yield f'<tr class="{word}"><td>{_text(each.told)}</td>' + "".join(f"<td>{cell}</td>" for cell in cells)
        yield f'<td class="left">{_text(said)}</td></tr>'
    yield "</table>"


def _times(found: Comparison) -> Iterator[str]:
    """Say the times of the columns: of one milliseconds, of many how many in a second."""
    one, one_on_all, *many = found.shown
    timed = (one, one_on_all) if found.first is None else (found.first, one)
    for each in timed:
        yield f"{each.median_us / 1e3:.3g} ms ({1 / each.ratio:.1f}x)"
    for each in many if found.first is None else many[:1]:
        yield f"{each.rows_per_second:,.0f}/s ({1 / each.ratio:.1f}x)"


def _refused(found: Sequence[Variant]) -> Iterator[str]:
    if not found:
        return
    yield "<h2>What did not apply</h2><table><tr><th>steps</th><th>why</th></tr>"
    for each in found:
        yield f'<tr><td>{_text(each.told)}</td><td class="left">{_text(each.refusal)}</td></tr>'
    yield "</table>"


def _setting(settings: Mapping[str, Any]) -> str:
    return f"{settings['instances']} replicas of {settings['threads']} threads, batches of {settings['batch_rows']}"


def _between(found: Comparison) -> str:
    return f"{points(found.quality.high)} to {points(found.quality.low)}"


def _text(text: str) -> str:
    return escape("".join(char for char in text if char.isprintable()), quote=True)
