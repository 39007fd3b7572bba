"""What the lane asks before a request is computed, and what it holds of the answer until the request has ended.

Who meters and who pays is handed in (``admit``), so that this room does not know the rooms after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from mofang.base.domain.access import Principal
from mofang.base.domain.deployment import Route
from mofang.base.domain.errors import Forbidden, MofangError, OutOfScope
from mofang.base.domain.usage import Charge


class Admitted(Protocol):
    """A request that may be computed, now or after a moment: counted by everything that bounds it until released."""

    @property
    def pending(self) -> bool:
        """Whether it has to :meth:`wait` first."""

    @property
    def charges(self) -> bool:
        """Whether a budget pays for it."""

    def apart(self, members: Sequence[tuple[int, int]]) -> Sequence[Admitted]:
        """Return what each of those who were admitted together holds from now on; they have (rows, bytes) each."""

    def wait(self, deadline: float, told: Callable[[MofangError | None], None]) -> None:
        """Call ``told`` later, once: with None if it may go on, or with the reason why not. Not after a release."""

    def bound(self, quantities: Mapping[str, int], deadline: float, told: Callable[[MofangError | None], None]) -> None:
        """Hold the most it may use of these meters instead of a guess; ``told`` as with :meth:`wait`, or at once."""

    def charge(self, quantities: dict[str, int]) -> tuple[Charge, ...]:
        """It was computed: return what goes on record with its usage. Lowers quantities that are not to be paid."""

    def refund(self) -> None:
        """What was charged, if anything was, did not get on record."""

    def release(self) -> None:
        """It is answered, or will not be."""


class Admit(Protocol):
    """Decides whether requests may be computed."""

    def __call__(self, principal: Principal, route: Route, rows: int, input_bytes: int, party: int = 0, /) -> Admitted:
        """Raise Forbidden, Exhausted or TooLarge if the principal may not have these rows, in a body of so many bytes,
        computed now.

        With ``party``, so many requests with these rows in all travel together, the largest with so many bytes: raise
        also if not all of them may pass.
        """


class Unbounded:
    """Admitted without any bounds."""

    pending = False
    charges = False

    def apart(self, members: Sequence[tuple[int, int]]) -> Sequence[Admitted]:
        """All hold this together; the last lets it go."""
        return [_Shared(self, len(members))] * len(members)

    def wait(self, deadline: float, told: Callable[[MofangError | None], None]) -> None:
        """It never has to wait."""
        told(None)

    def bound(self, quantities: Mapping[str, int], deadline: float, told: Callable[[MofangError | None], None]) -> None:
        """There is nothing to hold."""
        told(None)

    def charge(self, quantities: dict[str, int]) -> tuple[Charge, ...]:
        """Nothing pays for it here."""
        return ()

    def refund(self) -> None:
        """Nothing was charged."""

    def release(self) -> None:
        """Nothing is held."""


class _Shared(Unbounded):
    """What several still hold together."""

    def __init__(self, held: Admitted, count: int) -> None:
        self._held = held
        self._count = count

    def release(self) -> None:
        """One of them is answered, or will not be."""
        self._count -= 1
        if not self._count:
            self._held.release()


UNBOUNDED = Unbounded()


def admit_by_role(principal: Principal, route: Route, rows: int, input_bytes: int, party: int = 0) -> Admitted:
    """Let every key pass whose role carries ``infer`` and whose scope has the endpoint."""
    check_role(principal, route.revision.endpoint)
    return UNBOUNDED


def check_infers(principal: Principal) -> None:
    """Raise Forbidden unless the role carries ``infer``: before anything is read of what is asked."""
    if not principal.may("infer"):
        raise Forbidden(f"a key of role {principal.role!r} may not ask endpoints")


def refusal(principal: Principal, endpoint: str) -> MofangError | None:
    """Return what :func:`check_role` raises, if it does."""
    try:
        check_role(principal, endpoint)
    except MofangError as error:
        return error
    return None


def check_role(principal: Principal, endpoint: str) -> None:
    """Raise Forbidden unless the role carries ``infer``, and OutOfScope unless the key's scope has the endpoint."""
    if not principal.may("infer"):
        raise Forbidden(f"a key of role {principal.role!r} may not ask endpoint {endpoint!r}")
    if not principal.may_ask(endpoint):
        raise OutOfScope(f"key {principal.key_id!r} may ask {', '.join(principal.endpoints)}, not {endpoint!r}")
