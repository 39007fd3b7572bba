"""A gateway's slice, in exact integers, and what an answer may cost at most."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from mofang.base.domain.budget import GRAINS, Tariff
from mofang.sell.budget.reservation import Line, cover
from mofang.sell.budget.share import Share
from mofang.sell.budget.slices import Slice


@given(st.lists(st.tuples(st.integers(0, 3 * GRAINS), st.booleans()), max_size=40))
def test_what_goes_on_record_is_the_exact_sum_rounded_up_once(answers: list[tuple[int, bool]]) -> None:
    share = Slice(granted=10**6)
    on_record, exact = 0, 0
    for grains, recorded in answers:
        held = -(-grains // GRAINS)
        assert share.reserve(held)
        charged = share.charge(held, grains)
        if recorded:
            on_record, exact = on_record + charged, exact + grains
        else:
            share.refund(charged, grains)
        assert share.charged == on_record
        assert share.available + share.charged + share.reserved + share.returned == share.granted
    assert share.reserved == 0
    if all(recorded for _, recorded in answers):
        assert on_record == ceil(Fraction(exact, GRAINS))


prices = st.tuples(st.integers(0, 10**7), st.integers(1, 10**9))


@given(
    requests=prices,
    compute=prices,
    output=prices,
    held=st.integers(0, 1000),
    left=st.integers(0, 1000),
    used=st.integers(0, 10**9),
)
def test_an_answer_never_costs_more_than_is_held_and_left(
    requests: tuple[int, int], compute: tuple[int, int], output: tuple[int, int], held: int, left: int, used: int
) -> None:
    tariff = Tariff("EUR", {"requests": requests, "compute_us": compute, "output_bytes": output})
    known = -(-tariff.grains({"requests": 1}) // GRAINS)
    share = Share("b", 0)
    share.slice.grant(known + held + left)
    assert share.slice.reserve(known + held)
    quantities = {"requests": 1, "compute_us": used, "output_bytes": used // 3}
    cover(Line(share, tariff, known + held), quantities)
    charged = share.slice.charge(known + held, tariff.grains(quantities))
    assert quantities["requests"] == 1
    assert 0 <= charged <= known + held + left
    assert share.slice.available >= 0
    if tariff.grains({"requests": 1, "compute_us": used, "output_bytes": used // 3}) <= (known + held + left) * GRAINS:
        assert quantities == {"requests": 1, "compute_us": used, "output_bytes": used // 3}


def test_a_million_requests_of_a_tenth_of_a_micro_cost_a_tenth_of_a_million() -> None:
    tariff, share = Tariff("EUR", {"requests": (1, 10)}), Slice(granted=10**6)
    for _ in range(10_000):
        share.reserve(1)
        share.charge(1, tariff.grains({"requests": 1}))
    assert share.charged == 1_000
