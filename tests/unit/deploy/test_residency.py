"""Which models loaded on demand stay, as a table."""

from hypothesis import given
from hypothesis import strategies as st

from mofang.run.deploy.residency import Resident, evicted


def test_nobody_goes_while_there_is_room() -> None:
    assert evicted([Resident("a", 50, 100.0), Resident("b", 50, 5.0)], 100) == []


def test_of_models_alike_the_one_asked_longest_ago_goes() -> None:
    loaded = [Resident("a", 50, 5.0), Resident("b", 50, 100.0), Resident("c", 50, 50.0)]
    assert evicted(loaded, 100) == ["b"]
    assert evicted(loaded, 60) == ["b", "c"]


def test_a_large_model_goes_before_small_ones() -> None:
    assert evicted([Resident("small", 1, 60.0), Resident("large", 100, 50.0)], 100) == ["large"]


def test_what_was_asked_a_moment_ago_stays_whatever_it_holds() -> None:
    assert evicted([Resident("a", 500, 0.2), Resident("b", 500, 0.0)], 100) == []


residents = st.lists(
    st.builds(Resident, st.text(max_size=3), st.integers(0, 1000), st.floats(0, 1e6)), unique_by=lambda each: each.key
)


@given(residents, st.integers(0, 5000))
def test_enough_goes_if_enough_is_idle_and_nothing_in_vain(loaded: list[Resident], most: int) -> None:
    gone = evicted(loaded, most)
    by_key = {each.key: each for each in loaded}
    assert all(by_key[key].idle_seconds >= 2.0 for key in gone)
    kept = [each for each in loaded if each.key not in gone]
    if any(each.idle_seconds >= 2.0 for each in kept):
        assert sum(each.memory_bytes for each in kept) <= most
    if gone:
        assert sum(each.memory_bytes for each in kept) + by_key[gone[-1]].memory_bytes > most
