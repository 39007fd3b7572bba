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
import time
from collections.abc import Sequence
from typing import Any

from mofang.base.domain.access import Principal
from mofang.base.domain.deployment import Route, Snapshot
from mofang.base.domain.errors import Draining, EndpointNotFound, Forbidden, MofangError, Starting
from mofang.base.domain.inference import Call, InferRequest, InferResponse
from mofang.base.domain.names import now_us
from mofang.base.identity.addresses import client_address
from mofang.base.identity.deputies import check_word, is_word
from mofang.base.identity.keys import authenticate, check_address
from mofang.run.serve.admitting import Admit, refusal
from mofang.run.serve.desk import Desk, Measure, Observe, Record, RecordAll
from mofang.run.serve.fleet import Fleet
from mofang.run.serve.party import Party
from mofang.run.serve.passage import Passage, Told
from mofang.run.serve.plan import Plan
from mofang.run.serve.statistics import Statistics
from mofang.run.serve.visits import Trace, Watch, look, refused

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
        self,
        fleet: Fleet,
        *,
        admit: Admit,
        record: Record,
        observe: Observe,
        record_all: RecordAll | None = None,
        measure: Measure | None = None,
        watch: Watch | None = None,
        trusted_proxies: Sequence[str] = (),
        deputies: bytes | None = None,
    ) -> None:
        self._fleet = fleet
        self._trusted_proxies = trusted_proxies
        self._deputies = deputies  # the secret of those who ask on behalf of keys
        self._desk = Desk(fleet, admit, record, observe, record_all, measure, watch)
        self._statistics = Statistics()
        self._known_of = 0  # the number of the Snapshot that the next two are true of
        self._principals: dict[str, Principal] = {}
        self._plans: dict[int, Plan] = {}  # by the id of the route, which the plan keeps alive
        self.draining = False

    @property
    def ready(self) -> bool:
        """Whether the server can take requests: a Snapshot is here, its replicas answer, nobody is stopping us."""
        return not self.draining and self._fleet.settled

    def authenticate(self, authorization: str | None, peer: str = "", forwarded_for: str | None = None) -> Principal:
        """Return who holds the key in ``Bearer KEY``; verified once per key and Snapshot, then a look-up.

        A key may be bound to networks: ``peer`` is the address of who is connected, ``forwarded_for`` the value of
        ``X-Forwarded-For``, if there is one. Raises Starting until the first Snapshot is here.
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
        if snapshot.number == 0:  # a good key must not be called unknown
            raise Starting("the server is starting and knows no keys yet", retry_after_seconds=1)
        address = client_address(peer, forwarded_for, self._trusted_proxies)
        shown = bearer(authorization)
        if self._deputies is not None and shown is not None and is_word(shown):
            return check_word(shown, self._deputies, snapshot.keys, now_us())
        principal = authenticate(shown, snapshot.keys, now_us(), address)
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
        started = request.received or time.monotonic()
        try:
            route = self._fleet.pick(principal, request.endpoint, request.version)
        except MofangError as missing:
            trace = Trace.of(request.traceparent) if self._desk.watch is not None else None
            seconds = time.monotonic() - started
            self.refused(missing, request_id, request.endpoint, principal, input_bytes, seconds, trace)
            raise
        plan = self._plan(route)
        try:
            if self.draining:
                raise Draining("the server is shutting down", retry_after_seconds=5)
            rows = plan.check(request.inputs)
            wanted = request.outputs
            if wanted:
                plan.check_outputs(wanted)
            weight = self._fleet.snapshot.weights.get(principal.tenant, 1.0)
            call = Call(request_id, principal.tenant, request.inputs, rows, deadline, request.priority, weight)
            held = self._desk.admit(principal, route, rows, input_bytes)
            passage = Passage(self._desk, plan, request, principal, call, held, started, input_bytes, told)
            self._desk.begin(plan)
            try:
                if held.pending:
                    held.wait(deadline, passage.go_on)
                else:
                    passage.replica = self._desk.send(passage, plan)
            except BaseException:
                self._desk.let_go(plan, held)
                raise
        except MofangError as fault:
            error = refusal(principal, request.endpoint) or fault  # what is wrong is told to those who may ask
            self._desk.count(plan, error.code, started)
            trace = Trace.of(request.traceparent) if self._desk.watch is not None else None
            self._desk.tell(plan, principal, request_id, error.code, started, 0, input_bytes, trace=trace)
            error.seen = True
            raise error from None
        return passage

    def refused(
        self,
        error: MofangError,
        request_id: str,
        endpoint: str,
        principal: Principal | None = None,
        input_bytes: int = 0,
        seconds: float = 0.0,
        trace: Trace | None = None,
    ) -> None:
        """Tell whoever looks of a request that ended before it came to a revision, unless they were told already."""
        if self._desk.watch is not None and not error.seen:
            error.seen = True
            about = request_id, endpoint, error, principal, input_bytes, seconds, trace
            look(self._desk.watch, trace, lambda: refused(*about))

    def recognise(self, endpoint: str, authorization: str | None, peer: str, forwarded_for: str | None) -> Principal:
        """Authenticate somebody who may come to a party; raise EndpointNotFound also if the endpoint is not for her."""
        principal = self.authenticate(authorization, peer, forwarded_for)
        self._fleet.routes(principal, endpoint)
        return principal

    def party(self, endpoint: str, version: str, timeout_seconds: float) -> Party | None:
        """Return room for requests of this turn to travel together; None if they cannot, and why is told to each."""
        if self.draining or self._desk.record_all is None:
            return None
        try:
            route = self._fleet.choose(endpoint, version)
            replica = self._fleet.replica(route)
        except MofangError:
            return None
        plan = self._plan(route)
        return Party(self._desk, plan, replica, timeout_seconds) if plan.together and replica.takes(0) else None

    def _follow(self, snapshot: Snapshot) -> None:
        self._principals, self._plans, self._known_of = {}, {}, snapshot.number

    def _plan(self, route: Route) -> Plan:
        if self._known_of != self._fleet.snapshot.number:
            self._follow(self._fleet.snapshot)
        plan = self._plans.get(id(route))
        if plan is None:
            plan = self._plans[id(route)] = Plan(route, self._statistics.entry(route.revision))
        return plan
