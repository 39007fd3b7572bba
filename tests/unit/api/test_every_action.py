"""Every action of the control API leaves a record that says what was before, what is after, and whom it concerns.

The actions are found in the source: one that this walk does not take fails the test.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import mofang
from mofang.base.audit.chain import ERASURE, AuditRecord
from mofang.base.domain.names import now_us
from mofang.sell.meter.witness import FOLD, SERIES
from mofang.surface.api.app import create_app
from mofang.surface.api.refusals import ACTION
from platforms import Direct, House, open_house

if TYPE_CHECKING:
    from conftest import Ask

SECRET = "correct horse battery"
HOUR = 3_600_000_000
RECIPE = 'name = "digits"\n[prepare]\nsource = "sklearn:digits"\n[train]\nalgorithm = "logistic_regression"\n'
BOOK = 'currency = "EUR"\n[[price]]\nmeter = "requests"\nper = 1\namount = "1"\n'


def actions_in_source() -> set[str]:
    """Return all actions that code records: words with a dot, given to a method that is called record or the like."""
    found = {FOLD, SERIES, ERASURE, ACTION}
    for path in (Path(mofang.__file__).parent / "surface" / "api").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") in ("record", "_move", "_submit"):
                words = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
                found |= {word for word in words if isinstance(word, str) and "." in word}
    return found


class Walk:
    """Asks the API as the owner; what fails ends the test."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def __call__(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._client.request(method, path, json=body)
        assert answer.is_success, (method, path, answer.text)
        return answer.json() if answer.content else None


def take_every_action(house: House, admin: httpx.Client, ask: Ask) -> None:
    go = Walk(admin)
    go("POST", "/tenants", {"name": "acme"})
    go("PUT", "/tenants/acme/weight", {"weight": 200})
    go("POST", "/projects", {"name": "shop", "tenant": "acme"})
    key = go("POST", "/keys", {"project": "shop"})["id"]
    go("POST", f"/keys/{key}/rotate", {"overlap_seconds": 5})
    go("DELETE", f"/keys/{key}")
    go("PUT", "/limits/tenant/acme", {"concurrency": 3})
    go("PUT", "/limits/tenant/acme", {"concurrency": 4})
    budget = go("PUT", "/budgets", {"scope": "tenant", "name": "acme", "unit": "requests", "amount": 5})["id"]
    go("POST", f"/budgets/{budget}/top-up", {"amount": 1})
    go("PUT", f"/budgets/{budget}/alerts", {"percent": 80, "url": "https://example.org/hook"})
    go("DELETE", f"/budgets/{budget}/alerts")
    go("DELETE", f"/budgets/{budget}")
    _take_actions_on_models(house, go)
    _take_actions_on_people(go, Walk(ask("")), ask)
    _take_actions_on_money(house, go)
    _take_actions_on_batches(admin, go)
    go("POST", "/erasures", {"subject": "ada"})


def _take_actions_on_batches(admin: httpx.Client, go: Walk) -> None:
    line = b'{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {}}'
    file = admin.post("/files", files={"file": ("in.jsonl", line)}, data={"purpose": "batch"}).json()["id"]
    batch = go("POST", "/batches", {"input_file_id": file, "endpoint": "/v1/completions"})["id"]
    go("POST", f"/batches/{batch}/cancel")
    go("DELETE", f"/files/{file}")


