"""A22: a budget for ten requests lets through ten of a hundred, however many gateways answer; and what is left of it
is found wherever it lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from nets import scaled

from mofang import Client
from mofang.base.domain.errors import BudgetExhausted, MofangError, QuotaExhausted
from mofang.surface.sdk.budget import BudgetState
from servers import Server, wait_until

X = np.ones((1, 4), np.float32)
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
PRICES = """
currency = "EUR"
[[price]]
meter = "requests"
per = 1
amount = "0.25"
[[price]]
meter = "compute_us"
per = 1000000
amount = "1.00"
"""


@pytest.fixture(scope="module", params=["1", "2"], ids=["one gateway", "two gateways"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"), "--gateways", request.param)
    running.serve("scale", scaled(tmp_path_factory.mktemp("models"), 2))
    yield running
    running.close()


def asked_at_once(server: Server, key: str, count: int) -> Counter[str]:
    """Send ``count`` requests side by side, each on a connection of its own: any gateway may get it."""

    def ask(number: int) -> str:
        with Client(server.url, key, grpc=server.grpc) as client:
            try:
                client.serve.predict("scale", {"x": X}, protocol="grpc" if number % 10 == 0 else "rest")
            except MofangError as error:
                return error.code
        return "ok"

    with ThreadPoolExecutor(20) as pool:
        return Counter(pool.map(ask, range(count)))


def state(server: Server, budget: str) -> BudgetState:
    return next(each for each in server.client.budget.list() if each.id == budget)


def test_a22_a_hundred_requests_on_a_quota_of_ten(server: Server) -> None:
    server.client.identity.create_project("ten")
    key = server.client.identity.create_key("ten").key
    quota = server.client.budget.set("project", "ten", 10, "requests")
    assert asked_at_once(server, key, 100) == {"ok": 10, "budget.quota": 90}
    assert state(server, quota.id).spent == 10
    assert _requests(server, "ten") == 10
    server.client.budget.set("project", "ten", 13, "requests")
    assert asked_at_once(server, key, 20) == {"ok": 3, "budget.quota": 17}
    wait_until(lambda: state(server, quota.id).lent == 0, 10)


def test_a22_spend_never_exceeds_a_budget_in_money(server: Server) -> None:
    prices = server.data / "prices.toml"
    prices.write_text(PRICES)
    server.client.bill.set_prices(prices)
    server.client.identity.create_tenant("payer")
    server.client.identity.create_project("paid", "payer")
    key = server.client.identity.create_key("paid").key
    budget = server.client.budget.set("tenant", "payer", 2_600_000, "EUR", period="total")
    outcome = asked_at_once(server, key, 60)
    assert set(outcome) == {"ok", "budget.exhausted"}
    assert 9 <= outcome["ok"] <= 10  # compute time has its price too
    spent = state(server, budget.id).spent
    assert 250_000 * outcome["ok"] < spent <= 2_600_000
    rows = server.client.meter.usage(["tenant"], project="paid").items
    compute = rows[0].quantities["compute_us"]
    assert 0 <= spent - (250_000 * outcome["ok"] + compute) <= 2  # rounded up once for each gateway

    web = httpx.post(f"{server.url}/v2/models/scale/infer", json=BODY, headers={"authorization": f"Bearer {key}"})
    assert (web.status_code, web.json()["code"]) == (402, "budget.exhausted")
    with Client(server.url, key, grpc=server.grpc) as client, pytest.raises(BudgetExhausted, match=r"2\.60 EUR in all"):
        client.serve.predict("scale", {"x": X}, protocol="grpc")
    assert server.client.budget.top_up(budget.id, 1_000_000).amount == 3_600_000
    assert asked_at_once(server, key, 2) == {"ok": 2}


def test_a_budget_of_another_currency_pays_for_nothing(server: Server) -> None:
    key = server.client.identity.create_key("default")
    made = server.client.budget.set("key", key.id, 10**9, "USD")
    assert asked_at_once(server, key.key, 1) == {"budget.currency": 1}
    server.client.budget.remove(made.id)
    assert asked_at_once(server, key.key, 1) == {"ok": 1}


def test_the_tightest_of_several_budgets_decides(server: Server) -> None:
    server.client.identity.create_project("both")
    key = server.client.identity.create_key("both")
    server.client.budget.set("project", "both", 7, "rows")
    server.client.budget.set("key", key.id, 100, "requests", period="total")
    with Client(server.url, key.key, grpc=server.grpc) as client:
        client.serve.predict("scale", {"x": np.ones((4, 4), np.float32)})
        with pytest.raises(QuotaExhausted, match="project 'both', 7 rows a month is used up") as caught:
            client.serve.predict("scale", {"x": np.ones((4, 4), np.float32)})
        assert (caught.value.retry_after_seconds or 0) > 0
        client.serve.predict("scale", {"x": np.ones((3, 4), np.float32)})
    rows = {each.unit: each.spent for each in server.client.budget.list() if each.name in ("both", key.id)}
    assert rows == {"rows": 7, "requests": 2}


def _requests(server: Server, project: str) -> int:
    return server.client.meter.usage(["project"], project=project).items[0].quantities["requests"]
