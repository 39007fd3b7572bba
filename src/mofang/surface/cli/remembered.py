"""Who signed in at which server, on this machine: tokens of sessions in a file that only its owner can read.

`mofang login` writes here, `mofang logout` forgets, and the connection of every other command reads. A token is sent to
the server it came from and to no other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


def sessions_file(environment: Mapping[str, str]) -> Path:
    """Return where sessions are kept (XDG base directories)."""
    home = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(home) / "mofang" / "sessions.json"


def recall(url: str, environment: Mapping[str, str]) -> str:
    """Return the token for the server at ``url``; empty if nobody signed in there."""
    return _read(sessions_file(environment)).get(url.rstrip("/"), "")


def remember(url: str, token: str, environment: Mapping[str, str]) -> None:
    """Keep ``token`` for the server at ``url``; an empty one forgets what was kept."""
    file = sessions_file(environment)
    kept = {**_read(file), url.rstrip("/"): token}
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = file.with_suffix(".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        json.dump({url: token for url, token in kept.items() if token}, out)
    partial.replace(file)


def _read(file: Path) -> dict[str, str]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return {str(url): str(token) for url, token in found.items()} if isinstance(found, dict) else {}
