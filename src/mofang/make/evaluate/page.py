"""A report as one page people want to look at: HTML with its pictures inside, no script, no other file.

Called by the control API, from what is stored; nothing is drawn before somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from mofang.make.evaluate.curves import calibration_svg, precision_recall_svg, roc_svg
from mofang.make.evaluate.picture import confusion_svg
from mofang.make.evaluate.report import (
    ABOUT,
    ClassScores,
    LabelScores,
    LanguageScores,
    RegressionScores,
    Report,
    Scores,
)

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --card: #f6f8fa; --good: #1a7f37;
  --bad: #d1242f; --bar: #1f6feb; --page: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --card: #151b23;
  --good: #3fb950; --bad: #f85149; --page: #0d1117; } }
body { font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; color: var(--ink);
  background: var(--page); max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; margin: 0; } h2 { font-size: 18px; margin: 40px 0 12px; }
.soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.verdict { border-left: 4px solid currentColor; padding: 6px 14px; margin: 18px 0; background: var(--card); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); gap: 12px; margin-top: 20px; }
.tile { border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; background: var(--card); }
.tile b { display: block; font-size: 24px; font-variant-numeric: tabular-nums; }
.tile span { font-size: 13px; color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; } th { font-size: 13px; color: var(--soft); font-weight: 600; }
.bar { background: linear-gradient(var(--bar), var(--bar)) no-repeat left / var(--w) 100%; opacity: .85;
  border: 1px solid var(--line); border-radius: 3px; display: inline-block; width: 90px; height: 9px;
  margin-right: 8px; }
.pictures { display: flex; flex-wrap: wrap; gap: 20px; align-items: flex-start; }
.worst { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 14px; }
.worst figure { margin: 0; border: 1px solid var(--line); border-radius: 10px; padding: 10px; font-size: 13px; }
.worst img { width: 100%; image-rendering: pixelated; border-radius: 6px; background: #000; }
svg { max-width: 100%; height: auto; }
text { font: 12px system-ui, sans-serif; fill: var(--ink); } .title { font-size: 14px; font-weight: 600; }
.axis { font-weight: 600; } .muted { fill: var(--soft); } .grid { stroke: var(--line); }
"""


