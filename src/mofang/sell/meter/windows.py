"""The calendar of metering, in UTC: usage is summed by the hour, so periods and price changes fall on full hours.

Used by the ledger and by billing. Pure: every time is an integer number of microseconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from mofang.base.domain.errors import InvalidPeriod

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
MAX_AT = 253_402_300_800_000_000  # the year 10000, where calendars end


@dataclass(frozen=True, slots=True, order=True)
class UsageRow:
    """What one version behind one endpoint used of one meter in one hour: the input of rating."""

    endpoint: str
    version: int
    digest: str
    meter: str
    hour: int  # start of the hour
    quantity: int


def hour_of(at: int) -> int:
    """Return the start of the hour that holds ``at``."""
    return at - at % HOUR_US


def month_of(at: int) -> int:
    """Return the start of the month that holds ``at``."""
    first = datetime.fromtimestamp(at // 1_000_000, UTC).replace(day=1, hour=0, minute=0, second=0)
    return int(first.timestamp()) * 1_000_000


def next_month(start: int) -> int:
    """Return the start of the month after the one that began at ``start``."""
    return month_of(start + 31 * DAY_US)


def check_period(start: int, end: int) -> None:
    """Raise InvalidPeriod unless ``start`` comes before ``end`` and both are full hours."""
    if not 0 <= start < end <= MAX_AT:
        raise InvalidPeriod(f"the period from {describe(start)} to {describe(end)} is empty or reversed")
    for at in (start, end):
        if at % HOUR_US:
            raise InvalidPeriod(f"{describe(at)} is no full hour", hint="periods start and end on full hours, in UTC")


def describe(at: int) -> str:
    """Return ``at`` for people: ``2026-11-01T10:00:00Z``; the bare number if it is outside the calendar."""
    if not 0 <= at < MAX_AT:
        return str(at)
    return datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
