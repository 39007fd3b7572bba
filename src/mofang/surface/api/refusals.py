"""Failed sign-ins in the audit log. What an attacker can add is bounded: :mod:`mofang.base.users.tally`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from mofang.base.audit.store import AuditStore
from mofang.base.domain.errors import SignInFailed, SignInForbidden, SignInLater
from mofang.base.users.store import UserStore
from mofang.base.users.tally import Failures, Tally

ACTION = "session.refuse"
ACTOR = "somebody"


class Refusals:
    """Writes down who could not sign in. A name that nobody has is not told: it may be a misplaced password."""

    def __init__(self, audit: AuditStore, users: UserStore, tally: Tally | None = None) -> None:
        self._audit = audit
        self._users = users
        self._tally = tally or Tally()

    @contextmanager
    def watch(self, name: str, way: str, address: str) -> Iterator[None]:
        """Write down, at once or later, that the block refuses to let somebody in."""
        try:
            yield
        except (SignInFailed, SignInForbidden, SignInLater):
            known = name if self._users.places(name) is not None else ""
            told = self._tally.add(known, way, address)
            self._append([told] if told else [])
            raise

    def flush(self, *, early: bool = False) -> None:
        """Write down what was counted in a window that has ended; ``early``: in the present one."""
        self._append(self._tally.take(early=early))

    def _append(self, found: Iterable[Failures]) -> None:
        for failures in found:
            details = {"way": failures.way, "failures": failures.count}
            of = self._users.places(failures.name) or []
            self._audit.append(
                ACTOR, ACTION, failures.name, before=None, after=None, details=details, address=failures.address, of=of
            )
