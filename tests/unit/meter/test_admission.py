"""Admission by role and limits, as the lane uses it: entered for a request, left when it is answered."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from mofang.base.domain.access import AccessLimits, LimitScope, Principal
from mofang.base.domain.deployment import Revision, Route, Snapshot
from mofang.base.domain.errors import ConcurrencyLimited, OutOfScope, PayloadLimited, RateLimited
from mofang.base.domain.tensors import Signature
from mofang.sell.meter.admission import Admission
from mofang.sell.meter.limits import SECOND_NS, Standing, Standings

ROUTE = Route(Revision("digits", 1, "digits", 1, "sha256:1", "onnx", Signature((), ())), ())
ADA = Principal("ada", "acme", "shop", "consumer")
BOB = Principal("bob", "acme", "shop", "consumer")
EVE = Principal("eve", "acme", "lab", "consumer")
ZOE = Principal("zoe", "other", "other", "consumer")


class Desk:
    """An admission with its clock and Snapshot in hand."""

    def __init__(self, *limits: AccessLimits, gateways: int = 1) -> None:
        self.now_ns = 0
        self.publish(*limits)
        self.admission = Admission(lambda: self.snapshot, gateways, clock_ns=lambda: self.now_ns)
        self.under_way = ExitStack()

    def publish(self, *limits: AccessLimits) -> None:
        number = self.snapshot.number + 1 if hasattr(self, "snapshot") else 1
        self.snapshot = Snapshot(number, {}, {}, limits)

    def ask(self, who: Principal, rows: int = 1, input_bytes: int = 10) -> None:
        """Have a request answered at once."""
        self.admission.admit(who, ROUTE, rows, input_bytes).release()

    def begin(self, who: Principal) -> None:
        """Have a request that is not answered until ``under_way`` is closed."""
        self.under_way.callback(self.admission.admit(who, ROUTE, 1, 10).release)


def test_without_limits_everybody_passes() -> None:
    desk = Desk()
    for _ in range(1000):
        desk.begin(ADA)
    assert desk.admission.standing(ADA) is None


def test_a_key_for_other_endpoints_is_refused_and_not_counted() -> None:
    desk = Desk(AccessLimits("project", "shop", requests_per_minute=1))
    with pytest.raises(OutOfScope, match="'cat' may ask faces, words, not 'digits'"):
        desk.ask(Principal("cat", "acme", "shop", "consumer", ("faces", "words")))
    desk.ask(Principal("cat", "acme", "shop", "consumer", ("digits", "words")))


@pytest.mark.parametrize(
    ("scope", "name", "refused"),
    [("key", "ada", [ADA]), ("project", "shop", [ADA, BOB]), ("tenant", "acme", [ADA, BOB, EVE])],
)
def test_a_limit_binds_whom_it_names_together(scope: LimitScope, name: str, refused: list[Principal]) -> None:
    desk = Desk(AccessLimits(scope, name, requests_per_minute=1))
    desk.ask(ADA)
    for who in (ADA, BOB, EVE, ZOE):
        if who in refused:
            with pytest.raises(RateLimited, match=f"{scope} '{name}'"):
                desk.ask(who)
        else:
            desk.ask(who)


def test_what_one_limit_refuses_costs_the_others_nothing() -> None:
    desk = Desk(
        AccessLimits("key", "ada", requests_per_minute=2),
        AccessLimits("project", "shop", concurrency=1, payload_bytes=100),
        AccessLimits("tenant", "acme", rows_per_minute=100),
    )
    desk.begin(BOB)
    with pytest.raises(ConcurrencyLimited):
        desk.ask(ADA)
    desk.under_way.close()
    with pytest.raises(PayloadLimited):
        desk.ask(ADA, input_bytes=101)
    with pytest.raises(RateLimited):
        desk.ask(ADA, rows=100)
    assert desk.admission.standing(ADA) == Standings(Standing(2, 2, 0))
    desk.ask(ADA, rows=99)


def test_a_slot_is_free_again_when_the_request_ends() -> None:
    desk = Desk(AccessLimits("key", "ada", concurrency=1))
    desk.begin(ADA)
    desk.under_way.close()
    desk.ask(ADA)


def test_a_new_snapshot_does_not_refill_a_bucket() -> None:
    limit = AccessLimits("key", "ada", requests_per_minute=2, concurrency=1)
    desk = Desk(limit)
    desk.ask(ADA)
    desk.begin(ADA)
    desk.publish(limit)
    with pytest.raises(ConcurrencyLimited):
        desk.ask(ADA)
    desk.under_way.close()
    with pytest.raises(RateLimited) as caught:
        desk.ask(ADA)
    assert caught.value.retry_after_seconds == 30
    desk.now_ns = 30 * SECOND_NS
    desk.ask(ADA)
    desk.publish()
    desk.ask(ADA)


def test_the_tightest_limit_is_the_one_told() -> None:
    desk = Desk(
        AccessLimits("key", "ada", requests_per_minute=100), AccessLimits("tenant", "acme", requests_per_minute=3)
    )
    desk.ask(BOB)
    assert desk.admission.standing(ADA) == Standings(Standing(3, 2, 20 * SECOND_NS))


def test_two_gateways_let_through_no_more_than_one() -> None:
    limit = AccessLimits("project", "shop", requests_per_minute=10)
    for desk in (Desk(limit, gateways=2), Desk(limit, gateways=2)):
        for _ in range(5):
            desk.ask(ADA)
        with pytest.raises(RateLimited):
            desk.ask(ADA)


def test_tokens_are_held_by_what_is_usual_and_corrected_to_what_was_used() -> None:
    desk = Desk(AccessLimits("project", "shop", tokens_per_minute=600))

    def use(read: int, wrote: int) -> None:
        admitted = desk.admission.admit(ADA, ROUTE, 1, 10)
        admitted.charge({"requests": 1, "input_tokens": read, "output_tokens": wrote})
        admitted.release()

    use(100, 200)
    use(100, 400)  # more than was left: the next one waits for it
    with pytest.raises(RateLimited, match="project 'shop' may use 600 tokens a minute") as caught:
        use(1, 1)
    assert (caught.value.retry_after_seconds or 0) >= 20
    desk.now_ns = 60 * SECOND_NS
    for _ in range(100):  # what is not computed costs nothing
        desk.admission.admit(ADA, ROUTE, 1, 10).release()
    use(0, 0)


def test_requests_under_way_hold_tokens() -> None:
    desk = Desk(AccessLimits("project", "shop", tokens_per_minute=600))
    for _ in range(20):
        admitted = desk.admission.admit(ADA, ROUTE, 1, 10)
        admitted.charge({"output_tokens": 200})
        admitted.release()
        desk.now_ns += 60 * SECOND_NS
    desk.begin(ADA)
    desk.begin(ADA)
    desk.begin(ADA)
    with pytest.raises(RateLimited):
        desk.begin(BOB)
    desk.under_way.close()
    desk.begin(BOB)
    desk.under_way.close()
