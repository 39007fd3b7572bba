"""Calls of one turn of the event loop that differ in nothing but their rows: computed as one, told as one.

Where nobody else waits there is nothing to be fair about, and a queue, a ticket and a batch for each call would be all
that these calls cost. A replica that is busy does not take a party; its members then queue one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from mofang.base.domain.inference import Answer
from mofang.base.domain.tensors import Array
from mofang.base.placement.ticket import Ticket


class Party(Protocol):
    """Checked calls, joined along the first axis."""

    inputs: Mapping[str, Array]
    rows: int  # of all of them
    deadline: float  # of all of them, on time.monotonic(), seconds

    def computed(self, answer: Answer, /) -> None:
        """Give the outputs of all rows, in their order. Called once, unless they go apart."""
        ...

    def apart(self) -> Sequence[Ticket]:
        """Return a ticket for each call; from then on the replica deals with those. Called once."""
        ...
