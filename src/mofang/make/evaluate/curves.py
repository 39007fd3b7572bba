"""Curves as SVG people can read: ROC, precision and recall, calibration. Hand-written, on light and on dark pages.

Called for the page of a report, from what is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from mofang.make.evaluate.report import Bin, Curve, Probabilities

_SIDE, _LEFT, _TOP = 260, 44, 34
_COLOURS = (
    "#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#0a7ea4", "#bc4c00", "#57606a", "#2da44e",
)  # fmt: skip
_MOST_NAMED = 10  # curves in the legend


def roc_svg(found: Probabilities) -> str:
    """Draw the ROC curve of each class, the largest area first in the legend."""
    return _lines("ROC", "share of the others taken for it", "share found", found.roc, diagonal=True)


def precision_recall_svg(found: Probabilities) -> str:
    """Draw precision over recall of each class."""
    return _lines("Precision and recall", "recall", "precision", found.precision_recall, diagonal=False)


def calibration_svg(bins: Sequence[Bin], error: float) -> str:
    """Draw accuracy over confidence; the area of a dot is its share of the rows."""
    total = sum(each.rows for each in bins)
    dots = []
    for each in bins:
        radius = 3 + 13 * (each.rows / total) ** 0.5
        told = f"confidence {each.confidence:.2f}, right {each.accuracy:.1%}, {each.rows:,} rows"
        dots.append(
            f'<circle cx="{_x(each.confidence):.1f}" cy="{_y(each.accuracy):.1f}" r="{radius:.1f}" fill="#1f6feb"'
            f' fill-opacity=".55"><title>{told}</title></circle>'
        )
    points = [(each.confidence, each.accuracy) for each in bins]
    body = [_diagonal(), _path(points, "#1f6feb"), *dots]
    return _frame(f"Calibration (error {error:.4f})", "confidence", "right", body, 0)


def _lines(title: str, across: str, up: str, curves: Sequence[Curve], *, diagonal: bool) -> str:
    body = [_diagonal()] if diagonal else []
    named = sorted(range(len(curves)), key=lambda index: -curves[index].area)[:_MOST_NAMED]
    for index, curve in enumerate(curves):
        colour = _COLOURS[index % len(_COLOURS)]
        told = f"<title>{_text(curve.label)}: area {curve.area:.4f}</title>"
        body.append(_path(list(zip(curve.x, curve.y, strict=True)), colour, told))
    for row, index in enumerate(named):
        x, y = _LEFT + _SIDE + 16, _TOP + 12 + 18 * row
        body.append(
            f'<rect x="{x}" y="{y - 8}" width="10" height="10" rx="2" fill="{_COLOURS[index % len(_COLOURS)]}"/>'
        )
        body.append(f'<text x="{x + 16}" y="{y + 1}">{_text(curves[index].label[:16])} {curves[index].area:.3f}</text>')
    return _frame(title, across, up, body, 160)


def _frame(title: str, across: str, up: str, body: Sequence[str], legend: int) -> str:
    width, height = _LEFT + _SIDE + 16 + legend, _TOP + _SIDE + 44
    ticks = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        ticks.append(f'<line class="grid" x1="{_x(0)}" x2="{_x(1)}" y1="{_y(tick)}" y2="{_y(tick)}"/>')
        ticks.append(f'<line class="grid" x1="{_x(tick)}" x2="{_x(tick)}" y1="{_y(0)}" y2="{_y(1)}"/>')
        ticks.append(f'<text class="muted" x="{_LEFT - 6}" y="{_y(tick) + 4}" text-anchor="end">{tick:g}</text>')
        ticks.append(f'<text class="muted" x="{_x(tick)}" y="{_y(0) + 16}" text-anchor="middle">{tick:g}</text>')
    middle = _LEFT + _SIDE / 2
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
            f"<title>{_text(title)}</title>",
            f'<text class="title" x="{_LEFT}" y="18">{_text(title)}</text>',
            *ticks,
            *body,
            f'<text class="axis" x="{middle}" y="{height - 8}" text-anchor="middle">{across}</text>',
            f'<text class="axis" transform="translate(12 {_TOP + _SIDE / 2}) rotate(-90)" text-anchor="middle">',
            f"{up}</text>",
            "</svg>",
        ]
    )


def _diagonal() -> str:
    return f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="#8c959f" stroke-dasharray="4 4"/>'


def _path(points: Sequence[tuple[float, float]], colour: str, inside: str = "") -> str:
    steps = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    return f'<polyline points="{steps}" fill="none" stroke="{colour}" stroke-width="1.8">{inside}</polyline>'


def _x(value: float) -> float:
    return _LEFT + _SIDE * value


def _y(value: float) -> float:
    return _TOP + _SIDE * (1 - value)


def _text(text: str) -> str:
    return escape("".join(char for char in text if char.isprintable()))
