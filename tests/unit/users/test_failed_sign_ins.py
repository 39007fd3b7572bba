"""However many sign-ins fail, what is written of them is bounded, and counts every one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mofang.base.users.tally import KINDS, WINDOW_SECONDS, Failures, Tally


def test_the_first_failure_is_told_at_once_and_the_rest_as_a_number() -> None:
    now = 0.0
    tally = Tally(lambda: now)
    assert tally.add("ada", "password", "192.0.2.1") == Failures("ada", "password", "192.0.2.1", 1)
    assert [tally.add("ada", "password", "192.0.2.1") for _ in range(1000)] == [None] * 1000
    assert tally.add("ada", "password", "192.0.2.2") is not None
    assert tally.take() == []
    now = WINDOW_SECONDS
    assert tally.take() == [Failures("ada", "password", "192.0.2.1", 1000)]
    assert tally.take(early=True) == []
    assert tally.add("ada", "password", "192.0.2.1") is not None, "a window begins anew"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60).map(str)), max_size=400))
def test_every_failure_is_counted_and_what_is_told_is_bounded(failed: list[tuple[str, str]]) -> None:
    tally = Tally(lambda: 0.0)
    told = [it for name, address in failed if (it := tally.add(name, "password", address))]
    told += tally.take(early=True)
    assert sum(it.count for it in told) == len(failed)
    assert len(told) <= 2 * KINDS + 1
