"""Locks a worker in with its model: who breaks out of an engine finds nothing, reaches nobody and fills nothing.

Called by the worker when it listens and before it loads, so that the loader is inside as well. It keeps what it has
open: its socket, its counters, its log.
"""

from __future__ import annotations

import os
from pathlib import Path

from mofang.base.domain.errors import SandboxMissing
from mofang.make.convert.sandbox import confine, frameworks

_OWN = Path("/proc/self")
_OWN_FILES = ("maps", "status", "stat", "statm", "cgroup", "mountinfo", "task", "auxv")
"""What libraries read of their own process: not its environment, where the database's address is."""


def lock_in(folder: Path, memory_bytes: int) -> None:
    """Leave this process the model in ``folder``, and so much memory. Raises SandboxMissing.

    Files of the model may be links into the store of models: they are allowed, and their neighbours there are not.
    """
    model = [folder, *(path.resolve() for path in folder.rglob("*") if path.is_symlink())]
    system = [path for path in frameworks() if path != _OWN]
    for name in [name for name in os.environ if name.startswith("MOFANG_")]:
        del os.environ[name]
    try:
        confine([*system, *(_OWN / name for name in _OWN_FILES), *model], (), memory_bytes)
    except SandboxMissing as error:
        hint = "run the server on Linux 5.13 or later, or unset MOFANG_WORKER_BYTES"
        raise SandboxMissing(error.message, hint=hint) from error
