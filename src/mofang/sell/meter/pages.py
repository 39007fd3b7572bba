"""What the ledger answers: sums, and pages of events. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mofang.base.domain.usage import UsageEvent

Use = tuple[str, int, str]
"""Endpoint, version, digest: what usage is priced by."""


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
