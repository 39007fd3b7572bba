"""Requests to infer that one turn of the event loop brought for one path, answered together.

The connection collects what a turn brought for a path and hands it over at once. Their rows travel as a
:class:`~mofang.run.serve.party.Party`; what is not as usual among them is answered alone, by
:meth:`~mofang.surface.protocols.oip.rest.OipRest.start`, as is everything when there is no party.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from mofang.base.domain.access import Principal
from mofang.base.domain.tensors import Array
from mofang.run.serve.party import Party, Seat
from mofang.run.serve.passage import Told
from mofang.run.serve.plan import Plan
from mofang.run.serve.visits import TRACE_RESPONSE
from mofang.sell.meter.limits import Standings
from mofang.surface.protocols.http import Asked, HttpResponse, header_lines, rate_headers
from mofang.surface.protocols.lane import PartyLane
from mofang.surface.protocols.oip.codec import Wants
from mofang.surface.protocols.oip.render import answer_lines, render_rows
from mofang.surface.protocols.oip.rows import KnownBodies
from mofang.surface.protocols.together import Dispatcher, Trip

Reply = Callable[[HttpResponse], None]


class Voice(Protocol):
    """How single outcomes are put into words: ``OipRest`` has it."""

    def teller(self, wants: Wants, principal: Principal, request_id: str, reply: Reply) -> Told:
        """Return what to call with the outcome of a request."""

    def standing(self, principal: Principal) -> Standings | None:
        """Return where the caller stands with her limits."""


class Together(Dispatcher[Asked]):
    """Answers what a turn brought for one endpoint, with one time-out."""

    def __init__(self, lane: PartyLane, voice: Voice, endpoint: str, version: str, timeout_seconds: float) -> None:
        super().__init__(lane)
        self._target = (endpoint, version, timeout_seconds)
        self._plan: Plan | None = None  # whose bodies are known
        self._bodies: KnownBodies
        self.voice = voice

    def answer(self, asked: Sequence[Asked]) -> None:
        """Answer all of them, now or later."""
        for each in self.dispatch(self._target, asked):
            each.start()

    def _travel(self, endpoint: str, asked: Sequence[Asked], party: Party, alone: list[Asked]) -> Sequence[Asked]:
        """Let a party go with as many as it takes; return those for whom it had no room."""
        if self._plan is not party.plan:
            self._plan, self._bodies = party.plan, KnownBodies(party.plan.together, party.plan.outputs)
        read = self._bodies.read
        trip = Requests(self.voice, party)
        note = client = principal = None
        for index, each in enumerate(asked):
            if party.rows >= party.full:
                trip.set_off(alone)
                return asked[index:]
            if each.note is not note or each.client != client:
                note, client, principal = each.note, each.client, self._recognise(endpoint, each)
            known = read(each.body, each.note.json_length, party)
            if known is None or principal is None:
                alone.append(each)
            else:
                party.take(principal, known.rows, len(each.body), known.priority, note.traceparent)
                trip.members.append(each)
                trip.wants.append(known.wants)
        self._bodies.hits += len(trip.members)
        trip.set_off(alone)
        return ()

    def _head(self, member: Asked) -> object:
        return member.note

    def _whose(self, member: Asked) -> tuple[str | None, str, str | None]:
        note: Note = member.note
        return note.authorization, member.client, note.forwarded_for


class Note(msgspec.Struct, frozen=True, gc=False):
    """What a head means for a request to infer; the connection keeps it beside the bytes of the head."""

    together: Together
    authorization: str | None
    forwarded_for: str | None
    json_length: int  # how much of the body is JSON if tensors follow it; else 0
    traceparent: str | None = None


class Requests(Trip[Asked]):
    """Those who travel in one party, and which outputs each wants."""

    __slots__ = ("_voice", "wants")

    def __init__(self, voice: Voice, party: Party) -> None:
        super().__init__(party)
        self._voice = voice
        self.wants: list[Wants] = []

    def answered(self, party: Party, outputs: Mapping[str, Array]) -> None:
        """Write the answers."""
        revision = party.plan.route.revision
        bodies = render_rows(revision, outputs, party.rows_of, self.wants)
        if bodies is None:  # not the usual sort
            self._answer_each(party, outputs)
            return
        lines = answer_lines(revision.version, revision.number, revision.digest, binary=False)
        lines += f"server-timing: {party.timing}\r\n".encode()
        standings, ends = self._standings(party), _ends(party) if party.traces else party.ids
        for each, principal, end, body in zip(self.members, party.principals, ends, bodies, strict=True):
            each.reply(b"%b%bx-request-id: %b\r\n" % (lines, standings[principal.key_id], end.encode()), body)

    def alone(self, index: int) -> Told:
        """Return whom to tell the outcome of one request."""
        party = self._party
        reply = self.members[index].respond
        return self._voice.teller(self.wants[index], party.principals[index], party.ids[index], reply)

    def _wait(self, member: Asked, seat: Seat) -> None:
        member.wait(seat)

    def _standings(self, party: Party) -> dict[str, bytes]:
        """Return the header lines about limits, by key."""
        found: dict[str, bytes] = {}
        for principal in party.keys:
            standing = self._voice.standing(principal)
            found[principal.key_id] = b"" if standing is None else header_lines(rate_headers(standing)).encode()
        return found


def _ends(party: Party) -> list[str]:
    """Return the request id of each member, and after it, if it belongs to one, the line about its trace."""
    ends = list(party.ids)
    for index, trace in party.traces.items():
        ends[index] += f"\r\n{TRACE_RESPONSE}: {trace}"
    return ends
