"""Each stage through its routes, over real stores: what it does, what it records, what it refuses."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from comparisons import comparison
from mofang.base.domain.names import new_id, now_us
from mofang.base.domain.registry import Lineage
from mofang.make.compress.store import Variant
from mofang.make.evaluate.report import ClassScores, Report, Scores
from mofang.make.prepare.dataset import Dataset, Schema, Split
from mofang.make.register.store import NewVariant
from mofang.make.train.store import TrainingRun
from platforms import House

if TYPE_CHECKING:
    from conftest import Ask

BOOK = 'currency = "EUR"\n[[price]]\nmeter = "requests"\nper = 1000\namount = "0.50"\n'
HOUR = 3_600_000_000
EXAMPLES = Path(__file__).parents[3] / "examples"


def report(failures: tuple[str, ...] = ()) -> Report:
    classes = (ClassScores("a", 1.0, 0.5, 0.66, 2), ClassScores("b", 0.66, 1.0, 0.8, 2))
    scores = Scores(4, 0.75, 0.83, 0.75, 0.73, classes, ((1, 1), (0, 2)))
    return Report(scores, 0.5, "accuracy >= 0.7", failures)


def actions(admin: httpx.Client) -> list[tuple[str, str]]:
    return [(record["action"], record["target"]) for record in admin.get("/audit?folds=false").json()["items"]]


def good(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def code_of(answer: httpx.Response) -> str:
    return str(answer.json()["code"])


def test_tenants_projects_and_keys(house: House, admin: httpx.Client) -> None:
    good(admin.post("/tenants", json={"name": "acme"}), 201)
    good(admin.post("/projects", json={"name": "shop", "tenant": "acme"}), 201)
    assert code_of(admin.post("/projects", json={"name": "shop"})) == "project.exists"
    assert code_of(admin.post("/projects", json={"name": "x", "tenant": "nobody"})) == "tenant.not_found"
    assert {"name": "shop", "tenant": "acme"}.items() <= good(admin.get("/projects"))["items"][-1].items()
    key = good(admin.post("/keys", json={"project": "shop", "expires_in_seconds": 60}), 201)
    assert key["role"] == "consumer"
    assert 0 < key["expires_at"] - key["created_at"] <= 61_000_000
    assert house.published == [1]
    assert [one["id"] for one in good(admin.get("/keys?project=shop"))["items"]] == [key["id"]]
    assert code_of(admin.get("/keys?project=nobody")) == "project.not_found"
    assert code_of(admin.delete("/keys/nothing")) == "key.not_found"
    good(admin.delete(f"/keys/{key['id']}"))
    assert house.published == [1, 2]
    assert actions(admin) == [
        ("tenant.create", "acme"),
        ("project.create", "shop"),
        ("key.create", key["id"]),
        ("key.revoke", key["id"]),
    ]
    assert good(admin.get("/audit/verify"))["records"] == 4


def test_keys_have_a_scope_and_are_rotated(house: House, admin: httpx.Client) -> None:
    made = good(admin.post("/keys", json={"project": "default", "name": "till", "endpoints": ["digits"]}), 201)
    assert made["endpoints"] == ["digits"]
    new = good(admin.post(f"/keys/{made['id']}/rotate", json={"overlap_seconds": 60}), 201)
    assert (new["name"], new["endpoints"], new["expires_at"]) == ("till", ["digits"], None)
    assert new["key"] != made["key"]
    old, young = good(admin.get("/keys?project=default"))["items"]
    assert (old["id"], young["id"]) == (made["id"], new["id"])
    assert 0 < old["expires_at"] - young["created_at"] <= 60_000_000
    assert house.published == [1, 2]
    record = good(admin.get("/audit"))["items"][-1]
    assert (record["action"], record["target"]) == ("key.rotate", old["id"])
    told = record["details"]
    assert (told["overlap_seconds"], told["key"], told["of"]) == (60, young["id"], ["default/default"])
    assert told["before"]["expires_at"] is None
    assert told["after"]["expires_at"] == admin.get("/keys").json()["items"][1]["expires_at"]
    assert code_of(admin.post("/keys/nothing/rotate", json={})) == "key.not_found"
    good(admin.delete(f"/keys/{old['id']}"))
    assert code_of(admin.post(f"/keys/{old['id']}/rotate", json={})) == "key.ended"
    assert code_of(admin.post("/keys", json={"project": "default", "endpoints": ["No"]})) == "name.invalid"


def test_budgets_are_checked_published_and_on_record(house: House, admin: httpx.Client) -> None:
    body = {"scope": "project", "name": "default", "unit": "requests", "amount": 10}
    made = good(admin.put("/budgets", json=body))
    assert (made["period"], made["spent"], made["lent"], made["reserved"]) == ("month", 0, 0, 0)
    assert good(admin.put("/budgets", json=body | {"amount": 20}))["id"] == made["id"]
    assert good(admin.post(f"/budgets/{made['id']}/top-up", json={"amount": 5}))["amount"] == 25
    assert len(house.published) == 3
    record = good(admin.get("/audit"))["items"][-1]
    assert (record["action"], record["target"]) == ("budget.top_up", made["id"])
    assert [record["details"][when]["amount"] for when in ("before", "after")] == [20, 25]
    assert code_of(admin.put("/budgets", json=body | {"name": "nobody"})) == "project.not_found"
    for wrong in ({"unit": "apples"}, {"amount": -1}, {"amount": 1.5}, {"period": "week"}, {"scope": "planet"}):
        assert code_of(admin.put("/budgets", json=body | wrong)) == "request.malformed"
    good(admin.delete(f"/budgets/{made['id']}"))
    assert code_of(admin.delete(f"/budgets/{made['id']}")) == "budget.not_found"
    assert good(admin.get("/budgets"))["items"] == []


def test_limits_are_set_as_a_whole_published_and_on_record(house: House, admin: httpx.Client) -> None:
    bounds = {"requests_per_minute": 600, "rows_per_minute": None, "concurrency": 8, "payload_bytes": None}
    bounds["tokens_per_minute"] = None
    published = len(house.published)
    set_to = good(admin.put("/limits/project/default", json={"requests_per_minute": 600, "concurrency": 8}))
    assert set_to == {"scope": "project", "name": "default", **bounds}
    assert good(admin.get("/limits"))["items"] == [set_to]
    assert len(house.published) == published + 1
    record = good(admin.get("/audit"))["items"][-1]
    assert (record["action"], record["target"]) == ("limits.set", "project/default")
    assert record["details"] == {"before": None, "after": set_to, "of": ["default/default"]}
    assert code_of(admin.put("/limits/project/nobody", json={})) == "project.not_found"
    assert code_of(admin.put("/limits/planet/earth", json={})) == "request.malformed"
    for wrong in (0, -1, 2.5, True, "600", 10**13):
        assert code_of(admin.put("/limits/project/default", json={"concurrency": wrong})) == "request.malformed"
    good(admin.put("/limits/project/default", json={}))
    assert good(admin.get("/limits"))["items"] == []


def test_a_refused_change_leaves_no_audit_record(house: House, admin: httpx.Client) -> None:
    assert admin.post("/projects", json={"name": "default"}).status_code == 409
    assert admin.delete("/endpoints/nothing").status_code == 404
    assert actions(admin) == []
    assert house.published == []


def test_datasets(house: House, admin: httpx.Client) -> None:
    splits = {"train": Split(80, "a" * 64, "b" * 64), "test": Split(20, "c" * 64, "d" * 64)}
    schema = Schema(4, "float32", ("a", "b"))
    digest = "sha256:" + "e" * 64
    house.platform.datasets.record(Dataset(digest, "toy", "csv:toy.csv", "classification", splits, schema, now_us()))
    (found,) = good(admin.get("/datasets"))["items"]
    assert found["splits"] == {"train": 80, "test": 20}
    assert good(admin.get(f"/datasets/{digest}")) == found
    assert code_of(admin.get("/datasets/sha256:0")) == "dataset.not_found"


def test_a_recipe_is_checked_before_a_job_is_made(house: House, admin: httpx.Client) -> None:
    wrong = admin.post("/runs", json={"recipe": "[prepre]\n", "filename": "mine.toml"})
    assert code_of(wrong) == "recipe.invalid"
    assert "mine.toml" in wrong.json()["detail"]
    assert good(admin.get("/jobs"))["items"] == []


def test_runs_come_in_pages_newest_first(house: House, admin: httpx.Client) -> None:
    made = [new_id("run") for _ in range(3)]
    for name in sorted(made):
        house.platform.runs.save(TrainingRun(name, "job_1", "toy", "d", "text", "mlp", "running", now_us()))
    first = good(admin.get("/runs?limit=2"))
    assert [run["id"] for run in first["items"]] == sorted(made, reverse=True)[:2]
    last = good(admin.get("/runs", params={"limit": 2, "after": first["next"]}))
    assert [run["id"] for run in last["items"]] == sorted(made)[:1]
    assert last["next"] is None
    assert good(admin.get(f"/runs/{made[0]}"))["recipe"] == "text"
    assert code_of(admin.get("/runs/run_0")) == "run.not_found"


def test_evaluations(house: House, admin: httpx.Client) -> None:
    version = house.version()
    registered = house.platform.evaluations.record("digits", version.digest, "sha256:d", report())
    refused = house.platform.evaluations.record("digits", "sha256:0", "sha256:d", report(("accuracy is 0.75",)))
    found = good(admin.get(f"/evaluations/{registered.id}"))
    assert (found["version"], found["passed"], found["metrics"]["accuracy"]) == ("digits@1", True, 0.75)
    assert found["report"]["scores"]["confusion"] == [[1, 1], [0, 2]]
    assert [one["id"] for one in good(admin.get("/evaluations?version=digits@1"))["items"]] == [registered.id]
    assert [one["version"] for one in good(admin.get("/evaluations"))["items"]] == ["", "digits@1"]
    picture = admin.get(f"/evaluations/{registered.id}/confusion.svg")
    assert picture.headers["content-type"] == "image/svg+xml"
    assert "default-src 'none'" in picture.headers["content-security-policy"]
    assert "<svg" in picture.text
    assert "digits" in admin.get(f"/evaluations/{registered.id}/card.md").text
    assert code_of(admin.get(f"/evaluations/{refused.id}/card.md")) == "version.not_found"
    assert code_of(admin.get("/evaluations?version=nothing@1")) == "model.not_found"
    made = good(admin.post("/evaluations", json={"version": "digits", "gate": "accuracy >= 0.5"}), 202)
    assert house.platform.jobs.get(made["job"]).spec == {
        "version": "digits@1",
        "dataset": "",
        "gate": "accuracy >= 0.5",
        "against": "",
        "slices": [],
    }
    page = admin.get(f"/evaluations/{registered.id}/report.html")
    assert "img-src data:" in page.headers["content-security-policy"]
    assert "<h1>digits@1</h1>" in page.text
    other = {"version": "digits", "against": "nothing@1"}
    assert code_of(admin.post("/evaluations", json=other)) == "model.not_found"
    assert code_of(admin.post("/evaluations", json={"version": "digits", "gate": "speed > 1"})) == "gate.invalid"


def test_compression_starts_as_a_job(house: House, admin: httpx.Client) -> None:
    house.version()
    made = good(admin.post("/variants", json={"version": "digits", "max_drop": 0.01}), 202)
    job = house.platform.jobs.get(made["job"])
    assert job.kind == "compress"
    assert (job.spec["version"], job.spec["max_drop"], job.spec["objective"]) == ("digits@1", 0.01, "balance")
    assert good(admin.get("/variants?version=digits@1"))["items"] == []
    found = good(admin.get("/models/digits/versions/newest/variants"))
    assert found == {"version": "digits@1", "registered": [], "candidates": []}
    wrong = [{"max_drop": -1}, {"max_drop": 2}, {"max_drop": "0.1"}, {"max_size_mb": 0}, {"objective": "fame"}]
    for words in (*wrong, {"seconds": -1}, {"calibration": "x"}, {"dataset": "x"}, {"metric": "love"}):
        assert code_of(admin.post("/variants", json={"version": "digits", **words})) == "request.malformed"
    assert actions(admin) == [("compression.start", "digits@1")]


def test_the_teacher_of_a_search_is_what_an_endpoint_answers_with(house: House, admin: httpx.Client) -> None:
    house.version()

    def taught(teacher: str) -> str:
        made = good(admin.post("/variants", json={"version": "digits", "teacher": teacher}), 202)
        return str(house.platform.jobs.get(made["job"]).spec["teacher"])

    wanted = {"version": "digits", "teacher": "endpoint:oracle"}
    assert code_of(admin.post("/variants", json=wanted)) == "endpoint.not_found"
    rollout = good(admin.put("/endpoints/oracle", json={"version": "digits@1"}), 202)["rollout"]
    assert code_of(admin.post("/variants", json=wanted)) == "endpoint.not_found"  # it answers nothing yet
    for state in ("draining", "done"):
        house.deployments.move_rollout(rollout["id"], state)  # type: ignore[arg-type]
    assert taught("endpoint:oracle") == "digits@1"
    assert taught("digits@1") == "digits@1"
    assert taught("upstream:other/oracle") == "upstream:other/oracle"
    assert code_of(admin.post("/variants", json={**wanted, "teacher": "digits@7"})) == "version.not_found"


def test_a_variant_is_deployed_by_its_name_or_by_a_policy(house: House, admin: httpx.Client) -> None:
    version = house.version()
    small, fast = (
        replace(version.artifact, files=(replace(version.artifact.files[0], sha256=letter * 64),)) for letter in "ef"
    )
    registry, variants = house.platform.registry, house.platform.variants
    registry.register_variants(
        version,
        [
            NewVariant("small", small, Lineage("compress", parent=version.digest)),
            NewVariant("fast", fast, Lineage("compress", parent=version.digest)),
        ],
    )
    row = Variant("digits", version.digest, "small", small.digest, "", comparison(0.004, 0.9, 0.9, 0.2), "", 1, "job_1")
    other = replace(row, technique="fast", digest=fast.digest, comparison=comparison(0.009, 0.2, 0.3, 0.9))
    variants.record([row, other])

    def deployed(**wanted: str) -> str:
        name = new_id("reader").replace("_", "-")
        good(admin.put(f"/endpoints/{name}", json={"version": "digits", **wanted}), 202)
        return str(good(admin.get(f"/endpoints/{name}"))["revisions"][0]["variant"])

    assert deployed() == ""
    assert deployed(variant="small") == "small"
    assert deployed(variant="fastest within 0.5 points") == "small"
    assert deployed(variant="fastest within 1 points") == "fast"
    assert deployed(variant="smallest") == "small"
    assert deployed(version="digits@1+fast") == "fast"
    for wrong, code in (
        ("tiny", "version.not_found"),
        ("best of all", "invalid"),
        ("cheapest within 0 points", "compress.none"),
    ):
        assert code_of(admin.put("/endpoints/digits", json={"version": "digits", "variant": wrong})) == code
    found = good(admin.get("/models/digits/versions/1+fast"))
    assert (found["variant"], found["digest"], found["number"]) == ("fast", fast.digest, 1)
    assert [each["variant"] for each in good(admin.get("/models/digits/versions/newest/variants"))["registered"]] == [
        "fast",
        "small",
    ]
    page = admin.get("/models/digits/versions/1/variants/report.html").text
    assert "Variants of digits@1" in page
    assert page.count("<circle") == 2


def test_a_new_endpoint_of_a_variant_begins_as_its_search_found_best(house: House, admin: httpx.Client) -> None:
    version = house.version()
    registry, variants = house.platform.registry, house.platform.variants
    for letter in "ef":
        files = (replace(version.artifact.files[0], sha256=letter * 64),)
        artifact = replace(version.artifact, files=files)
        made = NewVariant(f"variant-{letter}", artifact, Lineage("compress", parent=version.digest))
        registry.register_variants(version, [made])
        best = {"deploy": {"replicas": 2, "limits": {"max_batch_rows": 16}, "options": {"threads": 1}}}
        row = Variant("digits", version.digest, made.name, artifact.digest, "", comparison(), "", 1, f"job_{letter}")
        variants.record([replace(row, settings=best) if letter == "e" else row])

    def runs(name: str, **wanted: object) -> tuple[int, int, object]:
        rollout = good(admin.put(f"/endpoints/{name}", json={"version": "digits", **wanted}), 202)["rollout"]
        for state in ("draining", "done"):
            house.deployments.move_rollout(rollout["id"], state)  # type: ignore[arg-type]
        made = good(admin.get(f"/endpoints/{name}"))["active"]
        return made["replicas"], made["limits"]["max_batch_rows"], made["options"]

    usual = runs("plain", variant="variant-f")
    assert runs("best", variant="variant-e") == (2, 16, {"threads": 1})
    assert runs("told", variant="variant-e", replicas=3) == (3, 16, {"threads": 1})
    assert runs("plain", variant="variant-e") == usual
    assert runs("plain", variant="variant-e", tuned=True) == (2, 16, {"threads": 1})
    wanted = {"version": "digits@1+variant-f", "tuned": True}
    assert code_of(admin.put("/endpoints/best", json=wanted)) == "version.not_tuned"


def test_models_versions_and_aliases(house: House, admin: httpx.Client) -> None:
    house.version(content=b"one")
    house.version(content=b"two")
    house.version("other")
    assert [model["name"] for model in good(admin.get("/models?limit=1"))["items"]] == ["digits"]
    assert [model["name"] for model in good(admin.get("/models?after=digits"))["items"]] == ["other"]
    promoted = good(admin.put("/models/digits/aliases/champion", json={"version": 1}))
    assert promoted["aliases"] == ["champion"]
    assert good(admin.get("/models/digits"))["aliases"] == {"champion": 1}
    versions = good(admin.get("/models/digits/versions?limit=1"))
    assert ([one["number"] for one in versions["items"]], versions["next"]) == ([2], 2)
    for selector, number in (("champion", 1), ("2", 2), ("newest", 2)):
        assert good(admin.get(f"/models/digits/versions/{selector}"))["number"] == number
    assert code_of(admin.get("/models/digits/versions/3")) == "version.not_found"
    assert code_of(admin.get("/models/nothing")) == "model.not_found"
    assert code_of(admin.put("/models/digits/aliases/newest", json={"version": 1})) == "name.invalid"
    assert code_of(admin.put("/models/digits/aliases/7", json={"version": 1})) == "name.invalid"
    assert code_of(admin.put("/models/digits/aliases/best", json={"version": 9})) == "version.not_found"
    assert actions(admin) == [("alias.set", "digits@champion")]


def test_endpoints_roll_out_and_back(house: House, admin: httpx.Client) -> None:
    house.version(content=b"one")
    body = {"version": "digits@1", "placement": "thread", "replicas": 2}
    rollout = good(admin.put("/endpoints/digits", json=body), 202)["rollout"]
    assert good(admin.get(f"/rollouts/{rollout['id']}"))["state"] == "pending"
    assert code_of(admin.put("/endpoints/digits", json=body)) == "rollout.busy"
    found = good(admin.get("/endpoints/digits"))
    assert (found["active"], found["revisions"][0]["replicas"]) == (None, 2)
    assert found["replicas"] == [{"id": "digits/1/0", "state": "ready"}]
    assert good(admin.get("/endpoints"))["items"][0]["rollout"]["id"] == rollout["id"]
    assert code_of(admin.post("/endpoints/digits/rollback", json={"revision": 9})) == "revision.not_found"
    assert code_of(admin.put("/endpoints/digits", json={"version": "nothing"})) == "model.not_found"
    assert code_of(admin.put("/endpoints/digits", json={"version": "digits", "replicas": 0})) == "request.malformed"
    assert admin.delete("/endpoints/digits").status_code in (204, 409)
    assert actions(admin)[0] == ("endpoint.deploy", "digits")
    assert good(admin.get("/audit"))["items"][0]["details"]["rollout"] == rollout["id"]
    assert house.published


def test_jobs(house: House, admin: httpx.Client) -> None:
    jobs = house.platform.jobs
    job = jobs.submit("train", {}, "key")
    jobs.submit("push", {}, "key")
    assert [one["kind"] for one in good(admin.get("/jobs?kind=train"))["items"]] == ["train"]
    assert good(admin.post(f"/jobs/{job.id}/cancel"))["state"] == "cancelled"
    assert code_of(admin.post(f"/jobs/{job.id}/cancel")) == "job.ended"
    assert code_of(admin.get("/jobs/job_0?wait=30")) == "job.not_found"
    assert good(admin.get(f"/jobs/{job.id}?wait=30"))["state"] == "cancelled"
    assert good(admin.get(f"/jobs/{job.id}/events?wait=30"))["state"] == "cancelled"
    assert actions(admin) == [("job.cancel", job.id)]


def test_prices_and_invoices(house: House, admin: httpx.Client) -> None:
    assert code_of(admin.get("/prices/current")) == "prices.not_found"
    assert code_of(admin.post("/prices", json={"book": "currency = 1"})) == "prices.invalid"
    book = good(admin.post("/prices", json={"book": BOOK, "effective_at": 0}), 201)
    assert (book["version"], book["prices"][0]["tiers"][0]["micros"]) == (1, 500_000)
    assert good(admin.get("/prices/current")) == book == good(admin.get("/prices"))["items"][0]
    house.usage("default", "default", 3)
    start = now_us() // HOUR * HOUR
    period = {"from": start, "to": start + HOUR}
    invoice = good(admin.post("/invoices", json={"tenant": "default", **period}), 201)
    assert (invoice["total_micros"], invoice["currency"], invoice["state"]) == (1500, "EUR", "draft")
    assert good(admin.get(f"/invoices/{invoice['id']}")) == invoice
    assert good(admin.get("/invoices?tenant=default"))["items"] == [invoice]
    check = good(admin.get(f"/invoices/{invoice['id']}/verify"))
    assert check["matches"]
    assert check["sha256"] == check["recomputed_sha256"] == invoice["sha256"]
    assert code_of(admin.post(f"/invoices/{invoice['id']}/issue")) == "period.invalid"
    assert code_of(admin.post("/invoices", json={"tenant": "nobody", **period})) == "tenant.not_found"
    assert code_of(admin.get("/invoices/inv_0")) == "invoice.not_found"
    asked = f"/usage/focus?from={start}&to={start + HOUR}"
    for path, number in ((asked, ""), (f"/invoices/{invoice['id']}/document?form=focus", invoice["number"])):
        answer = admin.get(path)
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        charges = [*csv.DictReader(answer.text.splitlines())]
        assert sorted((row["SkuMeter"], row["BilledCost"], row["InvoiceId"]) for row in charges) == [
            ("requests", "0.0015", number), ("rows", "0", number),
        ]  # fmt: skip
    assert admin.get("/usage/focus?from=0&to=253402300800000000").status_code == 200  # to the end of the calendar
    assert code_of(admin.get(asked + "&tenant=nobody")) == "tenant.not_found"
    assert code_of(admin.get(asked + "1")) == "period.invalid"
    assert actions(admin) == [("prices.publish", "1"), ("invoice.create", invoice["id"])]


def test_a_quote_prices_what_has_not_run_yet(house: House, admin: httpx.Client, ask: Ask) -> None:
    body = {"endpoint": "digits", "quantities": {"requests": 10, "rows": 100}}
    assert code_of(admin.post("/quote", json=body)) == "endpoint.not_found"
    house.version()
    rollout = good(admin.put("/endpoints/digits", json={"version": "digits@1"}), 202)["rollout"]
    assert code_of(admin.post("/quote", json=body)) == "revision.not_found"
    for state in ("starting", "switching", "draining", "done"):
        house.deployments.move_rollout(rollout["id"], state)  # type: ignore[arg-type]
    assert code_of(admin.post("/quote", json=body)) == "prices.not_found"
    good(admin.post("/prices", json={"book": BOOK + "free = 5\n", "effective_at": 0}), 201)
    quote = good(admin.post("/quote", json=body))
    assert (quote["version"], quote["model"], quote["variant"]) == (1, "digits", "original")
    assert (quote["amount_micros"], quote["at_most_micros"]) == (2500, 5000)
    consumer = ask(house.key("consumer"))
    assert good(consumer.post("/quote", json=body)) == quote
    assert code_of(consumer.post("/quote", json=body | {"tenant": "acme"})) == "tenant.not_found"
    assert code_of(admin.post("/quote", json=body | {"quantities": {"colours": 1}})) == "request.malformed"


def test_usage_is_seen_as_far_as_the_key_reaches(house: House, ask: Ask, admin: httpx.Client) -> None:
    identity = house.platform.identity
    identity.create_tenant("acme")
    identity.create_project("shop", "acme")
    identity.create_project("lab", "acme")
    for project, tenant, requests in (("default", "default", 1), ("shop", "acme", 2), ("lab", "acme", 4)):
        house.usage(project, tenant, requests)

    def requests_of(client: httpx.Client, query: str = "") -> int:
        rows = good(client.get(f"/usage?by=project{query}"))["items"]
        events = good(client.get("/usage/events" + query.replace("&", "?", 1)))["items"]
        total = sum(row["quantities"]["requests"] for row in rows)
        assert sum(event["quantity"] for event in events if event["meter"] == "requests") == total
        return total

    consumer, developer = ask(house.key("consumer", "shop")), ask(house.key("developer", "shop", "tenant"))
    assert [requests_of(client) for client in (consumer, developer, admin)] == [2, 6, 7]
    assert requests_of(consumer, "&project=shop") == 2
    assert requests_of(developer, "&project=lab") == 4
    assert requests_of(admin, "&project=lab") == 4
    for client, project in ((consumer, "lab"), (consumer, "default"), (developer, "default"), (admin, "nobody")):
        for path in ("/usage", "/usage/events"):
            answer = client.get(f"{path}?project={project}")
            assert (answer.status_code, code_of(answer)) == (404, "project.not_found")
    assert good(consumer.get("/usage/events?request_id=req_lab_1"))["items"] == []
    rows = good(admin.get("/usage?by=endpoint,digest"))["items"]
    assert rows == [
        {"by": {"endpoint": "digits", "digest": "sha256:" + "a" * 64}, "quantities": {"requests": 7, "rows": 70}}
    ]
    assert good(admin.get("/usage?by="))["items"][0]["by"] == {}
    page = good(admin.get("/usage/events?limit=3"))
    assert len(page["items"]) == 3
    rest = good(admin.get(f"/usage/events?after={page['next']}"))
    assert len(rest["items"]) == 11
    assert rest["next"] is None


def test_status(house: House, admin: httpx.Client) -> None:
    status = good(admin.get("/status"))
    assert status["counts"]["projects"] == 2
    assert status["processes"] == [{"name": "controller", "state": "running", "pid": 1, "restarts": 0, "started_at": 5}]


def test_the_recipes_of_the_examples_are_taken(house: House, admin: httpx.Client) -> None:
    recipes = [path for path in EXAMPLES.glob("*.toml") if "[train]" in path.read_text("utf-8")]
    assert recipes
    for path in recipes:
        made = good(admin.post("/runs", json={"recipe": path.read_text("utf-8"), "filename": path.name}), 202)
        job = house.platform.jobs.get(made["job"])
        assert (job.kind, job.spec["filename"]) == ("train", path.name)


def test_a_developer_may_not_have_any_file_of_the_server_read(house: House, ask: Ask, admin: httpx.Client) -> None:
    recipe = 'name = "x"\n[prepare]\nsource = {source}\ntarget = "y"\n[train]\nalgorithm = "decision_tree"\n'
    developer = ask(house.key("developer"))

    def start(client: httpx.Client, source: str) -> httpx.Response:
        return client.post("/runs", json={"recipe": recipe.format(source=source)})

    outside = ('"csv:/etc/passwd"', '["sklearn:digits", "npz:/root/secret.npz"]', '"csv:/usr/share/datasets/../x.csv"')
    for source in outside:
        assert code_of(start(developer, source)) == "dataset.forbidden"
    good(start(developer, '"csv:/usr/share/datasets/some.csv"'), 202)
    good(start(admin, '"csv:/srv/any.csv"'), 202)


def test_a_developer_may_not_have_code_run_by_the_server(house: House, ask: Ask, admin: httpx.Client) -> None:
    recipe = (EXAMPLES / "xor.toml").read_text("utf-8").replace("csv:/tmp", "csv:/usr/share/datasets")
    for path in ("/runs", "/runs/quote"):
        assert code_of(ask(house.key("developer")).post(path, json={"recipe": recipe})) == "code.forbidden"
        good(admin.post(path, json={"recipe": recipe}), 202)


def test_the_audit_log_is_searched_proved_and_erased(house: House, admin: httpx.Client, ask: Ask) -> None:
    good(admin.post("/tenants", json={"name": "jane-doe"}, headers={"x-forwarded-for": "192.0.2.7"}), 201)
    good(admin.post("/projects", json={"name": "lab", "tenant": "jane-doe"}), 201)
    good(admin.put("/parties/jane-doe", json={"title": "Jane Doe"}))
    house.usage("lab", "jane-doe", 2)
    record = good(admin.get("/audit?action=tenant&target=jane-doe"))["items"][0]
    assert (record["action"], record["address"], record["erased"]) == ("tenant.create", "192.0.2.7", [])
    assert good(admin.get(f"/audit?from={record['at'] + 1}&action=tenant"))["items"] == []
    head = good(admin.get("/audit/head"))
    assert good(admin.get(f"/audit/inclusion?seq={record['seq']}"))["head"] == head
    assert good(admin.get("/audit/consistency?first=1"))["first"] == 1
    assert code_of(admin.get("/audit/inclusion?seq=999")) == "audit.not_found"
    assert good(admin.get("/audit/key"))["public_key"].startswith("-----BEGIN PUBLIC KEY-----")
    assert good(admin.get("/audit/verify?usage=true"))["usage"] == {"events": 4, "folds": 1}

    assert ask(house.key("developer")).post("/erasures", json={"subject": "jane-doe"}).status_code == 403
    erased = good(admin.post("/erasures", json={"subject": "jane-doe"}))
    assert (erased["records"], erased["words"], erased["party"]) == (4, 8, True)
    assert "jane-doe" not in admin.get("/audit").text + admin.get("/audit/records").text + admin.get("/parties").text
    assert good(admin.get("/audit?action=tenant"))["items"][0]["erased"] == ["details.after", "details.of", "target"]
    assert good(admin.get("/audit/verify?usage=true"))["erased"] == 5
