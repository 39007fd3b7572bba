"""``/v1/files`` and ``/v1/batches``: answered by the control API under ``/api/v1``, refused in the words of OpenAI.

https://platform.openai.com/docs/api-reference/files and /batch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from mofang.base.domain.errors import Internal, MofangError, catalog
from mofang.surface.protocols.http import HttpResponse, HttpStream, RequestHead, credentials
from mofang.surface.protocols.openai.errors import error_reply

Reply = HttpResponse | HttpStream
Control = Callable[[RequestHead, AsyncIterator[bytes], str], Awaitable[Reply]]
"""Has a request answered by the control API."""


class _Problem(msgspec.Struct):
    code: str
    detail: str
    hint: str = ""


def is_batch(path: str) -> bool:
    """Tell whether a path is one of these."""
    return path.startswith(("/v1/files", "/v1/batches"))


async def as_control(control: Control, head: RequestHead, body: AsyncIterator[bytes], request_id: str) -> Reply:
    """Have ``/v1/...`` answered as ``/api/v1/...``, whichever way the key is shown."""
    shown = credentials(head.headers)
    headers = {**head.headers, **({"authorization": shown} if shown else {})}
    reply = await control(msgspec.structs.replace(head, path="/api" + head.path, headers=headers), body, request_id)
    if reply.status < 400:
        return reply
    refusal = error_reply(await _error_of(reply), request_id)
    own = {name for name, _ in refusal.headers} | {"content-length"}
    kept = [field for field in reply.headers if field[0] not in own]
    return msgspec.structs.replace(refusal, status=reply.status, headers=[*refusal.headers, *kept])


async def _error_of(reply: Reply) -> MofangError:
    content = reply.body if isinstance(reply, HttpResponse) else b"".join([piece async for piece in reply.chunks])
    try:
        said = msgspec.json.decode(content, type=_Problem)
    except msgspec.MsgspecError:
        return Internal(f"the controller answered {reply.status}, and not why")
    wait = dict(reply.headers).get("retry-after", "")
    after = int(wait) if wait.isdecimal() else None
    return catalog().get(said.code, Internal)(said.detail, hint=said.hint, retry_after_seconds=after)