def _take_actions_on_models(house: House, go: Walk) -> None:
    house.version()
    sha256 = house.platform.blobs.put([b"m"]).sha256
    house.platform.owners.claim("upload", sha256)
    go("POST", "/models/digits/versions", {"files": [{"path": "m", "sha256": sha256, "size_bytes": 1}]})
    go("PUT", "/models/digits/aliases/champion", {"version": 1})
    go("POST", "/evaluations", {"version": "digits@1"})
    go("POST", "/variants", {"version": "digits@1"})
    go("POST", "/tunings", {"version": "digits@1"})
    go("POST", "/exports", {"version": "digits@1"})
    go("POST", "/runs", {"recipe": RECIPE})
    go("POST", "/runs/prepare", {"recipe": RECIPE})
    job = go("POST", "/runs/quote", {"recipe": RECIPE})["job"]
    go("POST", f"/jobs/{job}/cancel")
    for _ in range(2):
        rollout = go("PUT", "/endpoints/digits", {"version": "digits@1"})["rollout"]["id"]
        for state in ("draining", "done"):
            house.deployments.move_rollout(rollout, state)  # type: ignore[arg-type]
    rollout = go("POST", "/endpoints/digits/rollback", {"revision": 1})["rollout"]["id"]
    for state in ("draining", "done"):
        house.deployments.move_rollout(rollout, state)  # type: ignore[arg-type]
    go("PUT", "/endpoints/digits/audience", {"everyone": True})
    go("DELETE", "/endpoints/digits")


def _take_actions_on_people(go: Walk, anybody: Walk, ask: Ask) -> None:
    go("POST", "/users", {"name": "ada", "grant": {"role": "viewer", "project": "shop"}})
    code = go("POST", "/users/ada/code")["code"]
    anybody("POST", "/sign-in/code", {"user": "ada", "code": code, "password": SECRET})
    wrong = ask("").post("/sign-in", json={"user": "ada", "password": SECRET + "!"})
    assert wrong.status_code == 401
    token = anybody("POST", "/sign-in", {"user": "ada", "password": SECRET})["token"]
    Walk(ask(token))("POST", "/sign-out")
    go("PUT", "/users/ada/grants", {"role": "auditor", "project": "shop"})
    go("DELETE", "/users/ada/grants?project=shop")
    go("PUT", "/users/ada/grants", {"role": "auditor", "tenant": "acme"})
    go("DELETE", "/users/ada")


def _take_actions_on_money(house: House, go: Walk) -> None:
    go("POST", "/prices", {"book": BOOK, "effective_at": 0})
    end = (now_us() // HOUR) * HOUR
    house.usage("shop", "acme", 3, at=end - HOUR)
    for kind in ("paid", "void"):
        at = end - HOUR if kind == "paid" else end - 2 * HOUR
        invoice = go("POST", "/invoices", {"tenant": "acme", "from": at, "to": at + HOUR})["id"]
        if kind == "void":
            go("POST", f"/invoices/{invoice}/void")
            continue
        go("POST", f"/invoices/{invoice}/issue")
        go("POST", f"/invoices/{invoice}/pay")
        go("POST", f"/invoices/{invoice}/credit", {"reason": "a gift"})
    go("PUT", "/parties/acme", {"title": "Acme", "email": "ada@acme.example"})


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Ask]]:
    """A platform on which every action was taken."""
    with open_house(tmp_path_factory.mktemp("house")) as house:
        direct = Direct(create_app(house.platform))

        def ask(key: str) -> httpx.Client:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            return httpx.Client(base_url="http://mofang/api/v1", headers=headers, transport=direct)

        take_every_action(house, ask(house.admin_key), ask)
        yield house, ask
        direct.close()


def test_every_action_says_what_was_before_and_what_is_after(walked: tuple[House, Ask]) -> None:
    house, _ = walked
    records = house.platform.audit.list(limit=1000)
    assert {record.action for record in records} == actions_in_source()
    for record in records:
        assert {"details.before", "details.after"} <= record.commitments.keys(), record
    assert house.platform.audit.verify().records == len(records)


def _changes(records: list[AuditRecord]) -> Iterator[tuple[str, Any, Any]]:
    for record in records:
        yield record.action, record.details.get("before"), record.details.get("after")


