"""A27: what belongs to one tenant does not exist for another: no id of it is found, no list shows it, no word leaks.

Every route that takes an id is found in the app, and asked for a thing of another tenant and for one that nobody has:
the answers must be the same but for the id. A route with a parameter that is not in ``THINGS`` fails here, so that
whoever adds a kind of thing says to whom it belongs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi.routing import APIRoute

from comparisons import comparison
from mofang.base.domain.access import AccessLimits, Grant, Scope
from mofang.base.domain.names import new_id, now_us
from mofang.make.compress.store import Variant
from mofang.make.evaluate.report import ClassScores, Report, Scores
from mofang.make.prepare.dataset import Dataset, Schema, Split
from mofang.make.train.store import TrainingRun
from mofang.surface.api.access import Permit
from mofang.surface.api.app import create_app
from platforms import House

if TYPE_CHECKING:
    from conftest import Ask

ACME, RIVAL = Scope("acme", "acme-shop", "tenant"), Scope("rival", "rival-lab", "tenant")
MARK = "acme"  # in the name of everything that is the first tenant's
HOUR = 3_600_000_000
Things = dict[str, str]  # parameter of a path -> what the first tenant has there

BODIES: dict[str, dict[str, Any]] = {
    "put_endpoint": {"version": "acme-digits@1"},
    "set_alias": {"version": 1},
    "create_version": {"files": [{"path": "m", "sha256": "0" * 64, "size_bytes": 1}]},
    "set_limits": {"concurrency": 1},
    "share_endpoint": {"everyone": True},
    "top_up_budget": {"amount": 1},
    "set_alert": {"percent": 80, "url": "https://example.org/hook"},
    "put_grant": {"role": "viewer", "project": "rival-lab"},
    "roll_back_endpoint": {"revision": 1},
}
OPEN = {"/openapi.json", "/prices", "/prices/current", "/whoami", "/audit/head", "/audit/key", "/audit/consistency"}
"""The same for everybody, or about herself."""
ASKED = {
    "/audit/consistency": "?first=1",
    "/usage/focus": "?from=0&to=4102444800000000",
}  # where a question belongs to the path
PROOF = "/audit/inclusion"  # of one record, which is asked for below


@pytest.fixture
def things(house: House, admin: httpx.Client) -> Things:
    """Everything a tenant can have, all of it acme's."""
    for scope in (ACME, RIVAL):
        house.platform.identity.create_tenant(scope.tenant)
        house.platform.identity.create_project(scope.project, scope.tenant)
    with house.database.acting(ACME):
        found = _make_everything(house)
    admin.post("/prices", json={"book": 'currency = "EUR"\n[[price]]\nmeter = "requests"\nper = 1\namount = "1"\n'})
    end = (now_us() // HOUR + 1) * HOUR
    made = admin.post("/invoices", json={"tenant": "acme", "from": end - 2 * HOUR, "to": end})
    assert made.status_code == 201, made.text
    return found | {"invoice": made.json()["id"]}


def _make_everything(house: House) -> Things:
    platform = house.platform
    version = house.version("acme-digits")
    rollout = platform.deployments.deploy("acme-digits", version)
    house.deployments.move_rollout(rollout.id, "draining")
    house.deployments.move_rollout(rollout.id, "done")
    split = Split(1, "a" * 64, "b" * 64)
    schema = Schema(4, "float32", ("a", "b"))
    dataset = Dataset("sha256:acme", "acme-rows", "csv:/acme", "classification", {"train": split}, schema, now_us())
    platform.datasets.record(dataset)
    job = platform.jobs.submit("train", {"recipe": "acme"}, "acme-key")
    run = platform.runs.save(
        TrainingRun(new_id("run"), job.id, "acme-digits", "sha256:r", "acme", "forest", "running", now_us())
    )
    scores = Scores(1, 1.0, 1.0, 1.0, 1.0, (ClassScores("a", 1.0, 1.0, 1.0, 1),), ((1,),))
    report = Report(scores, 0.5, "acme >= 1", ())
    evaluation = platform.evaluations.record("acme-digits", version.digest, dataset.digest, report)
    platform.variants.record(
        [
            Variant(
                "acme-digits", version.digest, "int8", "sha256:acme-small", dataset.digest, comparison(), "", 1, "acme"
            )
        ]
    )
    house.usage("acme-shop", "acme", 3, "acme-digits")
    key = platform.identity.create_key("acme-shop", name="acme key")[0]
    platform.identity.set_limits(AccessLimits("project", "acme-shop", concurrency=2))
    budget = platform.budgets.put("project", "acme-shop", "requests", "month", 7)
    platform.users.create("ada@acme.com", [Grant("developer", "acme", "acme-shop")])
    file = platform.files.add("acme.jsonl", "batch", platform.blobs.put([b"acme"]).sha256, 4)
    told = {"input": file.id, "endpoint": "/v1/completions", "total": 1, "window": "24h", "metadata": {"for": "acme"}}
    batch = platform.jobs.submit("batch", told, "acme-key")
    sha256 = hashlib.sha256(b"acme").hexdigest()
    platform.owners.claim("upload", sha256)
    return {
        "name": "acme-digits", "selector": "1", "alias": "champion", "scope": "project", "digest": dataset.digest,
        "run": run.id, "job": job.id, "evaluation": evaluation.id, "rollout": rollout.id, "key": key.id,
        "upload": sha256, "budget": budget.id, "user": "ada@acme.com", "line": "1",
        "file": file.id, "batch": batch.id,
    }  # fmt: skip


def routes(house: House) -> Iterator[APIRoute]:
    for route in create_app(house.platform).routes:
        assert isinstance(route, APIRoute)
        permits = [d.call for d in route.dependant.dependencies if isinstance(d.call, Permit)]
        if permits and not permits[0].everywhere:
            yield route


def filled(path: str, things: Things) -> str:
    limits = "acme-shop" if "/limits/" in path else things["name"]
    return re.sub(r"\{(\w+)\}", lambda it: limits if it[1] == "name" else things[it[1]], path).removeprefix("/api/v1")


def named_in(path: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", path)


def asked(client: httpx.Client, route: APIRoute, path: str) -> httpx.Response:
    (method,) = route.methods
    body = BODIES.get(route.operation_id or "", {} if method in ("POST", "PUT") else None)
    return client.request(method, path, json=body)


def test_no_id_of_another_tenant_is_found(house: House, ask: Ask, things: Things) -> None:
    rival = ask(house.key("admin", RIVAL.project, RIVAL.reach))
    nobody = {**{name: f"nothing-{name}" for name in things}, "selector": "1", "scope": "project", "line": "1"}
    before = house.platform.audit.verify().records
    named = [route for route in routes(house) if "{" in route.path]
    assert len(named) > 20
    for route in named:
        answer = asked(rival, route, filled(route.path, things))
        missing = asked(rival, route, filled(route.path, nobody).replace("acme-shop", "nothing-project"))
        assert (answer.status_code, missing.status_code) == (404, 404), (route.path, answer.text, missing.text)
        told, other = answer.json(), missing.json()
        for theirs in (*filter(None, map(things.get, named_in(route.path))), "acme-shop"):
            told["detail"], other["detail"] = (each["detail"].replace(theirs, "ID") for each in (told, other))
        other["detail"] = re.sub(r"nothing-\w+", "ID", other["detail"])
        assert told == other, route.path
    assert house.platform.audit.verify().records == before


def test_no_list_shows_anything_of_another_tenant(house: House, ask: Ask, things: Things) -> None:
    rival, own = ask(house.key("admin", RIVAL.project, "tenant")), ask(house.key("admin", ACME.project, "tenant"))
    every = [route.path.removeprefix("/api/v1") for route in routes(house) if "GET" in route.methods]
    lists = [path for path in every if "{" not in path and path != PROOF]
    asked = {**ASKED, "/versions": f"?digest={own.get('/models/acme-digits/versions/newest').json()['digest']}"}
    shown = []
    for path in lists:
        answer = rival.get(path + asked.get(path, ""))
        assert answer.status_code == 200, (path, answer.text)
        if path not in OPEN:
            assert MARK not in answer.text, (path, answer.text)
            assert things["invoice"] not in answer.text
            shown += [path] if MARK in own.get(path + asked.get(path, "")).text else []
    missing = {*lists} - {*shown, *OPEN}
    assert missing == set(), "she whose things they are must see them, or this proves nothing"


def test_filters_and_bodies_that_name_things_of_another_tenant(house: House, ask: Ask, things: Things) -> None:
    rival = ask(house.key("admin", RIVAL.project, "tenant"))
    file = {"path": "model.onnx", "sha256": things["upload"], "size_bytes": 4}
    for method, path, body in (
        ("GET", "/keys?project=acme-shop", None),
        ("GET", "/usage?project=acme-shop", None),
        ("GET", "/usage/events?project=acme-shop", None),
        ("GET", "/invoices?tenant=acme", None),
        ("GET", "/usage/focus?tenant=acme&from=0&to=3600000000", None),
        ("GET", "/evaluations?version=acme-digits", None),
        ("GET", "/variants?version=acme-digits", None),
        ("GET", "/models/acme-digits/versions/newest/variants", None),
        ("GET", "/models/acme-digits/versions/1/variants/report.html", None),
        ("POST", "/projects", {"name": "rival-two", "tenant": "acme"}),
        ("POST", "/keys", {"project": "acme-shop"}),
        ("POST", "/evaluations", {"version": "acme-digits@1"}),
        ("POST", "/variants", {"version": "acme-digits@1"}),
        ("PUT", "/endpoints/rival-digits", {"version": "acme-digits@1"}),
        ("POST", "/models/rival-digits/versions", {"files": [file]}),
    ):
        answer = rival.request(method, path, json=body)
        assert answer.status_code == 404, (path, answer.text)
    theirs = house.platform.audit.list(action="invoice")[-1].seq
    unknown = house.platform.audit.head().size + 1
    told = [rival.get(f"{PROOF}?seq={seq}") for seq in (theirs, unknown)]
    assert [answer.status_code for answer in told] == [404, 404]
    assert told[0].text.replace(f"record {theirs},", "N") == told[1].text.replace(f"record {unknown},", "N")
    own = ask(house.key("auditor", ACME.project, "tenant"))
    assert own.get(f"{PROOF}?seq={theirs}").status_code == 200
    assert {record["seq"] for record in own.get("/audit?action=invoice").json()["items"]} == {theirs}
    usage = rival.get("/usage?endpoint=acme-digits").json()
    assert usage["items"] == []


def test_a_name_that_is_taken_is_refused_and_tells_nothing_else(house: House, ask: Ask, things: Things) -> None:
    rival = ask(house.key("admin", RIVAL.project, "tenant"))
    sha256 = rival.post("/uploads", content=b"acme").json()["sha256"]
    assert sha256 == things["upload"], "content is addressed by its digest, whoever has uploaded it"
    file = {"path": "model.onnx", "sha256": sha256, "size_bytes": 4}
    refused = rival.post("/models/acme-digits/versions", json={"files": [file]})
    assert (refused.status_code, refused.json()["code"]) == (409, "name.taken")
    assert rival.post("/models/rival-digits/versions", json={"files": [file]}).status_code == 202
    with house.database.acting(RIVAL):
        house.version("rival-digits")
    refused = rival.put("/endpoints/acme-digits", json={"version": "rival-digits"})
    assert (refused.status_code, refused.json()["code"]) == (409, "name.taken")
    recipe = 'name = "acme-digits"\n[prepare]\nsource = "sklearn:digits"\n[train]\nalgorithm = "logistic_regression"\n'
    refused = rival.post("/runs", json={"recipe": recipe})
    assert (refused.status_code, refused.json()["code"]) == (409, "name.taken"), refused.text


def test_the_same_files_do_not_name_the_model_of_another_tenant(house: House, ask: Ask, things: Things) -> None:
    with house.database.acting(RIVAL):
        version = house.version("rival-digits")
        rollout = house.platform.deployments.deploy("rival-digits", version)
        house.deployments.move_rollout(rollout.id, "draining")
        house.deployments.move_rollout(rollout.id, "done")
    assert version.digest == house.version("acme-digits").digest
    rival = ask(house.key("admin", RIVAL.project, "tenant"))
    quote = rival.post("/quote", json={"endpoint": "rival-digits", "quantities": {"requests": 1}})
    assert (quote.status_code, quote.json()["model"]) == (200, "rival-digits")
    assert MARK not in quote.text
    found = rival.get(f"/versions?digest={version.digest}").json()["items"]
    assert [each["model"] for each in found] == ["rival-digits"]


def test_nobody_makes_a_key_of_more_power_than_hers(house: House, ask: Ask, things: Things) -> None:
    tenant, project = (ask(house.key("admin", RIVAL.project, reach)) for reach in ("tenant", "project"))
    powerful = house.platform.identity.create_key(RIVAL.project, "owner", reach="platform")[0]
    for client, body in (
        (tenant, {"reach": "platform"}),
        (tenant, {"role": "owner"}),
        (project, {"reach": "tenant"}),
        (project, {"role": "owner", "verbs": ["sell"]}),
    ):
        refused = client.post("/keys", json={"project": RIVAL.project, **body})
        assert (refused.status_code, refused.json()["code"]) == (403, "key.forbidden"), body
    narrow = tenant.post("/keys", json={"project": RIVAL.project, "role": "admin", "verbs": ["identity"]})
    assert narrow.status_code == 201
    weak = ask(narrow.json()["key"])
    assert weak.get("/projects").status_code == 200
    assert weak.get("/models").status_code == 403
    assert weak.post("/keys", json={"project": RIVAL.project}).status_code == 403, "it cannot give `infer`"
    for method, path in (("POST", f"/keys/{powerful.id}/rotate"), ("DELETE", f"/keys/{powerful.id}")):
        assert tenant.request(method, path, json={} if method == "POST" else None).status_code == 404
