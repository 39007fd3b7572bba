"""Delivers notices that budgets have reached thresholds, until they are taken. The controller runs it."""

from __future__ import annotations

import asyncio
import json
import logging

from mofang.base.domain.errors import MofangError
from mofang.base.domain.names import now_us
from mofang.sell.budget.store import BudgetStore, Notice
from mofang.sell.budget.webhook import GIVE_UP_US, post, retry_us

_LOOK_SECONDS = 1.0
_log = logging.getLogger(__name__)


class Notifier:
    """Sends what the store has to send. ``internal``: also to addresses that are not public."""

    def __init__(self, store: BudgetStore, *, internal: bool) -> None:
        self._store = store
        self._internal = internal

    async def run(self) -> None:
        """Deliver for ever."""
        while True:
            due = await asyncio.to_thread(self._store.due_notices, now_us())
            await asyncio.gather(*(self.deliver(notice) for notice in due))
            await asyncio.sleep(_LOOK_SECONDS)

    async def deliver(self, notice: Notice) -> None:
        """Try once."""
        try:
            await post(
                notice.url, notice.secret, notice.id, now_us() // 1_000_000, body_of(notice), internal=self._internal
            )
        except MofangError as error:
            now, attempts = now_us(), notice.attempts + 1
            again = now + retry_us(attempts) if now < notice.at + GIVE_UP_US else None
            _log.warning("notice %s, attempt %d: %s", notice.id, attempts, error)
            await asyncio.to_thread(self._store.note_attempt, notice.id, again)
        else:
            await asyncio.to_thread(self._store.note_delivery, notice.id, now_us())


def body_of(notice: Notice) -> bytes:
    """Return what is told: always the same bytes for a notice, whatever attempt it is."""
    budget = notice.budget
    document = {
        "type": "budget.threshold",
        "timestamp": notice.at,
        "data": {
            "budget": budget.id,
            "scope": budget.scope,
            "name": budget.name,
            "unit": budget.unit,
            "period": budget.period,
            "amount": notice.amount,
            "spent": notice.spent,
            "percent": notice.percent,
            "start": notice.start,
        },
    }
    return json.dumps(document, separators=(",", ":")).encode()
