"""`Idempotency-Key`: a request that is sent again gets the answer it had, and is computed and charged once.

REST and gRPC hand in how to answer a request in bytes; where claims and answers lie is the store's to know. Only
requests with a key come here: they cost a file each, and those that wait for a twin look again every few milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

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

HEADER = "idempotency-key"
REPLAYED = "idempotency-replayed"
"""Says of an answer that it was given before; ``x-request-id`` is that of the request it was computed for."""
_MOST_CHARACTERS = 255
_LOOK_SECONDS = 0.01
_UNSURE = (Unavailable, Internal, DeadlineExceeded, Cancelled)
"""After these it may have been computed: whoever asks again does so under the same name, and is charged once."""
_log = logging.getLogger(__name__)

Work = Callable[[str], Awaitable[bytes]]
"""Answer the request under that request id."""


async def once(
    store: Once, principal: Principal, key: str, asked: bytes, request_id: str, deadline: float, work: Work
) -> tuple[bytes, bool]:
    """Return the answer to ``asked``, and whether it was given before.

    Keys are those of a project: others may use the same. Raises InvalidRequest for what is no key, KeyReused if the key
    was used for something else, DeadlineExceeded if a twin is still at it, and what ``work`` raises.
    """
    if not (0 < len(key) <= _MOST_CHARACTERS and key.isascii() and key.isprintable()):
        raise InvalidRequest(f"an idempotency key is 1 to {_MOST_CHARACTERS} printable ASCII characters")
    while (found := store.attempt(principal.project, key, asked, request_id)) == "busy":
        if time.monotonic() >= deadline:
            raise DeadlineExceeded("another request with the same idempotency key is still being answered")
        await asyncio.sleep(_LOOK_SECONDS)
    if isinstance(found, Kept):
        return found.answer, True
    return await _do(found, work), False


async def _do(claim: Claim, work: Work) -> bytes:
    try:
        answer = await work(claim.name)
    except MofangError as error:
        if isinstance(error, _UNSURE):
            claim.leave()
        else:
            claim.drop()
        raise
    except BaseException:
        claim.leave()
        raise
    try:
        claim.finish(answer)
    except (StorageFull, StorageUnavailable) as error:  # it is charged: whoever has asked gets it all the same
        _log.error("request %s: %s", claim.name, error)
    return answer
