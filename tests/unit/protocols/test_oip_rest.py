"""The paths under /v2, through the public surface: a request in, a response out."""

from __future__ import annotations

import asyncio
import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_lane import HOLDER, KEY, FakeLane
from mofang import __version__
from mofang.sell.meter.limits import Standing, Standings
from mofang.surface.protocols.http import HttpRequest, HttpResponse
from mofang.surface.protocols.oip.rest import OipRest

DIGITS = {"id": "mine", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}


def send(
    path: str,
    body: object = None,
    *,
    method: str = "",
    lane: FakeLane | None = None,
    headers: dict[str, str] | None = None,
) -> HttpResponse:
    headers = {"authorization": KEY, **(headers or {})}
    raw = b"" if body is None else json.dumps(body).encode()
    method = method or ("GET" if body is None else "POST")
    request = HttpRequest(method, path, "", {k: v for k, v in headers.items() if v}, raw)
    return asyncio.run(OipRest(lane or FakeLane()).respond(request, "req_1"))


@pytest.mark.parametrize("path", ["/v2/models/digits/infer", "/v2/models/digits/versions/3/infer"])
def test_infer_answers_and_names_what_answered(path: str) -> None:
    lane = FakeLane()
    before = time.monotonic()
    response = send(path, DIGITS, lane=lane)
    assert response.status == 200
    assert json.loads(response.body) == {
        "model_name": "digits",
        "model_version": "3",
        "id": "mine",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [2.0, 4.0]}],
    }
    headers = dict(response.fields())
    assert headers["x-request-id"] == "req_1"
    assert (headers["mofang-version"], headers["mofang-revision"], headers["mofang-digest"]) == ("3", "7", "sha256:abc")
    request, request_id, deadline, input_bytes = lane.asked[0]
    assert (request.endpoint, request_id, input_bytes) == ("digits", "req_1", len(json.dumps(DIGITS)))
    assert before + 29 < deadline < before + 31


def test_the_deadline_is_the_callers() -> None:
    lane = FakeLane()
    before = time.monotonic()
    send("/v2/models/digits/infer", DIGITS, lane=lane, headers={"x-request-timeout-ms": "1500"})
    assert before + 1.4 < lane.asked[0][2] < before + 2.5


@pytest.mark.parametrize("bad", ["0", "-1", "1.5", "x", "9" * 1000, "3600001"])
def test_a_bad_deadline_is_refused(bad: str) -> None:
    response = send("/v2/models/digits/infer", DIGITS, headers={"x-request-timeout-ms": bad})
    assert response.status == 400
    assert "x-request-timeout-ms" in json.loads(response.body)["error"]


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_health_and_readiness_need_no_key(path: str) -> None:
    assert send(path, headers={"authorization": ""}).status == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2", None),
        ("/v2/models/digits", None),
        ("/v2/models/digits/infer", DIGITS),
        ("/v2/models/digits/ready", None),
        ("/v2/models/digits/stats", None),
        ("/v2/models/stats", None),
        ("/v2/repository/index", {}),
        ("/v2/repository/models/digits/load", {}),
        ("/v2/nothing", None),
    ],
)
@pytest.mark.parametrize(("key", "code"), [("", "key.missing"), ("Bearer bad", "key.unknown")])
def test_everything_else_needs_a_key(path: str, body: object, key: str, code: str) -> None:
    response = send(path, body, headers={"authorization": key})
    assert response.status == 401
    assert json.loads(response.body)["code"] == code
    assert dict(response.fields())["www-authenticate"].startswith("Bearer")


def test_readiness_follows_the_lane() -> None:
    lane = FakeLane()
    lane.ready = False
    assert send("/v2/health/ready", lane=lane).status == 503
    assert send("/v2/health/live", lane=lane).status == 200
    response = send("/v2/models/broken/ready", lane=lane)
    assert (response.status, json.loads(response.body)["code"]) == (503, "replica.unavailable")
    assert "crashed" in json.loads(response.body)["error"]


