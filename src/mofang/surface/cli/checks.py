"""What `mofang doctor` looks at on this machine, one function for each: none changes anything, none raises.

They read the data directory beside a running server: blobs never change and journals only grow, so that is safe.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from mofang.base.domain.errors import JournalDamaged
from mofang.surface.cli import format
from mofang.surface.server.folders import DataDirectory

LOW_SPACE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it is, and what to do if it is not well."""

    name: str
    state: Literal["ok", "note", "failed"]
    detail: str
    hint: str = ""


def python() -> Check:
    """Look at the interpreter."""
    where = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return Check("python", "ok", f"Python {platform.python_version()} ({sys.prefix}) on {where}")


def packages() -> Iterator[Check]:
    """Look whether everything Mofang stands on is installed, and in which version."""
    missing, found = [], []
    for requirement in metadata.requires("mofang") or []:
        if "extra ==" in requirement:
            continue
        name = re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0]
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        yield Check("packages", "failed", f"missing: {', '.join(missing)}", "install again: `make setup`")
    yield Check("packages", "ok", ", ".join(found))


def data_directory(folders: DataDirectory) -> Check:
    """Look whether the data directory can be written, and how much space is left."""
    root = folders.root
    existing = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    where = f"{root}, {format.size(free)} free"
    if not os.access(existing, os.W_OK | os.X_OK):
        return Check("data", "failed", f"{root} cannot be written", "choose another with `--data DIR`")
    if free < LOW_SPACE_BYTES:
        return Check("data", "failed", where, "free some space, or move the data directory")
    return Check("data", "ok", where if root.exists() else f"{where}; `mofang up` will make it")


def admin_key(folders: DataDirectory) -> Check:
    """Look whether only the owner can read the first key."""
    try:
        mode = folders.admin_key.stat().st_mode & 0o777
    except OSError:
        return Check("admin key", "note", f"none in {folders.root}")
    if mode & 0o077:
        hint = f"chmod 600 {folders.admin_key}"
        return Check("admin key", "failed", f"others can read {folders.admin_key} (mode {mode:o})", hint)
    return Check("admin key", "ok", f"{folders.admin_key}, mode {mode:o}")


def blobs(folders: DataDirectory) -> Iterator[Check]:
    """Hash every stored object again and compare with its name; one failed check for each that differs."""
    count, total = 0, 0
    for path in sorted(folders.blobs.glob("??/*")):
        if len(path.name) != 64:
            continue
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                total += file.tell()
        except OSError as error:
            yield Check("blobs", "failed", f"{path}: {error.strerror}", "restore it from a backup")
            continue
        count += 1
        if digest != path.name:
            yield Check("blobs", "failed", f"{path} is damaged: its SHA-256 is {digest}", "restore it from a backup")
    yield Check("blobs", "ok", f"{format.count(count)} objects hashed, {format.size(total)}")


def journal(folders: DataDirectory) -> Iterator[Check]:
    """Read every record of usage that waits for the ledger, and its checksum."""
    from mofang.base.storage.journal import read_records, segments

    records = 0
    found = segments(folders.journal) if folders.journal.exists() else []
    for path in found:
        try:
            records += sum(1 for _ in read_records(path))
        except (JournalDamaged, OSError) as error:
            yield Check("journal", "failed", str(error), f"keep a copy of {path} before anything else")
    yield Check("journal", "ok", f"{len(found)} segments, {format.count(records)} answers in them")


def port(name: str, address: str) -> Check:
    """Look whether a server could listen on ``address``."""
    host, _, number = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(number)))
        except OSError as error:
            hint = f"`mofang up --{name} HOST:PORT` takes another"
            return Check(f"{name} port", "failed", f"{address}: {error.strerror}", hint)
    return Check(f"{name} port", "ok", f"{address} is free")


def logs(folder: Path) -> Check:
    """Say where the logs are, and the last line that tells of an error."""
    for path in sorted(folder.glob("*.log"), key=lambda p: p.stat().st_mtime, reverse=True):
        lines = path.read_text("utf-8", "replace").splitlines()[-200:]
        bad = next((line for line in reversed(lines) if re.search(r"\b(ERROR|CRITICAL|Traceback)\b", line)), "")
        if bad:
            return Check("logs", "note", f"{path}: {bad[:120]}")
    return Check("logs", "ok", str(folder))
