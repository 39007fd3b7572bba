"""The front as a picture: how many times faster against the quality lost; the larger the file, the larger the point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from mofang.make.compress.compare import Comparison
from mofang.make.compress.pick import points
from mofang.make.compress.store import Variant

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 30, 40, 50
_LARGEST_POINT = 22  # px, radius of a file as large as the original's
_TICKS = 5


def front_svg(found: Sequence[Variant]) -> str:
    """Draw candidates that were measured; a line joins those that no other beats, and the picked one is green."""
    pairs = [(each, each.comparison) for each in found if each.comparison is not None]
    across, down = _across([one for _, one in pairs]), _down([one for _, one in pairs])
    what = "one token" if any(one.first for _, one in pairs) else "one row"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img">',
        "<title>Quality lost against speed gained</title>",
        *_axes(across, down, what),
    ]
    best = sorted(((across(1 / one.one.ratio), down(100 * one.drop)) for each, one in pairs if each.is_front))
    parts.append(f'<polyline class="line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in best)}"/>')
    for each, one in sorted(pairs, key=lambda pair: -pair[1].size_ratio):
        kind = "point chosen" if each.is_picked else "point best" if each.is_front else "point"
        told = (
            f"{each.told}: {points(one.drop)} points, {1 / one.one.ratio:.1f}x faster,"
            f" {1 / one.size_ratio:.1f}x smaller"
        )
        radius = max(_LARGEST_POINT * math.sqrt(min(one.size_ratio, 1.0)), 3)
        x, y = across(1 / one.one.ratio), down(100 * one.drop)
        parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{escape(told)}</title>')
        parts.append("</circle>")
    return "\n".join([*parts, "</svg>"])


class _Scale:
    """From values to pixels along one axis."""

    def __init__(self, least: float, most: float, start: float, end: float) -> None:
        self.least, self.most = least, most
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = (value - self.least) / (self.most - self.least)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        return [self.least + (self.most - self.least) * step / (_TICKS - 1) for step in range(_TICKS)]


def _across(found: Sequence[Comparison]) -> _Scale:
    fastest = max((1 / one.one.ratio for one in found), default=1.0)
    slowest = min((1 / one.one.ratio for one in found), default=1.0)
    return _Scale(min(slowest, 1.0) * 0.9, max(fastest, 1.0) * 1.08, _LEFT, _WIDTH - _RIGHT)


def _down(found: Sequence[Comparison]) -> _Scale:
    """What is lost grows downwards, so that better is higher."""
    drops = [100 * one.drop for one in found]
    least, most = min([*drops, 0.0]), max([*drops, 0.0])
    room = max(most - least, 0.1) * 0.12
    return _Scale(least - room, most + room, _TOP, _HEIGHT - _BOTTOM)


def _axes(across: _Scale, down: _Scale, what: str) -> list[str]:
    bottom = _HEIGHT - _BOTTOM
    parts = []
    for value in across.ticks():
        x = across(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(f'<text class="muted" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{value:.1f}x</text>')
    for value in down.ticks():
        y = down(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="muted" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{points(value / 100)}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text class="axis" x="{middle:.0f}" y="{_HEIGHT - 10}" text-anchor="middle">times faster, {what}</text>'
    )
    parts.append(
        f'<text class="axis" x="{_LEFT}" y="22">points of quality beside the original; size of a point: its file</text>'
    )
    return parts
