"""Every route, found in the app itself: who may ask, and what anonymous callers learn (nothing)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, get_args

import httpx
import pytest
from fastapi.routing import APIRoute

from mofang.base.domain.access import PERMISSIONS, Permission, Reach, Role
from mofang.surface.api.access import PUBLIC, Permit
from mofang.surface.api.app import create_app
from platforms import House

if TYPE_CHECKING:
    from conftest import Ask

BEARER = [{"HTTPBearer": []}]


def routes(house: House) -> Iterator[tuple[str, str, Permit]]:
    for route in create_app(house.platform).routes:
        assert isinstance(route, APIRoute), f"{route} is none of ours"
        (method,) = route.methods
        if (method, route.path) in PUBLIC:
            continue
        (permit,) = [d.call for d in route.dependant.dependencies if isinstance(d.call, Permit)]
        yield method, re.sub(r"\{\w+\}", "a-name", route.path), permit


def test_every_route_has_one_permission_and_all_permissions_are_used(house: House) -> None:
    found = list(routes(house))
    assert len(found) > 45
    assert {permit.permission for *_, permit in found} == set(get_args(Permission))


def test_anonymous_callers_get_401_everywhere(house: House, ask: Ask) -> None:
    anonymous = ask("")
    for method, path, _ in routes(house):
        for headers in ({}, {"authorization": "Bearer mf_wrong"}, {"authorization": "Basic YTpi"}):
            answer = anonymous.request(method, path.removeprefix("/api/v1"), headers=headers)
            assert answer.status_code == 401, (method, path)
            assert answer.json()["code"] in ("key.missing", "key.unknown")
            assert answer.headers["www-authenticate"].startswith("Bearer")
    root = str(anonymous.base_url).removesuffix("/api/v1/")
    for path in ("/", "/docs", "/redoc", "/openapi.json", "/api/v1/nothing", "/api/v1/../../etc/passwd"):
        assert anonymous.get(f"{root}{path}").status_code == 401, path


@pytest.mark.parametrize("reach", get_args(Reach))
def test_a_role_reaches_exactly_the_routes_of_its_permissions(house: House, ask: Ask, reach: Reach) -> None:
    clients: dict[Role, httpx.Client] = {role: ask(house.key(role, reach=reach)) for role in get_args(Role)}
    for (method, path, permit), role in product([*routes(house)], clients):
        answer = clients[role].request(method, path.removeprefix("/api/v1"))
        code = answer.json().get("code") if answer.status_code == 403 else None
        if permit.permission not in PERMISSIONS[role]:
            assert code == "key.forbidden", (method, path, answer.text)
        elif permit.everywhere and reach != "platform":
            assert code == "key.reach", (method, path, answer.text)
        elif path.endswith("/usage/reconciliation") and reach == "project":
            assert code == "key.reach", "engines count by tenant: a project must not see the others'"
        else:
            assert code is None, (method, path, answer.text)
        assert answer.status_code < 500, (method, path, answer.text)


def test_a_revoked_key_and_an_expired_one_are_refused(house: House, ask: Ask, admin: httpx.Client) -> None:
    made = admin.post("/keys", json={"project": "default", "role": "admin"}).json()
    assert ask(made["key"]).get("/projects").status_code == 200
    assert admin.delete(f"/keys/{made['id']}").json()["revoked_at"] > 0
    assert ask(made["key"]).get("/projects").json()["code"] == "key.unknown"
    expired = house.platform.identity.create_key("default", "admin", expires_at=1)[1]
    assert ask(expired).get("/projects").json()["code"] == "key.expired"


def test_no_secret_of_a_key_is_ever_listed(house: House, admin: httpx.Client) -> None:
    made = admin.post("/keys", json={"project": "default", "name": "ci"}).json()
    secret = made["key"].split("_")[2]
    for path in ("/keys", "/keys?project=default", "/audit", "/audit?limit=1000"):
        assert secret not in admin.get(path).text
        assert "secret" not in admin.get(path).text


def test_a_malformed_host_changes_nothing(remote: httpx.Client) -> None:
    for host in ("a b", "[::1", "x/../..", "evil.example", "a:b:c", "?", "#"):
        answer = remote.get("/projects", headers={"host": host})
        assert answer.status_code == 200, host
        assert "evil" not in answer.text


def test_the_description_is_complete_and_needs_a_key(house: House, ask: Ask) -> None:
    document = ask(house.key("consumer")).get("/openapi.json").json()
    described = {
        (method.upper(), re.sub(r"\{\w+\}", "a-name", path))
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert described == {(method, path) for method, path, _ in routes(house)} | PUBLIC
    for method, path, permit in routes(house):
        one = next(
            methods[method.lower()]
            for template, methods in document["paths"].items()
            if re.sub(r"\{\w+\}", "a-name", template) == path and method.lower() in methods
        )
        needed = one["x-mofang-permission"], one["x-mofang-reach"]
        assert needed == (permit.permission, "platform" if permit.everywhere else "project"), path
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    for one in operations:
        assert one["summary"]
        assert one["description"]
        assert one.get("security") == (None if "users" in one["tags"] and "key" in one["description"] else BEARER)
        assert "application/problem+json" in one["responses"]["default"]["content"]
    assert "secret_sha256" not in json.dumps(document)
