"""A confusion matrix as an SVG people can read: hand-written, no library, on light and on dark pages.

Called by the control API and the model card, from a stored report; nothing is drawn before somebody looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from mofang.make.evaluate.report import Scores

_LETTER = 6.9  # width of an average letter at 12 px, in px
_LONGEST_LABEL = 24  # letters; longer ones are cut, and told whole in the tooltip
_MOST_NUMBERED = 30  # classes; beyond it cells are too small for counts
_STYLE = """
text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2328; }
.title { font-size: 14px; font-weight: 600; }
.axis { font-weight: 600; }
.muted, .zero { fill: #6e7781; }
.strong { fill: #ffffff; }
.right { fill: #1f6feb; }
.wrong { fill: #d1242f; }
.grid { fill: none; stroke: #8c959f; stroke-opacity: .45; }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } .muted, .zero { fill: #8b949e; } }
"""


def confusion_svg(scores: Scores, title: str = "Confusion matrix") -> str:
    """Draw ``scores.confusion``: a row for each true class, shaded by its share of the row; hits blue, errors red."""
    labels = [_cut(label) for label in scores.labels]
    count = len(labels)
    cell = 44 if count <= 12 else 34 if count <= _MOST_NUMBERED else 14
    margin = max(len(label) for label in labels) * _LETTER
    left, top = 40 + margin, 78 + margin * 0.75  # column labels lean by 45 degrees
    side = cell * count
    width, height = left + side + 24 + margin * 0.75, top + side + 28
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' height="{height:.0f}" role="img">',
        f"<title>{_text(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="16" y="24">{_text(title)}</text>',
        f'<text class="muted" x="16" y="44">{scores.rows:,} rows, accuracy {scores.accuracy:.2%},'
        f" macro F1 {scores.macro_f1:.4f}</text>",
        f'<text class="axis" x="{left + side / 2:.1f}" y="{height - 8:.1f}" text-anchor="middle">answered</text>',
        f'<text class="axis" transform="translate(20 {top + side / 2:.1f}) rotate(-90)" text-anchor="middle">'
        "true</text>",
        *_axis_labels(labels, left, top, cell),
        *_cells(scores, left, top, cell),
        f'<rect class="grid" x="{left:.1f}" y="{top:.1f}" width="{side}" height="{side}"/>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _axis_labels(labels: Sequence[str], left: float, top: float, cell: int) -> list[str]:
    parts = []
    for index, label in enumerate(labels):
        middle = cell * (index + 0.5)
        parts.append(f'<text x="{left - 8:.1f}" y="{top + middle + 4:.1f}" text-anchor="end">{_text(label)}</text>')
        parts.append(
            f'<text transform="translate({left + middle + 2:.1f} {top - 8:.1f}) rotate(-45)">{_text(label)}</text>'
        )
    return parts


def _cells(scores: Scores, left: float, top: float, cell: int) -> list[str]:
    parts = []
    numbered = len(scores.classes) <= _MOST_NUMBERED
    for i, row in enumerate(scores.confusion):
        total = sum(row)
        for j, hits in enumerate(row):
            share = hits / total if total else 0.0
            x, y = left + cell * j, top + cell * i
            told = f"true {scores.labels[i]}, answered {scores.labels[j]}: {hits:,} ({share:.1%})"
            # A lone error among thousands must still be seen, so that no nonzero cell is fainter than 0.06.
            shade = f' fill-opacity="{max(share, 0.06):.3f}"' if hits else ' fill-opacity="0"'
            parts.append(f"<g><title>{_text(told)}</title>")
            parts.append(
                f'<rect class="{"right" if i == j else "wrong"}" x="{x + 1:.1f}" y="{y + 1:.1f}" width="{cell - 2}"'
                f' height="{cell - 2}" rx="3"{shade}/>'
            )
            if numbered:
                tone = "strong" if share > 0.5 else "plain" if hits else "zero"
                size = ' style="font-size: 10px"' if hits >= 10_000 or cell < 40 else ""
                parts.append(
                    f'<text class="{tone}" x="{x + cell / 2:.1f}" y="{y + cell / 2 + 4:.1f}"{size}'
                    f' text-anchor="middle">{hits or "·"}</text>'
                )
            parts.append("</g>")
    return parts


def _cut(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"


def _text(text: str) -> str:
    """Escape for XML, and drop the control characters XML cannot hold at all."""
    return escape("".join(char for char in text if char.isprintable()))
