"""What hostile code tries from inside a process that is locked in; what came of each, it tells."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence

DENIED = {"PermissionError", "MemoryError", "OSError"}  # the last: another file system, to Landlock
REFUSED_BY_RESULT = {"trace the parent": "-1", "make a namespace": "-1", "see the server's settings": "[]"}
TEMPORARY = "/tmp/mofang-sentinel"


def attempts(secret: str, sentinel: str, port: int, others: Sequence[str] = ()) -> dict[str, str]:
    """Try to read ``secret`` and ``others``, to make ``sentinel``, to connect to ``port``, and more."""

    def tried(attempt: Callable[[], object]) -> str:
        try:
            return repr(attempt())[:60]
        except BaseException as error:
            return type(error).__name__

    parent, kernel = os.getppid(), ctypes.CDLL(None, use_errno=True)
    return {
        "read a secret": tried(lambda: open(secret).read()),
        "list the data directory": tried(lambda: os.listdir(os.path.dirname(secret))),
        "read the parent's memory": tried(lambda: open(f"/proc/{parent}/mem", "rb").read(1)),
        "read the parent's environment": tried(lambda: open(f"/proc/{parent}/environ").read()),
        "write a file": tried(lambda: open(sentinel, "w")),
        "make a folder": tried(lambda: os.mkdir(sentinel)),
        "link a file": tried(lambda: os.link(secret, "here")),
        "write into temporary files": tried(lambda: open("/tmp/mofang-sentinel", "w")),
        "open a connection": tried(lambda: socket.create_connection(("127.0.0.1", port), 2)),
        "open a local socket": tried(lambda: socket.socket(socket.AF_UNIX)),
        "open a socket pair": tried(socket.socketpair),
        "fork": tried(os.fork),
        "start a program": tried(lambda: subprocess.run(["/bin/true"])),
        "become a program": tried(lambda: os.execv("/bin/true", ["true"])),
        "signal the parent": tried(lambda: os.kill(parent, signal.SIGCONT)),
        "trace the parent": tried(lambda: kernel.ptrace(16, parent, 0, 0)),
        "make a namespace": tried(lambda: kernel.unshare(0x10000000)),
        "take ten gigabytes": tried(lambda: len(bytearray(10 << 30))),
        "see the server's settings": tried(lambda: [name for name in os.environ if name.startswith("MOFANG")]),
        **{f"read {path}": tried(lambda path=path: open(path, "rb").read(1)) for path in others},
    }


def succeeded(found: dict[str, str]) -> dict[str, str]:
    """Return the attempts that were not denied."""
    return {
        attempt: came
        for attempt, came in found.items()
        if came not in DENIED and came != REFUSED_BY_RESULT.get(attempt)
    }
