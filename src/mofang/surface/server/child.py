"""What every child process does first and last: log, stop on SIGTERM, refuse with a sentence."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import uvloop

from mofang.base.domain.errors import Internal, MofangError, catalog

_libc = ctypes.CDLL(None)
REFUSED = 78  # sysexits.h EX_CONFIG: starting again will not help


def run_child(main: Callable[[asyncio.Event], Awaitable[None]], refusal: Path | None = None) -> int:
    """Run ``main`` until it returns; its event is set by SIGTERM or SIGINT. Return the exit code.

    A MofangError is written to ``refusal`` for the parent to show, and ends the process with :data:`REFUSED`.
    """
    start_logging()
    try:
        uvloop.run(_until_stopped(main))
    except MofangError as error:
        logging.getLogger(__name__).error("refused to start: [%s] %s", error.code, error)
        if refusal is not None:
            write_refusal(refusal, error)
        return REFUSED
    return 0


def start_logging() -> None:
    """Log to standard error, which the supervisor keeps as the process's log."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("httpx", "httpcore", "uvicorn.access", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def freeze() -> None:
    """Set apart what is loaded by now, for good: no full collection has to look at it while requests wait.

    The second collection makes the collector count anew. It waits until a quarter as many objects are young as it saw
    old ones last, which with all that was imported takes hours, and garbage that lies in cycles would pile up so long.
    """
    gc.collect()
    gc.freeze()
    gc.collect()


def trim() -> None:
    """Give memory that is free back to the kernel, where the C library can: glibc keeps it, for each thread its own."""
    release = getattr(_libc, "malloc_trim", None)
    if release is not None:
        release(0)


def write_refusal(path: Path, error: MofangError) -> None:
    """Write why a process refused to start."""
    path.write_bytes(msgspec.json.encode({"code": error.code, "message": error.message, "hint": error.hint}))


def read_refusal(path: Path) -> MofangError | None:
    """Return why a process refused to start, if it said so."""
    try:
        said = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return None
    return catalog().get(said["code"], Internal)(said["message"], hint=said["hint"])


async def _until_stopped(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await main(stop)
