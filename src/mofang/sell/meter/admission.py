"""May this request be computed now? The gateway's ``admit``: the role, then every limit that binds the caller.

All limits are looked at before any is drawn on, so that a request one of them refuses costs the others nothing. A
request counts when it is admitted, also if its answer fails afterwards. Knows no protocol and asks no database.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from mofang.base.domain.access import Principal
from mofang.base.domain.deployment import Route, Snapshot
from mofang.base.domain.usage import Charge
from mofang.run.serve.admitting import Admitted, Unbounded, admit_by_role
from mofang.sell.meter.limits import Bounds, Bucket, Standing, Standings


class Admission:
    """Admits the requests of one gateway out of ``gateways``, by the limits of the Snapshot it serves."""

    def __init__(
        self, snapshot: Callable[[], Snapshot], gateways: int = 1, *, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._snapshot = snapshot
        self._gateways = gateways
        self._clock_ns = clock_ns
        self._number = 0
        self._bounds: dict[tuple[str, str], Bounds] = {}
        self._of_key: dict[str, tuple[Bounds, ...]] = {}

    def admit(self, principal: Principal, route: Route, rows: int, input_bytes: int, party: int = 0) -> Admitted:
        """Return what to hold while the request is answered; of a ``party`` all may pass, or none.

        Raises Forbidden, RateLimited, ConcurrencyLimited or PayloadLimited.
        """
        free = admit_by_role(principal, route, rows, input_bytes)
        binding = self._binding(principal)
        if not binding:
            return free
        now_ns, count = self._clock_ns(), party or 1
        for bounds in binding:
            bounds.check(rows, input_bytes, now_ns, count)
        held = [bounds.enter(rows, now_ns, count) for bounds in binding]
        return _Admitted(binding, count, held, self._clock_ns)

    def standing(self, principal: Principal) -> Standings | None:
        """Return where the caller stands with the tightest of her limits on rates; None if she has none."""
        binding = self._binding(principal)
        if not binding:
            return None
        now_ns = self._clock_ns()
        of_requests = _tightest((bounds.requests for bounds in binding), now_ns)
        return Standings(of_requests, _tightest((bounds.tokens for bounds in binding), now_ns))

    def _binding(self, principal: Principal) -> tuple[Bounds, ...]:
        """Return the bounds of the caller's key, project and tenant, as far as there are any."""
        snapshot = self._snapshot()
        if snapshot.number != self._number:
            self._follow(snapshot)
        if not self._bounds:
            return ()
        known = self._of_key.get(principal.key_id)
        if known is None:
            names = (("key", principal.key_id), ("project", principal.project), ("tenant", principal.tenant))
            known = tuple(self._bounds[name] for name in names if name in self._bounds)
            self._of_key[principal.key_id] = known
        return known

    def _follow(self, snapshot: Snapshot) -> None:
        """Adopt the limits of ``snapshot``; what is used of those that stay is kept."""
        before, self._bounds = self._bounds, {}
        for limits in snapshot.limits:
            name = (limits.scope, limits.name)
            bounds = before.get(name)
            if bounds is None:
                bounds = Bounds(limits, self._gateways)
            else:
                bounds.follow(limits)
            self._bounds[name] = bounds
        self._of_key = {}
        self._number = snapshot.number


def _tightest(buckets: Iterable[Bucket | None], now_ns: int) -> Standing | None:
    found = [bucket.standing(now_ns) for bucket in buckets if bucket is not None]
    return min(found, key=lambda standing: standing.remaining, default=None)


class _Admitted(Unbounded):
    """Requests under way, counted by every limit that binds them; ``held`` are the tokens that each limit holds."""

    __slots__ = ("_binding", "_clock_ns", "_count", "_held")

    def __init__(self, binding: tuple[Bounds, ...], count: int, held: list[int], clock_ns: Callable[[], int]) -> None:
        self._binding = binding
        self._count = count
        self._held: list[int] | None = held
        self._clock_ns = clock_ns

    def charge(self, quantities: dict[str, int]) -> tuple[Charge, ...]:
        """Correct the tokens that were held to those that were used."""
        held, self._held = self._held, None
        if held is not None and any(bounds.tokens is not None for bounds in self._binding):
            tokens = quantities.get("input_tokens", 0) + quantities.get("output_tokens", 0)
            for bounds, each in zip(self._binding, held, strict=True):
                bounds.used(each, tokens, self._clock_ns())
        return ()

    def release(self) -> None:
        """They are answered, or will not be."""
        held, self._held = self._held, None
        for index, bounds in enumerate(self._binding):
            bounds.leave(self._count)
            if held is not None and held[index]:
                bounds.unused(held[index], self._clock_ns())
