"""A nursery: has imported what workers of one engine need, and forks one whenever it is told of a birth.

Started by the supervisor, with the name of the engine, when the controller wants it (``nurseries.py``). A worker so
born begins to load at once, where a new process would first import for a third of a second on a whole core, and shares
with all others the memory of what was imported. It is the supervisor's child like any other (``births.py``).
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

from mofang.base.domain.errors import MofangError
from mofang.base.engines.catalog import import_engine
from mofang.surface.server.births import FAILED, READY, Birth, die_with, read_births
from mofang.surface.server.child import freeze
from mofang.surface.server.worker import work


def main() -> int:
    """Import, then bear a worker for each birth that standard input tells of. Ends quietly if the supervisor goes."""
    supervisor = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from a terminal it comes to all: who began us ends us
    try:
        import_engine(sys.argv[1])
    except MofangError as error:  # whoever loads it is told
        print(error, file=sys.stderr)
    freeze()  # collections in those who share it would copy all of it
    channel = socket.socket(fileno=os.dup(0))
    channel.sendall(READY)
    for birth in read_births(channel):
        if _bear(supervisor, channel):
            return _live(birth, channel)
    return 0


def _bear(supervisor: int, channel: socket.socket) -> bool:
    """Fork a child of the supervisor's; return True in that one alone, which has said its number."""
    between = os.fork()
    if between:
        if os.waitpid(between, 0)[1]:
            channel.sendall(FAILED)
        return False
    try:
        if os.fork():
            os._exit(0)
    except OSError:  # no memory for one more
        os._exit(1)
    _belong_to(supervisor)
    # Said by itself, so that no worker can live of which the supervisor does not know, whatever becomes of us.
    channel.sendall(b"%d\n" % os.getpid())
    return True


def _belong_to(supervisor: int) -> None:
    """Wait until the process between is gone, and have the kernel kill us when the supervisor dies."""
    while os.getppid() != supervisor:
        if not _lives(supervisor):
            os._exit(1)
        time.sleep(0.0002)
    die_with(supervisor)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _live(birth: Birth, channel: socket.socket) -> int:
    """Be the worker."""
    channel.close()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(birth.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for opened, number in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(opened, number)
    os.close(nothing)
    os.close(log)
    return work(birth.argument)


if __name__ == "__main__":
    sys.exit(main())
