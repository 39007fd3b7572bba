"""A26: every route of every protocol refuses who has no key, but for a named few; a role gets what it may and no more.

The control API's routes, and what each needs, come from the description of the server that runs; those of gRPC from its
descriptors; those of inference over REST from the code that takes them apart. Every one is asked through a real
gateway, by every role and by nobody, and answers with one status that is known before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, get_args

import grpc
import httpx
import pytest
from google.protobuf.message import Message
from nets import scaled
from tritonclient.grpc import service_pb2 as pb
from wires import Refusal, call, request, talk

from mofang.base.domain.access import PERMISSIONS, Permission, Reach, Role
from mofang.surface.wire import health_pb2, inference_pb2, reflection_pb2
from paths import paths_in_code
from servers import Server

PUBLIC_HTTP = {
    ("GET", "/healthz"): 200,
    ("GET", "/v2/health/live"): 200,
    ("GET", "/v2/health/ready"): 200,
    ("POST", "/api/v1/sign-in"): 400,  # no body
    ("POST", "/api/v1/sign-in/code"): 400,
    ("POST", "/api/v1/sign-in/oidc"): 400,
    ("POST", "/api/v1/sign-in/oidc/finish"): 400,
}
"""All that needs no key, and what it answers to a request that says nothing."""
Need = Literal["infer", "look", "any"]
INFERENCE: dict[str, tuple[str, Need, int]] = {
    "/v2": ("GET", "any", 200),
    "/v2/models/M": ("GET", "look", 200),
    "/v2/models/M/ready": ("GET", "look", 200),
    "/v2/models/M/stats": ("GET", "look", 200),
    "/v2/models/M/infer": ("POST", "infer", 200),
    "/v2/models/M/generate": ("POST", "infer", 400),  # it is no language model
    "/v2/models/M/generate_stream": ("POST", "infer", 400),
    "/v2/models/stats": ("GET", "look", 200),
    "/v2/repository/index": ("POST", "look", 200),
    "/v2/repository/models/M/load": ("POST", "any", 409),  # deploying is loading
    "/v2/repository/models/M/unload": ("POST", "any", 409),
    "/v2/systemsharedmemory/status": ("GET", "any", 400),  # it is not switched on
    "/v2/systemsharedmemory/region/M/status": ("GET", "any", 400),
    "/v2/systemsharedmemory/region/M/register": ("POST", "any", 400),
    "/v2/systemsharedmemory/region/M/unregister": ("POST", "any", 400),
    "/v2/systemsharedmemory/unregister": ("POST", "any", 400),
    "/v1/models": ("GET", "look", 200),
    "/v1/models/M": ("GET", "look", 200),
    "/v1/chat/completions": ("POST", "infer", 400),
    "/v1/completions": ("POST", "infer", 400),
    "/v1/responses": ("POST", "infer", 400),
    "/v1/messages": ("POST", "infer", 400),
    "/v1/embeddings": ("POST", "infer", 400),
    "/v1/rerank": ("POST", "infer", 400),
    "/v1/moderations": ("POST", "infer", 400),
    "/v1/audio/transcriptions": ("POST", "infer", 400),
    "/v1/audio/translations": ("POST", "infer", 400),
}
"""Every path of inference (M: a model of numbers), what a role needs to get through, and what those get who do."""
PUBLIC_GRPC = {
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
}
ASKS = {
    "/api/v1/audit/inclusion",
    "/api/v1/audit/consistency",
    "/api/v1/usage/focus",
    "/api/v1/versions",
}  # GET, and nothing to answer without a question
OF_TENANTS = {
    "/api/v1/usage/reconciliation": (403, "key.reach"),
    "/api/v1/invoices": (404, ""),  # a project's keys see none
}
"""For who reaches a tenant at least, and what others get."""
UNSET = {"/api/v1/prices/current"}  # nothing was published
CALLS: dict[str, tuple[Message, Need, str]] = {
    "ServerLive": (pb.ServerLiveRequest(), "any", "OK"),
    "ServerReady": (pb.ServerReadyRequest(), "any", "OK"),
    "ServerMetadata": (pb.ServerMetadataRequest(), "any", "OK"),
    "ModelReady": (pb.ModelReadyRequest(name="scale"), "look", "OK"),
    "ModelMetadata": (pb.ModelMetadataRequest(name="scale"), "look", "OK"),
    "ModelStatistics": (pb.ModelStatisticsRequest(name="scale"), "look", "OK"),
    "RepositoryIndex": (pb.RepositoryIndexRequest(), "look", "OK"),
    "RepositoryModelLoad": (pb.RepositoryModelLoadRequest(model_name="scale"), "any", "FAILED_PRECONDITION"),
    "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest(model_name="scale"), "any", "FAILED_PRECONDITION"),
    "ModelInfer": (pb.ModelInferRequest(model_name="scale"), "infer", "INVALID_ARGUMENT"),  # nothing to infer from
}
"""Every call of one answer, what a role needs to get through, and how it ends for those who do."""
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
WRONG = "Bearer mf_AAAAAAAAAA_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBCCCCCC"
HOSTS = ("a b", "[::1", "x/../..", "evil@localhost", "localhost:x", "a:b:c", "?", "#", "a\tb", "", "\x00", "é", "a,b")


@pytest.fixture(scope="module")
def serving(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    server.serve("scale", scaled(tmp_path_factory.mktemp("model"), 2))
    return server


def inference() -> Iterator[tuple[str, str, Need, int]]:
    """Every path of inference over REST, with and without a version where it may have one."""
    for path, (method, need, status) in INFERENCE.items():
        yield method, path.replace("/M", "/scale"), need, status
        if path.startswith("/v2/models/M"):
            yield method, path.replace("/M", "/scale/versions/1"), need, status


def control(server: Server) -> Iterator[tuple[str, str, Permission | None, bool]]:
    """Every route of the control API, as the server describes it: its permission, and whether it is the platform's."""
    headers = {"authorization": f"Bearer {server.key}"}
    document = httpx.get(f"{server.url}/api/v1/openapi.json", headers=headers).json()
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            needed = told.get("x-mofang-permission")
            yield method.upper(), re.sub(r"\{\w+\}", "a-name", path), needed, told.get("x-mofang-reach") == "platform"
    yield "GET", "/metrics", "operate", True


