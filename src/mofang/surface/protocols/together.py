"""Requests of one turn of the event loop, answered together: what both protocols have in common.

Rows travel as a :class:`~mofang.run.serve.party.Party`; what is not as usual is answered alone, as is everything when
there is no party. How requests are read, and how answers are written, is each protocol's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from mofang.base.domain.access import Principal
from mofang.base.domain.errors import MofangError
from mofang.base.domain.inference import InferResponse
from mofang.base.domain.tensors import Array
from mofang.run.serve.party import Party, Seat
from mofang.run.serve.passage import Told
from mofang.surface.protocols.lane import PartyLane

Member = TypeVar("Member")
Target = tuple[str, str, float]
"""Endpoint, version, and seconds until the time-out: what all of one party have in common."""


class Dispatcher(ABC, Generic[Member]):
    """Parts what a turn brought for one target into parties, and those who go alone."""

    def __init__(self, lane: PartyLane) -> None:
        self._lane = lane

    def dispatch(self, target: Target, asked: Sequence[Member]) -> list[Member]:
        """Let them travel together as far as they can; return those who are to be answered alone."""
        alone: list[Member] = []
        first = True
        while asked:
            party = self._lane.party(*target)
            if party is None or (first and len(asked) > party.full and self._several_tenants(target[0], asked)):
                alone += asked  # who goes first is for the fair queue to say
                break
            first = False
            asked = self._travel(target[0], asked, party, alone)
        return alone

    @abstractmethod
    def _travel(self, endpoint: str, asked: Sequence[Member], party: Party, alone: list[Member]) -> Sequence[Member]:
        """Let a party go with as many as it takes; return those for whom it had no room."""

    @abstractmethod
    def _head(self, member: Member) -> object:
        """Return the head of a request: whoever shares it has the same key."""

    @abstractmethod
    def _whose(self, member: Member) -> tuple[str | None, str, str | None]:
        """Return authorization, peer, and what proxies said of it."""

    def _recognise(self, endpoint: str, member: Member) -> Principal | None:
        try:
            return self._lane.recognise(endpoint, *self._whose(member))
        except MofangError:
            return None  # it is told alone

    def _several_tenants(self, endpoint: str, asked: Sequence[Member]) -> bool:
        principals = [
            self._recognise(endpoint, each) for each in {id(self._head(each)): each for each in asked}.values()
        ]
        return len({principal.tenant for principal in principals if principal is not None}) > 1


class Trip(ABC, Generic[Member]):
    """Those who travel in one party: its :class:`~mofang.run.serve.party.Host`."""

    __slots__ = ("_party", "members")

    def __init__(self, party: Party) -> None:
        self._party = party
        self.members: list[Member] = []

    def set_off(self, alone: list[Member]) -> None:
        """Let the party depart; whom it refuses goes alone."""
        party = self._party
        if not self.members:
            return
        refused = party.depart(self)
        alone += [self.members[index] for index in refused]
        if not party.computed_already and len(refused) < len(self.members):
            for index, member in enumerate(self.members):
                if index not in refused:
                    self._wait(member, Seat(party, index))

    @abstractmethod
    def answered(self, party: Party, outputs: Mapping[str, Array]) -> None:
        """Write the answers: the outputs of all rows, in their order."""

    @abstractmethod
    def alone(self, index: int) -> Told:
        """Return whom to tell the outcome of one request."""

    @abstractmethod
    def _wait(self, member: Member, seat: Seat) -> None:
        """A request is on its way; whoever asked may take it back by its ``seat``."""

    def failed(self, party: Party, error: Exception) -> None:
        """Tell all of them why there is no answer."""
        for index in range(len(self.members)):
            self.alone(index)(error)

    def _answer_each(self, party: Party, outputs: Mapping[str, Array]) -> None:
        """Have each answer written by itself, so that one that cannot be told fails alone."""
        revision, timing = party.plan.route.revision, str(party.timing)
        start = 0
        for index, rows in enumerate(party.rows_of):
            own = {name: array[start : start + rows] for name, array in outputs.items()}
            start += rows
            self.alone(index)(
                InferResponse(
                    party.ids[index], revision.endpoint, revision.version, revision.number, revision.digest, own,
                    timing=timing, trace=str(party.traces.get(index, "")),
                )
            )  # fmt: skip
