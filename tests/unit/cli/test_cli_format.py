"""How people read numbers: one table for each kind of quantity."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofang.base.domain.errors import Invalid
from mofang.surface.cli import format

SECOND = 1_000_000
HOUR = 3600 * SECOND


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 µs"),
        (0.000_18, "180 µs"),
        (0.000_999_7, "1.0 ms"),
        (0.002_4, "2.4 ms"),
        (0.25, "250 ms"),
        (0.999_9, "1.0 s"),
        (2.4, "2.4 s"),
        (59.9, "59.9 s"),
        (59.96, "1 min"),
        (185, "3 min 5 s"),
        (7440, "2 h 4 min"),
        (3600, "1 h"),
        (3 * 86_400 + 4 * 3600, "3 d 4 h"),
        (400 * 86_400, "400 d"),
        (-2.4, "-2.4 s"),
    ],
)
def test_a_duration_is_said_as_people_say_it(seconds: float, said: str) -> None:
    assert format.duration(seconds) == said


@given(st.floats(min_value=0, max_value=1e9))
def test_every_duration_has_a_unit(seconds: float) -> None:
    assert format.duration(seconds).split()[-1] in {"µs", "ms", "s", "min", "h", "d"}


@pytest.mark.parametrize(
    ("at", "said"),
    [(0, "-"), (100 * HOUR, "just now"), (97 * HOUR, "3 h ago"), (100 * HOUR - 90 * SECOND, "1 min ago"),
     (100 * HOUR + 48 * HOUR, "in 2 d")],
)  # fmt: skip
def test_a_time_is_said_relative_to_now(at: int, said: str) -> None:
    assert format.ago(at, 100 * HOUR) == said


def test_a_moment_is_written_in_utc() -> None:
    assert format.moment(1_795_328_328 * SECOND) == "2026-11-22 06:18:48Z"
    assert format.moment(0) == "-"


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (999_949, "999.9 kB"), (999_960, "1.0 MB"), (46_700_000, "46.7 MB"),
     (98_400_000_000, "98.4 GB"), (5 * 10**15, "5000.0 TB")],
)  # fmt: skip
def test_a_size_is_said_in_decimal_units(size: int, said: str) -> None:
    assert format.size(size) == said


def test_counts_shares_and_rates() -> None:
    assert format.count(12_770) == "12,770"
    assert format.share(0.978) == "97.8 %"
    assert format.rate(3.2, "epochs") == "3.2 epochs/s"
    assert format.rate(0.25, "epochs") == "4.0 s/epoch"
    assert format.rate(43_210.4, "rows") == "43,210 rows/s"
    assert format.rate(0, "rows") == ""


def test_amounts_of_money_line_up_at_the_point() -> None:
    assert format.amounts([1_500_000, 12, 0]) == ["1.500000", "0.000012", "0.000000"]
    assert format.amounts([1_500_000]) == ["1.50"]
    assert format.amounts([]) == []


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1))
def test_no_amount_is_changed_by_lining_it_up(micros: list[int]) -> None:
    texts = format.amounts(micros)
    assert len({len(text.partition(".")[2]) for text in texts}) == 1
    assert [round(float(text) * 1e6) for text in texts] == micros


def test_a_digest_is_cut_for_people() -> None:
    assert format.short_digest("sha256:" + "ab" * 32) == "abababababab"
    assert format.short_digest("") == "-"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15min", 900), ("15m", 900), ("12 h", 43_200), ("30d", 2_592_000), ("2W", 1_209_600)],
)
def test_a_span_is_read(text: str, seconds: int) -> None:
    assert format.parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "d", "0d", "-3d", "3 years", "1h30m"])
def test_what_is_no_span_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        format.parse_span(text)
    assert "30d" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("now", 100 * HOUR),
        ("3h", 97 * HOUR),
        ("1970-01-02", 24 * HOUR),
        ("1970-01-02T01:30", 24 * HOUR + HOUR + HOUR // 2),
        ("1970-01-02T01:00+01:00", 24 * HOUR),
    ],
)
def test_a_point_in_time_is_read(text: str, at: int) -> None:
    assert format.parse_moment(text, 100 * HOUR) == at


def test_what_is_no_point_in_time_is_refused() -> None:
    with pytest.raises(Invalid, match="'yesterday' is no point in time"):
        format.parse_moment("yesterday", 0)
