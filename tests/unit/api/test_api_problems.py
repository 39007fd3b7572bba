"""Whatever goes wrong is a problem document with a code, a sentence and no inside of ours."""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import TYPE_CHECKING

import httpx
import pytest

from mofang.surface.api.app import create_app
from platforms import House, serving

if TYPE_CHECKING:
    from conftest import Ask


def check(answer: httpx.Response, status: int, code: str) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"].startswith("req_")
    body = answer.json()
    assert set(body) == {"type", "title", "status", "code", "detail", "hint"}
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code), body
    return str(body["detail"])


def test_an_unknown_path_and_a_wrong_method(admin: httpx.Client) -> None:
    assert "'/api/v1/nowhere'" in check(admin.get("/nowhere"), 404, "request.path")
    check(admin.get("/projects/"), 404, "request.path")
    answer = admin.patch("/projects")
    check(answer, 405, "request.method")
    assert answer.headers["allow"]


UNREADABLE = (
    (b"{", "the body is no JSON"),
    (b"", "the body"),
    (b"[1]", "the body"),
    (b'{"name": 7}', "field 'name': input should be a valid string"),
    (b'{"name": "a", "extra": 1}', "field 'extra': extra inputs"),
    (b"{}", "field 'name': field required"),
    (b"[" * 100_000, "cannot be read"),
    (b'{"name": ' + b"1" * 100_000 + b"}", "cannot be read"),
    (b"\xff\xfe", "body"),
)


def test_a_body_that_cannot_be_read(admin: httpx.Client) -> None:
    for body, said in UNREADABLE:
        answer = admin.post("/tenants", content=body, headers={"content-type": "application/json"})
        assert said in check(answer, 400, "request.malformed")


def test_a_text_that_no_database_takes(admin: httpx.Client) -> None:
    headers = {"content-type": "application/json"}
    for letter in ("\\u0000", "\\ud800"):
        for path, body in (("/runs", '{"recipe": "%s"}'), ("/keys", '{"project": "default", "name": "%s"}')):
            check(admin.post(path, content=body % letter, headers=headers), 400, "request.malformed")
        check(admin.post("/tenants", content=f'{{"name": "{letter}"}}', headers=headers), 400, "name.invalid")


def test_a_value_is_not_echoed(admin: httpx.Client) -> None:
    answer = admin.post("/keys", json={"project": "default", "expires_in_seconds": "mf_secret"})
    assert "mf_secret" not in answer.text
    assert "expires_in_seconds" in check(answer, 400, "request.malformed")


def test_a_body_without_the_json_type_is_refused(admin: httpx.Client) -> None:
    answer = admin.post("/tenants", content=b'{"name": "a"}', headers={"content-type": "text/plain"})
    check(answer, 400, "request.malformed")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_body_over_the_limit(house: House, remote: httpx.Client, streamed: bool) -> None:
    size = house.platform.body_limit_bytes + 1
    body = iter([b"x" * size]) if streamed else b"x" * size
    check(remote.post("/runs", content=body, headers={"content-type": "application/json"}), 413, "request.too_large")


def test_parameters_out_of_bounds(admin: httpx.Client) -> None:
    for path in (
        "/models?limit=0",
        "/models?limit=1001",
        "/models?limit=x",
        "/audit?after=-1",
        "/audit?after=99999999999999999999999",
        "/jobs/job_1?wait=31",
        "/jobs/job_1?wait=nan",
        "/jobs/job_1?wait=-1",
        "/usage?from=1e99",
        "/usage?by=a,,b",
    ):
        check(admin.get(path), 400, "request.malformed")
    check(admin.get("/usage?by=secret"), 400, "request.malformed")
    check(admin.get("/usage?from=1&to=2"), 400, "period.invalid")
    check(admin.get("/models/UPPER"), 400, "name.invalid")


@pytest.mark.parametrize("path", ["../a", "/etc/passwd", "a/../b", "a\\b", "./a", "a//b", "a\nb", "model.onnx/a"])
def test_a_path_out_of_the_artifact_does_not_become_a_job(house: House, admin: httpx.Client, path: str) -> None:
    files = [{"path": name, "sha256": "0" * 64, "size_bytes": 1} for name in ("model.onnx", path)]
    check(admin.post("/models/digits/versions", json={"files": files}), 400, "path.invalid")
    assert house.platform.jobs.list() == []


def test_a_crash_of_ours_tells_the_request_and_nothing_else(house: House, caplog: pytest.LogCaptureFixture) -> None:
    def crash(endpoint: str) -> list[dict[str, str]]:
        raise RuntimeError("the inside of ours")

    version = house.version()
    house.platform.deployments.deploy("digits", version)
    app = create_app(dataclasses.replace(house.platform, replicas=crash))
    headers = {"authorization": f"Bearer {house.admin_key}"}
    with serving(app) as url, caplog.at_level(logging.ERROR, "mofang.api"):
        answer = httpx.get(f"{url}/api/v1/endpoints/digits", headers=headers)
    said = check(answer, 500, "internal")
    assert "inside" not in answer.text
    assert "Traceback" not in answer.text
    request_id = answer.headers["x-request-id"]
    assert request_id in said
    (record,) = [record for record in caplog.records if record.name == "mofang.api"]
    assert request_id in record.getMessage()
    assert record.exc_info


def test_the_request_id_of_the_gateway_is_kept_and_another_is_not(house: House, ask: Ask) -> None:
    ours = "req_" + "0123456789abcdefghjkmnpqrs"
    anonymous = ask("")
    assert anonymous.get("/status", headers={"x-request-id": ours}).headers["x-request-id"] == ours
    assert anonymous.get("/status", headers={"x-request-id": "req_x'"}).headers["x-request-id"] != "req_x'"


def test_answers_are_neither_cached_nor_sniffed(admin: httpx.Client) -> None:
    answer = admin.get("/status")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert json.loads(answer.content)["version"] == "0.1.0"
