"""Alerts: noted once for each threshold and month, signed, tried until they are taken, and only to public addresses."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json

import httpx
import pytest

from mofang.base.domain.errors import InvalidWebhook, WebhookFailed
from mofang.base.domain.usage import Charge
from mofang.base.identity.addresses import is_public
from mofang.base.storage.database import Database
from mofang.sell.budget.alerts import Notifier
from mofang.sell.budget.store import BudgetStore
from mofang.sell.budget.webhook import check_url, new_secret, post, resolve, retry_us
from receivers import receiver


def spend(store: BudgetStore, budget: str, amount: int, start: int = 0) -> None:
    store.lend((budget, start), {}, lambda free, out: {"g": amount})
    store.settle("g", [Charge(budget, start, amount)])


def test_a_threshold_is_noted_once_a_month_with_what_was_spent(database: Database) -> None:
    store = BudgetStore(database)
    budget = store.put("tenant", "acme", "EUR", "total", 1000).id
    for percent in (50, 80, 100):
        store.set_alert(budget, percent, "https://example.org/hook", new_secret())
    spend(store, budget, 499)
    assert store.due_notices(2**60) == []
    spend(store, budget, 400)
    spend(store, budget, 50)
    assert [(each.percent, each.spent) for each in store.due_notices(2**60)] == [(50, 899), (80, 899)]
    spend(store, budget, 51)
    assert [each.percent for each in store.due_notices(2**60)] == [50, 80, 100]
    store.remove_alerts(budget)
    assert store.due_notices(2**60) == []


def test_a_notice_is_signed_and_tried_until_it_is_taken(database: Database) -> None:
    store = BudgetStore(database)
    budget = store.put("project", "shop", "requests", "total", 10).id
    secret = new_secret()

    async def deliver() -> None:
        notifier = Notifier(store, internal=True)
        for _ in range(4):
            await asyncio.gather(*(notifier.deliver(notice) for notice in store.due_notices(2**60)))

    with receiver(500, 302, 204) as (url, taken):
        store.set_alert(budget, 80, url, secret)
        spend(store, budget, 8)
        asyncio.run(deliver())
    assert len(taken) == 3
    assert len({headers["webhook-id"] for headers, _ in taken}) == 1  # so that receivers can tell a repetition
    headers, body = taken[-1]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    told = json.loads(body)
    assert told["type"] == "budget.threshold"
    assert (told["data"]["budget"], told["data"]["percent"], told["data"]["spent"]) == (budget, 80, 8)
    assert [retry_us(attempt) // 10**6 for attempt in (1, 2, 6, 99)] == [5, 30, 3600, 3600]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe",
        "2002:7f00:1::", "64:ff9b::a9fe:a9fe", "ff02::1",
    ],
)  # fmt: skip
def test_what_is_not_on_the_open_internet_is_not_asked(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_what_is_on_the_open_internet_is(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_names_and_numbers_of_this_machine_are_refused_however_they_are_written(host: str) -> None:
    with receiver(204) as (url, taken):
        port = url.rpartition(":")[2]
        with pytest.raises(WebhookFailed):
            asyncio.run(post(f"http://{host}:{port}", new_secret(), "ntc_1", 1, b"{}", internal=False))
        assert taken == []


def test_a_name_is_resolved_here_and_asked_by_number() -> None:
    assert asyncio.run(resolve(httpx.URL("http://localhost/"), internal=True)) in ("127.0.0.1", "::1")
    with pytest.raises(WebhookFailed, match="cannot be resolved"):
        asyncio.run(resolve(httpx.URL("http://nowhere.invalid/"), internal=True))


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/", "https://", "http://a:b@x.org/", "x"])
def test_what_is_no_url_of_a_webhook_is_refused(url: str) -> None:
    with pytest.raises(InvalidWebhook):
        check_url(url)
