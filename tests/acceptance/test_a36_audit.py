"""A36: whatever is done to the audit log, verifying it offline fails and names the first record that is not as written.

The log of a real server is exported, with its public key and the heads it kept elsewhere, and then forged in six ways:
by one who can write the file, and by one who has the server's private key as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from forging import Record, edit, put_in, read_export, remove, rewrite, sign, swap, write_export
from mofang.base.audit.files import read_anchors, verify_file
from mofang.base.audit.heads import AuditKey
from mofang.base.audit.verify import VerifyReport
from mofang.base.domain.errors import AuditBroken
from servers import Server, wait_until


@dataclass
class Kept:
    """What an owner keeps of her server's log, where nobody who gets into the server can write."""

    folder: Path
    records: list[Record]
    head: dict[str, Any]
    key: AuditKey

    def verify(self, records: list[Record], head: dict[str, Any]) -> VerifyReport:
        """Verify an export of these records, with no server anywhere; raise AuditBroken."""
        export = write_export(self.folder / "forged.jsonl", records, head)
        return verify_file(export, (self.folder / "audit.pub").read_text(), self.folder / "heads.jsonl")


def run(server: Server, *words: str | Path) -> str:
    command = [Path(sys.executable).with_name("mofang"), *words, "--data", server.data]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder = tmp_path_factory.mktemp("kept")
    heads = folder / "heads.jsonl"
    server = Server(tmp_path_factory.mktemp("server"), environ={"MOFANG_AUDIT_HEADS": str(heads)})
    try:
        for number in range(4):
            server.client.identity.create_tenant(f"tenant-{number}")
            server.client.identity.create_project(f"project-{number}", f"tenant-{number}")
        seen = server.client.audit.head().size
        wait_until(lambda: heads.exists() and read_anchors(heads)[-1].head.size >= seen, 30, "the head is anchored")
        server.client.identity.create_tenant("last")
        (address,) = {record.address for record in server.client.audit.records(action="tenant")}
        assert address == "127.0.0.1"
        for seq in range(1, seen + 1):
            server.client.audit.prove(seq)  # checked by the client, with the public key
            server.client.audit.prove_growth(seq)
        assert "proved" in run(server, "audit", "prove", "1")
        (folder / "audit.pub").write_text(run(server, "audit", "key"))
        run(server, "audit", "export", "-o", folder / "audit.jsonl")
        assert server.terminate() == 0  # and anchors the last head
        assert read_anchors(heads)[-1].head.size == seen + 1
        key = AuditKey.open(server.data / "audit.key")
    finally:
        server.close()
    return Kept(folder, *read_export(folder / "audit.jsonl"), key)


def test_the_log_nobody_touched_is_whole(kept: Kept) -> None:
    assert kept.verify(kept.records, kept.head).records == len(kept.records)


@pytest.mark.parametrize(
    ("forge", "complaint"),
    [
        (edit, "audit record 3 was changed"),
        (remove, "audit record 3 does not follow"),
        (put_in, "audit record 3 was rewritten"),
        (swap, "audit record 3 does not follow"),
    ],
)
@pytest.mark.parametrize("signs", [False, True], ids=["file", "key"])
def test_a_record_that_was_edited_removed_put_in_or_moved_is_named(
    kept: Kept, forge: Callable[[list[Record], int], list[Record]], complaint: str, signs: bool
) -> None:
    forged = forge(kept.records, 3)
    with pytest.raises(AuditBroken, match=complaint):
        kept.verify(forged, sign(forged, kept.key) if signs else kept.head)


def test_a_tail_that_was_cut_is_named_by_the_anchored_head(kept: Kept) -> None:
    cut = kept.records[:-2]
    with pytest.raises(AuditBroken, match=f"audit record {len(cut) + 1} is missing"):
        kept.verify(cut, sign(cut, kept.key))


@pytest.mark.parametrize("seq", [1, 4, 9])
def test_a_log_that_was_rewritten_as_a_whole_is_named_by_the_anchored_head(kept: Kept, seq: int) -> None:
    forged = rewrite(kept.records, seq)
    with pytest.raises(AuditBroken, match=f"audit record {seq} was rewritten"):
        kept.verify(forged, sign(forged, kept.key))


def test_without_the_private_key_a_rewritten_log_has_no_head(kept: Kept, tmp_path: Path) -> None:
    forged = rewrite(kept.records, 1)
    with pytest.raises(AuditBroken, match="is not signed by that key"):
        kept.verify(forged, sign(forged, AuditKey.open(tmp_path / "mallory.key")))


def test_the_command_says_the_same(kept: Kept) -> None:
    for records, code, words in [
        (kept.records, 0, f"{len(kept.records)} records, none of them touched"),
        (rewrite(kept.records, 4), 6, "error[audit.broken]: audit record 4 was rewritten"),
    ]:
        export = write_export(kept.folder / "forged.jsonl", records, sign(records, kept.key))
        command = [Path(sys.executable).with_name("mofang"), "audit", "verify", "--file", export]
        command += ["--public-key", kept.folder / "audit.pub", "--heads", kept.folder / "heads.jsonl"]
        environ = {**os.environ, "MOFANG_DATA": str(kept.folder / "nothing")}
        done = subprocess.run(command, capture_output=True, text=True, env=environ)
        assert done.returncode == code
        assert words in done.stdout + done.stderr


def test_every_sign_in_that_failed_is_counted_when_the_server_stops(start_server: Callable[..., Server]) -> None:
    server = start_server()
    for _ in range(4):
        refused = httpx.post(f"{server.url}/api/v1/sign-in", json={"user": "nobody", "password": "x" * 12})
        assert refused.status_code == 401
    (first,) = server.client.audit.records(action="session.refuse")
    assert (first.address, first.target, first.details["failures"]) == ("127.0.0.1", "", 1)
    assert server.terminate() == 0
    server.start()
    told = [record.details["failures"] for record in server.client.audit.records(action="session.refuse")]
    assert told == [1, 3]
    assert server.client.audit.verify().records > 0
