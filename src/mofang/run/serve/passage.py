"""One admitted request, from the queue to its answer: the lane begins it, the replica computes it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from mofang.base.domain.access import Principal
from mofang.base.domain.errors import MofangError
from mofang.base.domain.inference import Answer, Call, InferRequest, InferResponse
from mofang.base.domain.names import now_us
from mofang.base.domain.tensors import Array, size_bytes
from mofang.base.domain.usage import UsageRecord, named
from mofang.base.placement.base import ReplicaHandle
from mofang.base.placement.ticket import call_bytes
from mofang.run.serve.admitting import Admitted
from mofang.run.serve.desk import Desk, Measure, Stages
from mofang.run.serve.plan import Plan
from mofang.run.serve.visits import UNTIMED, Timing, Trace

Told = Callable[[InferResponse | Exception], None]
"""Told the outcome of a request, once, unless it was cancelled."""

_log = logging.getLogger(__name__)


class Passage:
    """One admitted request, from the queue to its answer: the ticket that its replica holds.

    ``go_on`` (if it had to wait) → ``set_result`` (computed) → ``_written`` (recorded) → told; ``set_exception`` and
    ``cancel`` are the other ends.
    """

    __slots__ = (
        "_begun", "_computed_at", "_desk", "_done", "_input_bytes", "_principal", "_response", "_timing", "_told",
        "_trace", "call", "held", "number", "plan", "queued_at", "replica", "request", "size_bytes", "started",
    )  # fmt: skip

    def __init__(
        self,
        desk: Desk,
        plan: Plan,
        request: InferRequest,
        principal: Principal,
        call: Call,
        held: Admitted,
        started: float,
        input_bytes: int,
        told: Told,
    ) -> None:
        self._desk = desk
        self._principal = principal
        self._input_bytes = input_bytes
        self._told: Told | None = told  # until told, or cancelled
        self._done = False  # the replica has nothing more to do
        self._response: InferResponse
        self._timing = UNTIMED
        self._trace = None if request.traceparent is None else Trace.of(request.traceparent)
        self._begun = time.monotonic()
        self._computed_at = self._begun
        self.replica: ReplicaHandle | None = None  # while it waits to be admitted
        self.plan = plan
        self.request = request
        self.held = held
        self.started = started
        self.call = call
        self.size_bytes = call_bytes(call)
        self.queued_at = 0.0
        self.number = 0

    def go_on(self, error: MofangError | None) -> None:
        """It need not wait any more: it is admitted now, or why not."""
        try:
            if error is not None:
                raise error
            self.replica = self._desk.send(self, self.plan)
        except MofangError as refusal:
            self.set_exception(refusal)

    def done(self) -> bool:
        """See :class:`Ticket`."""
        return self._done

    def set_result(self, answer: Answer, /) -> None:
        """Computed: record it."""
        self._done = True
        self._computed_at = time.monotonic()
        batch_us = answer.compute_us * (answer.batch_rows or 1) // self.call.rows  # its own share is what is paid
        timing = self._timing = Timing(answer.queue_us, batch_us, answer.batch_rows)
        wanted = self.request.outputs or self.plan.outputs
        try:
            self.plan.statistics.computed(self.call.rows, answer)
            outputs = {name: answer.outputs[name] for name in wanted}
            revision = self.plan.route.revision
            self._response = InferResponse(
                self.call.request_id,
                revision.endpoint,
                revision.version,
                revision.number,
                revision.digest,
                outputs,
                self.request.client_id,
                str(timing),
                "" if self._trace is None else str(self._trace),
            )
            self._desk.record(self._usage(answer, outputs), self._written)
        except Exception as error:
            self.held.refund()
            self._end(error)

    def set_exception(self, error: MofangError, /) -> None:
        """Not computed, and why."""
        self._done = True
        self._end(error)

    def cancel(self) -> None:
        """Nobody waits any more. What is computed already stays recorded; nothing happens after the end."""
        if self._told is None:
            return
        self._told = None
        if not self._done:
            self._done = True
            if self.replica is not None:
                self.replica.drop(self)
        self._desk.end(self.plan, self.held, "cancelled", self.started)
        self._tell("cancelled")

    def _written(self, error: Exception | None) -> None:
        """Recorded, or not: then there is no answer."""
        if error is not None:
            self.held.refund()
        self._end(error or self._response)

    def _end(self, outcome: InferResponse | Exception) -> None:
        told, self._told = self._told, None
        if told is None:
            return  # cancelled meanwhile
        recorded_at = time.monotonic()
        try:
            said = "ok"
            if isinstance(outcome, Exception):
                said = outcome.code if isinstance(outcome, MofangError) else "cancelled"
                if isinstance(outcome, MofangError):
                    outcome.seen = True  # it is told below
            self._desk.end(self.plan, self.held, said, self.started)
            told(outcome)
            self._tell(said)
            if said == "ok" and self._desk.measure is not None:
                self._measure(self._desk.measure, recorded_at)
        except Exception:  # a defect, and no concern of those who were computed and recorded in the same turn
            _log.exception("request %s was answered in vain", self.call.request_id)

    def _tell(self, outcome: str) -> None:
        if self._desk.watch is not None:
            self._desk.tell(
                self.plan, self._principal, self.call.request_id, outcome, self.started, self.call.rows,
                self._input_bytes, self._timing, self._trace,
            )  # fmt: skip

    def _measure(self, measure: Measure, recorded_at: float) -> None:
        timing, begun = self._timing, self._begun
        queue, compute = timing.queue_us / 1e6, timing.compute_us / 1e6
        travel = max(0.0, self._computed_at - begun - queue - compute)
        record, write = recorded_at - self._computed_at, time.monotonic() - recorded_at
        stages = Stages(begun - self.started, travel, queue, compute, record, write)
        measure(self.plan.route.revision.endpoint, stages, timing.batch_rows)

    def _usage(self, answer: Answer, outputs: dict[str, Array]) -> UsageRecord:
        revision, principal, call = self.plan.route.revision, self._principal, self.call
        output_bytes = 0
        for array in outputs.values():
            output_bytes += size_bytes(array)
        quantities = {
            "requests": 1,
            "rows": call.rows,
            "compute_us": answer.compute_us,
            "input_bytes": self._input_bytes,
            "output_bytes": output_bytes,
        }
        if answer.extras:
            quantities.update(answer.extras)
        for meter in self.plan.meters:
            quantities[meter] = int(answer.outputs[meter].sum())
        return UsageRecord(
            call.request_id,
            now_us(),
            principal.tenant,
            principal.project,
            principal.key_id,
            revision.endpoint,
            revision.number,
            revision.version,
            revision.digest,
            "ok",
            charges=self.held.charge(quantities),
            quantities=named(quantities, batch=principal.batch),
        )
