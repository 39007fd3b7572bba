"""What one request holds of the budgets that bind it, from its admission to its record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol

from mofang.base.domain.budget import GRAINS, Tariff
from mofang.base.domain.errors import MofangError
from mofang.base.domain.usage import Charge
from mofang.run.serve.admitting import Admitted
from mofang.sell.budget.expectation import KNOWN
from mofang.sell.budget.share import Share

_NOTHING: Mapping[str, int] = {}


class Desk(Protocol):
    """What a reservation asks of the purse that made it."""

    wait_seconds: float

    def park(self, reservation: Reservation, share: Share) -> None:
        """Have it wait for units of ``share``."""

    def serve(self, share: Share) -> None:
        """Units of ``share`` came free."""

    def used(self, share: Share) -> None:
        """Units of ``share`` were taken."""

    def refusal(self, share: Share, units: int) -> MofangError:
        """Return why there are no ``units`` of ``share``, and remember it for a moment."""

    def spent(self, share: Share) -> MofangError:
        """Return why there is nothing more of ``share``."""

    def unconfirmed(self) -> MofangError:
        """Return why it did not wait longer."""

    def learn(self, revision: str, rows: int, quantities: Mapping[str, int]) -> None:
        """An answer used so much."""


@dataclass(slots=True)
class Line:
    """``units`` of one share, held for the request; then what it was charged instead."""

    share: Share
    tariff: Tariff
    units: int
    grains: int = 0
    charged: int = 0


class Reservation:
    """An :class:`Admitted` that holds units of each share, or waits until it can: of all, or of none."""

    __slots__ = (
        "_desk", "_exact", "_guessed", "_held", "_inner", "_lines", "_revision", "_rows", "_timer", "_told", "gone",
    )  # fmt: skip

    def __init__(
        self, desk: Desk, inner: Admitted, lines: list[Line], revision: str, rows: int,
        guessed: Mapping[str, int] = _NOTHING,
    ) -> None:  # fmt: skip
        self._desk = desk
        self._inner = inner
        self._lines = lines
        self._revision = revision
        self._rows = rows
        self._guessed = guessed  # what it was held for at first
        self._exact: Mapping[str, int] = _NOTHING  # what it was bound to
        self._held = False
        self._told: Callable[[MofangError | None], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.gone = False

    charges = True

    @property
    def pending(self) -> bool:
        """See :class:`Admitted`."""
        return not self._held

    def apart(self, members: Sequence[tuple[int, int]]) -> Sequence[Admitted]:
        """See :class:`Admitted`: each gets what it is known to cost, and its part of the rest by its rows."""
        known = [{"requests": 1, "rows": rows, "input_bytes": size} for rows, size in members]
        parts = [Reservation(self._desk, inner, [], self._revision, rows)
                 for inner, (rows, _) in zip(self._inner.apart(members), members, strict=True)]  # fmt: skip
        ends = [0, *accumulate(rows for rows, _ in members)]
        for line in self._lines:
            least = [-(-line.tariff.grains(quantities) // GRAINS) for quantities in known]
            rest = line.units - sum(least)
            for part, units, (start, end) in zip(parts, least, pairwise(ends), strict=True):
                share = rest * end // ends[-1] - rest * start // ends[-1]
                part._lines.append(Line(line.share, line.tariff, units + share))
        for part in parts:
            part._held = True
        self._held = False  # every unit is theirs now
        return parts

    def lacking(self) -> Share | None:
        """Return a share without enough units, if there is one."""
        return next((line.share for line in self._lines if line.units > line.share.slice.available), None)

    def queued(self) -> Share | None:
        """Return a share for which others wait already, if there is one."""
        return next((line.share for line in self._lines if line.share.waiting), None)

    def hold(self) -> bool:
        """Hold the units of every share, or return False if it has to wait. Raises why there are none, lately."""
        lacking = self.lacking()
        if lacking is None and self.queued() is None:
            self.take()
            return True
        if lacking is not None and lacking.is_dry(self.need(lacking), time.monotonic()):
            raise self._desk.spent(lacking)
        return False

    def take(self) -> None:
        """Hold the units of every share; they are there."""
        self._held = True
        for line in self._lines:
            line.share.slice.reserve(line.units)
            self._desk.used(line.share)

    def wait(self, deadline: float, told: Callable[[MofangError | None], None]) -> None:
        """See :class:`Admitted`."""
        self._told = told
        seconds = min(self._desk.wait_seconds, deadline - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._give_up)
        share = self.lacking() or self.queued()
        assert share is not None
        self._desk.park(self, share)

    def bound(self, quantities: Mapping[str, int], deadline: float, told: Callable[[MofangError | None], None]) -> None:
        """See :class:`Admitted`: what it held is part of what it holds then."""
        self._exact = quantities
        self._held = False
        for line in self._lines:
            line.share.slice.reserved -= line.units
            line.units = -(-line.tariff.grains({**self._guessed, **quantities}) // GRAINS)
        try:
            if self.hold():
                told(None)
            else:
                self.wait(deadline, told)
        except MofangError as error:
            told(error)
        self._serve()

    # --- what a share asks of one that waits for it -------------------------------------------------------------------

    def need(self, share: Share) -> int:
        """Return the units it wants of ``share``."""
        return sum(line.units for line in self._lines if line.share is share)

    def go_on(self) -> None:
        """One share has what it lacked: take all, or wait for the next."""
        share = self.lacking()
        if share is not None:
            self._desk.park(self, share)
            return
        self.take()
        self._tell(None)

    def refuse(self, share: Share) -> None:
        """There is nothing more of ``share``."""
        self._tell(self._desk.refusal(share, self.need(share)))

    # --- after the wait -----------------------------------------------------------------------------------------------

    def charge(self, quantities: dict[str, int]) -> tuple[Charge, ...]:
        """See :class:`Admitted`."""
        guessed = {meter: units for meter, units in quantities.items() if meter not in self._exact}
        self._desk.learn(self._revision, self._rows, guessed)
        for line in self._lines:
            cover(line, quantities)
        charges = []
        for line in self._lines:
            line.grains = line.tariff.grains(quantities)
            line.charged = line.share.slice.charge(line.units, line.grains)
            if line.charged:
                charges.append(Charge(line.share.budget, line.share.start, line.charged))
        self._held = False
        self._serve()
        return (*self._inner.charge(quantities), *charges)

    def refund(self) -> None:
        """See :class:`Admitted`."""
        self._inner.refund()
        for line in self._lines:
            line.share.slice.refund(line.charged, line.grains)
            line.charged = line.grains = 0
        self._serve()

    def release(self) -> None:
        """See :class:`Admitted`."""
        self._inner.release()
        self.gone = True
        self._told = None
        self._stop_timer()
        if self._held:
            self._held = False
            for line in self._lines:
                line.share.slice.reserved -= line.units
            self._serve()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        for line in self._lines:
            self._desk.serve(line.share)

    def _give_up(self) -> None:
        if not self._held:
            self._tell(self._desk.unconfirmed())

    def _tell(self, error: MofangError | None) -> None:
        self.gone = error is not None
        self._stop_timer()
        told, self._told = self._told, None
        if told is not None:
            told(error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def cover(line: Line, quantities: dict[str, int]) -> None:
    """Lower what was not known before the answer, until the line's share can pay for it.

    What was known before is held in full, so there always is an amount that can be paid.
    """
    excess = line.tariff.grains(quantities) - line.share.slice.room(line.units)
    for meter, (micros, per) in line.tariff.prices.items():
        if excess > 0 and micros and meter not in KNOWN and quantities.get(meter):
            before = line.tariff.grains({meter: quantities[meter]})
            # Rounded so that what remains costs no more than it may.
            quantities[meter] = max(0, (before - excess)) * per // (micros * GRAINS)
            excess -= before - line.tariff.grains({meter: quantities[meter]})
