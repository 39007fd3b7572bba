"""Telling a web server that a budget has reached a threshold: signed, and to public addresses only.

Signed as standardwebhooks.com says, so that receivers need no code of ours: ``webhook-id``, ``webhook-timestamp`` and
``webhook-signature: v1,BASE64(HMAC-SHA256(secret, "ID.TIMESTAMP.BODY"))``. The address is resolved here, checked, and
asked by number, so that a name cannot lead to the inside between the check and the connection; redirects are not
followed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import socket

import httpx

from mofang.base.domain.errors import InvalidWebhook, WebhookFailed
from mofang.base.identity.addresses import reachable

_SECONDS = 10.0
_RETRY_SECONDS = (5, 30, 120, 600, 1800, 3600)
GIVE_UP_US = 3 * 86_400_000_000  # after three days


def new_secret() -> str:
    """Return a new secret, as receivers want to be told it."""
    return "whsec_" + base64.b64encode(os.urandom(24)).decode()


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of ``webhook-signature``."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    text = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()


def retry_us(attempts: int) -> int:
    """Return how long to wait after so many failures."""
    return _RETRY_SECONDS[min(attempts, len(_RETRY_SECONDS)) - 1] * 1_000_000


def check_url(url: str) -> httpx.URL:
    """Return ``url`` parsed; raise InvalidWebhook unless it is ``http(s)://HOST...`` without a password in it."""
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidWebhook(f"{url!r} is no URL: {error}") from None
    if found.scheme not in ("http", "https") or not found.host or found.userinfo:
        raise InvalidWebhook(f"{url!r} is no URL of a webhook", hint="write https://HOST/PATH, without a password")
    return found


async def resolve(url: httpx.URL, *, internal: bool) -> str:
    """Return an address of the URL's host; raise WebhookFailed if it has none, or one that is not public.

    ``internal``: addresses that are not public are allowed too.
    """
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise WebhookFailed(f"{url.host!r} cannot be resolved: {error}") from error
    address = reachable(found, internal=internal)
    if address is None:
        raise WebhookFailed(
            f"{url.host!r} is not on the open Internet",
            hint="the owner of the server can allow it: MOFANG_WEBHOOKS_INTERNAL=true",
        )
    return address


async def post(url: str, secret: str, message_id: str, timestamp: int, body: bytes, *, internal: bool) -> None:
    """Deliver ``body`` once; raise WebhookFailed unless it is taken (2xx)."""
    target = check_url(url)
    address = await resolve(target, internal=internal)
    headers = {
        "host": target.netloc.decode("ascii"),
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secret, message_id, timestamp, body),
    }
    try:
        async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=_SECONDS) as client:
            asked = client.build_request(
                "POST", target.copy_with(host=address), content=body, headers=headers,
                extensions={"sni_hostname": target.host},
            )  # fmt: skip
            answer = await client.send(asked, stream=True)
            await answer.aclose()
    except httpx.HTTPError as error:
        raise WebhookFailed(f"{url!r} was not reached: {error!r}") from error
    if not answer.is_success:
        raise WebhookFailed(f"{url!r} answered {answer.status_code}")
