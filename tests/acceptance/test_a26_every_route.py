"""A26: every route of every protocol refuses who has no key, but for a named few; a role gets what it may and no more.

The control API's routes come from the server's own description, those of gRPC from its descriptors, those of inference
over REST from the reference. The matrix of roles over the routes of the control API, in full, is in the quick tests
(``tests/unit/api/test_api_access.py``); here each role asks through a real gateway.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import grpc
import httpx
import pytest
from nets import scaled
from tritonclient.grpc import service_pb2 as pb
from wires import Refusal, call, request, talk

from mofang.base.domain.access import PERMISSIONS, Role
from mofang.surface.wire import health_pb2, inference_pb2, reflection_pb2
from servers import Server

PUBLIC_HTTP = {
    ("GET", "/healthz"),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
    ("POST", "/api/v1/sign-in"),
    ("POST", "/api/v1/sign-in/code"),
    ("POST", "/api/v1/sign-in/oidc"),
    ("POST", "/api/v1/sign-in/oidc/finish"),
}
PUBLIC_GRPC = {
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
}
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
WRONG = "Bearer mf_AAAAAAAAAA_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBCCCCCC"
HOSTS = ("a b", "[::1", "x/../..", "evil@localhost", "localhost:x", "a:b:c", "?", "#", "a\tb", "", "\x00", "é", "a,b")


@pytest.fixture(scope="module")
def serving(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    server.serve("scale", scaled(tmp_path_factory.mktemp("model"), 2))
    return server


def documented() -> Iterator[tuple[str, str]]:
    """Every path of inference over REST, as the reference names it."""
    page = (Path(__file__).parents[2] / "docs/reference/protocols.md").read_text()
    for method, path in re.findall(r"`(GET|POST) (/v[12][^`]*)`", page):
        for each in (path.replace("[/versions/V]", ""), path.replace("[/versions/V]", "/versions/1")):
            yield method, re.sub(r"\bM\b|NAME", "scale", each)
    yield "POST", "/v2/repository/models/scale/unload"


def control(server: Server) -> Iterator[tuple[str, str]]:
    """Every route of the control API, as the server describes it."""
    headers = {"authorization": f"Bearer {server.key}"}
    document = httpx.get(f"{server.url}/api/v1/openapi.json", headers=headers).json()
    for path, methods in document["paths"].items():
        for method in methods:
            yield method.upper(), re.sub(r"\{\w+\}", "a-name", path)


def calls() -> Iterator[tuple[str, bool]]:
    """Every call over gRPC, and whether it is a stream of answers."""
    for module in (inference_pb2, health_pb2, reflection_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}", method.server_streaming


def test_over_http_nobody_gets_in_without_a_key(serving: Server) -> None:
    routes = {*documented(), *control(serving), ("GET", "/metrics"), ("GET", "/healthz")}
    assert len(routes) > 70
    assert routes >= PUBLIC_HTTP
    unknown = {(method, path) for method in ("GET", "POST") for path in
               ("/", "/docs", "/redoc", "/openapi.json", "/api", "/api/v1/nothing", "/v2/nothing", "/v1/nothing",
                "/console", "/favicon.ico", "/debug", "/metrics/", "/admin")}  # fmt: skip
    with httpx.Client(base_url=serving.url) as client:
        for method, path in sorted(routes | unknown):
            for key in (None, WRONG, "Basic YTpi", "Bearer", serving.key):
                answer = client.request(method, path, headers={"authorization": key} if key is not None else {})
                if (method, path) in PUBLIC_HTTP:
                    assert answer.status_code != 401 or path.startswith("/api/v1/sign-in"), (method, path)
                    continue
                assert answer.status_code == 401, (method, path, key, answer.text)
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert "scale" not in answer.text, "who has no key does not learn what there is"
        assert client.request("PUT", "/healthz/../api/v1/keys").status_code in (400, 401)


def test_over_grpc_nobody_gets_in_without_a_key(serving: Server) -> None:
    found = dict(calls())
    assert found.keys() >= PUBLIC_GRPC
    assert len(found) > 12
    with grpc.insecure_channel(serving.grpc) as channel:
        for name, streams in found.items():
            ask = (channel.stream_stream if streams and "Watch" not in name else channel.unary_stream)(name)
            if not streams:
                ask = channel.unary_unary(name)
            message: object = iter([b""]) if streams and "Watch" not in name else b""
            for metadata in ((), (("authorization", WRONG),)):
                status = _status(ask, message, metadata)
                expected = ("OK",) if name in PUBLIC_GRPC else ("UNAUTHENTICATED",)
                assert status in expected, (name, status)


def _status(ask: object, message: object, metadata: object) -> str:
    try:
        answer = ask(message, metadata=metadata, timeout=10)  # type: ignore[operator]
        if hasattr(answer, "cancel"):
            next(answer)
            answer.cancel()
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


@pytest.mark.parametrize("path", ["/v2/models/scale", "/v2/health/live", "/api/v1/keys", "/api/v1/sign-in", "/metrics"])
def test_a_malformed_host_opens_nothing(serving: Server, path: str) -> None:
    for host in HOSTS:
        head = request(path).replace(b"Host: localhost", f"Host: {host}".encode("utf-8", "surrogateescape"))
        answer = talk(serving, head)
        assert answer.status == 400, (host, answer.status, answer.body)
        assert answer.code == "request.malformed"
    assert talk(serving, request(path).replace(b"Host: localhost", b"Host: evil.example")).status in (200, 401, 405)


def test_a_role_asks_and_looks_as_far_as_it_may(serving: Server) -> None:
    for role in get_args(Role):
        key = serving.client.identity.create_key("default", role=role).key
        headers, may = {"authorization": f"Bearer {key}"}, PERMISSIONS[role]
        looks = bool(may & {"infer", "read"})
        for method, path, allowed in (
            ("POST", "/v2/models/scale/infer", "infer" in may),
            ("GET", "/v2/models/scale", looks),
            ("GET", "/v2/models/scale/ready", looks),
            ("GET", "/v2/models/stats", looks),
            ("POST", "/v2/repository/index", looks),
            ("GET", "/v1/models", looks),
            ("GET", "/api/v1/endpoints", "read" in may),
            ("GET", "/api/v1/whoami", True),
            ("GET", "/metrics", False),  # the platform's, and these keys reach a project
        ):
            body = BODY if path.endswith("infer") else None
            answer = httpx.request(method, serving.url + path, json=body, headers=headers)
            assert answer.status_code == (200 if allowed else 403), (role, path, answer.text)
        told = call(
            serving, "ModelMetadata", pb.ModelMetadataRequest(name="scale").SerializeToString(), *headers.items()
        )
        assert isinstance(told, Refusal) is not looks, role
