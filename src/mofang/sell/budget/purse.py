"""A gateway's end of budgets: every request holds what it may cost before it is computed, and is charged what it did.

Nobody is asked while the slice a gateway was lent lasts: reserving is arithmetic on a few integers. Where it does not,
the request waits for the controller's answer, a moment and never beyond its deadline; then it goes on, or is refused.

What cannot be known before (compute time, bytes and tokens of the answer) is held by estimate. If an answer costs more
than was held for it and than is left of the slice, the excess is not counted: spend stays within the limit whatever a
model does, and the owner bears the difference, of the last requests before a budget ends only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from mofang.base.domain.access import Principal
from mofang.base.domain.budget import GRAINS, Budget, Tariff, quota_tariff
from mofang.base.domain.deployment import Route, Snapshot
from mofang.base.domain.errors import (
    BudgetCurrency,
    BudgetExhausted,
    BudgetUnconfirmed,
    MofangError,
    QuotaExhausted,
)
from mofang.base.domain.names import now_us
from mofang.run.serve.admitting import Admit, Admitted
from mofang.sell.budget.expectation import Expectations
from mofang.sell.budget.reservation import Line, Reservation
from mofang.sell.budget.share import Share
from mofang.sell.budget.words import Accounts, Lease
from mofang.sell.meter.windows import month_of, next_month

WAIT_SECONDS = 2.0
"""How long a request waits for the controller at most."""
_DRY_SECONDS = 0.25  # after an answer of nothing, how long nobody asks again
_IDLE_WORDS = 3  # words (one a second) after which what nobody uses goes back

Bound = tuple[tuple[Budget, Tariff], ...]


class Purse:
    """Admits the requests of one gateway by the budgets of the Snapshot it serves, after ``admit`` has.

    ``holder`` names this life of the gateway; ``tell`` is called when the controller should hear of it soon.
    """

    wait_seconds = WAIT_SECONDS

    def __init__(self, admit: Admit, snapshot: Callable[[], Snapshot], holder: str, tell: Callable[[], None]) -> None:
        self._admit = admit
        self._snapshot = snapshot
        self._holder = holder
        self._tell = tell
        self._number = 0
        self._budgets: dict[tuple[str, str], list[Budget]] = {}
        self._by_id: dict[str, Budget] = {}
        self._bound: dict[tuple[str, str, bool], Bound] = {}
        self._shares: dict[tuple[str, int], Share] = {}
        self._month = (0, 0)
        self._expected = Expectations()

    def admit(self, principal: Principal, route: Route, rows: int, input_bytes: int, party: int = 0) -> Admitted:
        """Return what to hold while the request is answered; it may have to wait first.

        Raises what ``admit`` raises, BudgetExhausted, QuotaExhausted or BudgetCurrency.
        """
        snapshot = self._snapshot()
        if snapshot.number != self._number:
            self._follow(snapshot)
        held = self._admit(principal, route, rows, input_bytes, party)
        if not self._budgets:
            return held
        try:
            bound = self._binding(principal, route)
            return self._reserve(held, bound, route, rows, input_bytes, party) if bound else held
        except MofangError:
            held.release()
            raise

    def hear(self, leases: list[Lease]) -> None:
        """Take what the controller says."""
        for lease in leases:
            if self._share(lease.budget, lease.start).hear(lease):
                self._tell()

    def accounts(self) -> Accounts:
        """Say how every share stands that the controller may know otherwise. Called for every word."""
        items = []
        for share in self._shares.values():
            self._rest(share)
            account = share.account()
            if account != share.said:
                share.said = account
                items.append(account)
        return Accounts(self._holder, items)

    # --- what a reservation asks of its purse -------------------------------------------------------------------------

    def park(self, reservation: Reservation, share: Share) -> None:
        """Have a request wait for units of ``share``."""
        share.waiting.append(reservation)
        self.serve(share)

    def serve(self, share: Share) -> None:
        """Units of ``share`` came free, or somebody waits for them."""
        if share.waiting and share.serve():
            self._tell()

    def used(self, share: Share) -> None:
        """Units of ``share`` were taken."""
        share.idle = 0
        if share.is_low:
            share.ask_ahead()
            self._tell()

    def refusal(self, share: Share, units: int) -> MofangError:
        """Return why there are no ``units`` of ``share``, and remember it for a moment."""
        share.dry_until, share.dry_units = time.monotonic() + _DRY_SECONDS, units
        return self.spent(share)

    def spent(self, share: Share) -> MofangError:
        """Return why there is nothing more of ``share``."""
        budget = self._by_id.get(share.budget)
        until = next_month(share.start) if share.start else None
        wait = None if until is None else max(1, (until - now_us()) // 1_000_000)
        kind = BudgetExhausted if budget is None or budget.is_money else QuotaExhausted
        text = "a budget was removed meanwhile" if budget is None else f"{budget} is used up"
        return kind(text, retry_after_seconds=wait)

    def learn(self, revision: str, rows: int, quantities: Mapping[str, int]) -> None:
        """An answer used so much."""
        self._expected.learn(revision, rows, quantities)

    def unconfirmed(self) -> MofangError:
        """Return why a request did not wait longer."""
        text = f"no answer about the budget came within {WAIT_SECONDS:g} s, or before the deadline"
        return BudgetUnconfirmed(text, retry_after_seconds=1)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _reserve(self, held: Admitted, bound: Bound, route: Route, rows: int, input_bytes: int, party: int) -> Admitted:
        key = route.revision.priced_as
        known = {"requests": party or 1, "rows": rows, "input_bytes": input_bytes * (party or 1)}
        quantities = known | self._expected.of(key, rows)
        lines = []
        for budget, tariff in bound:
            units = -(-tariff.grains(quantities) // GRAINS) + party  # should they go apart, each is rounded up
            lines.append(Line(self._share(budget.id, self._start(budget)), tariff, units))
        reservation = Reservation(self, held, lines, key, rows, quantities)
        reservation.hold()
        return reservation

    def _rest(self, share: Share) -> None:
        """Give back what nobody has used for a while."""
        if share.is_unused and share.slice.available > 0:
            share.idle += 1
            if share.idle >= _IDLE_WORDS or share.budget not in self._by_id:
                share.give_back()

    def _share(self, budget: str, start: int) -> Share:
        share = self._shares.get((budget, start))
        if share is None:
            share = self._shares[budget, start] = Share(budget, start)
        return share

    def _start(self, budget: Budget) -> int:
        if budget.period == "total":
            return 0
        now = now_us()
        first, end = self._month
        if not first <= now < end:
            first = month_of(now)
            self._month = (first, next_month(first))
        return first

    def _binding(self, principal: Principal, route: Route) -> Bound:
        revision = route.revision.priced_as
        known = self._bound.get((principal.key_id, revision, principal.batch))
        if known is None:
            names = (("key", principal.key_id), ("project", principal.project), ("tenant", principal.tenant))
            budgets = [budget for name in names for budget in self._budgets.get(name, ())]
            known = tuple((budget, self._tariff(budget, principal, revision)) for budget in budgets)
            self._bound[principal.key_id, revision, principal.batch] = known
        return known

    def _tariff(self, budget: Budget, principal: Principal, revision: str) -> Tariff:
        if not budget.is_money:
            return quota_tariff(budget.unit)
        tariff = self._snapshot().tariffs.get(f"{principal.tenant} {revision}")
        if tariff is None:
            return Tariff(budget.unit)
        if tariff.currency != budget.unit:
            raise BudgetCurrency(f"{budget} cannot pay for {revision}: its prices are in {tariff.currency}")
        return tariff.in_batch() if principal.batch else tariff

    def _follow(self, snapshot: Snapshot) -> None:
        self._number = snapshot.number
        self._bound = {}
        self._budgets = {}
        self._by_id = {budget.id: budget for budget in snapshot.budgets}
        for budget in snapshot.budgets:
            self._budgets.setdefault((budget.scope, budget.name), []).append(budget)
        for share in self._shares.values():
            share.dry_until = 0.0
