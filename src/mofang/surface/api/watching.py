"""Watching: a question that may wait for its answer to change, and answers that keep coming as server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from mofang.base.domain.work import JobEvent

T = TypeVar("T")
FIRST_STEP_SECONDS = 0.05
ALIVE_SECONDS = 15.0  # proxies give up on a connection that is silent for longer
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


async def events(
    request: Request, read: Callable[[], list[JobEvent]], is_over: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Yield what ``read`` gives, as server-sent events (WHATWG HTML, 9.2), until ``is_over`` or the client has gone.

    ``read`` returns only what is new since it was asked before; both run in a thread. An event's id is its number, its
    type ``progress``, its data a JobEvent; the last one is of type ``end``. Comments keep the connection alive.
    """
    step, silent = FIRST_STEP_SECONDS, 0.0
    while not await request.is_disconnected():
        over = await run_in_threadpool(is_over)  # before the events: what has ended tells nothing more
        news = await run_in_threadpool(read)
        for event in news:
            yield b"id: %d\nevent: progress\ndata: %s\n\n" % (event.seq, msgspec.json.encode(event))
        if over:
            yield b"event: end\ndata: {}\n\n"
            return
        if silent > ALIVE_SECONDS:
            yield b": still here\n\n"
        step = FIRST_STEP_SECONDS if news else min(step * 1.5, LAST_STEP_SECONDS)
        silent = 0.0 if news or silent > ALIVE_SECONDS else silent + step
        await asyncio.sleep(step)
