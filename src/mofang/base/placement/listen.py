"""What every worker does before it answers: it listens, and loads while those who connect can learn how far it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

from mofang.base.domain.errors import Internal, MofangError
from mofang.base.placement.headers import Fault

FLUSH_SECONDS = 5.0  # how long a gateway may take to read the last answers when the worker stops
Replica = TypeVar("Replica")
log = logging.getLogger(__name__)


@asynccontextmanager
async def listening(path: Path, gateway: Callable[[], asyncio.Protocol]) -> AsyncIterator[None]:
    """Listen on the Unix socket ``path``, for this user only, with one ``gateway`` for each that connects.

    A stale socket is replaced. On the way out the socket goes, unless a successor's lies there already; who is
    connected stays so.
    """
    path.unlink(missing_ok=True)
    server = await asyncio.get_running_loop().create_unix_server(gateway, str(path))
    path.chmod(0o600)
    inode = path.stat().st_ino
    try:
        yield
    finally:
        server.close()
        with suppress(FileNotFoundError, PermissionError):  # who is locked in leaves it to the successor
            if path.stat().st_ino == inode:
                path.unlink()


async def load(factory: Callable[[], Replica]) -> Replica | Fault:
    """Call ``factory`` in a thread; return what it made, or what every gateway is to be told."""
    try:
        return await asyncio.to_thread(factory)
    except MofangError as error:
        return Fault.of(error)
    except Exception as error:  # a defect, which must not look like a worker that loads for ever
        log.exception("the worker cannot load")
        return Fault.of(Internal(f"the worker cannot load: {error!r}"))
