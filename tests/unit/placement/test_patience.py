"""Waiting for fuller batches: only as long as is measured to pay."""

from hypothesis import given
from hypothesis import strategies as st

from mofang.base.domain.deployment import ReplicaLimits
from mofang.base.placement.pace import Pace
from mofang.base.placement.patience import Patience

LIMITS = ReplicaLimits(max_batch_rows=8, max_wait_us=50_000)


def pace(fixed: float, row: float) -> Pace:
    made = Pace()
    for rows in (1, 2, 4, 8):
        made.observe(rows, fixed + row * rows)
    return made


def patience(rate: float) -> Patience:
    made = Patience()
    made.formed(1, 1.0)
    made.formed(8, 1.0 + 8 / rate)
    return made


def test_nothing_is_waited_for_before_anything_was_measured() -> None:
    assert Patience().plan(1, pace(0.01, 0.0), LIMITS) == (1, 0.0)


def test_rows_that_cost_nothing_more_are_waited_for() -> None:
    rows, seconds = patience(1000).plan(2, pace(0.02, 0.0), LIMITS)
    assert (rows, round(seconds, 6)) == (4, 0.002)  # two milliseconds save another computation of twenty


def test_rows_that_cost_as_much_each_are_not() -> None:
    assert patience(1000).plan(2, pace(0.0, 0.02), LIMITS) == (2, 0.0)


def test_rows_that_come_too_slowly_are_not() -> None:
    assert patience(20).plan(2, pace(0.02, 0.0), LIMITS) == (2, 0.0)


def test_a_size_that_is_preferred_comes_into_question() -> None:
    limits = ReplicaLimits(max_batch_rows=8, max_wait_us=50_000, preferred_rows=(3,))
    rows, _ = patience(1000).plan(2, pace(0.02, 0.0), limits)
    assert rows == 3


@given(
    st.floats(0.1, 1e5),
    st.integers(1, 8),
    st.floats(0, 0.1),
    st.floats(0, 0.1),
    st.integers(0, 100_000),
)
def test_a_wait_is_bounded_and_shorter_than_what_it_saves(
    rate: float, rows: int, fixed: float, row: float, most_us: int
) -> None:
    limits = ReplicaLimits(max_batch_rows=8, max_wait_us=most_us)
    known = pace(fixed, row)
    enough, seconds = patience(rate).plan(rows, known, limits)
    assert rows <= enough <= 8
    assert seconds * 1e6 <= most_us
    if seconds:
        assert seconds < known.expect(rows) + known.expect(enough - rows) - known.expect(enough)
