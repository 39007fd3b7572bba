"""What answers of a revision will probably use of the meters nobody knows before: learnt from those before them."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

KNOWN = frozenset({"requests", "rows", "input_bytes"})
"""Meters that are known before a request is computed."""
_FIRST: Mapping[str, float] = {"compute_us": 1_000.0, "output_bytes": 64.0}  # a row, until the first answer
_FADE = 0.02  # by so much of the difference a peak is forgotten with each answer


class Expectations:
    """For each revision and meter about the most that a row has used lately."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, float]] = {}

    def of(self, revision: str, rows: int) -> dict[str, int]:
        """Return what an answer of ``rows`` rows will use."""
        return {meter: ceil(each * rows) for meter, each in self._of.get(revision, _FIRST).items()}

    def learn(self, revision: str, rows: int, quantities: Mapping[str, int]) -> None:
        """Take note of what an answer did use."""
        known = self._of.setdefault(revision, {})
        for meter, quantity in quantities.items():
            if meter not in KNOWN:
                seen, before = quantity / rows, known.get(meter, 0.0)
                known[meter] = max(seen, before + (seen - before) * _FADE)