def calls() -> Iterator[tuple[str, bool]]:
    """Every call over gRPC, and whether it is a stream of answers."""
    for module in (inference_pb2, health_pb2, reflection_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}", method.server_streaming


def test_over_http_nobody_gets_in_without_a_key(serving: Server) -> None:
    routes = {(method, path) for method, path, *_ in (*inference(), *control(serving))} | PUBLIC_HTTP.keys()
    assert len(routes) > 120
    assert {path for _, path, needed, _ in control(serving) if needed is None} < {path for _, path in PUBLIC_HTTP}
    unknown = {(method, path) for method in ("GET", "POST") for path in
               ("/", "/docs", "/redoc", "/openapi.json", "/api", "/api/v1/nothing", "/v2/nothing", "/v1/nothing",
                "/console", "/favicon.ico", "/debug", "/metrics/", "/admin")}  # fmt: skip
    with httpx.Client(base_url=serving.url) as client:
        for method, path in sorted(routes | unknown):
            for key in (None, WRONG, "Basic YTpi", "Bearer", serving.key):
                answer = client.request(method, path, headers={"authorization": key} if key is not None else {})
                if (method, path) in PUBLIC_HTTP:
                    assert answer.status_code == PUBLIC_HTTP[method, path], (method, path, answer.text)
                    continue
                assert answer.status_code == 401, (method, path, key, answer.text)
                assert answer.headers["www-authenticate"].startswith("Bearer")
                if path.startswith("/v1/"):  # as clients of OpenAI's and Anthropic's read it
                    assert answer.json()["error"]["message"], (method, path)
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


def test_the_table_of_inference_has_every_path_of_the_code() -> None:
    assert {*INFERENCE} | {"/v2/health/live", "/v2/health/ready"} == paths_in_code()


def keys_of(server: Server, reach: Reach) -> Iterator[tuple[Role, dict[str, str]]]:
    for role in get_args(Role):
        key = server.client.identity.create_key("default", role=role, reach=reach).key
        yield role, {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("reach", ["project", "platform"])
def test_a_role_reaches_exactly_its_routes_of_the_control_api(serving: Server, reach: Reach) -> None:
    with httpx.Client(base_url=serving.url, timeout=30) as client:
        routes = [route for route in control(serving) if route[2] is not None]
        owner = {"authorization": f"Bearer {serving.key}"}
        through = {
            (method, path): client.request(method, path, headers=owner).status_code for method, path, *_ in routes
        }
        assert {status for (method, path), status in through.items() if _is_list(method, path)} == {200}
        assert {*through.values()} <= {200, 201, 400, 404, 409}
        for role, headers in keys_of(serving, reach):
            for method, path, needed, everywhere in routes:
                answer = client.request(method, path, headers=headers)
                if needed not in PERMISSIONS[role]:
                    expected = 403, "key.forbidden"
                elif reach == "project" and (everywhere or path in OF_TENANTS):
                    expected = (403, "key.reach") if everywhere else OF_TENANTS[path]
                else:
                    expected = through[method, path], ""
                code = answer.json()["code"] if answer.status_code == 403 else ""
                assert (answer.status_code, code) == expected, (role, reach, method, path, answer.text)


def _is_list(method: str, path: str) -> bool:
    return method == "GET" and "a-name" not in path and path not in ASKS | UNSET


def test_a_role_reaches_exactly_its_paths_of_inference(serving: Server) -> None:
    with httpx.Client(base_url=serving.url, timeout=30) as client:
        for role, headers in keys_of(serving, "project"):
            may = PERMISSIONS[role]
            allowed = {"infer": "infer" in may, "look": bool(may & {"infer", "read"}), "any": True}
            for method, path, need, status in inference():
                answer = client.request(method, path, json=BODY if path.endswith("/infer") else None, headers=headers)
                assert answer.status_code == (status if allowed[need] else 403), (role, path, answer.text)


def test_a_role_reaches_exactly_its_calls_over_grpc(serving: Server) -> None:
    for role, headers in keys_of(serving, "project"):
        may = PERMISSIONS[role]
        allowed = {"infer": "infer" in may, "look": bool(may & {"infer", "read"}), "any": True}
        for name, (message, need, status) in CALLS.items():
            told = call(serving, name, message.SerializeToString(), *headers.items())
            found = told.status if isinstance(told, Refusal) else "OK"
            assert found == (status if allowed[need] else "PERMISSION_DENIED"), (role, name, told)
    unary = {method.name for method in inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
             if not method.server_streaming}  # fmt: skip
    assert {*CALLS} == unary