def test_metadata() -> None:
    assert json.loads(send("/v2").body)["version"] == __version__
    assert json.loads(send("/v2/models/digits").body) == {
        "name": "digits",
        "versions": ["3"],
        "platform": "onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }


@pytest.mark.parametrize("path", ["digits/stats", "digits/versions/3/stats", "stats"])
def test_statistics(path: str) -> None:
    lane = FakeLane()
    lane.counted.entry(lane.route(HOLDER, "digits").revision).ended(True, 0.5)
    response = send(f"/v2/models/{path}", lane=lane)
    assert response.status == 200
    entries = {entry["name"]: entry for entry in json.loads(response.body)["model_stats"]}
    assert set(entries) == (set(lane.models) if path == "stats" else {"digits"})
    assert entries["digits"]["inference_stats"]["success"] == {"count": 1, "ns": 500_000_000}


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_loading_is_refused_with_the_command_that_does_it(verb: str) -> None:
    response = send(f"/v2/repository/models/digits/{verb}", {})
    assert response.status == 409
    assert "mofang deploy" in json.loads(response.body)["hint"]


def test_repository_index() -> None:
    everything = json.loads(send("/v2/repository/index", method="POST").body)
    assert {"name": "broken", "version": "3", "state": "UNAVAILABLE", "reason": "crashed"} in everything
    ready = json.loads(send("/v2/repository/index", {"ready": True}).body)
    assert {"name": "digits", "version": "3", "state": "READY", "reason": ""} in ready
    assert len(ready) == len(everything) - 1


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v2/models/none/infer", DIGITS, 404, "endpoint.not_found"),
        ("/v2/models/digits/versions/4/infer", DIGITS, 404, "endpoint.not_found"),
        ("/v2/models/digits/versions/x/infer", DIGITS, 400, "request.malformed"),
        ("/v2/models/Digits/infer", DIGITS, 400, "name.invalid"),
        ("/v2/models/digits/infer", None, 405, "request.method"),
        ("/v2/models/digits", {}, 405, "request.method"),
        ("/v2/health/live", {}, 405, "request.method"),
        ("/v2/repository/index", [], 400, "request.malformed"),
        ("/v2/nothing", None, 404, "request.path"),
        ("/v2/models/busy/infer", DIGITS, 429, "replica.overloaded"),
        ("/v2/models/nan/infer", DIGITS, 500, "engine.not_json"),
        ("/v2/models/blob/infer", DIGITS, 500, "engine.not_json"),
        ("/v2/models/broken/infer", DIGITS, 500, "internal"),
        ("/v2/models/digits/infer", {**DIGITS, "outputs": [{"name": "z"}]}, 400, "tensor.name"),
        ("/v2/models/digits/infer", {"inputs": []}, 400, "tensor.name"),
    ],
)
def test_refusals(path: str, body: object, status: int, code: str) -> None:
    response = send(path, body)
    document = json.loads(response.body)
    assert (response.status, document["code"]) == (status, code)
    assert set(document) == {"error", "code", "hint"}
    assert "secret" not in document["error"]
    assert dict(response.fields())["x-request-id"] == "req_1"


def test_retry_after_is_told() -> None:
    assert dict(send("/v2/models/busy/infer", DIGITS).headers)["retry-after"] == "2"


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=20).filter(lambda t: t.strip("/.") != ""), st.booleans())
def test_no_path_gets_through(segment: str, escape: bool) -> None:
    name = quote(segment, safe="") if escape else "../" + segment
    for path in (f"/v2/models/{name}", f"/v2/models/digits/versions/{name}", f"/v2/{name}/../../etc"):
        response = send(path)
        assert response.status in (400, 404) or segment in (*FakeLane().models, "3")  # its version


def test_answers_and_refusals_say_where_the_caller_stands() -> None:
    rest = OipRest(
        FakeLane(),
        lambda who: Standings(Standing(600, 599, 100_000_000), Standing(90, 7, 5)) if who.key_id == "k" else None,
    )
    for endpoint, status in (("digits", 200), ("busy", 429)):
        body = json.dumps(DIGITS).encode()
        request = HttpRequest("POST", f"/v2/models/{endpoint}/infer", "", {"authorization": KEY}, body)
        response = asyncio.run(rest.respond(request, "req_1"))
        assert response.status == status
        assert [pair for pair in response.headers if pair[0].startswith("x-ratelimit")] == [
            ("x-ratelimit-limit-requests", "600"),
            ("x-ratelimit-remaining-requests", "599"),
            ("x-ratelimit-reset-requests", "0.100s"),
            ("x-ratelimit-limit-tokens", "90"),
            ("x-ratelimit-remaining-tokens", "7"),
            ("x-ratelimit-reset-tokens", "0.000s"),
        ]
    assert "x-ratelimit-limit-requests" not in dict(send("/v2/models/digits/infer", DIGITS).headers)
