"""Brings signed heads of the audit log to a second place, a moment after the log grew: a file, and a webhook.

The controller runs it. A place that cannot be reached is logged and tried again with the next head: the log goes on.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import httpx

from mofang.base.audit.files import append_anchor, read_anchors
from mofang.base.audit.store import AuditStore
from mofang.base.audit.verify import Anchor
from mofang.base.domain.errors import MofangError

_WEBHOOK_SECONDS = 10.0
log = logging.getLogger(__name__)


class Anchoring:
    """Appends each new head to ``path``, with the hashes of the records since the last, and posts it to ``webhook``."""

    def __init__(self, audit: AuditStore, path: Path, webhook: str = "") -> None:
        self._audit = audit
        self._path = path
        self._webhook = webhook
        self._kept: int | None = None
        self._posted = 0

    async def step(self) -> None:
        """Bring the head to where it is not yet."""
        anchor = await asyncio.to_thread(self._keep)
        if self._webhook and anchor is not None and anchor.head.size > self._posted:
            await self._post(anchor)

    def _keep(self) -> Anchor | None:
        """Append the head to the file, if it is a new one; return it."""
        if self._kept is None:
            self._kept = self._last()
        anchor = self._audit.anchor(self._kept)
        if anchor.head.size > self._kept:
            append_anchor(self._path, anchor)
            self._kept = anchor.head.size
        return anchor if anchor.head.size else None

    def _last(self) -> int:
        """Return the size of the log in the last head of the file; 0 if there is none that can be read."""
        try:
            return max((anchor.head.size for anchor in read_anchors(self._path)), default=0)
        except FileNotFoundError:
            return 0
        except MofangError as error:
            log.error("%s; new heads are appended all the same", error)
            return 0

    async def _post(self, anchor: Anchor) -> None:
        try:
            async with httpx.AsyncClient(timeout=_WEBHOOK_SECONDS) as client:
                (await client.post(self._webhook, json=anchor.head.to_dict())).raise_for_status()
        except httpx.HTTPError as error:
            log.warning("the head of the audit log could not be posted to %s: %s", self._webhook, error)
            return
        self._posted = anchor.head.size
