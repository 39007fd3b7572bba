"""Requests that one turn of the event loop brought for one route, on their way together.

A protocol asks the lane for a :class:`Party`, writes the rows of each request straight into the array that the engine
will compute (:meth:`Party.take`), and lets it go (:meth:`Party.depart`). Where nobody else waits for the engine, all of
them are admitted, computed, recorded and counted by one call each, and the protocol writes the answers.

A party knows neither errors nor fairness. Whenever something is not as usual (a limit is near, the engine fails, a
client leaves, a worker dies) it goes apart, and each request is a :class:`~mofang.run.serve.passage.Passage` from then
on, with the rules of those. So there is one place for every rule, and a fast way past it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate, groupby, pairwise
from typing import Protocol

import numpy as np

from mofang.base.domain.access import Principal
from mofang.base.domain.errors import Internal, MofangError
from mofang.base.domain.inference import Answer, Call, InferRequest
from mofang.base.domain.names import new_ids, now_us
from mofang.base.domain.tensors import Array, size_bytes
from mofang.base.domain.usage import Charge, UsageLine, UsageSheet
from mofang.base.placement.base import ReplicaHandle
from mofang.run.serve.admitting import Admitted
from mofang.run.serve.desk import Desk, Measure, Stages
from mofang.run.serve.passage import Passage, Told
from mofang.run.serve.plan import Plan
from mofang.run.serve.visits import Timing, Trace

_log = logging.getLogger(__name__)


class Host(Protocol):
    """The protocol that brought the requests."""

    def answered(self, party: Party, outputs: Mapping[str, Array]) -> None:
        """Write the answers: the outputs of all rows, in their order."""

    def failed(self, party: Party, error: Exception) -> None:
        """Tell all of them why there is no answer."""

    def alone(self, index: int) -> Told:
        """Return whom to tell the outcome of one request, now that they have gone apart."""


class Party:
    """At most ``full`` rows for one route. ``rows_of`` and ``bytes_of`` say what each member sent, ``ids`` its id."""

    __slots__ = (
        "_answer", "_computed", "_computed_at", "_departed", "_desk", "_held", "_host", "_passages", "_recalled",
        "_replica", "_started", "buffers", "bytes_of", "deadline", "full", "ids", "inputs", "plan", "principals",
        "priorities", "row_bytes", "rows", "rows_of", "traces",
    )  # fmt: skip

    def __init__(self, desk: Desk, plan: Plan, replica: ReplicaHandle, timeout_seconds: float) -> None:
        self._desk = desk
        self._replica = replica
        self._host: Host
        self._held: list[tuple[Admitted, list[int]]] = []  # for each key, with the members it admits
        self._answer: Answer
        self._recalled: Collection[int] = ()  # members whose answers took no computing
        self._started = time.monotonic()
        self._departed: float
        self._computed_at: float
        self._passages: dict[int, Passage] = {}  # of members, once they have gone apart
        self._computed = False
        self.plan = plan
        self.deadline = self._started + timeout_seconds
        self.full = plan.full
        self.inputs: Mapping[str, Array] = {each.name: np.empty(each.shape, each.dtype) for each in plan.columns}
        self.buffers = [array.data.cast("B") for array in self.inputs.values()]
        self.row_bytes = plan.row_bytes
        self.rows = 0
        self.ids: list[str] = []
        self.principals: list[Principal] = []
        self.rows_of: list[int] = []
        self.bytes_of: list[int] = []
        self.priorities: dict[int, int] = {}  # of members that have another than 0
        self.traces: dict[int, Trace] = {}  # of members that belong to one

    @property
    def tenants(self) -> list[tuple[str, float, int]]:
        """See :class:`mofang.base.placement.party.Party`."""
        weights = self._desk.fleet.snapshot.weights
        if len(self._held) == 1:
            runs = [(self.principals[0].tenant, len(self.principals))]
        else:
            runs = [(key.tenant, len(list(members))) for key, members in groupby(self.principals)]
        return [(tenant, weights.get(tenant, 1.0), count) for tenant, count in runs]

    def take(
        self, principal: Principal, rows: int, input_bytes: int, priority: int = 0, traceparent: str | None = None
    ) -> None:
        """Let a member in whose ``rows`` rows stand in the buffers, after those of the members before.

        Its priority is for those who wait, and so for when they go apart.
        """
        if priority:
            self.priorities[len(self.principals)] = priority
        if traceparent is not None and (trace := Trace.of(traceparent)) is not None:
            self.traces[len(self.principals)] = trace
        self.rows += rows
        self.principals.append(principal)
        self.rows_of.append(rows)
        self.bytes_of.append(input_bytes)

    def depart(self, host: Host) -> Sequence[int]:
        """Set off. Returns the members that cannot come, and to whom nothing has happened: mostly none."""
        everybody = range(len(self.principals))
        if not self._replica.takes(self.rows):
            return everybody
        refused = self._admit()
        if len(refused) == len(everybody):
            return refused
        self.inputs = {name: array[: self.rows] for name, array in self.inputs.items()}
        self.ids = new_ids("req", len(everybody))
        self._host = host
        self._departed = time.monotonic()
        self._desk.begin(self.plan, len(everybody) - len(refused))
        if refused or not self._replica.board(self):
            for passage in self.apart():
                passage.go_on(None)
        return refused

    @property
    def keys(self) -> list[Principal]:
        """Everybody who takes part, each key once."""
        return [self.principals[members[0]] for _, members in self._held]

    @property
    def timing(self) -> Timing:
        """Where the time of all of them went, once they are computed."""
        answer = self._answer
        return Timing(answer.queue_us, answer.compute_us, answer.batch_rows)

    @property
    def computed_already(self) -> bool:
        """Whether nothing can be cancelled any more."""
        return self._computed

    def cancel(self, index: int) -> None:
        """Nobody waits for this request any more. What is computed already stays recorded."""
        if self._computed:
            return
        if not self._passages:
            self._replica.part(self)
        self._passages[index].cancel()

    # --- what the replica tells ---------------------------------------------------------------------------------------

    def computed(self, answer: Answer, recalled: Collection[int] = (), /) -> None:
        """See :class:`mofang.base.placement.party.Party`: record it, and go on when that is done."""
        self._computed = True
        self._computed_at = time.monotonic()
        self._answer, self._recalled = answer, recalled
        self.plan.statistics.computed_together(len(self.ids), answer, len(recalled))
        try:
            sheets = self._sheets(answer)
            assert self._desk.record_all is not None
            self._desk.record_all(sheets, self._written)
        except MofangError as error:  # refused before anything was written
            self._written(error)

    def _written(self, error: Exception | None) -> None:
        """Recorded, or not: then there is no answer."""
        recorded_at = time.monotonic()
        said = "ok" if error is None else error.code if isinstance(error, MofangError) else "cancelled"
        for admitted, _ in self._held:
            if error is not None:
                admitted.refund()
            admitted.release()
        try:
            if error is None:
                self._host.answered(self, self._answer.outputs)
            else:
                self._host.failed(self, error)
        except Exception:  # a defect; who has no answer yet is told so, and nobody is counted twice
            _log.exception("the answers of a party failed")
            self._host.failed(self, Internal("the server failed on this request"))
        finally:  # from here on the clients are reading
            self._desk.fleet.leave(self.plan.revision, len(self.ids))
            self._desk.count(self.plan, said, self._started, len(self.ids))
        if self._desk.watch is not None:
            self._tell(said)
        if error is None and self._desk.measure is not None:
            self._measure(self._desk.measure, recorded_at)

    def _tell(self, outcome: str) -> None:
        timing = self.timing
        for index in sorted(index for _, members in self._held for index in members):
            self._desk.tell(
                self.plan, self.principals[index], self.ids[index], outcome, self._started, self.rows_of[index],
                self.bytes_of[index], timing, self.traces.get(index),
            )  # fmt: skip

    def _measure(self, measure: Measure, recorded_at: float) -> None:
        queue, compute = self._answer.queue_us / 1e6, self._answer.compute_us / 1e6
        travel = max(0.0, self._computed_at - self._departed - queue - compute)
        record, write = recorded_at - self._computed_at, time.monotonic() - recorded_at
        stages = Stages(self._departed - self._started, travel, queue, compute, record, write)
        measure(self.plan.route.revision.endpoint, stages, self._answer.batch_rows, len(self.ids))

    def apart(self) -> list[Passage]:
        """See :class:`mofang.base.placement.party.Party`: make a passage of each member, admitted already."""
        revision = self.plan.route.revision
        ends = self._ends()
        weights = self._desk.fleet.snapshot.weights
        for admitted, members in self._held:
            parts = admitted.apart([(self.rows_of[index], self.bytes_of[index]) for index in members])
            for index, held in zip(members, parts, strict=True):
                inputs = {name: array[ends[index] : ends[index + 1]] for name, array in self.inputs.items()}
                principal = self.principals[index]
                weight, priority = weights.get(principal.tenant, 1.0), self.priorities.get(index, 0)
                parent = self.traces[index].parent if index in self.traces else None
                deadline, rows = self.deadline, self.rows_of[index]
                self._passages[index] = Passage(
                    self._desk,
                    self.plan,
                    InferRequest(revision.endpoint, inputs, traceparent=parent),
                    principal,
                    Call(self.ids[index], principal.tenant, inputs, rows, deadline, priority, weight),
                    held,
                    self._started,
                    self.bytes_of[index],
                    self._host.alone(index),
                )
        passages = [self._passages[index] for index in sorted(self._passages)]
        for passage in passages:
            passage.replica = self._replica
        return passages

    # --- one call for all ---------------------------------------------------------------------------------------------

    def _ends(self) -> list[int]:
        """Return where each member's rows start, and where the last one's end."""
        return [0, *accumulate(self.rows_of)]

    def _admit(self) -> list[int]:
        """Have each key admitted with all its members; return those who may not pass, or not all of them."""
        refused: list[int] = []
        for principal, members in self._members():
            rows, sizes = self.rows, self.bytes_of
            if len(members) < len(sizes):
                rows, sizes = sum([self.rows_of[i] for i in members]), [self.bytes_of[i] for i in members]
            try:
                admitted = self._desk.admit(principal, self.plan.route, rows, max(sizes), len(members))
            except MofangError:
                refused += members
                continue
            if admitted.pending:
                admitted.release()
                refused += members
            else:
                self._held.append((admitted, members))
        return refused

    def _members(self) -> list[tuple[Principal, list[int]]]:
        """Return the keys that take part, each with its members."""
        first = self.principals[0]
        if self.principals.count(first) == len(self.principals):
            return [(first, list(range(len(self.principals))))]
        found: dict[str, tuple[Principal, list[int]]] = {}
        for index, principal in enumerate(self.principals):
            found.setdefault(principal.key_id, (principal, []))[1].append(index)
        return list(found.values())

    def _paid_us(self, answer: Answer) -> list[int]:
        """Return the engine's time up to each member, and at last the whole, of which some have no part."""
        rows = (0 if index in self._recalled else rows for index, rows in enumerate(self.rows_of))
        ends = [0, *accumulate(rows)]
        return [answer.compute_us * end // (ends[-1] or 1) for end in ends]

    def _sheets(self, answer: Answer) -> list[UsageSheet]:
        """Write down who got what. The engine's time is shared by rows, so that the parts add up to the whole."""
        revision, at = self.plan.route.revision, now_us()
        row_bytes = sum(map(size_bytes, answer.outputs.values())) // self.rows
        us = [answer.compute_us * end // self.rows for end in self._ends()]
        if self._recalled:
            us = self._paid_us(answer)
        all_lines: list[UsageLine] = [
            (request_id, rows, until - since, input_bytes, rows * row_bytes)
            for request_id, rows, (since, until), input_bytes in zip(
                self.ids, self.rows_of, pairwise(us), self.bytes_of, strict=True
            )
        ]
        sheets = []
        for admitted, members in self._held:
            lines = all_lines if len(members) == len(all_lines) else [all_lines[index] for index in members]
            charges: tuple[Charge, ...] = ()
            if admitted.charges:
                lines, charges = _charged(admitted, lines)
            principal = self.principals[members[0]]
            sheets.append(
                UsageSheet(
                    at,
                    principal.tenant,
                    principal.project,
                    principal.key_id,
                    revision.endpoint,
                    revision.number,
                    revision.version,
                    revision.digest,
                    lines,
                    charges,
                )
            )
        return sheets


class Seat:
    """A request that waits in a party, as who may take it back sees it."""

    __slots__ = ("_index", "_party")

    def __init__(self, party: Party, index: int) -> None:
        self._party = party
        self._index = index

    def cancel(self) -> None:
        """Nobody waits any more."""
        self._party.cancel(self._index)


def _charged(admitted: Admitted, lines: list[UsageLine]) -> tuple[list[UsageLine], tuple[Charge, ...]]:
    """Charge budgets for all lines at once; what is not to be paid is taken off them by their shares."""
    compute, output = sum(line[2] for line in lines), sum(line[4] for line in lines)
    quantities = {
        "requests": len(lines),
        "rows": sum(line[1] for line in lines),
        "compute_us": compute,
        "input_bytes": sum(line[3] for line in lines),
        "output_bytes": output,
    }
    charges = admitted.charge(quantities)
    us = _shares([line[2] for line in lines], compute, quantities["compute_us"])
    sent = _shares([line[4] for line in lines], output, quantities["output_bytes"])
    return [(line[0], line[1], us[i], line[3], sent[i]) for i, line in enumerate(lines)], charges


def _shares(parts: list[int], whole: int, paid: int) -> list[int]:
    """Lower ``parts``, which add up to ``whole``, so that they add up to ``paid``."""
    if paid == whole:
        return parts
    ends = [0, *accumulate(parts)]
    return [paid * end // whole - paid * start // whole for start, end in pairwise(ends)]
