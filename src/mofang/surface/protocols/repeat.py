"""`Idempotency-Key`: a request that is sent again gets the answer it had, and is computed and charged once.

REST and gRPC hand in how to answer a request in bytes; where claims and answers lie is the store's to know. Only
requests with a key come here: they cost a file each, and those that wait for a twin look again every few milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from mofang.base.domain.access import Principal
from mofang.base.domain.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    MofangError,
    StorageFull,
    StorageUnavailable,
    Unavailable,
)
from mofang.base.storage.once import Claim, Kept, Once
from mofang.surface.protocols.http import HttpRequest, HttpResponse, HttpStream

HEADER = "idempotency-key"
REPLAYED = "idempotency-replayed"
"""Says of an answer that it was given before; ``x-request-id`` is that of the request it was computed for."""
_MOST_CHARACTERS = 255
_LOOK_SECONDS = 0.01
_UNSURE = (Unavailable, Internal, DeadlineExceeded, Cancelled)
"""After these it may have been computed: whoever asks again does so under the same name, and is charged once."""
_log = logging.getLogger(__name__)
_T = TypeVar("_T")

Work = Callable[[str], Awaitable[bytes]]
"""Answer the request under that request id."""


async def once(
    store: Once, principal: Principal, key: str, asked: bytes, request_id: str, deadline: float, work: Work
) -> tuple[bytes, bool]:
    """Return the answer to ``asked``, and whether it was given before.

    Keys are those of a project: others may use the same. Raises InvalidRequest for what is no key, KeyReused if the key
    was used for something else, DeadlineExceeded if a twin is still at it, and what ``work`` raises.
    """
    found = await _claim(store, principal, key, asked, request_id, deadline)
    if isinstance(found, Kept):
        return found.answer, True
    answer = await _do(found, work(found.name))
    _finish(found, answer)
    return answer, False


async def reply_once(
    store: Once,
    principal: Principal,
    key: str,
    asked: bytes,
    request_id: str,
    deadline: float,
    work: Callable[[str], Awaitable[HttpResponse | HttpStream]],
) -> HttpResponse | HttpStream:
    """Do the same for an answer over HTTP, which has its ``x-request-id`` then; of a stream all events are kept.

    A stream that breaks off is not kept: it is billed for what was handed out, and whoever asks again asks anew.
    """
    found = await _claim(store, principal, key, asked, request_id, deadline)
    if isinstance(found, Kept):
        kept = msgspec.msgpack.decode(found.answer, type=HttpResponse)
        kept.headers.append((REPLAYED, "true"))
        return kept
    reply = named(await _do(found, work(found.name)), found.name)
    if isinstance(reply, HttpResponse):
        _finish(found, msgspec.msgpack.encode(reply))
        return reply
    status, headers, claim = reply.status, list(reply.headers), found

    def ended(body: bytes | None) -> None:
        if body is None:
            claim.drop()
        else:
            _finish(claim, msgspec.msgpack.encode(HttpResponse(status, headers, body)))

    reply.ended.append(ended)
    return reply


def question_of(request: HttpRequest, principal: Principal) -> bytes:
    """Return what makes two requests the same. Keys that may ask different endpoints do not share answers."""
    scope = ",".join(sorted(principal.endpoints))
    said = (request.method, request.path, request.headers.get("content-type", ""), scope, "")
    return "\0".join(said).encode() + request.body


def named(reply: HttpResponse | HttpStream, request_id: str) -> HttpResponse | HttpStream:
    """Return ``reply`` with its ``x-request-id``, which that of a request with a key has already."""
    told = reply.fields() if isinstance(reply, HttpResponse) else reply.headers
    if all(name != "x-request-id" for name, _ in told):
        reply.headers.append(("x-request-id", request_id))
    return reply


async def _claim(
    store: Once, principal: Principal, key: str, asked: bytes, request_id: str, deadline: float
) -> Claim | Kept:
    if not (0 < len(key) <= _MOST_CHARACTERS and key.isascii() and key.isprintable()):
        raise InvalidRequest(f"an idempotency key is 1 to {_MOST_CHARACTERS} printable ASCII characters")
    while (found := store.attempt(principal.project, key, asked, request_id)) == "busy":
        if time.monotonic() >= deadline:
            raise DeadlineExceeded("another request with the same idempotency key is still being answered")
        await asyncio.sleep(_LOOK_SECONDS)
    return found


async def _do(claim: Claim, work: Awaitable[_T]) -> _T:
    try:
        return await work
    except MofangError as error:
        if isinstance(error, _UNSURE):
            claim.leave()
        else:
            claim.drop()
        raise
    except BaseException:
        claim.leave()
        raise


def _finish(claim: Claim, answer: bytes) -> None:
    try:
        claim.finish(answer)
    except (StorageFull, StorageUnavailable) as error:  # it is charged: whoever has asked gets it all the same
        _log.error("request %s: %s", claim.name, error)
