"""Joins waiting calls into batches, computes them, and takes the answers apart. No event loop.

The replica forms a batch on its event loop and computes it there or in its thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mofang.base.domain.deployment import ReplicaLimits
from mofang.base.domain.errors import EngineFailed, MofangError, Overloaded
from mofang.base.domain.inference import Answer, Call
from mofang.base.domain.tensors import Array, Signature
from mofang.base.engines.base import Engine
from mofang.base.placement.deadlines import expired
from mofang.base.placement.padding import Padding, bucket
from mofang.base.placement.party import Joined
from mofang.base.placement.queue import FairQueue
from mofang.base.placement.ticket import Ticket

_LOOK_AHEAD = 256  # calls of another shape that are passed over in search of fitting ones

Outcome = Answer | MofangError


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls that are computed together, in the order their turn came."""

    tickets: list[Ticket]
    rows: int
    formed_at: float  # on time.monotonic(), seconds


class Shapes:
    """Tells which calls of a model can share a batch: those that differ in nothing but their rows, or are ``padded``.

    ``joinable`` turns false for good when a model turns out not to answer row by row, whatever its signature says.
    """

    def __init__(self, signature: Signature, *, join: bool = True, padding: Padding | None = None) -> None:
        self.joinable = join and signature.batchable
        self.padding = padding
        self._ragged = tuple(spec.name for spec in signature.inputs if any(size < 0 for size in spec.shape[1:]))

    def key(self, call: Call) -> object:
        """Return a value that is equal for calls that can be joined."""
        if not self._ragged:
            return None
        if self.padding is not None and (length := self.padding.length(call)):
            return bucket(length)
        return tuple(call.inputs[name].shape[1:] for name in self._ragged if name in call.inputs)


def form(
    queue: FairQueue, shapes: Shapes, limits: ReplicaLimits, now: float, least: float = 0.0, most: int = 0
) -> Batch | None:
    """Take the next batch of at most ``most`` rows (0: as many as allowed) out of ``queue``; None if nothing waits.

    The call whose turn it is decides the shape; calls of other shapes are passed over and keep their place. A call that
    nobody waits for any more is dropped, an expired one is told so; neither is ever computed. Nor is one that has less
    time than ``least``, the seconds it would take. A batch that has more rows than a preferred size ends there.
    """
    preferred = frozenset(limits.preferred_rows)
    most = most or limits.max_batch_rows
    kept = kept_rows = 0  # the calls, and their rows, that make up the largest preferred size so far
    tickets: list[Ticket] = []
    passed_over: list[Ticket] = []
    rows, key = 0, None
    while (ticket := queue.peek()) is not None:
        call = ticket.call
        if ticket.done():
            queue.drop()
        elif call.deadline <= now + least:
            queue.drop().set_exception(expired() if call.deadline <= now else _hopeless(least))
        elif not tickets:
            tickets.append(queue.pop())
            rows, key = call.rows, shapes.key(call)
            if not shapes.joinable:
                break
        elif rows + call.rows > most:
            break
        elif shapes.key(call) == key:
            tickets.append(queue.pop())
            rows += call.rows
        elif len(passed_over) < _LOOK_AHEAD:
            passed_over.append(queue.drop())
        else:
            break
        if rows in preferred:
            kept, kept_rows = len(tickets), rows
    if passed_over:
        queue.restore(passed_over)
    if kept and kept < len(tickets):
        queue.put_back(tickets[kept:])
        tickets, rows = tickets[:kept], kept_rows
    return Batch(tickets, rows, now) if tickets else None


def _hopeless(seconds: float) -> Overloaded:
    return Overloaded(
        f"the queue was slower than expected, and an answer takes about {seconds:.2f} s more",
        retry_after_seconds=max(1, math.ceil(seconds)),
    )


def compute(engine: Engine, shapes: Shapes, batch: Batch) -> tuple[list[Outcome], float]:
    """Compute ``batch`` and return each call's outcome, in order, and the seconds it took.

    If the batch fails, its calls are computed one by one, so that a bad one fails alone.
    """
    started = time.monotonic()
    outcomes: list[Outcome] | None = None
    try:
        outcomes = _split(batch, engine.infer(_joined(batch.tickets, shapes)), started, shapes)
        shapes.joinable = shapes.joinable and outcomes is not None
    except Exception as error:
        if len(batch.tickets) == 1:
            outcomes = [_failure(error)]
    if outcomes is None:
        outcomes = [_alone(engine, shapes, ticket) for ticket in batch.tickets]
    return outcomes, time.monotonic() - started


def compute_party(engine: Engine, party: Joined) -> tuple[Answer | None, float]:
    """Compute ``party`` and return the answer and the seconds it took; None if its calls must be computed apart."""
    started = time.monotonic()
    try:
        outputs = engine.infer(party.inputs)
    except Exception:  # whose fault it is comes out when each is computed alone
        return None, time.monotonic() - started
    seconds = time.monotonic() - started
    for array in outputs.values():
        if not array.ndim or len(array) != party.rows:
            return None, seconds
    return Answer(outputs, round(seconds * 1e6), 0, party.rows), seconds


def _alone(engine: Engine, shapes: Shapes, ticket: Ticket) -> Outcome:
    now = time.monotonic()
    if ticket.done() or ticket.call.deadline <= now:
        return expired()
    return compute(engine, shapes, Batch([ticket], ticket.call.rows, now))[0][0]


def _joined(tickets: list[Ticket], shapes: Shapes) -> Mapping[str, Array]:
    first = tickets[0].call.inputs
    if len(tickets) == 1:
        return first
    if shapes.padding is not None:
        return shapes.padding.join([ticket.call for ticket in tickets])
    return {name: np.concatenate([ticket.call.inputs[name] for ticket in tickets]) for name in first}


def _split(batch: Batch, outputs: Mapping[str, Array], started: float, shapes: Shapes) -> list[Outcome] | None:
    """Give each call its rows; None if the outputs do not have a row for each row of the inputs."""
    total_us = round((time.monotonic() - started) * 1e6)
    if len(batch.tickets) == 1:
        return [Answer(outputs, total_us, round((started - batch.tickets[0].queued_at) * 1e6), batch.rows)]
    if any(not array.ndim or len(array) != batch.rows for array in outputs.values()):
        return None
    outcomes: list[Outcome] = []
    items = list(outputs.items())
    start = 0
    for ticket in batch.tickets:
        end = start + ticket.call.rows
        # Differences of a running share, so that the parts add up to the whole.
        share_us = total_us * end // batch.rows - total_us * start // batch.rows
        queue_us = round((started - ticket.queued_at) * 1e6)
        own = {name: array[start:end] for name, array in items}
        if shapes.padding is not None:
            own = shapes.padding.back(own, ticket.call)
        outcomes.append(Answer(own, share_us, queue_us, batch.rows))
        start = end
    return outcomes


def _failure(error: Exception) -> MofangError:
    if isinstance(error, MofangError):
        return error
    failure = EngineFailed(f"the engine failed: {error or type(error).__name__}")
    failure.__cause__ = error
    return failure
