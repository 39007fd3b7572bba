"""Calls of ModelInfer that one turn of the event loop brought, answered together.

Messages that were seen before but for their numbers (``known``) travel as a :class:`~mofang.run.serve.party.Party`, all
for one endpoint and with one time-out in one; what is not as usual is answered alone. The REST protocol does the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from mofang.base.domain.errors import Internal
from mofang.base.domain.inference import InferResponse
from mofang.base.domain.names import new_id
from mofang.base.domain.tensors import Array
from mofang.run.serve.party import Party, Seat
from mofang.run.serve.passage import Told
from mofang.run.serve.visits import TRACE_PARENT, TRACE_RESPONSE
from mofang.surface.protocols.grpc.codec import answer_fields, own_fields, parse_infer, render_answer, render_rows
from mofang.surface.protocols.grpc.http2.heads import block, literal
from mofang.surface.protocols.grpc.http2.stream import Stream
from mofang.surface.protocols.grpc.known import KnownMessage, KnownMessages
from mofang.surface.protocols.grpc.talk import as_error, authorization, deadline, forwarded_for, holder, read, timeout
from mofang.surface.protocols.lane import PartyLane, check_target, tell_refused
from mofang.surface.protocols.together import Dispatcher, Target, Trip
from mofang.surface.wire import inference_pb2 as pb

_log = logging.getLogger(__name__)


class Asked(NamedTuple):
    """A call whose message is known."""

    stream: Stream
    data: bytes
    known: KnownMessage


class Together(Dispatcher[Asked]):
    """Answers ModelInfer."""

    def __init__(self, lane: PartyLane) -> None:
        super().__init__(lane)
        self._known = KnownMessages()
        self._turn: dict[Target, list[Asked]] = {}

    def add(self, stream: Stream, data: bytes) -> None:
        """Answer a call, when this turn ends or later."""
        known = self._known.find(data)
        if known is None:
            self.start(stream, data)
            return
        if not self._turn:
            asyncio.get_running_loop().call_soon(self._end)
        key = (known.endpoint, known.version, timeout(stream.head))
        self._turn.setdefault(key, []).append(Asked(stream, data, known))

    def start(self, stream: Stream, data: bytes) -> None:
        """Answer a call alone."""
        if stream.closed:
            return
        request_id, received, endpoint = new_id("req"), time.monotonic(), ""
        try:
            principal = holder(self._lane, stream)
            message = read(pb.ModelInferRequest, data)
            endpoint = message.model_name
            check_target(endpoint, message.model_version)

            def told(outcome: InferResponse | Exception) -> None:
                _answer(stream, message, request_id, outcome)

            running = self._lane.start(
                parse_infer(message, stream.head.value(TRACE_PARENT), received),
                principal,
                request_id=request_id,
                deadline=deadline(stream.head),
                input_bytes=len(data),
                told=told,
            )
        except Exception as error:
            tell_refused(self._lane, error, request_id, endpoint, len(data), partial(holder, self._lane, stream))
            stream.fail(as_error(error, request_id), request_id)
        else:
            stream.running = running

    def _end(self) -> None:
        turn, self._turn = self._turn, {}
        for target, asked in turn.items():
            try:
                for each in self.dispatch(target, asked):
                    self.start(each.stream, each.data)
            except Exception:  # a defect, for which nobody may wait for ever
                _log.exception("calls of a turn failed")
                for each in asked:
                    each.stream.fail(Internal("the server failed on this request"), new_id("req"))

    def _travel(self, endpoint: str, asked: Sequence[Asked], party: Party, alone: list[Asked]) -> Sequence[Asked]:
        """Let a party go with as many as it takes; return those for whom it had no room."""
        inputs, outputs = party.plan.together, party.plan.outputs
        trip = Calls(party)
        known = head = peer = principal = traceparent = None
        fits = False
        for index, each in enumerate(asked):
            if party.rows >= party.full:
                trip.set_off(alone)
                return asked[index:]
            stream = each.stream
            if stream.closed:
                continue
            if each.known is not known:
                known = each.known
                fits = known.fits(inputs, outputs)
            if stream.head is not head or stream.peer != peer:
                head, peer, principal = stream.head, stream.peer, self._recognise(endpoint, each)
                traceparent = head.value(TRACE_PARENT)
            rows = each.known.shape[0]
            if principal is None or not fits or party.rows + rows > party.full:
                alone.append(each)
                continue
            at = party.rows * party.row_bytes[0]
            raw = memoryview(each.data)[len(each.known.before) :]
            party.buffers[0][at : at + len(raw)] = raw
            party.take(principal, rows, len(each.data), each.known.priority, traceparent)
            trip.members.append(each)
        trip.set_off(alone)
        return ()

    def _head(self, member: Asked) -> object:
        return member.stream.head

    def _whose(self, member: Asked) -> tuple[str | None, str, str | None]:
        head = member.stream.head
        return authorization(head), member.stream.peer, forwarded_for(head)


class Calls(Trip[Asked]):
    """Those who travel in one party."""

    __slots__ = ()

    def answered(self, party: Party, outputs: Mapping[str, Array]) -> None:
        """Write the answers."""
        revision = party.plan.route.revision
        messages = render_rows(revision, outputs, party.rows_of)
        if messages is None:
            self._answer_each(party, outputs)
            return
        fields = _fields(revision.version, revision.number, revision.digest)
        fields += literal("server-timing", str(party.timing))
        traces = party.traces
        for index, (each, request_id, message) in enumerate(zip(self.members, party.ids, messages, strict=True)):
            said = fields + literal("x-request-id", request_id)
            if index in traces:
                said += literal(TRACE_RESPONSE, str(traces[index]))
            each.stream.reply(said, message, said)

    def alone(self, index: int) -> Told:
        """Return whom to tell the outcome of one call."""
        each, request_id = self.members[index], self._party.ids[index]

        def told(outcome: InferResponse | Exception) -> None:
            _answer(each.stream, read(pb.ModelInferRequest, each.data), request_id, outcome)

        return told

    def _wait(self, member: Asked, seat: Seat) -> None:
        member.stream.running = seat


def _answer(stream: Stream, request: object, request_id: str, outcome: InferResponse | Exception) -> None:
    """Answer one call."""
    try:
        if isinstance(outcome, Exception):
            raise outcome
        message = bytes(render_answer(request, outcome).SerializeToString())
    except Exception as error:
        stream.fail(as_error(error, request_id), request_id)
        return
    said = _fields(outcome.version, outcome.revision, outcome.digest) + block(own_fields(outcome, request_id))
    stream.reply(said, message, said)


@lru_cache(maxsize=1024)
def _fields(version: int, revision: int, digest: str) -> bytes:
    return block(answer_fields(version, revision, digest))