def test_what_was_after_is_what_is_before_the_next_time(walked: tuple[House, Ask]) -> None:
    house, _ = walked
    told: dict[str, list[tuple[Any, Any]]] = {}
    for action, before, after in _changes([*house.platform.audit.list(limit=1000)]):
        told.setdefault(action, []).append((before, after))
    for made, changed, removed in (
        ("budget.set", "budget.top_up", "budget.remove"),
        ("key.create", "key.rotate", "key.revoke"),
        ("invoice.create", "invoice.issue", "invoice.pay"),
    ):
        assert told[made][0][0] is None
        assert told[made][0][1] == told[changed][0][0] != told[changed][0][1]
        assert told[changed][0][1] == told[removed][0][0] != told[removed][0][1]
    (none, first), (known, second) = told["limits.set"]
    assert none is None
    assert (first, known["concurrency"], second["concurrency"]) == (known, 3, 4)
    assert [before and before["revision"] for before, _ in told["endpoint.deploy"]] == [None, 1]
    assert [after["revision"] for _, after in told["endpoint.deploy"]] == [1, 2]
    assert [(before["revision"], after["revision"]) for before, after in told["endpoint.roll_back"]] == [(2, 1)]
    assert told["endpoint.delete"][0][1] is None
    assert told["tenant.weigh"] == [({"weight": 100}, {"weight": 200})]
    assert told["user.grant"][0] == ({"grant": "viewer of project shop"}, {"grant": "auditor of project shop"})


def test_a_tenants_auditor_sees_what_concerns_her_and_nothing_else(walked: tuple[House, Ask]) -> None:
    house, ask = walked
    auditor, project = (ask(house.key("auditor", "shop", reach)) for reach in ("tenant", "project"))
    seen = auditor.get("/audit?limit=1000").json()["items"]
    assert {name.split("/")[0] for record in seen for name in record["details"].get("of", ["acme"])} == {"acme"}
    assert {record["action"].split(".")[0] for record in seen} == {
        "tenant", "project", "key", "limits", "budget", "user", "session", "invoice", "party"
    }  # fmt: skip
    own = project.get("/audit?limit=1000").json()["items"]
    assert {record["action"].split(".")[0] for record in own} == {"project", "key", "user", "session"}
    assert {record["seq"] for record in own} < {record["seq"] for record in seen}
    sealed = auditor.get("/audit/records?limit=1000&proofs=true").json()["items"]
    assert [record["proof"]["seq"] for record in sealed] == [record["seq"] for record in seen]
    for path in ("/audit/head", "/audit/key", "/audit/consistency?first=1", f"/audit/inclusion?seq={seen[0]['seq']}"):
        assert auditor.get(path).status_code == 200, path
    assert auditor.get("/audit/verify").json()["code"] == "key.reach", "that takes every record"
    stranger = ask(house.key("auditor", "default", "tenant"))
    theirs = stranger.get("/audit?limit=1000").json()["items"]
    assert {record["seq"] for record in theirs}.isdisjoint(record["seq"] for record in seen)


def test_failed_sign_ins_are_on_record_and_cannot_fill_the_disk(house: House, admin: httpx.Client, ask: Ask) -> None:
    admin.post("/users", json={"name": "ada", "grant": {"role": "viewer", "project": "default"}})
    anybody = ask("")
    for number in range(60):
        name = "ada" if number % 2 else f"hunter2-{number}"
        refused = anybody.post(
            "/sign-in",
            json={"user": name, "password": "x" * 12},
            headers={"x-forwarded-for": f"192.0.2.{number % 30}"},
        )
        assert refused.status_code in (401, 429)
    house.platform.refusals.flush(early=True)
    records = house.platform.audit.list(action=ACTION, limit=1000)
    assert sum(record.details["failures"] for record in records) == 60
    assert len(records) <= 41
    assert {record.target for record in records} == {"ada", ""}, "what is no user's name may be somebody's password"
    assert "hunter2" not in admin.get("/audit?limit=1000").text
    auditor = ask(house.key("auditor"))
    assert {record["target"] for record in auditor.get("/audit?action=session").json()["items"]} == {"ada"}
