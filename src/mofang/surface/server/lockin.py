"""Locks a worker in with its model: who breaks out of an engine finds nothing, reaches nobody and fills nothing.

The worker calls :func:`begin_anew` first of all, and :func:`lock_in` when it listens and before it loads, so that the
loader is inside as well. It keeps what it has open: its socket, its counters, its log.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mofang.base.domain.errors import SandboxMissing
from mofang.make.convert.sandbox import confine, frameworks

_OWN = Path("/proc/self")
_OWN_FILES = ("maps", "status", "stat", "statm", "cgroup", "mountinfo", "task", "auxv")
"""What libraries read of their own process."""
_KEPT = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH",
    "MOFANG_DATA", "MOFANG_ENGINE_THREADS", "MOFANG_WORKER_BYTES",
)  # fmt: skip
_ANEW = "MOFANG_WORKER_ANEW"


def begin_anew(argument: str) -> None:
    """Become the same worker once more, unless that was done: with no thread yet, and nothing to be found in memory.

    A library of numbers starts threads when it is imported, and those could not be confined to the model's files; and
    what a process was started with (the database's address, keys of other servers) stays in its memory for good.
    """
    if _ANEW in os.environ:
        return
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    program = [sys.executable, "-m", "mofang.surface.server.worker", argument]
    os.execve(sys.executable, program, {**kept, _ANEW: "1", "OPENBLAS_NUM_THREADS": "1"})  # noqa: S606


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
