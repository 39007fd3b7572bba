"""Which server a command speaks to, and with which key: given, from the environment, of who signed in, or found in the
data directory.

Reads three small files: where the server is and its first key, which `mofang up` wrote, and the session that
`mofang login` kept. A key is only ever sent to the server it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mofang.base.domain.errors import ServerNotRunning
from mofang.surface.cli.remembered import recall
from mofang.surface.server.folders import DataDirectory
from mofang.surface.server.settings import default_data


@dataclass(frozen=True, slots=True)
class Connection:
    """Where to ask and as whom; ``grpc`` is HOST:PORT, empty if only the server's default is known."""

    url: str
    key: str
    grpc: str = ""


def data_folder(given: str, environment: Mapping[str, str]) -> Path:
    """Return the local data directory: ``given``, else MOFANG_DATA, else ``mofang`` in the user's data directory."""
    chosen = given or environment.get("MOFANG_DATA", "")
    return Path(chosen).expanduser().absolute() if chosen else default_data()


def find(url: str, key: str, data: str, environment: Mapping[str, str]) -> Connection:
    """Return the connection for what was given on the command line; raise ServerNotRunning if there is none to find."""
    folder = data_folder(data, environment)
    local = _local(folder)
    if not url and not data:  # naming a data directory means: the server of that directory
        url = environment.get("MOFANG_URL", "")
    is_local = local is not None and (not url or url.rstrip("/") == local.url)
    key = key or environment.get("MOFANG_API_KEY", "")
    if is_local:
        assert local is not None
        return Connection(local.url, key or recall(local.url, environment) or _admin_key(folder), local.grpc)
    if url:
        return Connection(url.rstrip("/"), key or recall(url, environment), environment.get("MOFANG_GRPC", ""))
    hint = f"start one: `mofang up{f' --data {data}' if data else ''} --detach`, or name one: `--url URL --key KEY`"
    raise ServerNotRunning(f"no server runs on the data directory {str(folder)!r}", hint=hint)


def _local(folder: Path) -> Connection | None:
    """Read where the server of ``folder`` said it is; None if none runs or the file is not readable to us."""
    try:
        run = DataDirectory(folder).read_running()
    except OSError:
        return None
    return Connection(_as_url(run["http"]), "", run.get("grpc", "")) if run and "http" in run else None


def _as_url(address: str) -> str:
    return address.rstrip("/") if "://" in address else f"http://{address}"


def _admin_key(folder: Path) -> str:
    """Read the admin key, which only the owner of the folder can; empty if that is not us."""
    try:
        return DataDirectory(folder).admin_key.read_text().strip()
    except OSError:
        return ""
