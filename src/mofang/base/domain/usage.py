"""What is metered: one UsageRecord for every answer, which becomes one UsageEvent for every meter in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec

Meter = Literal[
    "requests", "rows", "compute_us", "input_bytes", "output_bytes",
    "input_tokens", "output_tokens", "cached_tokens", "audio_seconds", "images",
    "batch_requests", "batch_input_tokens", "batch_output_tokens", "batch_cached_tokens",
]  # fmt: skip
BATCHED: Mapping[str, str] = MappingProxyType(
    {each: f"batch_{each}" for each in ("requests", "input_tokens", "output_tokens", "cached_tokens")}
)
"""Meters that are recorded under a name of their own for what a batch asks, which may have another price."""
PLAIN: Mapping[str, str] = MappingProxyType({batched: meter for meter, batched in BATCHED.items()})
"""The same the other way."""
METERED = frozenset({"input_tokens", "audio_seconds", "images"})
"""Meters that a model may report itself: by an output of whole numbers of that name, one for each row."""
COUNTED: tuple[Meter, ...] = (
    "requests", "rows", "compute_us", "input_tokens", "output_tokens", "cached_tokens", "audio_seconds", "images",
)  # fmt: skip
"""Meters that are counted where an engine computes as well as where its answers are recorded."""
Outcome = Literal["ok", "error"]
Source = Literal["engine", "estimated"]
"""Who counted: the engine, or we, because it is another server's and did not tell."""


class Charge(NamedTuple):
    """What one answer took out of a budget: on record with its usage, so that both reach the ledger in one fold."""

    budget: str  # id
    start: int  # of the month, microseconds since the epoch; 0: the budget has no months
    amount: int  # micro-units of money, or units of a meter


class UsageRecord(msgspec.Struct, frozen=True, array_like=True):
    """One answer, as it goes into the journal before the answer's last byte is sent."""

    request_id: str
    at: int  # microseconds since the epoch
    tenant: str
    project: str
    key_id: str
    endpoint: str
    revision: int
    version: int
    digest: str
    outcome: Outcome
    quantities: Mapping[str, int]  # meter -> integer units
    attempt: int = 1
    source: Source = "engine"
    charges: tuple[Charge, ...] = ()  # what this took out of budgets


UsageLine = tuple[str, int, int, int, int]
"""Request id, rows, compute microseconds, input bytes, output bytes."""


class UsageSheet(msgspec.Struct, frozen=True, array_like=True):
    """The answers that one turn of the event loop gave to one key: records that share most of what they say.

    ``charges`` are what all lines together took out of budgets.
    """

    at: int
    tenant: str
    project: str
    key_id: str
    endpoint: str
    revision: int
    version: int
    digest: str
    lines: list[UsageLine]
    charges: tuple[Charge, ...] = ()

    def records(self) -> Iterator[UsageRecord]:
        """Yield the record of every line; the first has the charges, since all are written or none."""
        charges = self.charges
        for request_id, rows, compute_us, input_bytes, output_bytes in self.lines:
            yield UsageRecord(
                request_id,
                self.at,
                self.tenant,
                self.project,
                self.key_id,
                self.endpoint,
                self.revision,
                self.version,
                self.digest,
                "ok",
                {
                    "requests": 1,
                    "rows": rows,
                    "compute_us": compute_us,
                    "input_bytes": input_bytes,
                    "output_bytes": output_bytes,
                },
                charges=charges,
            )
            charges = ()


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """One line of the ledger. ``event_id`` is ``request_id:attempt:meter`` and makes folding idempotent."""

    event_id: str
    request_id: str
    at: int
    tenant: str
    project: str
    key_id: str
    endpoint: str
    revision: int
    version: int
    digest: str
    outcome: Outcome
    source: Source
    meter: str
    quantity: int
    variant: str = ""  # of the version: "original", or how it was compressed; empty where nobody knows


def named(quantities: dict[str, int], *, batch: bool) -> dict[str, int]:
    """Return ``quantities`` by the meters they are recorded under."""
    return {BATCHED.get(meter, meter): units for meter, units in quantities.items()} if batch else quantities


def events_of(record: UsageRecord) -> Iterator[UsageEvent]:
    """Yield one event for every meter of ``record``."""
    for meter, quantity in record.quantities.items():
        yield UsageEvent(
            event_id=f"{record.request_id}:{record.attempt}:{meter}",
            request_id=record.request_id,
            at=record.at,
            tenant=record.tenant,
            project=record.project,
            key_id=record.key_id,
            endpoint=record.endpoint,
            revision=record.revision,
            version=record.version,
            digest=record.digest,
            outcome=record.outcome,
            source=record.source,
            meter=meter,
            quantity=quantity,
        )
