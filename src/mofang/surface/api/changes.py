"""Changes that people make: each commits together with its audit record, or not at all.

Routers wrap every change in :meth:`Changes.record`. Routes run in worker threads, as does this.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, NamedTuple

from anyio import from_thread

from mofang.base.audit.store import AuditStore
from mofang.base.domain.access import Principal, Scope
from mofang.base.storage.owners import Kind, Owners

UNSAID: Any = object()
"""What came of a change that is not known before it was made: the block says so."""


class Owned(NamedTuple):
    """A thing: the record concerns whoever owns it."""

    kind: Kind
    name: str


Of = Scope | Sequence[Scope] | Owned
"""Whom a change concerns: these projects, or tenants as a whole; or the owners of a thing."""
PLATFORM: Sequence[Scope] = ()
"""Nobody but those who look after the platform."""


def tenant(name: str) -> Scope:
    """Return a tenant as a whole."""
    return Scope(name, "", "tenant")


@dataclass(slots=True)
class Entry:
    """What the audit log will say; the block fills in what it finds out.

    What a change replaces is ``before``, what it puts there ``after`` (None: nothing): dataclasses or plain JSON.
    """

    target: str
    of: Of
    before: Any
    after: Any
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Changes:
    """Transactions with an audit record in them, and the news of them for gateways."""

    transaction: Callable[[], AbstractContextManager[object]]
    audit: AuditStore
    owners: Owners
    send: Callable[[], Coroutine[Any, Any, None]]

    @contextmanager
    def record(
        self,
        who: Principal,
        action: str,
        target: str = "",
        *,
        of: Of,
        before: Any,
        after: Any = UNSAID,
        **details: Any,
    ) -> Iterator[Entry]:
        """Open a transaction; at its end append who did ``action`` to ``target``, from where, and commit both."""
        with self.transaction():
            entry = Entry(target, of, before, after, details)
            yield entry
            assert entry.after is not UNSAID, f"{action} does not say what came of it"
            self.audit.append(
                who.user or who.key_id,
                action,
                entry.target,
                before=_plain(entry.before),
                after=_plain(entry.after),
                details=entry.details,
                address=who.address,
                of=self._concerned(entry.of),
            )

    def publish(self) -> None:
        """Send the change to gateways, and return when they all have it."""
        from_thread.run(self.send)

    def _concerned(self, of: Of) -> Sequence[Scope]:
        if isinstance(of, Owned):
            return self.owners.of(*of)
        return [of] if isinstance(of, Scope) else of


def _plain(thing: Any) -> Any:
    if isinstance(thing, (list, tuple)):
        return [_plain(each) for each in thing]
    return asdict(thing) if is_dataclass(thing) and not isinstance(thing, type) else thing
