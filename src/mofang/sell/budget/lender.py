"""The controller's end of budgets: hears how gateways stand, and lends.

One database transaction for all that is decided of one budget at a time, in a thread; the decision itself is
:func:`~mofang.sell.budget.allocate.decide`. What is remembered here can be lost: gateways say it again when they
connect.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from mofang.sell.budget.allocate import Decision, Seat, decide
from mofang.sell.budget.store import BudgetStore, Place
from mofang.sell.budget.words import Account, Accounts, Lease

Tell = Callable[[str, list[Lease]], None]
"""Send leases to the gateway of that holder; one that is not connected any more will ask again."""


class Lender:
    """Lends slices of all budgets to all gateways."""

    def __init__(self, store: BudgetStore, tell: Tell) -> None:
        self._store = store
        self._tell = tell
        self._seats: defaultdict[Place, dict[str, Seat]] = defaultdict(dict)
        self._returned: defaultdict[Place, dict[str, int]] = defaultdict(dict)
        self._reserved: defaultdict[Place, dict[str, int]] = defaultdict(dict)
        self._rounds: defaultdict[Place, int] = defaultdict(int)  # last recall
        self._questions = 0
        self._stirred: set[Place] = set()
        self._arrived: set[str] = set()
        self._news = asyncio.Event()

    def heard(self, accounts: Accounts, *, first: bool) -> None:
        """A gateway says how it stands; ``first`` on a new connection."""
        if first:
            self._arrived.add(accounts.holder)
            self._news.set()
        for account in accounts.items:
            self._hear(accounts.holder, account)

    def gone(self, holder: str) -> None:
        """A gateway hung up: it asks for nothing any more, and cannot give back."""
        for place, seats in self._seats.items():
            if seats.pop(holder, None) is not None:
                self._reserved[place].pop(holder, None)
                self._stir(place)

    def reserved(self, place: Place) -> int:
        """Return the units held for requests under way, everywhere."""
        return sum(self._reserved[place].values())

    def look_again(self) -> None:
        """Something became free, or larger: decide anew what is open."""
        for place, seats in self._seats.items():
            if any(seat.is_open for seat in seats.values()):
                self._stir(place)

    def changed(self, budget: str) -> None:
        """A budget is larger or smaller now: have every gateway give back what it does not use, and decide anew."""
        for place in [place for place in self._seats if place[0] == budget]:
            self._rounds[place] += 1
            for holder, seat in self._seats[place].items():
                seat.recalled = self._rounds[place]
                self._tell(holder, [Lease(*place, 0, seat.answered, seat.recalled)])
            self._stir(place)

    async def run(self) -> None:
        """Lend for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            arrived, self._arrived = self._arrived, set()
            for holder in arrived:
                await self._remind(holder)
            stirred, self._stirred = self._stirred, set()
            for place in stirred:
                await self._lend(place)

    def _hear(self, holder: str, account: Account) -> None:
        place = (account.budget, account.start)
        seat = self._seats[place].setdefault(holder, Seat())
        if account.asked > seat.asked:
            self._questions += 1
            seat.order, seat.asked, seat.round = self._questions, account.asked, 0
        stirs = seat.is_open or account.acknowledged > seat.acknowledged
        seat.answered = max(seat.answered, account.answered)
        seat.need, seat.waiting, seat.acknowledged = account.need, account.waiting, account.acknowledged
        self._rounds[place] = max(self._rounds[place], account.acknowledged)
        self._reserved[place][holder] = account.reserved
        if account.returned > self._returned[place].get(holder, 0):
            self._returned[place][holder] = account.returned
            stirs = True
        if stirs:
            self._stir(place)

    def _stir(self, place: Place) -> None:
        self._stirred.add(place)
        self._news.set()

    async def _remind(self, holder: str) -> None:
        """Tell a gateway that has just connected what it was lent: the message may have been lost."""
        granted = await asyncio.to_thread(self._store.granted, holder)
        self._tell(holder, [self._lease(place, holder, units) for place, units in granted.items()])

    async def _lend(self, place: Place) -> None:
        seats = {holder: replace(seat) for holder, seat in self._seats[place].items()}
        decided = Decision()

        def choose(free: int, out: Mapping[str, int]) -> Mapping[str, int]:
            nonlocal decided
            decided = decide(free, out, seats, self._rounds[place])
            return decided.grants

        granted = await asyncio.to_thread(self._store.lend, place, dict(self._returned[place]), choose)
        self._apply(place, decided, seats)
        for holder in decided.grants.keys() | decided.recalls.keys():
            self._tell(holder, [self._lease(place, holder, granted.get(holder, 0))])

    def _apply(self, place: Place, decided: Decision, seen: Mapping[str, Seat]) -> None:
        seats = self._seats[place]
        for holder in _present(decided.grants, seats):
            seats[holder].answered = max(seats[holder].answered, seen[holder].asked)
        for holder in _present(decided.rounds, seats):
            self._rounds[place] = max(self._rounds[place], decided.rounds[holder])
            if seats[holder].asked == seen[holder].asked:
                seats[holder].round = decided.rounds[holder]
        for holder in _present(decided.recalls, seats):
            seats[holder].recalled = decided.recalls[holder]

    def _lease(self, place: Place, holder: str, granted: int) -> Lease:
        seat = self._seats[place].get(holder) or Seat()
        return Lease(*place, granted, seat.answered, seat.recalled)


def _present(names: Iterable[str], seats: Mapping[str, Seat]) -> list[str]:
    return [name for name in names if name in seats]
