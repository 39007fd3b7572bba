"""What a replica counts of its own work, by tenant, apart from what its gateways record: the two must agree.

Counted is what is handed to somebody who waits for it, in the meters that the engine knows of; how many bytes crossed
the wire it does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from mofang.base.domain.inference import Answer
from mofang.base.domain.tensors import Signature
from mofang.base.domain.usage import METERED
from mofang.base.placement.party import Joined
from mofang.base.placement.ticket import Ticket


class Tally(Protocol):
    """Keeps counts by tenant."""

    def add(self, key: str, quantities: Mapping[str, int], /) -> None:
        """Raise the counts of a tenant. Must not fail."""
        ...

    def close(self) -> None:
        """Nothing more is counted."""
        ...


class Uncounted:
    """Keeps nothing."""

    def add(self, key: str, quantities: Mapping[str, int], /) -> None:
        """Pass over it."""

    def close(self) -> None:
        """There is nothing to close."""


def metered(signature: Signature) -> tuple[str, ...]:
    """Return the outputs of a model that are meters of its own."""
    return tuple(sorted(METERED.intersection(spec.name for spec in signature.outputs)))


def count_party(tally: Tally, party: Joined, answer: Answer) -> None:
    """Count the answer to all calls of a party; the time is shared by rows, so that the parts add up to the whole."""
    calls = rows_before = us = 0
    for tenant, _, count in party.tenants:
        rows = sum(party.rows_of[calls : calls + count])
        calls, rows_before = calls + count, rows_before + rows
        until_us = answer.compute_us * rows_before // party.rows
        tally.add(tenant, {"requests": count, "rows": rows, "compute_us": until_us - us})
        us = until_us


def count_answers(tally: Tally, answers: Iterable[tuple[Ticket, Answer]], meters: tuple[str, ...]) -> None:
    """Count calls that were computed one by one or in a batch."""
    work: dict[str, dict[str, int]] = {}
    for ticket, answer in answers:
        own = {"requests": 1, "rows": ticket.call.rows, "compute_us": answer.compute_us, **answer.extras}
        for meter in meters:
            own[meter] = int(answer.outputs[meter].sum())
        known = work.get(ticket.call.tenant)
        if known is None:
            work[ticket.call.tenant] = own
        else:
            for meter, quantity in own.items():
                known[meter] = known.get(meter, 0) + quantity
    for tenant, quantities in work.items():
        tally.add(tenant, quantities)
