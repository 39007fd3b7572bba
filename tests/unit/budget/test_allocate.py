"""Gateways and a controller that lends to them, in a world where words arrive late or never and gateways die."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mofang.base.domain.budget import GRAINS
from mofang.sell.budget.allocate import Seat, decide
from mofang.sell.budget.share import Share
from mofang.sell.budget.words import Lease


class Request:
    """Wants some units, and is told."""

    gone = False

    def __init__(self, gateway: Gateway, cost: int) -> None:
        self.gateway = gateway
        self.cost = cost

    def need(self, _: Share) -> int:
        return self.cost

    def go_on(self) -> None:
        assert self.gateway.share.slice.reserve(self.cost)
        self.gateway.share.slice.charge(self.cost, self.cost * GRAINS)
        self.gateway.admitted += 1

    def refuse(self, _: Share) -> None:
        self.gateway.refused += 1


class Gateway:
    """A share, and what became of its requests."""

    def __init__(self) -> None:
        self.share = Share("b", 0)
        self.admitted = 0
        self.refused = 0

    def ask(self, cost: int) -> None:
        self.share.waiting.append(Request(self, cost))
        self.share.serve()


class World:
    """A budget, its gateways, and the words under way between them and the controller."""

    def __init__(self, amount: int, gateways: int) -> None:
        self.amount = amount
        self.gateways = {f"g{number}": Gateway() for number in range(gateways)}
        self.seats = {name: Seat() for name in self.gateways}
        self.granted = dict.fromkeys(self.gateways, 0)
        self.returned = dict.fromkeys(self.gateways, 0)
        self.folded = dict.fromkeys(self.gateways, 0)
        self.order = self.last_round = 0

    @property
    def out(self) -> dict[str, int]:
        return {name: self.granted[name] - self.returned[name] - self.folded[name] for name in self.gateways}

    @property
    def free(self) -> int:
        return self.amount - sum(self.folded.values()) - sum(self.out.values())

    def word(self, name: str) -> None:
        """The controller hears how ``name`` stands."""
        account, seat = self.gateways[name].share.account(), self.seats[name]
        self.returned[name] = max(self.returned[name], account.returned)
        if account.asked > seat.asked:
            self.order += 1
            seat.order, seat.asked, seat.round = self.order, account.asked, 0
        seat.need, seat.waiting, seat.acknowledged = account.need, account.waiting, account.acknowledged

    def step(self) -> None:
        """The controller decides what it can."""
        decision = decide(self.free, self.out, self.seats, self.last_round)
        for name, units in decision.grants.items():
            self.granted[name] += units
            self.seats[name].answered = self.seats[name].asked
        for name, number in decision.rounds.items():
            self.seats[name].round = number
            self.last_round = max(self.last_round, number)
        for name, number in decision.recalls.items():
            self.seats[name].recalled = number
        assert self.free >= 0
        assert sum(gateway.share.slice.charged for gateway in self.gateways.values()) <= self.amount

    def tell(self, name: str) -> None:
        """``name`` hears what it was lent."""
        seat = self.seats[name]
        self.gateways[name].share.hear(Lease("b", 0, self.granted[name], seat.answered, seat.recalled))

    def fold(self, name: str) -> None:
        self.folded[name] = self.gateways[name].share.slice.charged

    def settle(self, rounds: int) -> None:
        for _ in range(rounds):
            for name in self.gateways:
                self.word(name)
                self.step()
                self.tell(name)


names = st.sampled_from(["g0", "g1", "g2"])
actions = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), names, st.integers(1, 40)),
        st.tuples(st.sampled_from(["word", "tell", "fold", "step"]), names, st.just(0)),
    ),
    max_size=80,
)


@given(amount=st.integers(0, 200), actions=actions)
def test_never_more_is_lent_than_there_is_and_everybody_gets_an_answer(
    amount: int, actions: list[tuple[str, str, int]]
) -> None:
    world = World(amount, 3)
    for what, name, cost in actions:
        if what == "ask":
            world.gateways[name].ask(cost)
        elif what == "step":
            world.step()
        else:
            getattr(world, what)(name)
    asked = sum(what == "ask" for what, _, _ in actions)
    world.settle(3 * asked + 2)  # to be refused takes three: a question, a round of the others, an answer
    gateways = world.gateways.values()
    assert not any(gateway.share.waiting for gateway in gateways)
    assert sum(gateway.admitted + gateway.refused for gateway in gateways) == asked


@given(
    amount=st.integers(1, 300),
    cost=st.integers(1, 60),
    before=st.lists(st.tuples(names, st.integers(1, 30)), max_size=12),
    asks=names,
)
def test_what_lies_idle_anywhere_is_found_within_two_rounds(
    amount: int, cost: int, before: list[tuple[str, int]], asks: str
) -> None:
    world = World(amount, 3)
    for name, units in before:
        world.gateways[name].ask(units)
        world.settle(4)
    left = amount - sum(gateway.share.slice.charged for gateway in world.gateways.values())
    gateway = world.gateways[asks]
    admitted = gateway.admitted
    gateway.ask(cost)
    world.settle(3)
    assert gateway.admitted - admitted == (cost <= left)


@given(amount=st.integers(0, 60), gateways=st.integers(1, 5), each=st.integers(1, 40))
def test_equal_requests_are_admitted_until_nothing_is_left(amount: int, gateways: int, each: int) -> None:
    world = World(amount, gateways)
    for gateway in world.gateways.values():
        for _ in range(each):
            gateway.ask(1)
    world.settle(2 * gateways * each + 2)
    assert sum(gateway.admitted for gateway in world.gateways.values()) == min(amount, gateways * each)


def test_what_a_dead_gateway_held_is_waited_for() -> None:
    seats = {"alive": Seat(need=5, waiting=5, asked=1, order=1)}
    assert not decide(0, {"dead": 10}, seats, 0).grants
    assert decide(10, {"dead": 0}, seats, 0).grants["alive"] >= 5


def test_who_asks_ahead_of_need_takes_nothing_from_others() -> None:
    seats = {"a": Seat(asked=1, order=1), "b": Seat()}
    decision = decide(0, {"b": 10}, seats, 0)
    assert (decision.grants, decision.recalls) == ({"a": 0}, {})
