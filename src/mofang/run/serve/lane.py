"""The life of an inference request, in one place.

A protocol has parsed the wire into an :class:`InferRequest`. From here:

1. **authenticate** — the key is looked up in the Snapshot; no database is asked.
2. **route** — endpoint, then revision by traffic, then the least loaded replica.
3. **check** — names, datatypes and shapes against the signature of that very revision.
4. **admit** — may this principal ask this now: role, rates, concurrency, size, budget; held until the answer is made.
5. **queue, batch, compute** — the replica's work, wherever it is placed; bounded by the deadline.
6. **record** — one usage record, in the journal before the answer can leave.
7. **respond** — the answer, naming the version and revision that made it.

What meters and who pays is handed in (``admit``, ``record``), so that this room does not know the rooms after it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from mofang.base.domain.access import Principal
from mofang.base.domain.deployment import Route, Snapshot
from mofang.base.domain.errors import Draining, EndpointNotFound, Forbidden, MofangError, TensorName
from mofang.base.domain.inference import Answer, Call, InferRequest, InferResponse
from mofang.base.domain.names import now_us
from mofang.base.domain.tensors import Array, InputCheck, size_bytes
from mofang.base.domain.usage import UsageRecord
from mofang.base.identity.addresses import client_address
from mofang.base.identity.keys import authenticate, check_address
from mofang.base.placement.base import ReplicaHandle
from mofang.base.placement.ticket import call_bytes
from mofang.run.serve.admitting import Admit, Admitted
from mofang.run.serve.fleet import Fleet
from mofang.run.serve.statistics import Entry, Statistics

Record = Callable[[UsageRecord, Callable[[Exception | None], None]], None]
"""Call back when the record is in the journal, or with StorageFull if it cannot be."""
Observe = Callable[[str, str, float], None]
"""Count an answer: endpoint, outcome ("ok" or the error's code), seconds."""
Told = Callable[[InferResponse | Exception], None]
"""Told the outcome of a request, once, unless it was cancelled."""

_log = logging.getLogger(__name__)
_PRINCIPALS_KEPT = 100_000  # one key can be written with any number of spaces; the cache must not grow with them


def _check_look(principal: Principal) -> None:
    """Raise Forbidden for a role that neither asks endpoints nor looks at what is deployed."""
    if not principal.may("infer") and not principal.may("read"):
        raise Forbidden(f"a key of role {principal.role!r} may not look at endpoints")


def bearer(authorization: str | None) -> str | None:
    """Return the key in an ``Authorization`` value, if it has one."""
    scheme, _, text = (authorization or "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None


class Lane:
    """What every protocol of a gateway answers from."""

    def __init__(
        self, fleet: Fleet, *, admit: Admit, record: Record, observe: Observe, trusted_proxies: Sequence[str] = ()
    ) -> None:
        self._fleet = fleet
        self._trusted_proxies = trusted_proxies
        self._admit = admit
        self._record = record
        self._observe = observe
        self._statistics = Statistics()
        self._known_of = 0  # the number of the Snapshot that the next two are true of
        self._principals: dict[str, Principal] = {}
        self._plans: dict[int, _Plan] = {}  # by the id of the route, which the plan keeps alive
        self.draining = False

    @property
    def ready(self) -> bool:
        """Whether the server can take requests: a Snapshot is here, its replicas answer, nobody is stopping us."""
        return not self.draining and self._fleet.settled

    def authenticate(self, authorization: str | None, peer: str = "", forwarded_for: str | None = None) -> Principal:
        """Return who holds the key in ``Bearer KEY``; verified once per key and Snapshot, then a look-up.

        A key may be bound to networks: ``peer`` is the address of who is connected, ``forwarded_for`` the value of
        ``X-Forwarded-For``, if there is one.
        """
        snapshot = self._fleet.snapshot
        if self._known_of != snapshot.number:
            self._follow(snapshot)
        if authorization is not None and (known := self._principals.get(authorization)):
            entry = snapshot.keys[known.key_id]
            if entry.expires_at is None or entry.expires_at > now_us():
                if entry.networks:
                    check_address(entry, client_address(peer, forwarded_for, self._trusted_proxies))
                return known
        address = client_address(peer, forwarded_for, self._trusted_proxies)
        principal = authenticate(bearer(authorization), snapshot.keys, now_us(), address)
        if authorization is not None and len(self._principals) < _PRINCIPALS_KEPT:
            self._principals[authorization] = principal
        return principal

    def route(self, principal: Principal, endpoint: str, version: str = "") -> Route:
        """Return the route a request would take; raise EndpointNotFound, also if it is not for the principal."""
        _check_look(principal)
        return self._fleet.pick(principal, endpoint, version)

    def names(self, principal: Principal) -> list[str]:
        """Return the names of the endpoints that are for the principal, sorted."""
        _check_look(principal)
        return self._fleet.names(principal)

    def is_ready(self, principal: Principal, endpoint: str, version: str = "") -> bool:
        """Tell whether ``endpoint`` can answer; raise EndpointNotFound."""
        return not self.draining and self._fleet.is_open(self.route(principal, endpoint, version))

    def statistics(self, principal: Principal, endpoint: str = "", version: str = "") -> list[dict[str, Any]]:
        """Return the statistics extension's entries of ``endpoint``, or of all; raise EndpointNotFound."""
        _check_look(principal)
        entries = [
            self._statistics.show(name, number)
            for name in ([endpoint] if endpoint else self.names(principal))
            for number in sorted(
                {route.revision.version for route in self._fleet.routes(principal, name).routes.values()}
            )
            if version in ("", str(number))
        ]
        if endpoint and not entries:
            raise EndpointNotFound(f"endpoint {endpoint!r} has no version {version} now")
        return entries

    async def infer(
        self, request: InferRequest, principal: Principal, *, request_id: str, deadline: float, input_bytes: int
    ) -> InferResponse:
        """Answer ``request`` by ``deadline`` (on time.monotonic()), recorded as usage of ``principal``."""
        outcome: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()

        def told(said: InferResponse | Exception) -> None:
            if outcome.done():
                return  # cancelled, and the caller has not come to know it yet
            if isinstance(said, Exception):
                outcome.set_exception(said)
            else:
                outcome.set_result(said)

        passage = self.start(
            request, principal, request_id=request_id, deadline=deadline, input_bytes=input_bytes, told=told
        )
        try:
            return await outcome
        finally:
            passage.cancel()  # does nothing unless the caller went away

    def start(
        self,
        request: InferRequest,
        principal: Principal,
        *,
        request_id: str,
        deadline: float,
        input_bytes: int,
        told: Told,
    ) -> Passage:
        """Begin to answer ``request``; ``told`` is called later. Raises what is known to be wrong at once.

        No task and no future is made: at tens of thousands of requests a second they would be half the cost.
        """
        started = time.monotonic()
        route = self._fleet.pick(principal, request.endpoint, request.version)
        plan = self._plan(route)
        try:
            if self.draining:
                raise Draining("the server is shutting down", retry_after_seconds=5)
            rows = plan.check(request.inputs)
            wanted = request.outputs
            if wanted:
                plan.check_outputs(wanted)
            call = Call(request_id, principal.tenant, request.inputs, rows, deadline)
            held = self._admit(principal, route, rows, input_bytes)
            passage = Passage(self, plan, request, principal, call, held, started, input_bytes, told)
            self._fleet.enter(plan.revision)
            try:
                if held.pending:
                    held.wait(deadline, passage.go_on)
                else:
                    self._send(passage)
            except BaseException:
                self._let_go(passage)
                raise
        except MofangError as error:
            self._count(plan, error.code, started)
            raise
        return passage

    # --- what a passage asks of its lane ------------------------------------------------------------------------------

    def _send(self, passage: Passage) -> None:
        """Queue an admitted request; its replica tells it the outcome, and fails it at the deadline."""
        passage.replica = replica = self._fleet.replica(passage.plan.route)
        replica.admit(passage)

    def _ended(self, passage: Passage, outcome: str) -> None:
        """Count a request that had begun."""
        self._let_go(passage)
        self._count(passage.plan, outcome, passage.started)

    def _count(self, plan: _Plan, outcome: str, started: float) -> None:
        seconds = time.monotonic() - started
        self._observe(plan.route.revision.endpoint, outcome, seconds)
        plan.statistics.ended(outcome == "ok", seconds)

    def _let_go(self, passage: Passage) -> None:
        self._fleet.leave(passage.plan.revision)
        passage.held.release()

    def _follow(self, snapshot: Snapshot) -> None:
        self._principals, self._plans, self._known_of = {}, {}, snapshot.number

    def _plan(self, route: Route) -> _Plan:
        if self._known_of != self._fleet.snapshot.number:
            self._follow(self._fleet.snapshot)
        plan = self._plans.get(id(route))
        if plan is None:
            plan = self._plans[id(route)] = _Plan(route, self._statistics.entry(route.revision))
        return plan


class _Plan:
    """What can be known of a route before any request comes."""

    __slots__ = ("check", "outputs", "revision", "route", "statistics")

    def __init__(self, route: Route, statistics: Entry) -> None:
        revision = route.revision
        self.statistics = statistics
        self.route = route
        self.revision = revision.key
        self.check = InputCheck(revision.signature, f"endpoint {revision.endpoint!r}")
        self.outputs = tuple(spec.name for spec in revision.signature.outputs)

    def check_outputs(self, wanted: tuple[str, ...]) -> None:
        """Raise TensorName for an output the model does not have."""
        for name in wanted:
            if name not in self.outputs:
                shown = ", ".join(map(repr, self.outputs))
                endpoint = self.route.revision.endpoint
                raise TensorName(f"output {name!r} is unknown: endpoint {endpoint!r} gives {shown}")


class Passage:
    """One admitted request, from the queue to its answer: the ticket that its replica holds.

    ``go_on`` (if it had to wait) → ``set_result`` (computed) → ``_written`` (recorded) → told; ``set_exception`` and
    ``cancel`` are the other ends.
    """

    __slots__ = (
        "_done", "_input_bytes", "_lane", "_principal", "_response", "_told", "call", "held", "number", "plan",
        "queued_at", "replica", "request", "size_bytes", "started",
    )  # fmt: skip

    def __init__(
        self,
        lane: Lane,
        plan: _Plan,
        request: InferRequest,
        principal: Principal,
        call: Call,
        held: Admitted,
        started: float,
        input_bytes: int,
        told: Told,
    ) -> None:
        self._lane = lane
        self._principal = principal
        self._input_bytes = input_bytes
        self._told: Told | None = told  # until told, or cancelled
        self._done = False  # the replica has nothing more to do
        self._response: InferResponse
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
            self._lane._send(self)
        except MofangError as refusal:
            self.set_exception(refusal)

    def done(self) -> bool:
        """See :class:`Ticket`."""
        return self._done

    def set_result(self, answer: Answer, /) -> None:
        """Computed: record it."""
        self._done = True
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
            )
            self._lane._record(self._usage(answer, outputs), self._written)
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
        self._lane._ended(self, "cancelled")

    def _written(self, error: Exception | None) -> None:
        """Recorded, or not: then there is no answer."""
        if error is not None:
            self.held.refund()
        self._end(error or self._response)

    def _end(self, outcome: InferResponse | Exception) -> None:
        told, self._told = self._told, None
        if told is None:
            return  # cancelled meanwhile
        try:
            if isinstance(outcome, Exception):
                self._lane._ended(self, outcome.code if isinstance(outcome, MofangError) else "cancelled")
            else:
                self._lane._ended(self, "ok")
            told(outcome)
        except Exception:  # a defect, and no concern of those who were computed and recorded in the same turn
            _log.exception("request %s was answered in vain", self.call.request_id)

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
            quantities,
            charges=self.held.charge(quantities),
        )
