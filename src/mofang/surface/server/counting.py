"""Where engines count their work, and from what balance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mofang.base.domain.deployment import ReplicaSpec
from mofang.base.domain.names import now_us
from mofang.base.domain.usage import COUNTED
from mofang.base.storage.counters import CounterArchive, Counters, Counts

if TYPE_CHECKING:  # gateways and workers count, too, and have no database
    from mofang.sell.meter.settler import Settler
    from mofang.sell.meter.store import UsageStore


def counters_of(spec: ReplicaSpec, folder: Path, what: str = "engine") -> Counters:
    """Return counters, kept in ``folder``, for what one replica computes, or else gives."""
    return Counters(folder, spec.id.partition("/")[0], f"{spec.id.replace('/', '.')}.{what}")


def open_counters(archive: CounterArchive, settler: Settler, usage: UsageStore) -> None:
    """Begin to count, once: what was used before anything was counted is taken from the ledger."""
    if archive.since is not None:
        return
    settler.fold()
    balances: dict[str, Counts] = {}
    for total in usage.totals(("endpoint", "tenant", "meter")):
        endpoint, tenant, meter = (total.group[name] for name in ("endpoint", "tenant", "meter"))
        if meter in COUNTED:
            balances.setdefault(endpoint, {}).setdefault(tenant, {})[meter] = total.quantity
    archive.open(now_us(), balances)
