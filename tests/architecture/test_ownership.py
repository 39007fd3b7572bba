"""Every table says to whom its rows belong; a new one has to say so here, and how it is kept."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

from mofang.base.storage.owners import Kind
from mofang.base.storage.revise import all_tables

STORES = Path(__file__).parents[2] / "src" / "mofang"
OWNED: dict[str, Kind] = {
    "models": "model", "versions": "model", "aliases": "model", "version_variants": "model",
    "runs": "run", "jobs": "job", "files": "file",
    "job_events": "job", "evaluations": "evaluation", "variants": "variant", "endpoints": "endpoint",
    "revisions": "endpoint", "rollouts": "endpoint", "audiences": "endpoint",
}  # fmt: skip
"""Table -> the kind of thing it is about, whose owner is in the table ``owners``."""
OTHERS = {
    "owners": "says who owns what", "prepared": "names tenant and project", "audit_concerns": "names whom",
    "tenants": "a tenant is itself", "projects": "names its tenant", "api_keys": "names its project",
    "access_limits": "names a key, project or tenant", "users": "seen through its grants",
    "grants": "names tenant and project", "quotes": "by the digest of a recipe's whole text",
    "sheets": "by a dataset's digest",
    "usage_records": "names its series", "usage_meters": "names of meters", "usage_windows": "names its series",
    "usage_series": "names tenant and project", "usage_segments": "the settler's own",
    "budgets": "names a key, project or tenant", "budget_months": "names its budget",
    "budget_leases": "the lender's own", "budget_alerts": "names its budget", "budget_notices": "names its budget",
    "tenant_weights": "names its tenant",
    "price_books": "the platform's", "invoices": "names its tenant",
    "late_usage": "names its tenant", "parties": "names its tenant; shown to the platform only",
}  # fmt: skip
PREFIXES = {"audit_": "by audit_concerns; else the platform's", "invoice": "names its tenant, or its invoice",
            "price": "the platform's", "usage_": "the ledger: names tenant and project",
            "bill": "names its tenant"}  # fmt: skip


def test_every_table_says_to_whom_its_rows_belong() -> None:
    told = OWNED.keys() | OTHERS.keys()
    unknown = {name for name in all_tables().tables.keys() - told if not name.startswith(tuple(PREFIXES))}
    assert unknown == set(), "to whom do they belong? see docs/concepts/access.md"


def test_stores_claim_and_hide_what_they_keep() -> None:
    """What a kind is made by is claimed; where a kind is kept, the clause that hides it is used."""
    claimed, hidden = set(), set()
    for path in STORES.rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            words = {word.value for word in call.args if isinstance(word, ast.Constant)} & {*get_args(Kind)}
            if name in ("claim", "visible", "owns", "has"):
                (claimed if name == "claim" else hidden).update(words)
    assert claimed >= {*OWNED.values(), "upload"}
    assert hidden >= {*OWNED.values(), "upload"}
