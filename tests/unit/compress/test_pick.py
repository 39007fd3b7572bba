from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comparisons import comparison
from mofang.base.domain.errors import Invalid, NoVariant
from mofang.make.compress.compare import Comparison
from mofang.make.compress.pick import Wish, complaints, costs, dominates, front, pick, price, wish_of

_SHARES = st.integers(1, 30).map(lambda tenths: tenths / 10)
_FOUND = st.lists(st.builds(comparison, st.integers(-10, 30).map(lambda n: n / 1000), _SHARES, _SHARES, _SHARES))
_OBJECTIVES = st.sampled_from(["balance", "latency", "size", "cost"])
_WISHES = st.builds(
    Wish,
    st.none() | st.sampled_from([0.0, 0.005, 0.02]),
    st.none() | st.sampled_from([0.5, 1.0]),
    st.none() | st.sampled_from([2.0, 8.0]),
    _OBJECTIVES,
)


@dataclass(frozen=True)
class Named:
    """A comparison with a name."""

    name: str
    comparison: Comparison

    def __str__(self) -> str:
        return self.name


def _named(found: list[Comparison]) -> list[Named]:
    return [Named(f"number {index}", each) for index, each in enumerate(found)]


@given(_FOUND)
def test_nothing_on_the_front_is_dominated_and_everything_off_it_is(found: list[Comparison]) -> None:
    points = [costs(each) for each in found]
    best = front(found)
    for index, point in enumerate(points):
        beaten = any(dominates(other, point) for other in points)
        assert (index in best) == (not beaten and point not in points[:index])
    for point in points:  # what is off the front has something on it that is as good everywhere
        assert any(all(ours <= theirs for ours, theirs in zip(points[at], point, strict=True)) for at in best)


@given(_FOUND, _WISHES)
def test_the_pick_is_accepted_and_none_accepted_is_better(found: list[Comparison], wish: Wish) -> None:
    accepted = [each for each in found if not complaints(each, wish)]
    if not accepted:
        with pytest.raises(NoVariant):
            pick(_named(found), wish)
        return
    best = pick(_named(found), wish).comparison
    assert best in accepted
    assert price(best, wish.objective) == min(price(each, wish.objective) for each in accepted)
    if wish.max_drop is not None:
        assert best.drop <= wish.max_drop


@given(_FOUND, _WISHES)
def test_the_order_in_which_candidates_come_changes_nothing(found: list[Comparison], wish: Wish) -> None:
    turned = found[::-1]
    try:
        first = pick(_named(found), wish).comparison
    except NoVariant:
        with pytest.raises(NoVariant):
            pick(_named(turned), wish)
        return
    assert costs(pick(_named(turned), wish).comparison) == costs(first)


@given(_FOUND, _OBJECTIVES)
def test_a_stricter_wish_never_finds_something_better(found: list[Comparison], objective: str) -> None:
    loose, strict = (Wish(drop, objective=objective) for drop in (0.02, 0.005))  # type: ignore[arg-type]
    try:
        second = pick(_named(found), strict)
    except NoVariant:
        return
    assert price(pick(_named(found), loose).comparison, loose.objective) <= price(second.comparison, loose.objective)


def test_the_refusal_names_what_came_closest_and_why() -> None:
    found = _named([comparison(drop=0.02, one=2.0, size=0.3), comparison(drop=0.004, one=0.9, many=0.9, size=0.9)])
    with pytest.raises(
        NoVariant, match=r"none of 2 variants .* 'number 1': one row takes 0.9 ms, more than 0.5"
    ) as why:
        pick(found, Wish(max_latency_ms=0.5))
    assert "--max-latency-ms" in why.value.hint
    with pytest.raises(NoVariant, match="no technique applies"):
        pick([], Wish())


@pytest.mark.parametrize(
    ("policy", "wish"),
    [
        ("fastest", Wish(None, objective="latency")),
        ("fastest within 0.5 points", Wish(0.005, objective="latency")),
        ("smallest within 1 point", Wish(0.01, objective="size")),
        ("cheapest within 2 points", Wish(0.02, objective="cost")),
    ],
)
def test_a_policy_is_a_wish_in_words(policy: str, wish: Wish) -> None:
    assert wish_of(policy) == wish


@pytest.mark.parametrize("policy", ["", "best", "fastest within points", "fastest within -1 points", "fastest  within"])
def test_other_words_are_no_policy(policy: str) -> None:
    with pytest.raises(Invalid, match="is no policy"):
        wish_of(policy)
