"""A27, through real gateways: an endpoint that is not shared with a tenant is not there for it, over any protocol.

Every id of every kind of thing is asked for in the quick tests (``tests/unit/api/test_a27_two_tenants.py``).
"""

from __future__ import annotations

from typing import Literal

import httpx
import numpy as np
import pytest
from nets import scaled
from tritonclient.grpc import service_pb2 as pb
from wires import Refusal, call

from mofang import Client
from mofang.base.domain.errors import EndpointNotFound, Forbidden, NameTaken
from servers import Server

Protocol = Literal["rest", "grpc"]
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}

X = np.ones((1, 4), np.float32)


@pytest.fixture(scope="module")
def serving(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Tenant acme has a private endpoint, tenant rival has a project."""
    identity = server.client.identity
    for tenant, project in (("acme", "acme-shop"), ("rival", "rival-lab")):
        identity.create_tenant(tenant)
        identity.create_project(project, tenant)
    model = scaled(tmp_path_factory.mktemp("model"), 2)
    with Client(server.url, identity.create_key("acme-shop", role="admin").key, grpc=server.grpc) as owner:
        job = owner.jobs.wait(owner.register.push("secret", [model]).id)
        owner.deploy.roll_out("secret", f"secret@{job.result['version']}", private=True)
    server.serve("public", scaled(tmp_path_factory.mktemp("other"), 3))
    return server


def answers(server: Server, key: str, name: str) -> list[tuple[str, int | str, str]]:
    """What each way of asking for an endpoint says, its name taken out."""
    headers = {"authorization": f"Bearer {key}"}
    found: list[tuple[str, int | str, str]] = []
    for method, path in (
        ("POST", f"/v2/models/{name}/infer"), ("POST", f"/v2/models/{name}/versions/1/infer"),
        ("GET", f"/v2/models/{name}"), ("GET", f"/v2/models/{name}/ready"), ("GET", f"/v2/models/{name}/stats"),
        ("GET", f"/v2/models/{name}/versions/7"), ("GET", f"/v1/models/{name}"), ("GET", f"/api/v1/endpoints/{name}"),
    ):  # fmt: skip
        answer = httpx.request(method, server.url + path, json=BODY if method == "POST" else None, headers=headers)
        found.append((path.replace(name, "NAME"), answer.status_code, answer.text.replace(name, "NAME")))
    for call_name, message in (
        ("ModelMetadata", pb.ModelMetadataRequest(name=name)),
        ("ModelReady", pb.ModelReadyRequest(name=name)),
        ("ModelStatistics", pb.ModelStatisticsRequest(name=name)),
        ("ModelInfer", pb.ModelInferRequest(model_name=name)),
    ):
        told = call(server, call_name, message.SerializeToString(), *headers.items())
        status, text = (told.status, told.details) if isinstance(told, Refusal) else ("OK", repr(told))
        found.append((call_name, status, text.replace(name, "NAME")))
    return found


def test_what_is_not_shared_answers_like_what_never_was(serving: Server) -> None:
    rival = serving.client.identity.create_key("rival-lab", role="admin", reach="tenant").key
    hidden, missing = answers(serving, rival, "secret"), answers(serving, rival, "nobody")
    assert hidden == missing
    assert {status for _, status, _ in hidden} == {404, "NOT_FOUND", "OK"}  # ModelReady says: not ready
    headers = {"authorization": f"Bearer {rival}"}
    for method, path in (("POST", "/v2/repository/index"), ("GET", "/v2/models/stats"), ("GET", "/v1/models"),
                         ("GET", "/api/v1/endpoints"), ("GET", "/api/v1/models")):  # fmt: skip
        assert "secret" not in httpx.request(method, serving.url + path, headers=headers).text, path
    shown = httpx.post(f"{serving.url}/v2/repository/index", headers=headers).json()
    assert [entry["name"] for entry in shown] == ["public"]
    index = call(serving, "RepositoryIndex", b"", *headers.items())
    assert isinstance(index, bytes)
    assert b"secret" not in index


def test_sharing_and_taking_back_hold_at_once(serving: Server) -> None:
    key = serving.client.identity.create_key("rival-lab").key
    with Client(serving.url, key, grpc=serving.grpc) as rival:

        def asks() -> list[bool]:
            heard = []
            for protocol in ("rest", "grpc"):
                try:
                    rival.serve.predict("secret", {"x": X}, protocol=protocol)  # type: ignore[arg-type]
                    heard.append(True)
                except EndpointNotFound:
                    heard.append(False)
            return heard

        for shared, hears in (
            ({"tenants": ["rival"]}, True),
            ({}, False),
            ({"projects": ["rival-lab"]}, True),
            ({"projects": ["other"], "tenants": ["third"]}, False),
            ({"everyone": True}, True),
            ({}, False),
        ):
            serving.client.deploy.share("secret", **shared)  # type: ignore[arg-type]
            assert asks() == [hears, hears], shared


def test_usage_is_billed_to_whoever_asks_and_seen_by_nobody_else(serving: Server) -> None:
    serving.client.deploy.share("secret", tenants=["rival"])
    asker = Client(serving.url, serving.client.identity.create_key("rival-lab").key, grpc=serving.grpc)
    owner = Client(serving.url, serving.client.identity.create_key("acme-shop", role="admin").key, grpc=serving.grpc)
    with asker, owner:
        before = sum(row.quantities["requests"] for row in asker.meter.usage(by=["endpoint"]).items)
        asker.serve.predict("secret", {"x": X})
        rows = asker.meter.usage(by=["endpoint"]).items
        assert sum(row.quantities["requests"] for row in rows) == before + 1
        assert owner.meter.usage(by=["endpoint"]).items == []


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_what_one_tenant_was_answered_no_other_gets_by_its_idempotency_key(
    serving: Server, protocol: Literal["rest", "grpc"]
) -> None:
    answers = []
    for number, project in enumerate(("acme-shop", "rival-lab"), 1):
        key = serving.client.identity.create_key(project).key
        with Client(serving.url, key, grpc=serving.grpc) as client:
            before = _requests(client)
            for _ in range(2):
                answers.append(
                    client.serve.predict(
                        "public", {"x": X * number}, protocol=protocol, idempotency_key=f"k-{protocol}"
                    )
                )
            assert _requests(client) == before + 1, "its own, charged once"
    assert len({answer.request_id for answer in answers}) == 2
    first, _, second, _ = [float(next(iter(answer.outputs.values())).ravel()[0]) for answer in answers]
    assert second == 2 * first, "computed for her, not found"


def _requests(client: Client) -> int:
    return sum(row.quantities["requests"] for row in client.meter.usage(by=["endpoint"]).items)


def test_a_tenant_cannot_take_a_name_or_more_power(serving: Server, tmp_path: object) -> None:
    key = serving.client.identity.create_key("rival-lab", role="admin", reach="tenant").key
    with Client(serving.url, key, grpc=serving.grpc) as rival:
        with pytest.raises(NameTaken):
            rival.register.push("secret", [scaled(tmp_path, 5)])  # type: ignore[arg-type]
        with pytest.raises(Forbidden):
            rival.identity.create_key("rival-lab", reach="platform")


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_the_same_idempotency_key_of_two_tenants_is_two_requests(serving: Server, protocol: Protocol) -> None:
    """Neither learns that the other used it: not by the answer, its id, what it costs, or a refusal."""
    told = []
    for number, project in enumerate(("acme-shop", "rival-lab"), 2):
        key = serving.client.identity.create_key(project).key
        with Client(serving.url, key, grpc=serving.grpc) as client:
            before = _requests(client)
            mine = X * number  # another body under the same key
            answers = [
                client.serve.predict("public", {"x": mine}, protocol=protocol, idempotency_key=f"order 7 {protocol}")
                for _ in range(2)
            ]
            assert len({each.request_id for each in answers}) == 1
            assert np.allclose(answers[1].outputs["y"], 3 * mine)
            assert _requests(client) == before + 1
            told.append(answers[0].request_id)
    assert len(set(told)) == 2


def _requests(client: Client) -> int:
    return sum(row.quantities["requests"] for row in client.meter.usage(by=["project"]).items)
