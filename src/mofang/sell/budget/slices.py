"""One gateway's slice of one budget: what it was lent, and where each unit of that is. Pure.

Everything that crosses to the controller is a total that only grows (``granted`` by the controller, ``returned`` and
``charged`` by the gateway), so that messages may be lost, repeated or overtaken by a restart: the larger number is the
newer one, and nothing is ever counted twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from mofang.base.domain.budget import GRAINS


@dataclass(slots=True)
class Slice:
    """Units of a budget: ``granted`` = ``returned`` + ``charged`` + ``reserved`` + ``available``."""

    granted: int = 0  # lent to this gateway so far
    returned: int = 0  # given back so far
    charged: int = 0  # gone into records so far
    reserved: int = 0  # held for requests under way
    grains: int = 0  # exactly what was charged, of which ``charged`` is rounded up

    @property
    def available(self) -> int:
        """Units that the next request can have."""
        return self.granted - self.returned - self.charged - self.reserved

    def grant(self, total: int) -> int:
        """Take what the controller has lent in all; return how much of it is new."""
        new = max(0, total - self.granted)
        self.granted += new
        return new

    def reserve(self, units: int) -> bool:
        """Hold ``units`` for a request, if they are there."""
        if units > self.available:
            return False
        self.reserved += units
        return True

    def room(self, units: int) -> int:
        """Return the most grains that a request which holds ``units`` can be charged."""
        return (self.charged + units + self.available) * GRAINS - self.grains

    def charge(self, units: int, grains: int) -> int:
        """Let go of the ``units`` a request held and charge it ``grains``, at most its :meth:`room`.

        Returns the units that go on record: differences of a running sum rounded up, so that a million requests of a
        tenth of a unit cost a hundred thousand.
        """
        self.reserved -= units
        self.grains += grains
        before, self.charged = self.charged, -(-self.grains // GRAINS)
        return self.charged - before

    def refund(self, charged: int, grains: int) -> None:
        """Undo a charge that did not get on record. It may have been rounded with those after it: never below them."""
        self.grains -= grains
        self.charged -= charged
        if self.charged * GRAINS < self.grains:
            self.grains = self.charged * GRAINS

    def give_back(self, units: int) -> None:
        """Return ``units`` that are available."""
        self.returned += units
