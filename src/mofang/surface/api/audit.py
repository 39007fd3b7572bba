"""The audit log: read it, and have it verified."""

from __future__ import annotations

from fastapi import APIRouter

from mofang.base.audit.chain import AuditRecord, VerifyReport
from mofang.base.audit.store import AuditStore
from mofang.surface.api.access import Route, table
from mofang.surface.api.fields import AfterNumber, Limit, Page, page


class Audit:
    """The routes of audit."""

    def __init__(self, audit: AuditStore) -> None:
        self._audit = audit

    def list_records(self, after: AfterNumber = 0, limit: Limit = 100) -> Page[AuditRecord]:
        """List records, oldest first."""
        return page(self._audit.list(after, limit + 1), limit, lambda record: record.seq)

    def verify_records(self) -> VerifyReport:
        """Recompute the whole chain; the error names the first record that was touched."""
        return self._audit.verify()


def router(audit: AuditStore) -> APIRouter:
    """Make the router of audit."""
    api = Audit(audit)
    return table(
        "audit",
        Route("GET", "/audit", "audit", api.list_records, everywhere=True),
        Route("GET", "/audit/verify", "audit", api.verify_records, everywhere=True),
    )
