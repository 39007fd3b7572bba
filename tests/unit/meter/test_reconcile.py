"""What engines counted beside the ledger: every unit that differs is found, and nobody sees another's."""

from __future__ import annotations

from ledgers import usage
from mofang.sell.meter.reconcile import Comparison, compare
from mofang.sell.meter.store import UsageStore

BY = ("endpoint", "tenant", "meter")


def test_each_meter_of_each_endpoint_and_tenant_is_compared(store: UsageStore) -> None:
    records = [usage(1, quantities={"requests": 1, "rows": 3, "input_bytes": 99})]
    records.append(usage(2, tenant="zoo", quantities={"requests": 1}))
    store.fold("segment", 0, 2, records)
    counts = {"digits": {"acme": {"requests": 1, "rows": 2}}, "gone": {"acme": {"requests": 1}, "zoo": {"rows": 0}}}
    found = compare(counts, store.totals(BY))
    assert [(each, each.difference) for each in found] == [
        (Comparison("digits", "acme", "requests", 1, 1), 0),
        (Comparison("digits", "acme", "rows", 2, 3), -1),
        (Comparison("digits", "zoo", "requests", 0, 1), -1),
        (Comparison("gone", "acme", "requests", 1, 0), 1),
    ]
    own = compare(counts, store.totals(BY, filters={"tenant": "zoo"}), "zoo")
    assert own == [Comparison("digits", "zoo", "requests", 0, 1)]
    assert own[0].to_dict()["difference"] == -1


def test_what_batches_use_is_compared_with_the_rest(store: UsageStore) -> None:
    store.fold("segment", 0, 2, [usage(1, quantities={"requests": 1}), usage(2, quantities={"batch_requests": 1})])
    assert compare({"digits": {"acme": {"requests": 2}}}, store.totals(BY)) == [
        Comparison("digits", "acme", "requests", 2, 2)
    ]
