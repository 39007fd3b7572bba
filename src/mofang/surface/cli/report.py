"""How the report of an evaluation looks in a terminal; `mofang evaluate` and `mofang runs show` both draw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mofang.surface.cli import chart, format, screen

if TYPE_CHECKING:
    from mofang.surface.cli.session import Session
    from mofang.surface.sdk.evaluate import Evaluation

EVALUATION_JSON = (
    "id, version, dataset, gate, passed, metrics, report (scores, seconds, intervals, latency, slices, "
    "mistakes, comparisons, failures), created_at"
)


def draw(evaluation: Evaluation) -> None:
    """Print the gate's word, the metrics, the classes and the confusion matrix."""
    report = evaluation.report
    scores = report.get("scores", report)
    rows = int(scores.get("rows", 0))
    gate = screen.state("passed" if evaluation.passed else "failed")
    failures = "; ".join(report.get("failures", ()))
    screen.fields(
        [
            ("gate", f"{gate}: {evaluation.gate or 'none set'}" + (f" ({failures})" if failures else "")),
            *((name.replace("_", " "), _value(name, value, report)) for name, value in evaluation.metrics.items()),
            ("one row", _latency(report.get("latency"))),
            ("rows", f"{format.count(rows)} of {format.short_digest(evaluation.dataset)}, {speed(rows, report)}"),
        ]
    )
    _draw_comparisons(report.get("comparisons", ()))
    _draw_slices(report.get("slices", ()))
    _draw_residuals(scores.get("residuals"))
    _draw_classes(scores.get("classes", ()))
    matrix = scores.get("confusion", ())
    if matrix:
        screen.say()
        for line in chart.confusion(matrix, [str(entry["label"]) for entry in scores.get("classes", ())]):
            screen.say("  " + line)


def _value(name: str, value: float, report: Mapping[str, Any]) -> str:
    between = report.get("intervals", {}).get(name)
    return number(value) + (f"  (95 %: {number(between[0])} to {number(between[1])})" if between else "")


def _latency(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    p50, p99 = (format.duration(float(found[name]) / 1e3) for name in ("p50_ms", "p99_ms"))
    return f"{p50} (median), {p99} (99 %)"


def _draw_comparisons(found: Sequence[Mapping[str, Any]]) -> None:
    if not found:
        return
    screen.say("\n  against other versions, on the same rows")
    rows = [
        (f"  {c['rival']} ({c['version']})", c["metric"], f"{c['difference']:+.4f}",
         f"{c['low']:+.4f} to {c['high']:+.4f}", f"{c['p_value']:.2g}")
        for c in found
    ]  # fmt: skip
    screen.table(("  rival", "metric", ">difference", ">95 %", ">p"), rows)


def _draw_slices(found: Sequence[Mapping[str, Any]]) -> None:
    if not found:
        return
    screen.say()
    names = list(found[0]["metrics"])
    rows = [
        (f"  {s['column']}", s["value"], *(number(s["metrics"][name]) for name in names), format.count(s["rows"]))
        for s in found
    ]
    screen.table(("  slice", "value", *(f">{name.replace('_', ' ')}" for name in names), ">rows"), rows)


def speed(rows: int, report: Mapping[str, Any]) -> str:
    """Say how long measuring took."""
    seconds = float(report.get("seconds", 0.0))
    return f"in {format.duration(seconds)} ({format.rate(rows / seconds, 'rows')})" if seconds else ""


def headline(metrics: Mapping[str, float]) -> str:
    """Return the one metric that tells most, e.g. ``accuracy 0.9123`` or ``rmse 53.2``."""
    name = next((name for name in ("accuracy", "rmse", "perplexity") if name in metrics), "")
    return f"{name} {number(metrics[name])}" if name else "no metric"


def number(value: float) -> str:
    """Write a metric: a fraction with four decimals, a measurement with five digits."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.5g}"


def _draw_residuals(residuals: Mapping[str, Any] | None) -> None:
    if not residuals:
        return
    words = {"smallest": "smallest", "p05": "5%", "p25": "25%", "median": "median", "p75": "75%", "p95": "95%"}
    table = [*words.items(), ("largest", "largest")]
    screen.say("\n  residuals, answer minus truth")
    screen.table(
        ("  residual", *(f">{word}" for _, word in table)),
        [("  at", *(f"{float(residuals[name]):+.4g}" for name, _ in table))],
    )
    counts = [float(count) for count in residuals.get("counts", ())]
    if len(counts) > 1:
        screen.say(f"  {residuals['smallest']:+.4g} {chart.sparkline(counts)} {residuals['largest']:+.4g}")


def _draw_classes(classes: list[Mapping[str, Any]]) -> None:
    if not classes:
        return
    screen.say()
    measured = ("precision", "recall", "f1")
    table = [(c["label"], *(f"{c[name]:.3f}" for name in measured), format.count(c["support"])) for c in classes]
    screen.table(
        ("  class", ">precision", ">recall", ">F1", ">rows"), [("  " + str(row[0]), *row[1:]) for row in table]
    )


def save_confusion(session: Session, evaluation: str, path: Path) -> None:
    """Write the confusion matrix as an SVG picture."""
    path.write_text(session.client.evaluate.confusion_svg(evaluation), "utf-8")
    if not session.as_json:
        screen.say(f"\nconfusion matrix: {click.style(str(path), bold=True)}")


def save_page(session: Session, evaluation: str, path: Path) -> None:
    """Write the whole report as a page."""
    path.write_text(session.client.evaluate.report_html(evaluation), "utf-8")
    if not session.as_json:
        screen.say(f"\nreport: {click.style(str(path), bold=True)}")


def save_card(session: Session, evaluation: str, path: Path) -> None:
    """Write the model card as Markdown."""
    path.write_text(session.client.evaluate.model_card(evaluation), "utf-8")
    if not session.as_json:
        screen.say(f"model card: {click.style(str(path), bold=True)}")
