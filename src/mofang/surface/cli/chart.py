"""Pictures made of characters: a curve and a confusion matrix, for a terminal as wide as most are.

Pure text, no colour and no terminal: `mofang runs show` and `mofang evaluate` print what these return.
"""

from __future__ import annotations

from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"
_GRID = 8  # eighths of a cell, the resolution of the block characters


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Draw ``values`` in one line; more values than ``width`` are thinned evenly, the last is always kept."""
    picked = thin(values, width)
    if not picked:
        return ""
    low, high = min(picked), max(picked)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in picked)


def thin(values: Sequence[float], width: int) -> list[float]:
    """Pick at most ``width`` values at even distances, with the first and the last among them."""
    if len(values) <= width:
        return list(values)
    if width == 1:
        return [values[-1]]
    return [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]


def curve(values: Sequence[float], *, height: int = 6, width: int = 56) -> list[str]:
    """Draw a curve over several lines with its scale at the left, highest value on top.

    Each column is one value; few values are widened, so that a curve of five epochs still fills the picture.
    """
    picked = thin(values, width)
    if not picked:
        return []
    step = max(1, min(4, width // len(picked)))
    low, high = min(picked), max(picked)
    units = height * _GRID - 1
    heights = [1 + round((value - low) / (high - low) * units) if high > low else _GRID for value in picked]
    labels = {0: f"{high:.4g}", height - 1: f"{low:.4g}"}
    margin = max(len(label) for label in labels.values())
    lines = []
    for row in range(height):
        base = (height - 1 - row) * _GRID
        cells = "".join(_cell(value - base) * step for value in heights)
        lines.append(f"{labels.get(row, ''):>{margin}} ┤{cells.rstrip()}")
    return lines


def _cell(eighths: int) -> str:
    return " " if eighths <= 0 else _BARS[min(eighths, _GRID) - 1]


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> list[str]:
    """Write a confusion matrix as a compact table: a row per true class, a column per answer, ``·`` for none."""
    if not matrix:
        return []
    names = [_cut(label, 8) for label in labels] or [str(i) for i in range(len(matrix))]
    cells = [[str(value) if value else "·" for value in row] for row in matrix]
    width = max(3, *(len(name) for name in names), *(len(cell) for row in cells for cell in row))
    if width * len(names) > 100:  # too many classes for their names: number the columns instead
        width = max(3, *(len(cell) for row in cells for cell in row))
        heads = [str(i) for i in range(len(names))]
    else:
        heads = names
    margin = max(len("true"), *(len(name) for name in names))
    lines = [f"{'true':<{margin}}  " + " ".join(f"{head:>{width}}" for head in heads) + "   <- answered"]
    for name, row in zip(names, cells, strict=True):
        lines.append(f"{name:<{margin}}  " + " ".join(f"{cell:>{width}}" for cell in row))
    return lines


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
