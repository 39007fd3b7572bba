"""Token buckets and bounds: exact for any traffic, with any number of gateways."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofang.base.domain.access import AccessLimits
from mofang.base.domain.errors import ConcurrencyLimited, Exhausted, PayloadLimited, RateLimited, TooLarge
from mofang.sell.meter.limits import MINUTE_NS, SECOND_NS, Bounds, Bucket, Standing

GAPS = st.lists(st.tuples(st.integers(0, 10 * SECOND_NS), st.integers(1, 5)), max_size=60)


def limited(share: int = 1, **bounds: int) -> Bounds:
    return Bounds(AccessLimits("project", "shop", **bounds), share)


def try_take(bucket: Bucket, units: int, now_ns: int) -> bool:
    if bucket.wait_ns(units, now_ns):
        return False
    bucket.take(units, now_ns)
    return True


@given(st.integers(1, 10_000), st.integers(1, 4), GAPS)
def test_in_no_stretch_of_time_more_passes_than_a_full_bucket_and_what_came_in(
    per_minute: int, share: int, gaps: list[tuple[int, int]]
) -> None:
    bucket = Bucket(per_minute, share)
    times = accumulate(gap for gap, _ in gaps)
    passed = [(at, units) for at, (_, units) in zip(times, gaps, strict=True) if try_take(bucket, units, at)]
    for index, (start, _) in enumerate(passed):
        units = 0
        for at, taken in passed[index:]:
            units += taken
            full = max(per_minute * MINUTE_NS, share * MINUTE_NS)
            assert units * share * MINUTE_NS <= full + (at - start) * per_minute


@given(st.integers(1, 10_000), st.integers(1, 4), GAPS, st.integers(1, 5))
def test_the_wait_it_names_is_enough_and_none_too_long(
    per_minute: int, share: int, gaps: list[tuple[int, int]], units: int
) -> None:
    bucket, now = Bucket(per_minute, share), 0
    for gap, wanted in gaps:
        now += gap
        try_take(bucket, min(wanted, bucket.size), now)
    units = min(units, bucket.size)
    wait = bucket.wait_ns(units, now)
    assert bucket.wait_ns(units, now + wait) == 0
    assert wait == 0 or bucket.wait_ns(units, now + wait - 1) == 1


@given(st.integers(1, 10_000), st.integers(1, 4))
def test_every_gateway_has_its_share(per_minute: int, share: int) -> None:
    buckets = [Bucket(per_minute, share) for _ in range(share)]
    at_once = sum(bucket.size for bucket in buckets)
    assert at_once <= max(per_minute, share)  # less than one request for each gateway cannot be given
    hour = sum(try_take(bucket, 1, second * SECOND_NS) for bucket in buckets for second in range(0, 3600, 30))
    assert hour <= at_once + per_minute * 60


def test_where_a_caller_stands() -> None:
    bucket = Bucket(60)
    assert bucket.standing(5) == Standing(60, 60, 0)
    assert [try_take(bucket, 1, 5) for _ in range(61)] == [True] * 60 + [False]
    assert bucket.standing(5) == Standing(60, 0, MINUTE_NS)
    assert bucket.standing(5 + 30 * SECOND_NS) == Standing(60, 30, 30 * SECOND_NS)
    assert bucket.standing(5 + 5 * MINUTE_NS) == Standing(60, 60, 0)


def test_over_the_rate_it_says_how_long_to_wait() -> None:
    bounds = limited(requests_per_minute=6)
    for _ in range(6):
        bounds.check(1, 0, 0)
        bounds.enter(1, 0)
    with pytest.raises(RateLimited, match="project 'shop' may send 6 requests a minute") as caught:
        bounds.check(1, 0, SECOND_NS // 2)
    assert caught.value.retry_after_seconds == 10
    assert isinstance(caught.value, Exhausted)
    bounds.check(1, 0, 10 * SECOND_NS)


def test_rows_are_bounded_a_minute_and_a_request() -> None:
    bounds = limited(rows_per_minute=100)
    bounds.check(100, 0, 0)
    bounds.enter(100, 0)
    with pytest.raises(RateLimited, match="100 rows a minute") as caught:
        bounds.check(50, 0, 0)
    assert caught.value.retry_after_seconds == 30
    with pytest.raises(PayloadLimited, match="101 rows never fits"):
        bounds.check(101, 0, 0)


def test_concurrency_counts_those_under_way() -> None:
    bounds = limited(concurrency=2)
    for _ in range(2):
        bounds.check(1, 0, 0)
        bounds.enter(1, 0)
    with pytest.raises(ConcurrencyLimited, match="2 requests under way") as caught:
        bounds.check(1, 0, 0)
    assert caught.value.retry_after_seconds == 1
    bounds.leave()
    bounds.check(1, 0, 0)


def test_a_gateway_has_its_share_of_concurrency_and_one_at_least() -> None:
    for limit, share, here in ((8, 2, 4), (3, 2, 1), (1, 4, 1)):
        bounds = limited(share, concurrency=limit)
        for _ in range(here):
            bounds.check(1, 0, 0)
            bounds.enter(1, 0)
        with pytest.raises(ConcurrencyLimited):
            bounds.check(1, 0, 0)


def test_a_payload_over_the_limit_never_passes() -> None:
    bounds = limited(payload_bytes=1000)
    bounds.check(1, 1000, 0)
    with pytest.raises(PayloadLimited, match="1000 bytes a request, not 1001") as caught:
        bounds.check(1, 1001, 0)
    assert isinstance(caught.value, TooLarge)


def test_new_limits_keep_what_was_used_and_who_is_under_way() -> None:
    bounds = limited(requests_per_minute=2, concurrency=2)
    bounds.enter(1, 0)
    bounds.enter(1, 0)
    bounds.follow(AccessLimits("project", "shop", requests_per_minute=2, concurrency=3))
    with pytest.raises(RateLimited):
        bounds.check(1, 0, 0)
    bounds.follow(AccessLimits("project", "shop", requests_per_minute=3, concurrency=2))
    with pytest.raises(ConcurrencyLimited):
        bounds.check(1, 0, 0)
