"""The worker's side of placement ``process``: one replica, answering any number of gateways on a Unix socket.

The worker's main program calls :func:`host`. It listens at once and loads then, so that whoever connects learns how far
it is from the first frame on: ``loading``, ``ready``, ``failed`` (and why), ``draining``.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from mofang.base.domain.deployment import Calibration
from mofang.base.domain.errors import Draining, EngineFailed, MofangError, ReplicaUnavailable
from mofang.base.domain.inference import Answer, Call
from mofang.base.domain.tensors import Array
from mofang.base.placement.frames import (
    Buffer,
    Frame,
    FrameError,
    FrameReader,
    encode,
    encode_answer,
    encode_answers,
    encode_arrival,
    form,
)
from mofang.base.placement.headers import Apart, Ask, Embark, Fault, Forget, Hello, Mapped, Refuse
from mofang.base.placement.listen import FLUSH_SECONDS, listening, load
from mofang.base.placement.replica import Replica
from mofang.base.placement.shared import Sharer, sharer
from mofang.base.placement.ticket import call_bytes
from mofang.base.placement.wire import WRITE_BUFFER_BYTES, Outbox


async def host(
    replica_factory: Callable[[], Replica],
    socket_path: str | Path,
    *,
    stop: asyncio.Event,
    calibration: Callable[[], Calibration | None] = lambda: None,
    before_loading: Callable[[], None] = lambda: None,
    maps: bool = True,
) -> None:
    """Answer on ``socket_path`` until ``stop`` is set, then finish what was taken, and return.

    ``replica_factory`` loads the replica; it is called once, in a thread, and may raise a MofangError, which every
    gateway is told. ``calibration`` says what the load has measured. ``before_loading`` is called when the
    worker listens; a worker that it has locked in ``maps`` no memory of others. The socket's folder must exist; a stale
    socket is replaced.
    """
    desk = _Desk(calibration, maps=maps)
    async with listening(Path(socket_path), lambda: _Gateway(desk)):
        before_loading()
        loading = asyncio.create_task(desk.load(replica_factory))
        await stop.wait()
    await loading
    await desk.close()


class _Desk:
    """What all gateways of a worker share: the replica, and how it stands."""

    def __init__(self, calibration: Callable[[], Calibration | None], *, maps: bool) -> None:
        self._calibration = calibration
        self._maps = maps
        self.replica: Replica | None = None
        self.hello = Hello("loading")
        self.gateways: set[_Gateway] = set()

    async def load(self, replica_factory: Callable[[], Replica]) -> None:
        loaded = await load(replica_factory)
        if isinstance(loaded, Fault):
            self._announce(Hello("failed", loaded))
        else:
            self.replica = loaded
            found = self._calibration()
            self._announce(Hello("ready", signature=loaded.signature, calibration=found, maps=self._maps))

    def refusal(self) -> MofangError:
        """Return why a call cannot be taken while there is no replica."""
        if self.hello.state == "draining":
            return Draining("the worker is stopping")
        return ReplicaUnavailable(f"the replica is {self.hello.state}")

    async def close(self) -> None:
        self._announce(Hello("draining"))
        if self.replica is not None:
            await self.replica.close()
        closing = [gateway.close() for gateway in self.gateways]
        if closing:
            await asyncio.wait(closing, timeout=FLUSH_SECONDS)
        for gateway in list(self.gateways):
            gateway.abort()

    def _announce(self, hello: Hello) -> None:
        self.hello = hello
        for gateway in self.gateways:
            gateway.greet()


class _Gateway(asyncio.Protocol):
    """The connection of one gateway."""

    def __init__(self, desk: _Desk) -> None:
        self._desk = desk
        self._reader = FrameReader()
        self._asked: dict[int, _RemoteTicket] = {}
        self._answers: list[tuple[int, Answer]] = []  # of this turn
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is one, but does not inherit
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._transport = transport
        self._outbox = Outbox(transport)
        self._sharer = self._reader.sharer = sharer(transport, offers=True)
        self._desk.gateways.add(self)
        self.greet()

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except FrameError:
            self._transport.abort()
        if self._sharer is not None and (mapped := self._sharer.mapped()):
            self._outbox.hold([encode(Mapped(mapped))])
        self._outbox.flush()  # what was computed in this very call

    def pause_writing(self) -> None:
        # A gateway that does not read its answers is not listened to either, so that they do not pile up here.
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._desk.gateways.discard(self)
        self._outbox.close()
        if self._sharer is not None:
            self._sharer.close()
        for ticket in self._asked.values():
            ticket.forget()
        self._asked.clear()
        self._closed.set_result(None)

    def greet(self) -> None:
        self._outbox.add(encode(self._desk.hello))

    def answer(self, number: int, answer: Answer) -> None:
        """Send ``answer`` when the turn of the event loop ends, together with all others of that turn."""
        del self._asked[number]
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._send_answers)
        self._answers.append((number, answer))

    def _send_answers(self) -> None:
        answers, self._answers = self._answers, []
        for shared, group in itertools.groupby(answers, lambda pair: form(pair[1].outputs)):
            pairs = list(group)
            if shared is not None and len(pairs) > 1:
                self._outbox.extend(encode_answers(pairs))
            else:
                for number, answer in pairs:
                    self._send(number, answer)
        self._outbox.flush()

    def _send(self, number: int, answer: Answer) -> None:
        try:
            pieces = encode_answer(number, answer, self._sharer)
        except (FrameError, MofangError, TypeError, ValueError) as error:
            self._refuse(number, EngineFailed(f"the answer cannot be sent: {error}"))
        else:
            self._outbox.extend(pieces)

    def fail(self, number: int, error: MofangError) -> None:
        del self._asked[number]
        self._refuse(number, error)

    def close(self) -> asyncio.Future[None]:
        """Close when all that was written has been read; the future is done then."""
        self._send_answers()
        self._transport.close()
        return self._closed

    def abort(self) -> None:
        self._transport.abort()

    def _take(self, frame: Frame) -> None:
        header, tensors = frame
        if isinstance(header, Ask):
            call = Call(
                header.request_id,
                header.tenant,
                tensors,
                header.rows,
                header.deadline,
                header.priority,
                header.weight,
            )
            self._ask(header.id, call)
        elif isinstance(header, Embark):
            self._board(header, tensors)
        elif isinstance(header, Forget):
            for number in header.ids:
                if ticket := self._asked.pop(number, None):
                    ticket.forget()
        elif isinstance(header, Mapped) and self._sharer is not None:
            self._sharer.withdraw(header.descriptors)
        else:
            raise FrameError(f"a gateway does not say {type(header).__name__}")

    def _board(self, embark: Embark, inputs: dict[str, Array]) -> None:
        """Compute a party as one, or, if others wait or that fails, its calls like any others."""
        party = _RemoteParty(embark, inputs, self._sharer)
        replica = self._desk.replica
        if replica is not None and replica.takes(party.rows) and replica.board(party):
            self._outbox.hold(party.answer)
            return
        self._outbox.add(encode(Apart(embark.id)))
        for number, call in enumerate(party.calls(), embark.id):
            self._ask(number, call)

    def _ask(self, number: int, call: Call) -> None:
        if number in self._asked:
            raise FrameError(f"call {number} was asked twice")
        ticket = _RemoteTicket(self, number, call)
        self._asked[number] = ticket
        try:
            if self._desk.replica is None:
                raise self._desk.refusal()
            self._desk.replica.admit(ticket)
        except MofangError as error:
            self.fail(number, error)

    def _refuse(self, number: int, error: MofangError) -> None:
        self._outbox.add(encode(Refuse(number, Fault.of(error))))


class _RemoteParty:
    """A party that a gateway sent; ``answer`` is the frame that goes back."""

    def __init__(self, embark: Embark, inputs: dict[str, Array], sharer: Sharer | None) -> None:
        self.inputs = inputs
        self._sharer = sharer
        self.rows_of = embark.rows
        self.rows = sum(embark.rows)
        self.tenants = embark.tenants
        self.answer: list[Buffer] = []
        self._embark = embark
        for array in inputs.values():
            if not array.ndim or len(array) != self.rows:
                raise FrameError("the rows of a party are not the whole")
        if sum([count for _, _, count in embark.tenants]) != len(embark.rows):
            raise FrameError("the tenants of a party are not its calls'")

    def computed(self, answer: Answer, /) -> None:
        self.answer = encode_arrival(self._embark.id, answer, self._sharer)

    def calls(self) -> Iterator[Call]:
        """Yield its calls."""
        start = 0
        asked = [(tenant, weight) for tenant, weight, count in self.tenants for _ in range(count)]
        deadline, priorities = self._embark.deadline, self._embark.priorities
        for index, ((tenant, weight), rows) in enumerate(zip(asked, self.rows_of, strict=True)):
            inputs = {name: array[start : start + rows] for name, array in self.inputs.items()}
            start += rows
            yield Call("", tenant, inputs, rows, deadline, priorities.get(index, 0), weight)


class _RemoteTicket:
    """A call that a gateway asked; its outcome goes straight into that gateway's outbox."""

    __slots__ = ("_done", "_gateway", "_number", "call", "number", "queued_at", "size_bytes")

    def __init__(self, gateway: _Gateway, number: int, call: Call) -> None:
        self._gateway = gateway
        self._number = number
        self._done = False
        self.call = call
        self.size_bytes = call_bytes(call)
        self.queued_at = 0.0
        self.number = 0

    def done(self) -> bool:
        return self._done

    def forget(self) -> None:
        self._done = True

    def set_result(self, answer: Answer, /) -> None:
        self._done = True
        self._gateway.answer(self._number, answer)

    def set_exception(self, error: MofangError, /) -> None:
        self._done = True
        self._gateway.fail(self._number, error)
