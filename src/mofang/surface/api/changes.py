"""Changes that people make: each commits together with its audit record, or not at all.

Routers wrap every change in :meth:`Changes.record`. Routes run in worker threads, as does this.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from anyio import from_thread

from mofang.base.audit.store import AuditStore
from mofang.base.domain.access import Principal


@dataclass(slots=True)
class Entry:
    """What the audit log will say; the block may still fill in what it finds out.

    What a change replaces is its detail ``before``, what it puts there ``after``.
    """

    target: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Changes:
    """Transactions with an audit record in them, and the news of them for gateways."""

    transaction: Callable[[], AbstractContextManager[object]]
    audit: AuditStore
    send: Callable[[], Coroutine[Any, Any, None]]

    @contextmanager
    def record(self, who: Principal, action: str, target: str = "", **details: Any) -> Iterator[Entry]:
        """Open a transaction; at its end append who did ``action`` to ``target``, from where, and commit both."""
        with self.transaction():
            entry = Entry(target, details)
            yield entry
            actor = who.user or who.key_id
            self.audit.append(actor, action, entry.target, entry.details, address=who.address)

    def publish(self) -> None:
        """Send the change to gateways, and return when they all have it."""
        from_thread.run(self.send)
