"""The ledger beside what engines have counted of their own work. Pure.

The counts come from elsewhere (the replicas count in files of their own) and have nothing to do with journals, the
settler or the database. Where the two differ, a positive difference is work that was not billed, as of requests that
broke off; a negative one was billed and never computed, which must not be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mofang.base.domain.usage import COUNTED, PLAIN
from mofang.sell.meter.pages import UsageTotal


@dataclass(frozen=True, slots=True)
class Comparison:
    """One meter of one endpoint and tenant: units that engines ``counted``, and units in the ``ledger``."""

    endpoint: str
    tenant: str
    meter: str
    counted: int
    ledger: int

    @property
    def difference(self) -> int:
        """Units that were computed and not billed; below zero: billed and not computed."""
        return self.counted - self.ledger

    def to_dict(self) -> dict[str, Any]:
        """Return its fields and the difference."""
        return {**{name: getattr(self, name) for name in self.__slots__}, "difference": self.difference}


def compare(
    counts: Mapping[str, Mapping[str, Mapping[str, int]]], totals: Iterable[UsageTotal], tenant: str | None = None
) -> list[Comparison]:
    """Compare counts (endpoint, tenant, meter) with sums of the ledger by the same three; of one tenant, or of all.

    Meters that engines do not count are left out. The ledger must have been read before the counts, so that what is
    under way shows as not billed yet.
    """
    counted = {
        (endpoint, who, meter): quantity
        for endpoint, tenants in counts.items()
        for who, meters in tenants.items()
        if tenant is None or who == tenant
        for meter, quantity in meters.items()
    }
    ledger: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for total in totals:  # engines know nothing of batches
        meter = PLAIN.get(total.group["meter"], total.group["meter"])
        ledger[total.group["endpoint"], total.group["tenant"], meter] += total.quantity
    keys = sorted(key for key in counted.keys() | ledger.keys() if key[2] in COUNTED)
    found = [Comparison(*key, counted=counted.get(key, 0), ledger=ledger.get(key, 0)) for key in keys]
    return [each for each in found if each.counted or each.ledger]