def report_html(name: str, dataset: str, report: Report) -> str:
    """Write the page of ``report`` on the version or model ``name`` and on ``dataset``."""
    scores = report.scores
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{_text(name)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{_text(name)}</h1>",
        f'<p class="soft">{scores.rows:,} held-out rows of {_text(dataset[:19])}, answered by the served graph in'
        f" {report.seconds:.2f} s ({report.rows_per_second:,.0f} rows/s)</p>",
        *_verdict(report),
        *_tiles(report),
        *_comparisons(report),
        *(_classes(scores) if isinstance(scores, Scores) else ()),
        *(_table("label", scores.classes) if isinstance(scores, LabelScores) else ()),
        *(_residuals(scores) if isinstance(scores, RegressionScores) else ()),
        *_slices(report),
        *_worst(report),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _verdict(report: Report) -> Iterator[str]:
    if not report.gate:
        return
    tone, word = ("good", "passed") if report.passed else ("bad", "failed")
    failures = "".join(f"<br>{_text(failure)}" for failure in report.failures)
    yield f'<div class="verdict {tone}"><b>Gate {word}</b>: <code>{_text(report.gate)}</code>{failures}</div>'


def _tiles(report: Report) -> Iterator[str]:
    yield '<div class="tiles">'
    for name, value in report.metrics.items():
        low_high = report.intervals.get(name)
        between = f"95 %: {low_high[0]:.4g} to {low_high[1]:.4g}" if low_high else "&nbsp;"
        yield f'<div class="tile" title="{_text(ABOUT[name])}"><span>{_words(name)}</span><b>{value:.4g}</b>'
        yield f"<span>{between}</span></div>"
    if report.latency:
        yield f'<div class="tile"><span>one row, median</span><b>{report.latency.p50_ms:.3g} ms</b>'
        yield f"<span>99 %: {report.latency.p99_ms:.3g} ms</span></div>"
    yield "</div>"


def _comparisons(report: Report) -> Iterator[str]:
    if not report.comparisons:
        return
    yield "<h2>Against other versions, on the same rows</h2>"
    yield "<table><tr><th>rival</th><th>metric</th><th>difference</th><th>95 %</th><th>p</th><th>verdict</th></tr>"
    for each in report.comparisons:
        tone = {"better": "good", "worse": "bad"}.get(each.verdict, "soft")
        yield (
            f"<tr><td>{_text(each.rival)} ({_text(each.version)})</td><td>{_words(each.metric)}</td>"
            f"<td>{each.difference:+.4g}</td><td>{each.low:+.4g} to {each.high:+.4g}</td><td>{each.p_value:.2g}</td>"
            f'<td class="{tone}">{each.verdict}</td></tr>'
        )
    yield "</table>"


def _classes(scores: Scores) -> Iterator[str]:
    yield from _table("class", scores.classes)
    yield "<h2>Where answers go</h2>"
    yield f'<div class="pictures">{confusion_svg(scores)}</div>'
    if scores.probabilities and scores.calibration_error is not None:
        yield "<h2>What the probabilities are worth</h2>"
        found = scores.probabilities
        pictures = [roc_svg(found), precision_recall_svg(found)]
        pictures.append(calibration_svg(found.calibration, scores.calibration_error))
        yield f'<div class="pictures">{"".join(pictures)}</div>'


def _table(what: str, classes: Sequence[ClassScores]) -> Iterator[str]:
    heads = "".join(f"<th>{head}</th>" for head in (what, "precision", "recall", "F1", "rows"))
    yield f"<h2>{'Classes' if what == 'class' else 'Labels'}</h2><table><tr>{heads}</tr>"
    for each in classes:
        cells = "".join(f"<td>{_bar(value)}{value:.3f}</td>" for value in (each.precision, each.recall, each.f1))
        yield f"<tr><td>{_text(each.label)}</td>{cells}<td>{each.support:,}</td></tr>"
    yield "</table>"


def _residuals(scores: RegressionScores) -> Iterator[str]:
    found = scores.residuals
    most, step = max(found.counts), 640 / len(found.counts)
    bars = "".join(
        f'<rect x="{index * step:.1f}" y="{160 - 150 * count / most:.1f}" width="{step - 2:.1f}"'
        f' height="{150 * count / most:.1f}" rx="2" fill="#1f6feb"><title>{count:,} rows</title></rect>'
        for index, count in enumerate(found.counts)
    )
    yield "<h2>How far off answers are</h2>"
    yield f'<svg viewBox="0 0 640 184" width="640" role="img">{bars}'
    yield f'<text x="0" y="180">{found.smallest:+.4g}</text>'
    yield f'<text x="640" y="180" text-anchor="end">{found.largest:+.4g}</text></svg>'
    yield f"<p>Half of the answers lie between {found.p25:+.4g} and {found.p75:+.4g} of the truth, nine of ten between"
    yield f" {found.p05:+.4g} and {found.p95:+.4g}.</p>"


def _slices(report: Report) -> Iterator[str]:
    columns = dict.fromkeys(each.column for each in report.slices)
    for column in columns:
        found = [each for each in report.slices if each.column == column]
        names = list(found[0].metrics)
        heads = "".join(f"<th>{_words(name)}</th>" for name in names)
        yield f"<h2>By {_text(column)}</h2><table><tr><th>{_text(column)}</th>{heads}<th>rows</th></tr>"
        for each in found:
            cells = "".join(f"<td>{each.metrics[name]:.4g}</td>" for name in names)
            yield f"<tr><td>{_text(each.value)}</td>{cells}<td>{each.rows:,}</td></tr>"
        yield "</table>"


def _worst(report: Report) -> Iterator[str]:
    if not report.mistakes:
        return
    yield '<h2>The worst answers</h2><div class="worst">'
    is_class = isinstance(report.scores, Scores | LanguageScores)
    for each in report.mistakes:
        image = f'<img alt="row {each.row}" src="data:image/png;base64,{each.image}">' if each.image else ""
        values = "".join(f"<br>{_text(name)}: {_text(value)}" for name, value in list(each.values.items())[:8])
        sure = f" ({each.confidence:.0%} sure)" if is_class else ""
        yield f"<figure>{image}<figcaption><b>{_text(each.truth)}</b> answered"
        yield f' <span class="bad">{_text(each.answered)}</span>{sure}<span class="soft">{values}</span>'
        yield "</figcaption></figure>"
    yield "</div>"


def _bar(share: float) -> str:
    return f'<span class="bar" style="--w: {max(min(share, 1), 0) * 100:.0f}%"></span>'


def _words(name: str) -> str:
    return _text(name.replace("_", " "))


def _text(text: str) -> str:
    return escape("".join(char for char in text if char.isprintable()), quote=True)
