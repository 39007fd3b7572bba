"""Long polling: a question that may wait for its answer to change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

T = TypeVar("T")
FIRST_STEP_SECONDS = 0.05
LAST_STEP_SECONDS = 0.4  # steps grow up to this, so that many who wait long cost little


async def watch(request: Request, read: Callable[[], T], has_news: Callable[[T], bool], wait_seconds: float) -> T:
    """Return what ``read`` gives, as soon as it ``has_news`` or ``wait_seconds`` are over.

    Stops early when the client has gone. ``read`` runs in a thread; between two reads nothing is held.
    """
    deadline = time.monotonic() + wait_seconds
    step = FIRST_STEP_SECONDS
    while True:
        found = await run_in_threadpool(read)
        left = deadline - time.monotonic()
        if left <= 0 or has_news(found) or await request.is_disconnected():
            return found
        await asyncio.sleep(min(step, left))
        step = min(step * 1.5, LAST_STEP_SECONDS)
