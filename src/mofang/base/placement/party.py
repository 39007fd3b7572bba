"""Calls of one turn of the event loop that differ in nothing but their rows: computed as one, told as one.

Where nobody else waits there is nothing to be fair about, and a queue, a ticket and a batch for each call would be all
that these calls cost. A replica that is busy does not take a party; its members then queue one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from mofang.base.domain.inference import Answer
from mofang.base.domain.tensors import Array
from mofang.base.placement.ticket import Ticket


class Joined(Protocol):
    """Checked calls, joined along the first axis."""

    @property
    def inputs(self) -> Mapping[str, Array]:
        """The rows of all calls."""
        ...

    @property
    def rows(self) -> int:
        """How many there are."""
        ...

    @property
    def rows_of(self) -> Sequence[int]:
        """The rows of each call."""
        ...

    @property
    def tenants(self) -> Sequence[tuple[str, float, int]]:
        """The tenants of the calls in turn: each with its weight, and how many of the next calls are its."""
        ...

    def computed(self, answer: Answer, /) -> None:
        """Give the outputs of all rows, in their order. Called once, unless they go apart."""
        ...


class Party(Joined, Protocol):
    """Calls that can go apart again."""

    def computed(self, answer: Answer, recalled: Collection[int] = (), /) -> None:
        """See :class:`Joined`. The answers to the calls at the places ``recalled`` took no computing."""
        ...

    @property
    def deadline(self) -> float:
        """The deadline of all calls, on time.monotonic(), seconds."""
        ...

    @property
    def priorities(self) -> Mapping[int, int]:
        """The priorities of calls that have another than 0, by their places."""
        ...

    def apart(self) -> Sequence[Ticket]:
        """Return a ticket for each call; from then on the replica deals with those. Called once."""
        ...


def parts(answer: Answer, rows_of: Sequence[int]) -> Iterator[Answer]:
    """Yield each call's share of the answer to all."""
    start = us = 0
    for rows in rows_of:
        end = start + rows
        until_us = answer.compute_us * end // answer.batch_rows  # so that the parts add up to the whole
        outputs = {name: array[start:end] for name, array in answer.outputs.items()}
        yield Answer(outputs, until_us - us, answer.queue_us, answer.batch_rows)
        start, us = end, until_us
