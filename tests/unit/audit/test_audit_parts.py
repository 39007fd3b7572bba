"""A tenant's part of the audit log: what concerns her, proved to be in the log of all, verified without a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from mofang.base.audit.files import append_anchor, part_lines, verify_file
from mofang.base.audit.heads import AuditKey
from mofang.base.audit.store import AuditStore
from mofang.base.domain.access import NOTHING, Scope
from mofang.base.domain.errors import AuditBroken, AuditRecordNotFound
from mofang.base.storage.database import Database

ACME, SHOP, RIVAL = Scope("acme", "", "tenant"), Scope("acme", "shop"), Scope("rival", "lab")


@pytest.fixture
def audit(database: Database, tmp_path: Path) -> AuditStore:
    store = AuditStore(database, AuditKey.open(tmp_path / "audit.key"))
    for number, of in enumerate([[], [ACME], [SHOP], [RIVAL], [SHOP, RIVAL], [Scope("acme", "web")]], 1):
        store.append("ada", "thing.change", f"thing-{number}", before=None, after={"number": number}, of=of)
    return store


def seen(audit: AuditStore, database: Database, scope: Scope) -> list[int]:
    with database.acting(scope):
        return [record.seq for record in audit.list()]


def test_everybody_sees_what_concerns_her(audit: AuditStore, database: Database) -> None:
    assert seen(audit, database, Scope("acme", "shop", "tenant")) == [2, 3, 5, 6]
    assert seen(audit, database, SHOP) == [3, 5], "what concerns the tenant as a whole is not for its projects"
    assert seen(audit, database, Scope("rival", "lab", "tenant")) == [4, 5]
    assert seen(audit, database, NOTHING) == []
    assert seen(audit, database, Scope("default", "default", "platform")) == [1, 2, 3, 4, 5, 6]
    assert [record.details.get("of") for record in audit.list()][3:5] == [["rival/lab"], ["acme/shop", "rival/lab"]]


def test_a_record_of_another_tenant_is_proved_to_nobody_else(audit: AuditStore, database: Database) -> None:
    with database.acting(SHOP):
        audit.prove(5).check()
        for seq in (1, 2, 4, 7):
            with pytest.raises(AuditRecordNotFound, match=f"there is no audit record {seq}, the log has 6"):
                audit.prove(seq)


def export(audit: AuditStore, database: Database, path: Path, scope: Scope) -> list[dict[str, Any]]:
    with database.acting(scope):
        records = audit.list()
        lines = list(part_lines(zip(records, audit.prove_all([it.seq for it in records]), strict=True), audit.head()))
    path.write_text("".join(lines), "utf-8")
    return [json.loads(line) for line in lines]


def test_a_part_is_verified_without_a_server(audit: AuditStore, database: Database, tmp_path: Path) -> None:
    heads, part = tmp_path / "heads.jsonl", tmp_path / "part.jsonl"
    append_anchor(heads, audit.anchor(0))
    export(audit, database, part, Scope("acme", "shop", "tenant"))
    report = verify_file(part, audit.public_key, heads)
    assert (report.records, report.root, report.anchors) == (4, audit.head().root, 1)
    audit.erase("boss", "thing-3")
    export(audit, database, part, Scope("acme", "shop", "tenant"))
    assert verify_file(part, audit.public_key, heads).erased == 1


@pytest.mark.parametrize(
    "tampering",
    [
        "DELETE FROM audit_concerns WHERE seq = 5 AND tenant = 'acme'",
        "INSERT INTO audit_concerns (seq, tenant, project) VALUES (5, 'third', '')",
        "UPDATE audit_concerns SET project = 'web' WHERE seq = 5 AND tenant = 'acme'",
    ],
)
def test_who_is_shown_a_record_cannot_be_changed(audit: AuditStore, database: Database, tampering: str) -> None:
    assert audit.verify().records == 6
    with database.write() as connection:
        connection.execute(text(tampering))
    with pytest.raises(AuditBroken, match="audit record 5 is shown to others"):
        audit.verify()


@pytest.mark.parametrize("forgery", ["edited", "unproved", "borrowed", "moved", "unsigned"])
def test_a_part_that_was_forged_names_the_record(
    audit: AuditStore, database: Database, tmp_path: Path, forgery: str
) -> None:
    part = tmp_path / "part.jsonl"
    lines = export(audit, database, part, Scope("acme", "shop", "tenant"))
    if forgery == "edited":
        lines[1]["record"]["told"]["actor"] = "mallory"
    elif forgery == "unproved":
        del lines[1]["proof"]
    elif forgery == "borrowed":
        lines[1]["proof"] = lines[0]["proof"]
    elif forgery == "moved":
        lines[0], lines[1] = lines[1], lines[0]
    else:
        lines[1]["proof"]["head"]["root"] = lines[1]["record"]["hash"]
    part.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    named = {"moved": "audit record 2 is out of order", "unsigned": "not signed"}.get(forgery, "audit record 3 ")
    with pytest.raises(AuditBroken, match=named):
        verify_file(part, audit.public_key)


def test_a_log_that_was_rewritten_is_found_by_her_who_kept_heads(
    audit: AuditStore, database: Database, tmp_path: Path
) -> None:
    heads, part = tmp_path / "heads.jsonl", tmp_path / "part.jsonl"
    append_anchor(heads, audit.anchor(0))
    other = Database(f"sqlite:///{tmp_path / 'forged.db'}")
    other.migrate()
    forged = AuditStore(other, AuditKey.open(tmp_path / "audit.key"))  # by one who has the private key
    for number in range(1, 7):
        forged.append("mallory", "thing.change", f"thing-{number}", before=None, after=None, of=[SHOP])
    export(forged, other, part, SHOP)
    assert verify_file(part, audit.public_key).records == 6
    with pytest.raises(AuditBroken, match="audit record 1 was rewritten"):
        verify_file(part, audit.public_key, heads)
    other.close()
