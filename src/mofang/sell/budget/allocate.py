"""Who gets how much of what is left of a budget: a pure decision about one budget in one month.

A gateway that lacks units for a request asks a numbered question. It is answered once, finally: with enough for that
request, or not, as there is nowhere enough. Questions are taken in the order in which they came. If what is not lent
out is too little for the first, the other gateways are asked to give back what they do not use; when each of them has
said that it did, or is gone, the question is decided. So a unit that lies idle anywhere is found in one round, two
gateways that both want more than there is do not take it from each other for ever, and nobody waits for more than one
round for each question before hers.

What a gateway asks for ahead of need never makes others give back, and gets an ever smaller share of an ever smaller
rest: slices end at the size of single requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_SHARE = 2  # of what is left, half is shared out ahead of need: among so many gateways as there are


@dataclass(slots=True)
class Seat:
    """Where one gateway stands with one budget, as the controller knows it."""

    need: int = 0  # units its first waiting request lacks a slice for; 0: it asks ahead of need
    waiting: int = 0  # units that all of its waiting requests want
    asked: int = 0  # number of its last question
    answered: int = 0  # number of the last question that was decided
    order: int = 0  # among the questions of all gateways
    round: int = 0  # in which the others are asked to give back for its question; 0: not yet
    recalled: int = 0  # last round in which it was asked to give back
    acknowledged: int = 0  # last round in which it said that it had

    @property
    def is_open(self) -> bool:
        """Whether its question waits to be decided."""
        return self.asked > self.answered


@dataclass(slots=True)
class Decision:
    """What to lend to whom, and who is to give back in which round."""

    grants: dict[str, int] = field(default_factory=dict)  # of each question that is answered: 0 is an answer
    recalls: dict[str, int] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)  # the round of each question that others give back for


def decide(free: int, out: Mapping[str, int], seats: Mapping[str, Seat], last_round: int) -> Decision:
    """Decide every question that can be decided.

    ``free`` units are neither spent nor lent; ``out`` are lent to each gateway and not yet accounted for.
    """
    decision = Decision()
    questions = sorted((seat.order, name) for name, seat in seats.items() if seat.is_open)
    for _, name in questions:
        seat = seats[name]
        if seat.need > free:
            wanted = decision.rounds[name] = seat.round or last_round + 1
            holders = {each for each, units in out.items() if units > 0 and each != name}
            others = {each: seats[each] for each in holders & seats.keys()}
            decision.recalls = {each: wanted for each, other in others.items() if other.recalled < wanted}
            # Who holds units and has no seat is dead, and its journal not yet folded, or will be back in a moment.
            if holders - seats.keys() or any(other.acknowledged < wanted for other in others.values()):
                break  # those who asked later wait as well: what comes back is for the first
        granted = _portion(free, seat, len(seats)) if seat.need <= free else 0
        decision.grants[name] = granted
        free -= granted
    return decision


def _portion(free: int, seat: Seat, gateways: int) -> int:
    """Return what an answered question gets: all that waits, as far as it is there, and a share of the rest ahead."""
    now = min(free, max(seat.need, seat.waiting))
    return now + (free - now) // (_SHARE * gateways)
