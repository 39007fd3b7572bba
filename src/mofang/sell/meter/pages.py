"""What the ledger answers, sums and pages of events, and whom it tells and asks. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mofang.base.domain.usage import Charge, UsageEvent

Use = tuple[str, int, str]
"""Endpoint, version, digest: what usage is priced by."""
Settle = Callable[[str, Sequence[Charge]], None]
"""Takes what the records of a segment took out of budgets."""
Variants = Callable[[Collection[tuple[str, int]]], Mapping[tuple[str, int], str]]
"""Tells the variants of versions (digest, number); of one that is not known, nothing."""


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """The sum of one group: ``group`` holds the columns asked for, ``events`` how many events were summed."""

    group: Mapping[str, Any]
    quantity: int
    events: int

    def to_dict(self) -> dict[str, Any]:
        """Return the group's columns, quantity and events in one flat object."""
        return {**self.group, "quantity": self.quantity, "events": self.events}


@dataclass(frozen=True, slots=True)
class UsagePage:
    """Events in the order they were folded, and the cursor to go on after (None at the ledger's end)."""

    items: list[UsageEvent]
    next: int | None
