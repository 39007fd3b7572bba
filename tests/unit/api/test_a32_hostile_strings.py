"""A32: traversal and injection in every path, query and body field: 4xx, never 5xx, and a canary stays unread."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from platforms import House

CANARY = "canary-that-nobody-reads"
NASTY = (
    "..", ".", "../../canary", "..%2f..%2fcanary", "%2e%2e/canary", "/etc/passwd", "file:///etc/passwd", "a/../b",
    "a\\..\\b", "'", "' OR 1=1 --", '"; DROP TABLE api_keys; --', "1; SELECT 1", "%", "_", "*", "a'--", "{{7*7}}",
    "${7*7}", "$(id)", "`id`", "\0", "a\0b", "\n", "a\r\nx-evil: 1", "\u202e", "\ufeff", "é", "ａ", "💥", "\ud800",
    "a" * 64, "a" * 5000, "-", "_a", "a-", "a..b", "A", " ", "", "@", "a@", "@1", "a@b@c", "a@..", "0", "-1", "007",
    "1e9", "NaN", "inf", "9" * 40, "0x10", "null", "true", "[]", "{}", "<script>alert(1)</script>", "a?b=c", "a#b",
    "a;b", "a&b=c", "sha256:" + "f" * 64, "latest", "newest",
)  # fmt: skip
hostile = st.one_of(
    st.sampled_from(NASTY),
    st.text(max_size=40),
    st.builds(
        "{}{}{}".format, st.sampled_from(NASTY), st.sampled_from(["/", "\\", "@", ":", ""]), st.sampled_from(NASTY)
    ),
    st.text(alphabet="a1@.-_/'\"%\0", max_size=12),
)


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    queries: tuple[str, ...]
    fields: tuple[str, ...]


def operations(document: dict[str, Any]) -> list[Operation]:
    found = []
    for path, methods in document["paths"].items():
        for method, one in methods.items():
            queries = tuple(p["name"] for p in one.get("parameters", ()) if p["in"] == "query" and p["name"] != "wait")
            content = one.get("requestBody", {}).get("content", {})
            reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
            schema = document["components"]["schemas"].get(reference.rsplit("/", 1)[-1], {})
            found.append(Operation(method.upper(), path, queries, tuple(schema.get("properties", ()))))
    return found


def test_hostile_strings_everywhere(house: House, remote: httpx.Client) -> None:
    (house.platform.uploads.parent / "canary").write_text(CANARY)
    house.version()
    keys = house.platform.identity.list_keys()
    known = [one for one in operations(remote.get("/openapi.json").json()) if one.path != "/api/v1/uploads"]
    assert sum("{" in one.path for one in known) > 15
    root = str(remote.base_url).removesuffix("/api/v1/")

    def encoded(text: str) -> str:
        return quote(text, safe="", errors="surrogatepass")

    @settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.sampled_from(known), st.data())
    def ask(operation: Operation, data: st.DataObject) -> None:
        path = re.sub(r"\{\w+\}", lambda _: encoded(data.draw(hostile)), operation.path)
        query = "&".join(f"{name}={encoded(data.draw(hostile))}" for name in operation.queries)
        values = st.one_of(hostile, st.integers(), st.none(), st.lists(hostile, max_size=3))
        body = json.dumps({name: data.draw(values) for name in operation.fields})
        headers = {"content-type": "application/json"} if operation.fields else {}
        content = body if operation.fields else None
        answer = remote.request(operation.method, f"{root}{path}?{query}", content=content, headers=headers)
        assert answer.status_code < 500, (operation, path, query, body, answer.text)
        assert answer.headers["content-type"] in ("application/json", "application/problem+json") or not answer.content
        assert "x-evil" not in answer.headers
        assert CANARY not in answer.text

    ask()
    now = house.platform.identity.list_keys()
    assert [key.id for key in now[: len(keys)]] == [key.id for key in keys]
    assert house.platform.audit.verify().records == len(house.platform.audit.list(limit=10_000))
