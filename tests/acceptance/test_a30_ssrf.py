"""A30: whatever address somebody hands to the server, it asks nothing on its own machine, network or disk for her.

A canary listens on this machine; every place that takes a URL from a customer is given all the ways to write the
canary's, and it hears nothing. The places: webhooks of budgets, sources of recipes, contents of conversations.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from nets import scaled

from mofang import Client
from mofang.base.domain.errors import (
    DatasetUnavailable,
    InvalidDataset,
    InvalidRecipe,
    InvalidWebhook,
    MofangError,
    SourceForbidden,
    WebhookFailed,
)
from mofang.sell.budget.webhook import new_secret, post
from receivers import receiver
from servers import Server, wait_until

HOSTS = (
    "127.0.0.1", "localhost", "LOCALHOST.", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "0",
    "0.0.0.0", "127.0.0.1.", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[2002:7f00:1::]",
    "[64:ff9b::7f00:1]",
)  # fmt: skip
NEIGHBOURS = ("169.254.169.254", "[fd00:ec2::254]", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "[fe80::1]")
NO_URLS = ("file:///etc/passwd", "gopher://127.0.0.1:70/_x", "ftp://127.0.0.1/", "dict://127.0.0.1:11211/",
           "http://user:secret@127.0.0.1/", "http:///x", "//127.0.0.1/", "javascript:0", "unix:///run/x")  # fmt: skip
Canary = tuple[int, list[tuple[dict[str, str], bytes]]]


@pytest.fixture(scope="module")
def canary() -> Iterator[Canary]:
    """A web server on this machine: its port, and what it was asked."""
    with receiver(204) as (url, taken):
        yield int(url.split(":")[2].split("/")[0]), taken


@pytest.fixture(scope="module")
def tenant(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A customer who looks after her own tenant."""
    server.serve("scale", scaled(tmp_path_factory.mktemp("model"), 2))
    server.client.identity.create_tenant("acme")
    server.client.identity.create_project("shop", "acme")
    key = server.client.identity.create_key("shop", role="admin", reach="tenant").key
    with Client(server.url, key, grpc=server.grpc) as client:
        yield client


def test_a_webhook_reaches_nothing_inside(server: Server, tenant: Client, canary: Canary) -> None:
    port, taken = canary
    urls = [f"http://{host}:{port}/hook" for host in HOSTS] + [f"http://{host}/latest/meta-data" for host in NEIGHBOURS]
    budget = tenant.budget.set("project", "shop", len(urls), "requests")
    refused = 0
    for percent, url in enumerate(urls, 1):
        try:
            tenant.budget.set_alert(budget.id, percent, url)
        except InvalidWebhook:
            refused += 1
    for _ in urls:
        tenant.serve.predict("scale", {"x": np.ones((1, 4), np.float32)})
    log = server.data / "logs" / "controller.log"
    wait_until(lambda: log.read_text().count("attempt 1:") >= len(urls) - refused, 60, "every notice was tried")
    assert "is not on the open Internet" in log.read_text()
    assert taken == []


@pytest.mark.parametrize("url", NO_URLS)
def test_what_is_no_url_of_a_webhook_is_refused_at_once(tenant: Client, url: str) -> None:
    budget = tenant.budget.set("project", "shop", 1000, "rows")
    with pytest.raises(InvalidWebhook):
        tenant.budget.set_alert(budget.id, 50, url)


KINDS = ("", "csv:", "parquet:", "jsonl:", "arff:", "npz:", "idx:", "folder:")


def recipe(source: str) -> str:
    return f'name = "x"\n[prepare]\nsource = {source!r}\n[train]\nalgorithm = "logistic_regression"\n'


def test_a_recipe_of_a_customer_reads_no_file(tenant: Client) -> None:
    places = ["/etc/passwd", "//localhost/x", "file:///etc/passwd"]
    codes = set()
    for source in (kind + place for place in places for kind in KINDS):
        with pytest.raises(MofangError) as caught:
            tenant.train.run(recipe(source))
        codes.add(caught.value.code)
    assert codes <= {SourceForbidden.code, InvalidRecipe.code}
    assert SourceForbidden.code in codes


@pytest.mark.parametrize("whose", ["a customer's", "the owner's"])
def test_a_recipe_fetches_nothing_from_inside(server: Server, tenant: Client, canary: Canary, whose: str) -> None:
    port, taken = canary
    client = tenant if whose == "a customer's" else server.client
    places = [f"http://{host}:{port}/rows.csv" for host in HOSTS[::4]] + [f"http://{NEIGHBOURS[0]}/latest/meta-data"]
    for job in [client.train.run(recipe(place)).id for place in places]:
        with pytest.raises((DatasetUnavailable, InvalidDataset)):
            client.jobs.wait(job, timeout_seconds=60)
    with pytest.raises(MofangError):  # a URL is no path of another kind either
        tenant.train.run(recipe(f"csv:http://127.0.0.1:{port}/rows.csv"))
    assert taken == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
def test_a_conversation_fetches_nothing(server: Server, canary: Canary, path: str) -> None:
    port, taken = canary
    url = f"http://127.0.0.1:{port}/cat.png"
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "input_image", "image_url": url},
        {"type": "image", "source": {"type": "url", "url": url}},
        {"type": "input_audio", "input_audio": {"url": url}},
        {"type": "file", "file": {"file_url": url}},
    ]
    for part in parts:
        messages = [{"role": "user", "content": [part]}]
        body = {"model": "scale", "max_tokens": 4, "messages": messages, "input": messages}
        answer = httpx.post(server.url + path, json=body, headers={"authorization": f"Bearer {server.key}"})
        assert answer.status_code == 400, (part, answer.text)
    assert taken == []


def test_a_redirect_is_not_followed(canary: Canary) -> None:
    _, taken = canary
    with receiver(302) as (url, asked), pytest.raises(WebhookFailed, match="answered 302"):
        asyncio.run(post(url, new_secret(), "ntc_1", 1, b"{}", internal=True))
    assert len(asked) == 1
    assert taken == []


def test_a_name_that_leads_elsewhere_the_second_time_leads_nowhere(canary: Canary) -> None:
    """Rebinding: a name of the attacker's resolves to a good address when it is checked, and then to one inside."""
    port, taken = canary
    asked: list[str] = []

    async def deliver() -> None:
        loop = asyncio.get_running_loop()
        resolve = loop.getaddrinfo

        async def rebinding(host: Any, *arguments: Any, **options: Any) -> Any:
            if host != "rebinding.example":
                return await resolve(host, *arguments, **options)
            asked.append(host)
            address = "192.0.2.1" if len(asked) == 1 else "127.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        loop.getaddrinfo = rebinding  # type: ignore[method-assign]
        async with asyncio.timeout(2):  # what is not there does not answer
            await post(f"http://rebinding.example:{port}/", new_secret(), "ntc_1", 1, b"{}", internal=True)

    with pytest.raises((WebhookFailed, TimeoutError)):
        asyncio.run(deliver())
    assert asked == ["rebinding.example"], "it is resolved once, and asked by the number that was checked"
    assert taken == []


def test_the_canary_would_have_been_heard(canary: Canary) -> None:
    port, taken = canary
    asyncio.run(post(f"http://127.0.0.1:{port}/", new_secret(), "ntc_1", 1, b"{}", internal=True))
    assert len(taken) == 1
    assert Path("/etc/passwd").exists()
