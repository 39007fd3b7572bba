"""The audit log in a database: what is appended is searched, proved, verified, and erased without breaking it."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from forging import read_export, rewrite, sign, write_export
from mofang.base.audit.chain import ERASURE, GENESIS, hash_of
from mofang.base.audit.files import append_anchor, export_lines, read_anchors, verify_file
from mofang.base.audit.heads import AuditKey, AuditPublicKey, Head
from mofang.base.audit.merkle import EMPTY_ROOT
from mofang.base.audit.store import AuditStore, audit_head, audit_records
from mofang.base.audit.verify import Anchor
from mofang.base.domain.errors import AuditBroken, AuditRecordNotFound, InvalidAuditKey
from mofang.base.storage.database import Database


@pytest.fixture
def key(tmp_path: Path) -> AuditKey:
    return AuditKey.open(tmp_path / "audit.key")


@pytest.fixture
def audit(database: Database, key: AuditKey) -> AuditStore:
    store = AuditStore(database, key)
    for number in range(1, 6):
        store.append(
            "key-1", "endpoint.deploy", f"digits-{number}", before=None, after={"version": number, "note": "größer"}
        )
    return store


def _change(database: Database, where: int, **values: Any) -> None:
    with database.write() as connection:
        connection.execute(update(audit_records).where(audit_records.c.seq == where).values(**values))


def _remove(database: Database, seq: int) -> None:
    with database.write() as connection:
        connection.execute(delete(audit_records).where(audit_records.c.seq == seq))


def test_an_empty_log_is_whole(database: Database, key: AuditKey) -> None:
    report = AuditStore(database, key).verify()
    assert (report.records, report.head, report.root) == (0, GENESIS, EMPTY_ROOT.hex())


def test_a_log_that_nobody_touched_is_whole(audit: AuditStore) -> None:
    report = audit.verify()
    records = audit.list()
    assert report.records == 5
    assert report.head == records[-1].hash
    assert [record.seq for record in records] == [1, 2, 3, 4, 5]
    assert [record.previous for record in records] == [GENESIS, *(record.hash for record in records[:-1])]
    assert (records[2].details, records[2].actor, records[2].target) == (
        {"before": None, "after": {"version": 3, "note": "größer"}}, "key-1", "digits-3",
    )  # fmt: skip


def test_the_log_is_searched_and_paged(audit: AuditStore) -> None:
    assert [record.seq for record in audit.list(after=1, limit=3)] == [2, 3, 4]
    other = audit.append("key-2", "key.create", "k", before=None, after={}, address="192.0.2.7")
    assert other.address == "192.0.2.7"
    found = {
        "actor": audit.list(actor="key-2"),
        "action": audit.list(action="key.create"),
        "kind": audit.list(action="key"),
        "time": audit.list(start=other.at),
    }
    assert {name: [record.seq for record in records] for name, records in found.items()} == {
        name: [6] for name in found
    }
    assert [record.seq for record in audit.list(target="digits-2", end=other.at + 1)] == [2]
    assert audit.list(action="ke") == audit.list(end=1) == []


def test_a_record_is_committed_with_what_it_tells_of(audit: AuditStore, database: Database) -> None:
    def fail() -> None:
        with database.write():
            audit.append("key-1", "key.create", "k", before=None, after={})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert audit.verify().records == 5
    assert audit.append("key-1", "key.create", "k", before=None, after={}).seq == 6
    assert audit.verify().records == 6


@pytest.mark.parametrize(
    "values",
    [
        {"actor": "key-2"},
        {"action": "endpoint.delete"},
        {"target": "digits-9"},
        {"address": "192.0.2.1"},
        {"at": 1},
        {"details": '{"details.after":4}'},
        {"details": "{"},
        {"salts": "{}"},
        {"commitments": "{}"},
        {"hash": "0" * 64},
        {"previous": "0" * 64},
    ],
)
@pytest.mark.parametrize("seq", [2, 5])
def test_a_changed_record_is_named(audit: AuditStore, database: Database, values: dict[str, Any], seq: int) -> None:
    _change(database, seq, **values)
    with pytest.raises(AuditBroken, match=rf"audit record {seq} (was changed|does not follow)"):
        audit.verify()


@pytest.mark.parametrize("seq", [1, 3, 5])
def test_a_removed_record_is_named(audit: AuditStore, database: Database, seq: int) -> None:
    _remove(database, seq)
    with pytest.raises(AuditBroken, match=f"audit record {seq} is missing"):
        audit.verify()


def test_two_records_that_changed_places_are_named(audit: AuditStore, database: Database) -> None:
    _change(database, 2, seq=99)
    _change(database, 3, seq=2)
    _change(database, 99, seq=3)
    with pytest.raises(AuditBroken, match="audit record 2 does not follow"):
        audit.verify()


def test_an_inserted_record_is_named(audit: AuditStore, database: Database) -> None:
    with database.write() as connection:
        row = connection.execute(select(audit_records).where(audit_records.c.seq == 5)).mappings().one()
        connection.execute(insert(audit_records).values(**{**row, "seq": 6, "previous": row["hash"]}))
    with pytest.raises(AuditBroken, match="audit record 6"):
        audit.verify()


def test_a_log_without_its_head_takes_nothing_more(audit: AuditStore, database: Database) -> None:
    with database.write() as connection:
        connection.execute(delete(audit_head))
    with pytest.raises(AuditBroken, match="head"):
        audit.append("key-1", "key.create", "k", before=None, after={})


def test_a_head_that_another_key_signed_is_found(audit: AuditStore, database: Database, tmp_path: Path) -> None:
    other = AuditStore(database, AuditKey.open(tmp_path / "other.key"))
    with pytest.raises(AuditBroken, match="not signed by that key"):
        other.verify()


def test_the_private_key_is_private_and_stays(tmp_path: Path) -> None:
    first = AuditKey.open(tmp_path / "audit.key")
    assert stat.S_IMODE((tmp_path / "audit.key").stat().st_mode) == 0o600
    assert AuditKey.open(tmp_path / "audit.key").public_pem == first.public_pem
    assert [path.name for path in tmp_path.iterdir()] == ["audit.key"]
    (tmp_path / "bad.key").write_text("no key")
    with pytest.raises(InvalidAuditKey):
        AuditKey.open(tmp_path / "bad.key")
    with pytest.raises(InvalidAuditKey):
        AuditPublicKey("no key")


@pytest.mark.parametrize("size", [1, 2, 5, 8, 13])
def test_proofs_convince_who_has_only_the_public_key(database: Database, key: AuditKey, size: int) -> None:
    audit, public = AuditStore(database, key), AuditPublicKey(key.public_pem)
    for number in range(size):
        audit.append("k", "count", str(number), before=None, after={})
    for seq in range(1, size + 1):
        audit.prove(seq).check(public)
        audit.prove_growth(seq).check(public)
    with pytest.raises(AuditRecordNotFound):
        audit.prove(size + 1)
    with pytest.raises(AuditRecordNotFound):
        audit.prove_growth(0)
    forged = audit.prove(1)
    with pytest.raises(AuditBroken, match="is not in the log"):
        type(forged)(1, "00" * 32, forged.path, forged.head).check(public)
    with pytest.raises(AuditBroken, match="not signed"):
        type(forged)(1, forged.hash, forged.path, Head(size, "00" * 32, "", 0, forged.head.signature)).check(public)


# --- erasure ------------------------------------------------------------------------------------------------------


@pytest.fixture
def personal(audit: AuditStore) -> AuditStore:
    audit.append(
        "alice",
        "user.create",
        "user/alice",
        before=None,
        after={"role": "viewer"},
        details={"email": "alice@example.com"},
        address="192.0.2.9",
    )
    audit.append("key-1", "project.create", "shop", before=None, after={"owner": "alice", "tenant": "acme"})
    audit.append("key-1", "project.create", "malice", before=None, after={"owner": "alice2"})
    return audit


def test_erased_words_are_gone_and_the_log_is_whole(personal: AuditStore, database: Database) -> None:
    before = personal.head()
    record = personal.erase("key-1", "alice", address="192.0.2.1")
    assert record.details["erased"] == {"6": ["actor", "address", "target"], "7": ["details.after"], "9": ["target"]}
    report = personal.verify()
    assert (report.records, report.erased) == (9, 3)  # the erasure itself does not say whose words they were
    found = personal.list(after=5)
    assert [it.erased for it in found] == [("actor", "address", "target"), ("details.after",), (), ("target",)]
    assert found[0].details == {"before": None, "after": {"role": "viewer"}, "email": "alice@example.com"}
    assert [it.hash for it in found[:3]][-1] == before.last
    with database.read() as connection:
        text = str(connection.execute(select(audit_records)).all())
    assert "user/alice" not in text
    assert "'alice'" not in text
    assert "malice" in text
    personal.erase("key-1", "alice@example.com")
    assert personal.list(after=5)[0].details == {"before": None, "after": {"role": "viewer"}}
    assert personal.verify().records == 10
    personal.prove(6).check()


def test_words_that_vanish_without_an_erasure_are_named(personal: AuditStore, database: Database) -> None:
    _change(database, 7, target=None)
    with pytest.raises(AuditBroken, match="audit record 7 lost words, target, that no erasure tells of"):
        personal.verify()


def test_what_is_erased_leaves_the_files(database: Database, personal: AuditStore) -> None:
    if database.url.get_backend_name() != "sqlite":
        return  # PostgreSQL vacuums in its own time
    personal.append("canary-5f1e", "user.create", "x", before=None, after={"name": "canary-5f1e"})
    personal.erase("key-1", "canary-5f1e")
    database.scrub()
    folder = Path(str(database.url.database)).parent
    assert [path.name for path in folder.iterdir() if b"canary-5f1e" in path.read_bytes()] == []
    assert personal.verify().records == 10


# --- outside of the database --------------------------------------------------------------------------------------


def _export(audit: AuditStore, folder: Path) -> Path:
    path = folder / "audit.jsonl"
    path.write_text("".join(export_lines(audit.list(limit=1000), audit.head())), encoding="utf-8")
    return path


def test_an_export_is_verified_without_a_server(audit: AuditStore, tmp_path: Path) -> None:
    heads = tmp_path / "heads.jsonl"
    append_anchor(heads, audit.anchor(0))
    audit.append("key-1", "key.create", "k", before=None, after={})
    append_anchor(heads, audit.anchor(5))
    assert [(anchor.head.size, len(anchor.hashes)) for anchor in read_anchors(heads)] == [(5, 5), (6, 1)]
    report = verify_file(_export(audit, tmp_path), audit.public_key, heads)
    assert (report.records, report.anchors, report.head) == (6, 2, audit.head().last)
    assert verify_file(_export(audit, tmp_path)).records == 6


def test_a_file_of_heads_survives_a_torn_line_and_nothing_else(audit: AuditStore, tmp_path: Path) -> None:
    heads = tmp_path / "heads.jsonl"
    append_anchor(heads, audit.anchor(0))
    whole = heads.read_bytes()
    heads.write_bytes(whole + whole[:50])
    assert len(read_anchors(heads)) == 1
    append_anchor(heads, audit.anchor(0))
    assert len(read_anchors(heads)) == 2
    heads.write_bytes(b"{}\n" + whole)
    with pytest.raises(AuditBroken, match="line 1"):
        read_anchors(heads)


def test_an_anchor_without_hashes_bounds_where_a_log_was_rewritten(
    audit: AuditStore, key: AuditKey, tmp_path: Path
) -> None:
    heads = tmp_path / "heads.jsonl"
    append_anchor(heads, Anchor(audit.anchor(0).head))
    for number in range(3):
        audit.append("key-1", "count", str(number), before=None, after={})
    append_anchor(heads, Anchor(audit.anchor(0).head))
    export = _export(audit, tmp_path)
    forged = rewrite(read_export(export)[0], 7)
    write_export(export, forged, sign(forged, key))
    assert verify_file(export, key.public_pem).records == 8  # nothing in the log itself tells
    with pytest.raises(AuditBroken, match="audit record 6, or one after it up to 8, was rewritten"):
        verify_file(export, key.public_pem, heads)


def test_a_hash_covers_what_its_documentation_says(audit: AuditStore) -> None:
    record = audit.list()[0].to_dict()
    assert record["hash"] == hash_of(1, record["at"], record["action"], record["commitments"], GENESIS)
    assert json.loads(json.dumps(record)) == record
    assert ERASURE == "audit.erase"
