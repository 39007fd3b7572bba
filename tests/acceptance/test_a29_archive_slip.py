"""A29: archives that lead out of their folder, or that blow up, are refused over the API and write nothing anywhere."""

from __future__ import annotations

import io
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from mofang.base.domain.errors import JobFailed, MofangError
from servers import Server

MARK = "slipped-out-of-the-archive"
BOMB_BYTES = 100 << 20


def packed(name: str, mode: int = 0) -> bytes:
    """Return a zip that looks like a model, and holds one more entry called ``name``."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("schema.json", b"{}")
        entry = zipfile.ZipInfo("entry")
        entry.filename = entry.orig_filename = name  # as it is: the constructor would make it harmless
        entry.external_attr = mode << 16
        archive.writestr(entry, b"/tmp")
    return target.getvalue()


def tarred(name: str) -> bytes:
    """Return a tar of the same kind."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return target.getvalue()


def bomb() -> bytes:
    """Return a zip that unpacks to a thousand times its size."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", bytes(BOMB_BYTES))
    return target.getvalue()


def test_nothing_gets_out_of_an_archive(server: Server, tmp_path: Path) -> None:
    outside = Path(tempfile.gettempdir()) / MARK
    hostile = {
        "above": packed(f"../../../{MARK}"),
        "absolute": packed(str(outside)),
        "backslashes": packed(f"..\\..\\{MARK}"),
        "a link": packed(f"a/{MARK}", stat.S_IFLNK | 0o777),
        "tar above": tarred(f"../../{MARK}"),
        "tar absolute": tarred(str(outside)),
    }
    for name, content in hostile.items():
        assert refused(server, tmp_path, content), name
    for place in (server.data.parent, Path.cwd()):
        assert not [*place.rglob(f"{MARK}*")]
    assert not outside.exists()
    assert server.client.register.list_models() == []


def test_a_bomb_stops_at_the_limit(server: Server, tmp_path: Path) -> None:
    before = held(server.data)
    assert "unpacks to 104,857,600" in refused(server, tmp_path, bomb())
    assert held(server.data) - before < BOMB_BYTES // 8


def refused(server: Server, folder: Path, content: bytes) -> str:
    """Push ``content`` as a model; return why it was refused."""
    path = folder / "model.skops"
    path.write_bytes(content)
    with pytest.raises((JobFailed, MofangError)) as caught:
        server.client.jobs.wait(server.client.register.push("hostile", path).id)
    return str(caught.value)


def held(folder: Path) -> int:
    """Return the bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
