"""What billing costs: rating a million events, and the usage page over a ledger that grows.

    python benchmarks/billing.py [--events N] [--sizes N,N,...] [--folder DIR]

First, events of many tenants are folded into a ledger as the settler does, with late usage and the audit log told of
each fold; then every tenant is invoiced, and every invoice made again and compared with its events. Then a ledger is
filled to each size, a month of equally busy hours, and the queries of the usage page are timed: they read sums of
hours, so their time follows the number of hours and clients, not that of events. The last one adds the events up
instead, which is what the sums save. The last column is the processor's part of the one before it, which is what a
machine that others use as well leaves comparable.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import text

from mofang.base.audit.heads import AuditKey
from mofang.base.audit.store import AuditStore
from mofang.base.domain.errors import EndpointNotFound
from mofang.base.domain.names import now_us
from mofang.base.domain.usage import UsageRecord
from mofang.base.storage.database import Database, metadata
from mofang.sell.bill.billing import Billing
from mofang.sell.bill.rating import Origin
from mofang.sell.bill.store import BillStore
from mofang.sell.meter.folding import Fold
from mofang.sell.meter.settler import CHUNK_RECORDS
from mofang.sell.meter.store import UsageStore
from mofang.sell.meter.windows import DAY_US, HOUR_US, hour_of
from mofang.sell.meter.witness import Witness

ROOT = Path(__file__).parents[1]
METERS = {"requests": 1, "rows": 8, "compute_us": 180}
METER_NAMES = json.dumps([*METERS], separators=(",", ":"))
TENANTS, KEYS, ENDPOINTS, VERSIONS = 20, 50, 4, 2
MONTH_HOURS = 720
FILLED_AT_ONCE = 5_000_000  # events of one transaction: bounds the log of the database
QUERIES: dict[str, Callable[[UsageStore, int], object]] = {
    "all of it by endpoint": lambda usage, end: usage.totals(("endpoint", "version", "digest")),
    "a month by endpoint": lambda usage, end: usage.totals(("endpoint",), end - MONTH_HOURS * HOUR_US, end),
    "a month by tenant": lambda usage, end: usage.totals(("tenant",), end - MONTH_HOURS * HOUR_US, end),
    "one tenant's month by day": lambda usage, end: usage.totals(
        ("day",), end - MONTH_HOURS * HOUR_US, end, {"tenant": "tenant-7"}
    ),
    "one tenant's day by hour": lambda usage, end: usage.totals(("hour",), end - DAY_US, end, {"tenant": "tenant-7"}),
    "one project's month by key": lambda usage, end: usage.totals(
        ("key_id",), end - MONTH_HOURS * HOUR_US, end, {"project": "project-7"}
    ),
    "a page of events": lambda usage, end: usage.events({"tenant": "tenant-7"}, limit=100),
}


def refuse(endpoint: str) -> None:
    """No endpoint is served here."""
    raise EndpointNotFound(endpoint)


def open_billing(folder: Path) -> tuple[Database, UsageStore, Billing]:
    """Open a ledger with everything that is told of its folds."""
    database = Database(f"sqlite:///{folder / 'mofang.db'}")
    with database.write() as connection:
        metadata.create_all(connection)
    bills, witness = BillStore(database), Witness(AuditStore(database, AuditKey.open(folder / "audit.key")))

    def on_fold(fold: Fold) -> None:
        bills.note_late(fold)
        witness.note(fold)

    usage = UsageStore(database, on_fold=on_fold)
    bills.publish((ROOT / "examples" / "prices-tiered.toml").read_text(), 0)
    billing = Billing(bills, usage, lambda versions: dict.fromkeys(versions, Origin("digits", "original")), refuse)  # type: ignore[arg-type]
    return database, usage, billing


def records(count: int, start: int, hours: int) -> Iterator[UsageRecord]:
    """Answers of a month, in the order of time."""
    for number in range(count):
        tenant = number % TENANTS
        yield UsageRecord(
            request_id=f"req_{number:026d}", at=start + number * hours * HOUR_US // count, tenant=f"tenant-{tenant}",
            project=f"project-{tenant}", key_id=f"key-{number % KEYS}", endpoint=f"endpoint-{number % ENDPOINTS}",
            revision=1, version=1 + number % VERSIONS, digest="sha256:" + "ab" * 32, outcome="ok", quantities=METERS,
        )  # fmt: skip


def bench_invoices(folder: Path, events: int) -> None:
    """Fold ``events`` events, then invoice everybody and check every invoice."""
    database, usage, billing = open_billing(folder)
    end = hour_of(now_us())
    start = end - MONTH_HOURS * HOUR_US
    made = list(records(events // len(METERS), start, MONTH_HOURS))
    began = time.perf_counter()
    for first in range(0, len(made), CHUNK_RECORDS):
        usage.fold("segment", first, first + CHUNK_RECORDS, made[first : first + CHUNK_RECORDS])
    folded = time.perf_counter()
    invoices = [billing.issue(billing.draft(f"tenant-{number}", start, end).id) for number in range(TENANTS)]
    rated = time.perf_counter()
    checks = [billing.verify(invoice.id) for invoice in invoices]
    checked = time.perf_counter()
    assert all(check.matches and check.events_match for check in checks)
    lines = sum(len(invoice.document.lines) for invoice in invoices)
    print(f"{usage.count():,} events of {TENANTS} tenants, {lines} lines")
    print(f"  folded into the ledger       {folded - began:7.2f} s")
    print(f"  rated, invoiced, issued      {rated - folded:7.2f} s   (twice: as a draft, and when issued)")
    print(f"  made again, events added up  {checked - rated:7.2f} s")
    database.close()


def fill(database: Database, size: int, have: int, end: int) -> None:
    """Fill the ledger from ``have`` to ``size`` events, by statements of SQL: a month of equally busy hours."""
    step = """
    WITH RECURSIVE n(i) AS (SELECT :have / 3 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :size / 3)
    INSERT INTO usage_records (seq, series_id, request_id, attempt, at, meters_id, quantities)
    SELECT 3 * i + 3, 1 + i % :series, printf('req_%026d', i), 1,
        :start + (i / :series) % :hours * :hour + 3 * i % 1000000, 1,
        '[' || (1 + 3 * i % 7) || ',' || (1 + (3 * i + 1) % 7) || ',' || (1 + (3 * i + 2) % 7) || ']' FROM n
    """
    fold = """
    INSERT INTO usage_windows (hour, series_id, meter, month, quantity, events, first_seq, last_seq)
    SELECT at - at % :hour, series_id, meter.value, 0, sum(quantities ->> meter.key), count(*), min(seq), max(seq)
    FROM usage_records, json_each((SELECT names FROM usage_meters WHERE id = 1)) AS meter
    WHERE seq > :have AND seq <= :size GROUP BY 1, 2, 3
    ON CONFLICT (hour, series_id, meter) DO UPDATE SET quantity = quantity + excluded.quantity,
        events = events + excluded.events, last_seq = excluded.last_seq
    """
    values = {"series": len(SERIES), "hours": MONTH_HOURS, "hour": HOUR_US, "start": end - MONTH_HOURS * HOUR_US}
    for first in range(have, size, FILLED_AT_ONCE):
        values |= {"have": first, "size": min(size, first + FILLED_AT_ONCE)}
        with database.write() as connection:
            connection.execute(text(step), values)
            connection.execute(text(fold), values)


SERIES = [
    (key, tenant, endpoint, version)
    for key in range(KEYS)
    for tenant in [key % TENANTS]
    for endpoint in range(2)
    for version in [1 + endpoint % VERSIONS]
]


def bench_page(folder: Path, sizes: list[int]) -> None:
    """Time the queries of the usage page over ledgers of ``sizes`` events."""
    database, usage, _ = open_billing(folder)
    end = hour_of(now_us())
    with database.write() as connection:
        connection.execute(text("INSERT INTO usage_meters (id, names) VALUES (1, :names)"), {"names": METER_NAMES})
        for number, (key, tenant, endpoint, version) in enumerate(SERIES, 1):
            connection.execute(
                text(
                    "INSERT INTO usage_series"
                    " (id, key_id, tenant, project, endpoint, revision, version, digest, outcome, source, last_at)"
                    " VALUES (:id, :key, :tenant, :project, :endpoint, 1, :version, :digest, 'ok', 'engine', 0)"
                ),
                {"id": number, "key": f"key-{key}", "tenant": f"tenant-{tenant}", "project": f"project-{tenant}",
                 "endpoint": f"endpoint-{endpoint}", "version": version, "digest": "sha256:" + "ab" * 32},
            )  # fmt: skip
    columns: list[list[tuple[float, float]]] = []
    have, windows = 0, 0
    for size in sizes:
        fill(database, size, have, end)
        have = size
        columns.append([measure(query, usage, end) for query in QUERIES.values()])
        with database.read() as connection:
            windows = connection.scalar(text("SELECT count(*) FROM usage_windows")) or 0
    began = time.perf_counter()
    with database.read() as connection:
        summed = "SELECT series_id, meters_id, sum(quantities ->> 0), sum(quantities ->> 1), sum(quantities ->> 2)"
        connection.execute(text(f"{summed} FROM usage_records GROUP BY 1, 2")).all()
    added = (time.perf_counter() - began) * 1e3
    size_bytes = sum(path.stat().st_size for path in folder.glob("mofang.db*"))
    print(
        f"\nthe usage page, ms, {len(SERIES)} series, {MONTH_HOURS} hours: {windows:,} sums; {size_bytes / 1e9:.1f} GB"
    )
    print(f"{'events':<28}" + "".join(f"{size:>14,}" for size in sizes) + f"{'processor':>14}")
    for name, row in zip(QUERIES, zip(*columns, strict=True), strict=True):
        print(f"{name:<28}" + "".join(f"{wall:>14.1f}" for wall, _ in row) + f"{row[-1][1]:>14.1f}")
    print(f"{'adding up the events instead':<28}{'':>{14 * (len(sizes) - 1)}}{added:>14.1f}")
    database.close()


def measure(query: Callable[[UsageStore, int], object], usage: UsageStore, end: int) -> tuple[float, float]:
    """Return the medians of five runs, in milliseconds: how long it took, and the processor's part of that."""
    times = []
    for _ in range(5):
        began, used = time.perf_counter(), time.thread_time()
        query(usage, end)
        times.append(((time.perf_counter() - began) * 1e3, (time.thread_time() - used) * 1e3))
    wall, processor = (statistics.median(each) for each in zip(*times, strict=True))
    return wall, processor


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--sizes", default="1000000,4000000,10000000")
    parser.add_argument("--folder", type=Path, help="where to keep the ledgers; left out: a temporary folder")
    options = parser.parse_args()
    for part in (
        lambda folder: bench_invoices(folder, options.events),
        lambda folder: bench_page(folder, [int(size) for size in options.sizes.split(",")]),
    ):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            part(Path(folder))


if __name__ == "__main__":
    main()
