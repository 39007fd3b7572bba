"""Asking on behalf of a key whose secret nobody has: how a batch asks, long after its owner has gone.

A deputy's word is ``mfd_KEY_UNTIL_MAC``: the id of the key, when it ends (microseconds since the epoch), and an
HMAC-SHA256 with a secret that only the processes of this server can read. The key itself has to be there still, so that
revoking it ends what is done in its name.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mofang.base.domain.access import KeyEntry, Principal
from mofang.base.domain.errors import ExpiredKey, UnknownKey

_WORD = re.compile(r"mfd_([0-9A-Za-z]{1,40})_([0-9]{1,19})_([0-9a-f]{64})", re.ASCII)
_SECRET_BYTES = 32


def is_word(text: str | None) -> bool:
    """Tell whether it looks like a deputy's word."""
    return text is not None and text.startswith("mfd_")


def open_secret(path: Path) -> bytes:
    """Return the secret at ``path``; it is made (mode 0600) if there is none, whole or not at all."""
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".deputy-") as file:  # mode 0600
            file.write(secrets.token_bytes(_SECRET_BYTES))
            file.flush()
            with suppress(FileExistsError):  # another process was faster
                os.link(file.name, path)
    return path.read_bytes()


def word(secret: bytes, key_id: str, until: int) -> str:
    """Return the word of who asks for the key."""
    return f"mfd_{key_id}_{until}_{_mac(secret, key_id, until)}"


def check_word(text: str, secret: bytes, entries: Mapping[str, KeyEntry], at: int) -> Principal:
    """Return in whose name it is; raise UnknownKey or ExpiredKey."""
    match = _WORD.fullmatch(text)
    if match is None or not hmac.compare_digest(_mac(secret, match[1], int(match[2])), match[3]):
        raise UnknownKey("that is no word of ours")
    entry = entries.get(match[1])
    if entry is None:
        raise UnknownKey(f"key {match[1]!r} is not known here, or was revoked")
    if at >= int(match[2]) or (entry.expires_at is not None and at >= entry.expires_at):
        raise ExpiredKey(f"key {match[1]!r} has expired")
    return Principal(
        entry.id, entry.tenant, entry.project, entry.role, entry.endpoints, entry.reach, entry.verbs, entry.user,
        batch=True,
    )  # fmt: skip


def _mac(secret: bytes, key_id: str, until: int) -> str:
    return hmac.new(secret, f"{key_id}/{until}".encode(), hashlib.sha256).hexdigest()
