"""Pictures of characters."""

from hypothesis import given
from hypothesis import strategies as st

from mofang.surface.cli import chart

VALUES = st.lists(st.floats(-1e6, 1e6), max_size=200)


def test_a_sparkline_goes_from_low_to_high() -> None:
    assert chart.sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
    assert chart.sparkline([]) == ""
    assert chart.sparkline([3, 3]) == "▁▁"


@given(VALUES, st.integers(1, 60))
def test_thinning_keeps_the_last_value(values: list[float], width: int) -> None:
    kept = chart.thin(values, width)
    assert len(kept) == min(len(values), width)
    assert not values or kept[-1] == values[-1]


def test_a_curve_has_its_scale_and_falls() -> None:
    lines = chart.curve([2.0, 1.0, 0.5], height=4, width=12)
    assert lines == [
        "  2 ┤████",
        "    ┤████",
        "    ┤████▃▃▃▃",
        "0.5 ┤████████▁▁▁▁",
    ]


@given(VALUES)
def test_a_curve_is_as_high_as_asked_and_no_wider(values: list[float]) -> None:
    lines = chart.curve(values, height=5, width=40)
    assert len(lines) == (5 if values else 0)
    assert all(len(line.partition("┤")[2]) <= 40 for line in lines)


def test_a_confusion_matrix_is_a_compact_table() -> None:
    assert chart.confusion([[10, 0], [2, 7]], ["cat", "dog"]) == [
        "true  cat dog   <- answered",
        "cat    10   ·",
        "dog     2   7",
    ]


def test_long_labels_are_cut_and_many_classes_numbered() -> None:
    lines = chart.confusion([[1, 0], [0, 1]], ["a very long label", "b"])
    assert lines[1].startswith("a very …")
    many = [[int(i == j) for j in range(30)] for i in range(30)]
    wide = chart.confusion(many, [f"class{i}" for i in range(30)])
    assert "29" in wide[0]
    assert wide[30].startswith("class29")
    assert chart.confusion([], []) == []
