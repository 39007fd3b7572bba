"""Heads of the audit log reach a file and a web server elsewhere: signed, and until they are taken."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from mofang.base.audit.files import read_anchors
from mofang.base.audit.heads import AuditKey, AuditPublicKey, Head
from mofang.base.audit.store import AuditStore
from mofang.base.storage.database import Database
from mofang.surface.server.anchoring import Anchoring
from receivers import receiver


@pytest.fixture
def audit(tmp_path: Path) -> AuditStore:
    database = Database(f"sqlite:///{tmp_path / 'mofang.db'}")
    database.migrate()
    return AuditStore(database, AuditKey.open(tmp_path / "audit.key"))


def grow(audit: AuditStore) -> None:
    audit.append("ada", "count", "one", before=None, after={"number": 1})


def test_a_head_is_posted_until_it_is_taken(audit: AuditStore, tmp_path: Path) -> None:
    with receiver(503, 302, 204) as (url, taken):
        anchoring = Anchoring(audit, tmp_path / "heads.jsonl", url)
        asyncio.run(anchoring.step())
        assert taken == [], "a log without a record has no head to keep"
        grow(audit)
        for posts in (1, 2, 3, 3):
            asyncio.run(anchoring.step())
            assert len(taken) == posts
        assert [anchor.head for anchor in read_anchors(tmp_path / "heads.jsonl")] == [audit.head()]
        grow(audit)
        asyncio.run(anchoring.step())
        assert len(taken) == 4
    key = AuditPublicKey(audit.public_key)
    heads = [Head.read(json.loads(body)) for _, body in taken]
    assert [head.size for head in heads] == [1, 1, 1, 2]
    assert all(key.has_signed(head) for head in heads)
    assert heads[-1] == audit.head()
    forged = Head(1, heads[-1].root, heads[-1].last, heads[-1].at, heads[-1].signature)
    assert not key.has_signed(forged), "whoever gets it can tell"


def test_a_receiver_that_is_away_gets_the_newest_head_when_it_is_back(audit: AuditStore, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"http://127.0.0.1:{server.getsockname()[1]}/"
    anchoring = Anchoring(audit, tmp_path / "heads.jsonl", nobody)
    for _ in range(3):
        grow(audit)
        asyncio.run(anchoring.step())
    assert [anchor.head.size for anchor in read_anchors(tmp_path / "heads.jsonl")] == [1, 2, 3], "the file goes on"
    with receiver(200) as (url, taken):
        again = Anchoring(audit, tmp_path / "heads.jsonl", url)  # as after a restart
        asyncio.run(again.step())
        assert [json.loads(body)["size"] for _, body in taken] == [3]
