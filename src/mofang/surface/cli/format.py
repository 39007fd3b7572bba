"""How people say numbers: times, sizes, counts, shares, money. Pure text in, pure text out.

Every command formats through here, so that the same quantity looks the same on every screen. ``--json`` never passes
through: scripts get the plain integers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from mofang.base.domain.errors import Invalid
from mofang.base.domain.money import MICROS, format_micros

_UNITS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"(\d+)\s*(s|min|m|h|d|w)")


def duration(seconds: float) -> str:
    """Say a span of time: ``180 µs``, ``2.4 ms``, ``2.4 s``, ``3 min 5 s``, ``2 h 4 min``, ``3 d 4 h``."""
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 0.000_999_5:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.999_5:
        return f"{_three(seconds * 1e3)} ms"
    if seconds < 59.95:
        return f"{_three(seconds)} s"
    whole = round(seconds)
    if whole < 3600:
        return _pair(whole, 60, "min", 1, "s")
    if whole < 86_400:
        return _pair(whole, 3600, "h", 60, "min")
    return _pair(whole, 86_400, "d", 3600, "h")


def _pair(whole: int, large: int, name: str, small: int, below: str) -> str:
    rest = whole % large // small
    return f"{whole // large} {name}" + (f" {rest} {below}" if rest else "")


def _three(value: float) -> str:
    """Write with about two significant digits below ten and none after the point from a hundred on."""
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def ago(at: int, now: int) -> str:
    """Say how long before ``now`` (both microseconds) something was: ``just now``, ``3 min ago``, ``in 2 d``."""
    if not at:
        return "-"
    seconds = (now - at) / MICROS
    if -1 < seconds < 1:
        return "just now"
    size = abs(seconds)
    name, unit = next((n, u) for n, u in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)) if size >= u)
    text = f"{int(size // unit)} {name}"
    return f"{text} ago" if seconds > 0 else f"in {text}"


def moment(at: int) -> str:
    """Write a time in UTC to the second: ``2026-11-22 06:18:48Z``; ``-`` for none."""
    return datetime.fromtimestamp(at // MICROS, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at else "-"


def size(count_bytes: int) -> str:
    """Say a number of bytes in decimal units: ``512 B``, ``1.5 kB``, ``46.7 MB``."""
    if count_bytes < 1000:
        return f"{count_bytes} B"
    value = float(count_bytes)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.95 or unit == "TB":
            return f"{value:.1f} {unit}"
    raise AssertionError("TB takes every size")


def count(number: int) -> str:
    """Write an integer with thousands apart: ``12,770``."""
    return f"{number:,}"


def share(fraction: float) -> str:
    """Say a fraction of one in percent: ``97.8 %``."""
    return f"{fraction * 100:.1f} %"


def rate(per_second: float, unit: str) -> str:
    """Say how fast: ``3.2 epochs/s``, or ``4.1 s/epoch`` where that is easier to picture."""
    if per_second <= 0:
        return ""
    if per_second < 0.95:
        return f"{duration(1 / per_second)}/{unit.removesuffix('s')}"
    return f"{per_second:.1f} {unit}/s" if per_second < 100 else f"{per_second:,.0f} {unit}/s"


def amounts(micros: Sequence[int]) -> list[str]:
    """Write amounts of money exactly and with equally many decimals, so that a right-aligned column lines up."""
    texts = [format_micros(value) for value in micros]
    places = max((len(text.partition(".")[2]) for text in texts), default=0)
    return [text + "0" * (places - len(text.partition(".")[2])) for text in texts]


def short_digest(digest: str) -> str:
    """Shorten ``sha256:<64 hex>`` to its first twelve hex digits, enough for people to compare."""
    return digest.removeprefix("sha256:")[:12] or "-"


def parse_span(text: str) -> int:
    """Read ``90s``, ``15min``, ``12h``, ``30d`` or ``2w`` as seconds; raise Invalid otherwise."""
    found = _SPAN.fullmatch(text.strip().lower())
    if not found or int(found[1]) == 0:
        raise Invalid(f"{text!r} is no span of time", hint="write a number and s, min, h, d or w: `30d`")
    return int(found[1]) * _UNITS[found[2]]


def parse_moment(text: str, now: int) -> int:
    """Read a date, a time (ISO 8601; UTC unless it says otherwise) or a span before ``now``, as microseconds.

    ``2026-11-01``, ``2026-11-01T12:30``, ``24h`` and ``now`` all work; raises Invalid for anything else.
    """
    if text == "now":
        return now
    if _SPAN.fullmatch(text.strip().lower()):
        return now - parse_span(text) * MICROS
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        hint = "write `2026-11-01`, `2026-11-01T12:30`, or a span before now: `24h`"
        raise Invalid(f"{text!r} is no point in time", hint=hint) from None
    aware = found if found.tzinfo else found.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
