"""How long batches take: what the replica measured, and what it expects. Pure.

One moving average for each power of two of rows, since a batch of 32 may take as long as one row (a tiny model) or 32
times as long (a convolution), and only measuring tells.
"""

from __future__ import annotations

import math

_NEW = 0.2  # weight of a new measurement in the moving average
_DEARER = 0.02  # the same in what an engine takes, if it was more: what else the processor did is in it, and no cost
_TRUSTED = 4  # measurements of a size: fewer may all have been disturbed, if others say so
_AS_GOOD = 1.05  # a row may cost so much more in a larger batch, which saves work elsewhere
_NEARLY_AS_GOOD = 1.25  # and so much more where batches shall be short


class Pace:
    """Expected seconds of a batch, by its rows."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}  # by bit length of the rows
        self._least_seconds: dict[int, float] = {}  # the same, without what else the processor did
        self._seen: dict[int, int] = {}  # how many batches of that size
        self._row_seconds: dict[int, float] = {}  # what one row costs in such a batch, without that

    def observe(self, rows: int, seconds: float) -> None:
        """Take in that a batch of ``rows`` took ``seconds``."""
        size = rows.bit_length()
        known = self._seconds.get(size)
        self._seconds[size] = seconds if known is None else known + _NEW * (seconds - known)
        self._seen[size] = self._seen.get(size, 0) + 1
        _lower(self._least_seconds, size, seconds)
        _lower(self._row_seconds, size, seconds / rows)

    def bound(self, rows: int) -> float:
        """Return the seconds that no batch of at most ``rows`` is expected to exceed; infinity if none was measured."""
        return max(*self._seconds.values(), self.expect(rows)) if self._seconds else math.inf

    def expect(self, rows: int) -> float:
        """Return the seconds a batch of ``rows`` will take; 0.0 if nothing was ever measured.

        A size never seen is taken to cost as much a row as the nearest smaller one (pessimistic), or else as much as
        the smallest larger one.
        """
        size = rows.bit_length()
        known = self._seconds.get(size)
        if known is not None or not self._seconds:
            return known or 0.0
        smaller = [each for each in self._seconds if each < size]
        if smaller:
            nearest = max(smaller)
            return float(self._seconds[nearest] * 2.0 ** (size - nearest))
        return self._seconds[min(self._seconds)]

    def undisturbed(self, rows: int) -> float:
        """Return the seconds the engine itself takes for a batch of ``rows``; 0.0 if nothing was ever measured.

        Where a core is shared, one batch in a hundred takes as long as another process was let in between. A moving
        average remembers that for a dozen batches, but it says nothing of the model. Nor does a size that was seen a
        few times: it is taken to cost no more a row than smaller ones, and no more than larger ones as a whole. Of 0
        rows, a batch of a size that is not known yet, it is what the quickest size takes.
        """
        size, known = rows.bit_length(), self._least_seconds
        if not rows:
            return min(known.values(), default=0.0)
        if self._seen.get(size, 0) >= _TRUSTED:
            return known[size]
        return min((each * 2.0 ** max(0, size - other) for other, each in known.items()), default=0.0)

    def thrifty(self, most: int, *, short: bool = False) -> int:
        """Return the rows up to which a batch may grow, at most ``most``, since a row costs no more in larger ones.

        A convolution may be slower in batches that do not fit the caches. Sizes larger than any measured are allowed.
        If batches shall be ``short``, they grow only as long as a row costs much less in larger ones.
        """
        if not self._row_seconds:
            return most
        least = min(self._row_seconds.values())
        if short:
            found = min(size for size, seconds in self._row_seconds.items() if seconds <= least * _NEARLY_AS_GOOD)
        else:
            found = max(size for size, seconds in self._row_seconds.items() if seconds <= least * _AS_GOOD)
        return most if found == max(self._row_seconds) else min(most, (1 << found) - 1)

    def knows(self, rows: int) -> bool:
        """Whether a batch of about ``rows`` was ever measured."""
        return rows.bit_length() in self._seconds


def _lower(known: dict[int, float], size: int, seconds: float) -> None:
    """Take in a measurement that may be too high, and is never too low."""
    least = known.get(size)
    known[size] = seconds if least is None or seconds < least else least + _DEARER * (seconds - least)
