"""The life of an inference request, in one place.

A protocol has parsed the wire into an :class:`InferRequest`. From here:

1. **authenticate** — the key is looked up in the Snapshot; no database is asked.
2. **route** — endpoint, then revision by traffic, then the least loaded replica.
3. **check** — names, datatypes and shapes against the signature of that very revision.
4. **admit** — may this principal ask this now: role, rates, concurrency, size; held until the answer is made.
5. **queue, batch, compute** — the replica's work, wherever it is placed; bounded by the deadline.
6. **record** — one usage record, in the journal before the answer can leave.
7. **respond** — the answer, naming the version and revision that made it.

What meters and who pays is handed in (``admit``, ``record``), so that this room does not know the rooms after it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from mofang.base.domain.access import Principal
from mofang.base.domain.deployment import Route
from mofang.base.domain.errors import Draining, EndpointNotFound, Forbidden, MofangError, OutOfScope, TensorName
from mofang.base.domain.inference import Answer, Call, InferRequest, InferResponse
from mofang.base.domain.names import now_us
from mofang.base.domain.tensors import Array, check_inputs
from mofang.base.domain.usage import UsageRecord
from mofang.base.identity.keys import authenticate
from mofang.run.serve.fleet import Fleet
from mofang.run.serve.statistics import Statistics

Admit = Callable[[Principal, Route, int, int], AbstractContextManager[object]]
"""Raise Forbidden, Exhausted or TooLarge if the principal may not have these rows, in a body of so many bytes, computed
now; what is returned is held until the answer is made, or will not be."""
Record = Callable[[UsageRecord], Awaitable[None]]
"""Return when the record is in the journal; raise StorageFull if it cannot be."""
Observe = Callable[[str, str, float], None]
"""Count an answer: endpoint, outcome ("ok" or the error's code), seconds."""

_UNBOUNDED = nullcontext()
_PRINCIPALS_KEPT = 100_000  # one key can be written with any number of spaces; the cache must not grow with them


def admit_by_role(principal: Principal, route: Route, rows: int, input_bytes: int) -> AbstractContextManager[object]:
    """Let every key pass whose role carries ``infer`` and whose scope has the endpoint."""
    endpoint = route.revision.endpoint
    if not principal.may("infer"):
        raise Forbidden(f"a key of role {principal.role!r} may not ask endpoint {endpoint!r}")
    if not principal.may_ask(endpoint):
        raise OutOfScope(f"key {principal.key_id!r} may ask {', '.join(principal.endpoints)}, not {endpoint!r}")
    return _UNBOUNDED


def bearer(authorization: str | None) -> str | None:
    """Return the key in an ``Authorization`` value, if it has one."""
    scheme, _, text = (authorization or "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None


class Lane:
    """What every protocol of a gateway answers from."""

    def __init__(self, fleet: Fleet, *, admit: Admit, record: Record, observe: Observe) -> None:
        self._fleet = fleet
        self._admit = admit
        self._record = record
        self._observe = observe
        self._statistics = Statistics()
        self._principals: dict[str, Principal] = {}
        self._principals_of = 0
        self.draining = False

    @property
    def ready(self) -> bool:
        """Whether the server can take requests: a Snapshot is here, its replicas answer, nobody is stopping us."""
        return not self.draining and self._fleet.settled

    def authenticate(self, authorization: str | None) -> Principal:
        """Return who holds the key in ``Bearer KEY``; verified once per key and Snapshot, then a look-up."""
        snapshot = self._fleet.snapshot
        if self._principals_of != snapshot.number:
            self._principals, self._principals_of = {}, snapshot.number
        if authorization is not None and (known := self._principals.get(authorization)):
            entry = snapshot.keys[known.key_id]
            if entry.expires_at is None or entry.expires_at > now_us():
                return known
        principal = authenticate(bearer(authorization), snapshot.keys, now_us())
        if authorization is not None and len(self._principals) < _PRINCIPALS_KEPT:
            self._principals[authorization] = principal
        return principal

    def route(self, endpoint: str, version: str = "") -> Route:
        """Return the route a request would take; raise EndpointNotFound."""
        return self._fleet.pick(endpoint, version)

    def names(self) -> list[str]:
        """Return the names of the endpoints, sorted."""
        return sorted(self._fleet.snapshot.endpoints)

    def is_ready(self, endpoint: str, version: str = "") -> bool:
        """Tell whether ``endpoint`` can answer; raise EndpointNotFound."""
        return not self.draining and self._fleet.is_open(self._fleet.pick(endpoint, version))

    def statistics(self, endpoint: str = "", version: str = "") -> list[dict[str, Any]]:
        """Return the statistics extension's entries of ``endpoint``, or of all; raise EndpointNotFound."""
        entries = [
            self._statistics.show(name, number)
            for name in ([endpoint] if endpoint else self.names())
            for number in sorted({route.revision.version for route in self._fleet.routes(name).routes.values()})
            if version in ("", str(number))
        ]
        if endpoint and not entries:
            raise EndpointNotFound(f"endpoint {endpoint!r} has no version {version} now")
        return entries

    async def infer(
        self,
        request: InferRequest,
        principal: Principal,
        *,
        request_id: str,
        deadline: float,
        input_bytes: int,
    ) -> InferResponse:
        """Answer ``request`` by ``deadline`` (on time.monotonic()), recorded as usage of ``principal``."""
        started, outcome = time.monotonic(), "cancelled"
        route = self._fleet.pick(request.endpoint, request.version)
        try:
            response = await self._answer(request, route, principal, request_id, deadline, input_bytes)
            outcome = "ok"
        except MofangError as error:
            outcome = error.code
            raise
        finally:
            seconds = time.monotonic() - started
            self._observe(request.endpoint, outcome, seconds)
            self._statistics.ended(route.revision, outcome == "ok", seconds)
        return response

    async def _answer(
        self,
        request: InferRequest,
        route: Route,
        principal: Principal,
        request_id: str,
        deadline: float,
        input_bytes: int,
    ) -> InferResponse:
        if self.draining:
            raise Draining("the server is shutting down", retry_after_seconds=5)
        revision = route.revision
        rows = check_inputs(revision.signature, request.inputs, f"endpoint {revision.endpoint!r}")
        wanted = request.outputs or tuple(spec.name for spec in revision.signature.outputs)
        _check_outputs(route, wanted)
        call = Call(request_id, principal.tenant, request.inputs, rows, deadline)
        with self._admit(principal, route, rows, input_bytes), self._fleet.using(route):
            answer = await self._fleet.replica(route).submit(call)  # fails by itself at the deadline
            self._statistics.computed(revision, rows, answer)
            outputs = {name: answer.outputs[name] for name in wanted}
            await self._record(_usage(call, route, principal, answer, outputs, input_bytes))
        return InferResponse(
            request_id=request_id,
            endpoint=revision.endpoint,
            version=revision.version,
            revision=revision.number,
            digest=revision.digest,
            outputs=outputs,
            client_id=request.client_id,
        )


def _check_outputs(route: Route, wanted: tuple[str, ...]) -> None:
    known = [spec.name for spec in route.revision.signature.outputs]
    for name in wanted:
        if name not in known:
            shown = ", ".join(map(repr, known))
            raise TensorName(f"output {name!r} is unknown: endpoint {route.revision.endpoint!r} gives {shown}")


def _usage(
    call: Call,
    route: Route,
    principal: Principal,
    answer: Answer,
    outputs: dict[str, Array],
    input_bytes: int,
) -> UsageRecord:
    revision = route.revision
    return UsageRecord(
        request_id=call.request_id,
        at=now_us(),
        tenant=principal.tenant,
        project=principal.project,
        key_id=principal.key_id,
        endpoint=revision.endpoint,
        revision=revision.number,
        version=revision.version,
        digest=revision.digest,
        outcome="ok",
        quantities={
            "requests": 1,
            "rows": call.rows,
            "compute_us": answer.compute_us,
            "input_bytes": input_bytes,
            "output_bytes": sum(array.nbytes for array in outputs.values()),
            **answer.extras,
        },
    )
