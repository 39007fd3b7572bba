"""Usage: sums and events, of the projects that the caller reaches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from mofang.base.domain.access import Principal
from mofang.base.domain.errors import OutOfReach
from mofang.base.domain.usage import UsageEvent
from mofang.base.identity.store import IdentityStore
from mofang.base.storage.counters import CounterArchive
from mofang.sell.meter.pages import UsageTotal
from mofang.sell.meter.reconcile import compare
from mofang.sell.meter.store import UsageStore
from mofang.surface.api.access import Caller, Route, table
from mofang.surface.api.fields import AfterNumber, At, EndpointName, Id, Limit, Page, ProjectName

By = Annotated[str, Query(pattern=r"^[a-z_]*(,[a-z_]+)*$", max_length=200, description="columns to sum by")]
From = Annotated[At | None, Query(alias="from", description="start of a full hour, microseconds since the epoch")]
To = Annotated[At | None, Query(description="start of a full hour, microseconds since the epoch; not included")]


class Row(BaseModel):
    """What every meter counted, summed over all usage that agrees in ``by``."""

    by: dict[str, str | int]
    quantities: dict[str, int]


class Sums(BaseModel):
    """Usage from ``start`` up to ``end``; null: all there is."""

    start: int | None
    end: int | None
    items: list[Row]


class Difference(BaseModel):
    """One meter of an endpoint: what engines counted, what the ledger has; below zero was billed and not computed."""

    endpoint: str
    tenant: str
    meter: str
    counted: int
    ledger: int
    difference: int


class Reconciliation(BaseModel):
    """The ledger beside the counters of engines, which count ``since`` (microseconds since the epoch)."""

    since: int | None
    items: list[Difference]


class Meter:
    """The routes of `meter`."""

    def __init__(
        self, usage: UsageStore, counters: CounterArchive, identity: IdentityStore, settle: Callable[[], None]
    ) -> None:
        self._usage = usage
        self._counters = counters
        self._identity = identity
        self._settle = settle

    def sum_usage(
        self,
        who: Caller,
        by: By = "endpoint",
        start: From = None,
        to: To = None,
        project: ProjectName | None = None,
        endpoint: EndpointName | None = None,
    ) -> Sums:
        """Sum usage by tenant, project, key_id, endpoint, revision, version, digest, variant,
        outcome, source, hour, day or month."""
        filters = self._filters(who, project, {"endpoint": endpoint})
        self._settle()
        columns = [name for name in by.split(",") if name and name != "meter"]
        return Sums(start=start, end=to, items=_rows(self._usage.totals(columns, start, to, filters)))

    def list_usage_events(
        self,
        who: Caller,
        after: AfterNumber = 0,
        limit: Limit = 100,
        project: ProjectName | None = None,
        endpoint: EndpointName | None = None,
        request_id: Id | None = None,
    ) -> Page[UsageEvent]:
        """List usage events in the order of the ledger."""
        filters = self._filters(who, project, {"endpoint": endpoint, "request_id": request_id})
        self._settle()
        found = self._usage.events(filters, after=after, limit=limit)
        return Page(items=found.items, next=found.next)

    def reconcile_usage(self, who: Caller) -> Reconciliation:
        """Compare the ledger with what engines counted by themselves, of the caller's tenant or of all."""
        if who.reach == "project":
            raise OutOfReach("engines count by tenant: this is for keys that reach a tenant, not only a project")
        tenant = who.tenant if who.reach == "tenant" else None
        self._settle()
        filters = {} if tenant is None else {"tenant": tenant}
        totals = self._usage.totals(("endpoint", "tenant", "meter"), filters=filters)
        items = [Difference(**each.to_dict()) for each in compare(self._counters.read(), totals, tenant)]
        return Reconciliation(since=self._counters.since, items=items)

    def _filters(self, who: Principal, project: str | None, others: dict[str, str | None]) -> dict[str, str]:
        """Narrow what was asked for to what the caller may see; raise ProjectNotFound for another's project."""
        scope = {"platform": {}, "tenant": {"tenant": who.tenant}, "project": {"project": who.project}}[who.reach]
        if project is not None:
            scope["project"] = self._identity.get_project(project).name
        return scope | {name: value for name, value in others.items() if value is not None}


def router(
    usage: UsageStore, counters: CounterArchive, identity: IdentityStore, settle: Callable[[], None]
) -> APIRouter:
    """Make the router of `meter`."""
    api = Meter(usage, counters, identity, settle)
    return table(
        "meter",
        Route("GET", "/usage", "usage", api.sum_usage),
        Route("GET", "/usage/events", "usage", api.list_usage_events),
        Route("GET", "/usage/reconciliation", "usage", api.reconcile_usage),
    )


def _rows(totals: list[UsageTotal]) -> list[Row]:
    """Put the meters of a group side by side."""
    rows: dict[tuple[object, ...], Row] = {}
    for total in totals:
        by = {name: value for name, value in total.group.items() if name != "meter"}
        row = rows.setdefault(tuple(by.values()), Row(by=by, quantities={}))
        row.quantities[total.group["meter"]] = total.quantity
    return list(rows.values())
