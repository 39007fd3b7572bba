"""Which variant is best: the Pareto front of what was measured, and the pick under a user's constraint. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from mofang.base.domain.errors import Invalid, NoVariant
from mofang.make.compress.compare import Comparison

Objective = Literal["balance", "latency", "size", "cost"]
_POLICY = re.compile(r"(fastest|smallest|cheapest)(?: within (\d+(?:\.\d+)?) points?)?")
_OBJECTIVES: dict[str, Objective] = {"fastest": "latency", "smallest": "size", "cheapest": "cost"}
_MEGABYTE = 1e6
_Candidate = TypeVar("_Candidate", bound="Compared")
_GAIN = 0.99  # of the original's cost: what is not a hundredth better is as good as it


class Compared(Protocol):
    """Whatever was compared with the original. ``str`` names it."""

    @property
    def comparison(self) -> Comparison:
        """How it compares."""
        ...


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user accepts, and what is to become small.

    ``max_drop`` is of the quality's own unit, a share of 1: 0.005 are half a point of accuracy; of a language model it
    is the share by which perplexity may rise. Latency is of one row on one thread, or of a token of one stream. The
    objective is that latency, the size, what a row costs in a batch (``cost``), or all of them in ``balance``: their
    geometric mean.
    """

    max_drop: float | None = 0.005
    max_latency_ms: float | None = None
    max_size_mb: float | None = None
    objective: Objective = "balance"


def is_policy(text: str) -> bool:
    """Tell whether ``text`` is a policy rather than a variant's name."""
    return " " in text or text in _OBJECTIVES


def wish_of(policy: str) -> Wish:
    """Return the wish that a policy says: ``fastest within 0.5 points``; raise Invalid for any other words."""
    found = _POLICY.fullmatch(policy.strip())
    if found is None:
        raise Invalid(
            f"{policy!r} is no policy for choosing a variant",
            hint="say 'fastest', 'smallest' or 'cheapest', and ' within X points' of quality, if you like",
        )
    word, points = found.groups()
    return Wish(None if points is None else float(points) / 100, objective=_OBJECTIVES[word])


def costs(found: Comparison) -> tuple[float, float, float, float]:
    """Return what should be low: quality lost; latency, cost of a row, and size as shares of the original's."""
    return found.drop, found.one.ratio, found.many.ratio, found.size_ratio


def points(drop: float) -> str:
    """Say what a drop does to the quality, in points: ``-0.20``, ``+0.05``; ``0.00`` if it cannot be seen."""
    said = f"{-100 * drop:+.2f}"
    return "0.00" if said in ("+0.00", "-0.00") else said


def dominates(first: Sequence[float], second: Sequence[float]) -> bool:
    """Tell whether ``first`` is as low as ``second`` everywhere, and lower somewhere."""
    return all(ours <= theirs for ours, theirs in zip(first, second, strict=True)) and tuple(first) != tuple(second)


def front(found: Sequence[Comparison]) -> list[int]:
    """Return the indices of those that no other dominates; of equals the first, so that none stands for nothing new."""
    points = [costs(each) for each in found]
    return [
        index
        for index, point in enumerate(points)
        if point not in points[:index] and not any(dominates(other, point) for other in points)
    ]


def price(found: Comparison, objective: Objective) -> float:
    """Return what is to become small, as a share of the original's."""
    ratios = {"latency": found.one.ratio, "cost": found.many.ratio, "size": found.size_ratio}
    return math.prod(ratios.values()) ** (1 / len(ratios)) if objective == "balance" else ratios[objective]


def complaints(found: Comparison, wish: Wish) -> list[str]:
    """Say in which ways ``found`` is not what is wished for; empty if it is."""
    said = []
    if wish.max_drop is not None and found.drop > wish.max_drop:
        said.append(f"it loses {found.drop:.4f} of {found.quality.metric}, more than {wish.max_drop:g}")
    milliseconds, megabytes = found.one.median_us / 1e3, found.size_bytes / _MEGABYTE
    if wish.max_latency_ms is not None and milliseconds > wish.max_latency_ms:
        what = "a token" if found.first else "one row"
        said.append(f"{what} takes {milliseconds:.3g} ms, more than {wish.max_latency_ms:g}")
    if wish.max_size_mb is not None and megabytes > wish.max_size_mb:
        said.append(f"it has {megabytes:.3g} MB, more than {wish.max_size_mb:g}")
    if (share := price(found, wish.objective)) > _GAIN:
        said.append(f"its {wish.objective} is {share:.2f} times the original's, which is no gain")
    return said


def pick(among: Sequence[_Candidate], wish: Wish) -> _Candidate:
    """Return the best of ``among`` that ``wish`` accepts; of equals the one that loses least.

    Raises NoVariant if there is none: it names the one that came closest, and says why it is refused.
    """
    if not among:
        raise NoVariant("no technique applies")
    order = sorted(among, key=lambda each: (price(each.comparison, wish.objective), costs(each.comparison)))
    for each in order:
        if not complaints(each.comparison, wish):
            return each
    closest = min(order, key=lambda each: len(complaints(each.comparison, wish)))
    raise NoVariant(
        f"none of {len(among)} variants is good enough; of '{closest}': "
        + "; ".join(complaints(closest.comparison, wish)),
        hint="allow more with `--max-drop`, `--max-latency-ms` or `--max-size-mb`, or keep the model as it is",
    )
