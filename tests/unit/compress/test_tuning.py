"""How a version is run best: the choice as a table, and the measurement with a real engine."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graphs import one_node, save
from mofang.base.domain.work import Silent
from mofang.make.compress.tuning import Setting, best, front, measure

ONE = Setting(1, 1, 1, 1.0)  # 1,000 rows a second, 2 ms
BATCH = Setting(1, 1, 32, 8.0)  # 4,000 rows a second, 16 ms
TWO = Setting(2, 1, 32, 9.0)  # 7,111 rows a second, 18 ms


def test_most_rows_within_the_latency_win() -> None:
    assert best([ONE, BATCH, TWO], 50.0) is TWO
    assert best([ONE, BATCH, TWO], 17.0) is BATCH
    assert best([ONE, BATCH, TWO], 5.0) is ONE


def test_where_nothing_is_in_time_what_is_soonest_wins() -> None:
    assert best([BATCH, ONE, TWO], 0.1) is ONE


def test_what_is_about_as_good_takes_less() -> None:
    larger = Setting(1, 1, 64, 15.8)  # 4,050 rows a second
    assert best([larger, BATCH], 50.0) is BATCH


settings = st.lists(
    st.builds(
        Setting, st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 2, 4, 8, 16, 32, 64]), st.floats(0.01, 100)
    ),
    min_size=1,
)


@given(settings, st.floats(0.01, 400))
def test_what_is_chosen_keeps_the_goal_if_anything_does(found: list[Setting], goal_ms: float) -> None:
    chosen = best(found, goal_ms)
    within = [each for each in found if each.latency_ms <= goal_ms]
    if within:
        assert chosen in within
        assert chosen.rows_per_second >= 0.95 * max(each.rows_per_second for each in within)


@given(settings)
def test_nothing_of_the_front_is_beaten(found: list[Setting]) -> None:
    for each in front(found):
        assert not any(one.latency_ms < each.latency_ms and one.rows_per_second > each.rows_per_second for one in found)


def test_every_way_to_share_the_cores_is_measured(tmp_path: Path) -> None:
    save(one_node("Relu"), tmp_path)
    row = {"x": np.ones((1, 2), np.float32)}
    found = measure("onnx", tmp_path, row, 1000.0, 1.0, Silent(), batchable=True)
    assert {each.batch_rows for each in found} == {1, 2, 4, 8, 16, 32, 64}
    assert all(each.batch_ms > 0 for each in found)
    strict = measure("onnx", tmp_path, row, 1e-9, 1.0, Silent(), batchable=True)
    assert {each.batch_rows for each in strict} == {1}
