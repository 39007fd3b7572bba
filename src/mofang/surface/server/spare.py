"""A spare worker: has imported what a worker needs, and waits to be told which replica it is.

Started by the supervisor, with the name of an engine, when the controller wants one (``spares.py``); a load then begins
where a new process would be only after a third of a second of imports.
"""

from __future__ import annotations

import os
import sys
import threading

_NICE = 10


def main() -> int:
    """Import, wait for the line, and be that worker. Ends quietly if the supervisor goes."""
    importing = threading.Thread(target=_import, args=(sys.argv[1],))
    importing.start()
    importing.join()
    line = sys.stdin.buffer.readline()
    if not line:
        return 0
    import msgspec  # all imported by now, by a thread that is nice

    from mofang.surface.server.restarts import HandOver
    from mofang.surface.server.worker import work

    told = msgspec.json.decode(line, type=HandOver)
    _log_to(told.log)
    return work(told.argument)


def _import(engine: str) -> None:
    """Import and give way to whoever computes: Linux keeps niceness by thread, and what is nice cannot be less so."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
    import mofang.surface.server.worker  # noqa: F401
    from mofang.base.domain.errors import MofangError
    from mofang.base.engines.catalog import import_engine

    try:
        import_engine(engine)
    except MofangError as error:  # whoever loads it is told
        print(error, file=sys.stderr)


def _log_to(path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


if __name__ == "__main__":
    sys.exit(main())
