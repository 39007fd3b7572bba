"""The client against the real control API over a real connection: nouns in, nouns out, errors as they were raised."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import pytest

from mofang import Client
from mofang.base.domain.access import ApiKey
from mofang.base.domain.errors import (
    DeadlineExceeded,
    EndpointNotFound,
    Forbidden,
    GateFailed,
    InvalidModel,
    InvalidName,
    InvalidPriceBook,
    InvalidRecipe,
    JobCancelled,
    JobEnded,
    ModelNotFound,
    PriceBookNotFound,
    ProjectExists,
    RequestTooLarge,
    RolloutFailed,
    RolloutInProgress,
    UnknownKey,
)
from mofang.base.domain.names import now_us
from mofang.base.domain.work import JobEvent
from mofang.base.jobs.store import Lease
from mofang.surface.api.app import create_app
from mofang.surface.sdk.identity import NewApiKey
from mofang.surface.sdk.pages import PAGE
from platforms import House, open_house, serving

BOOK = 'currency = "EUR"\n[[price]]\nmeter = "requests"\nper = 1000\namount = "0.50"\n'
HOUR = 3_600_000_000


def claim(home: House, job: str) -> Lease:
    lease = home.platform.jobs.claim(job, "worker", 60)
    assert lease is not None
    return lease


def test_projects_and_keys(home: House) -> None:
    with serving(create_app(home.platform)) as url, Client(url, home.admin_key) as client:
        make_and_revoke(client)


def make_and_revoke(client: Client) -> None:
    project = client.identity.create_project("shop")
    assert project in client.identity.list_projects()
    assert [tenant.name for tenant in client.identity.list_tenants()] == ["default"]
    with pytest.raises(ProjectExists, match="'shop' exists already"):
        client.identity.create_project("shop")
    made = client.identity.create_key("shop", role="developer", name="ci", expires_in_seconds=60)
    assert isinstance(made, NewApiKey)
    assert made.key not in repr(made)
    limits = client.identity.set_limits("key", made.id, requests_per_minute=60)
    assert client.identity.list_limits() == [limits]
    assert (limits.name, limits.requests_per_minute, limits.concurrency) == (made.id, 60, None)
    (listed,) = client.identity.list_keys("shop")
    scoped = client.identity.create_key("default", endpoints=["digits"])
    rotated = client.identity.rotate_key(scoped.id, overlap_seconds=60)
    assert (scoped.endpoints, rotated.endpoints) == (("digits",), ("digits",))
    assert isinstance(listed, ApiKey)
    assert (listed.id, listed.role, listed.name, listed.revoked_at) == (made.id, "developer", "ci", None)
    with Client(client.url, made.key) as developer:
        with pytest.raises(Forbidden):
            developer.identity.list_projects()
        assert client.identity.revoke_key(made.id).revoked_at
        with pytest.raises(UnknownKey):
            developer.register.list_models()


def test_errors_keep_their_hint(client: Client) -> None:
    with pytest.raises(ModelNotFound) as caught:
        client.register.get_model("nothing")
    assert caught.value.hint == ModelNotFound.hint
    with pytest.raises(InvalidName):
        client.register.get_model("UPPER")


def test_pushing_files(home: House, client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "parts").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph" * 300_000)
    (folder / "parts" / "weights.bin").write_bytes(b"weights")
    seen: list[tuple[int, int]] = []
    job = client.register.push("digits", folder, on_progress=lambda sent, total: seen.append((sent, total)))
    assert (job.kind, job.state, job.spec["model"]) == ("push", "queued", "digits")
    files = {entry["path"]: entry for entry in job.spec["files"]}
    assert set(files) == {"model.onnx", "parts/weights.bin"}
    assert home.platform.blobs.read(files["parts/weights.bin"]["sha256"]) == b"weights"
    assert seen[-1] == (1_500_007, 1_500_007)
    assert seen == sorted(seen)
    single = client.register.push("digits", tmp_path / "model" / "parts" / "weights.bin")
    assert [entry["path"] for entry in single.spec["files"]] == ["weights.bin"]
    with pytest.raises(InvalidModel, match="is no file"):
        client.register.push("digits", tmp_path / "nothing")


def test_a_file_over_the_limit_is_refused_as_such(tmp_path: Path) -> None:
    big = tmp_path / "big.onnx"
    big.write_bytes(b"x" * (8 << 20))
    with (
        open_house(tmp_path, upload_limit_bytes=1000) as home,
        serving(create_app(home.platform)) as url,
        Client(url, home.admin_key) as client,
        pytest.raises(RequestTooLarge, match="over 1000 bytes"),
    ):
        client.register.push("digits", big)


def test_models_and_versions(home: House, client: Client) -> None:
    first, second = home.version(content=b"one"), home.version(content=b"two")
    assert client.register.get_version("digits") == second
    assert client.register.list_versions("digits") == [second, first]
    promoted = client.register.promote("digits", 1)
    assert promoted.aliases == ("champion",)
    assert client.register.get_version("digits@champion").digest == first.digest
    (model,) = client.register.list_models()
    assert (model.name, model.versions, model.newest, model.aliases) == ("digits", 2, 2, {"champion": 1})
    assert client.register.get_model("digits") == model


def test_lists_are_walked_page_by_page(home: House, client: Client) -> None:
    with home.database.write():
        for number in range(PAGE + 50):
            home.platform.audit.append("test", "count", str(number), before=None, after=None)
    records = list(client.audit.records())
    assert [record.target for record in records] == [str(number) for number in range(PAGE + 50)]
    assert len(list(client.audit.records(after=400, limit=30))) == 30
    assert client.audit.verify().records == PAGE + 50


def test_a_job_is_followed_to_its_result(home: House, client: Client) -> None:
    home.version()
    job = client.compress.run("digits", max_drop=0.01)
    lease = claim(home, job.id)
    events: list[JobEvent] = []

    def on_event(event: JobEvent) -> None:  # the worker goes on when the client has seen what it told
        events.append(event)
        if event.message == "quantised":
            home.platform.jobs.succeed(lease, {"variant": {"accepted": True}})

    home.platform.jobs.report(lease, "compress", 0.5, "quantised", {"bytes": 10})
    done = client.jobs.wait(job, on_event)
    assert (done.state, done.result) == ("succeeded", {"variant": {"accepted": True}})
    assert "quantised" in [event.message for event in events]
    assert [event.seq for event in events] == sorted({event.seq for event in events})
    assert client.jobs.get(job.id, wait_seconds=5) == done
    assert [one.id for one in client.jobs.list(kind="compress")] == [job.id]
    with pytest.raises(JobEnded):
        client.jobs.cancel(job.id)


def test_a_failed_job_raises_its_own_error(home: House, client: Client) -> None:
    home.version()
    job = client.evaluate.run("digits", gate="accuracy >= 0.9")
    failure = {"code": "gate.failed", "message": "accuracy is 0.71", "hint": "train longer"}
    home.platform.jobs.fail(claim(home, job.id), failure)
    with pytest.raises(GateFailed, match=r"accuracy is 0\.71") as caught:
        client.jobs.wait(job)
    assert caught.value.hint == "train longer"


def test_a_cancelled_job_and_one_that_takes_too_long(home: House, client: Client) -> None:
    home.version()
    job = client.compress.run("digits")
    with pytest.raises(DeadlineExceeded):
        client.jobs.wait(job, timeout_seconds=0.2)
    assert client.jobs.cancel(job.id).state == "cancelled"
    with pytest.raises(JobCancelled):
        client.jobs.wait(job.id)


def test_a_recipe_is_a_path_or_a_text(client: Client, tmp_path: Path) -> None:
    recipe = Path(__file__).parents[3] / "examples" / "digits.toml"
    job = client.train.run(recipe)
    assert (job.kind, job.spec) == ("train", {"recipe": recipe.read_text("utf-8"), "filename": "digits.toml"})
    with pytest.raises(InvalidRecipe, match=r"recipe\.toml"):
        client.train.run("[prepair]\n")
    assert client.train.list_runs() == []
    assert client.prepare.list_datasets() == []


def test_rolling_out_waits_and_tells_why_not(home: House, client: Client) -> None:
    home.version()
    started = client.deploy.roll_out("digits", placement="thread", wait=False)
    assert (started.state, started.to_revision) == ("pending", 1)
    with pytest.raises(RolloutInProgress):
        client.deploy.roll_out("digits", wait=False)
    with pytest.raises(DeadlineExceeded):
        client.deploy.wait(started.id, timeout_seconds=0.2)
    detail = client.deploy.get_endpoint("digits")
    assert (detail.endpoint.name, detail.active, detail.revisions[0].placement) == ("digits", None, "thread")
    assert client.deploy.list_endpoints()[0].rollout == started
    with pytest.raises(EndpointNotFound):
        client.deploy.get_endpoint("other")


def test_a_refused_rollout_raises_its_reason(home: House, client: Client) -> None:
    home.version()
    started = client.deploy.roll_out("digits", wait=False)
    ending = threading.Timer(
        0.2, lambda: home.deployments.move_rollout(started.id, "failed", "the warm-up answered NaN")
    )
    ending.start()
    with pytest.raises(RolloutFailed, match="the warm-up answered NaN"):
        client.deploy.wait(started.id, timeout_seconds=20)
    ending.join()


def test_usage_prices_and_invoices(home: House, client: Client) -> None:
    with pytest.raises(PriceBookNotFound):
        client.bill.current_prices()
    with pytest.raises(InvalidPriceBook):
        client.bill.set_prices("currency = 3")
    book = client.bill.set_prices(BOOK, effective_at=0)
    assert client.bill.list_prices() == [book]
    home.usage("default", "default", 3)
    report = client.meter.usage(["project", "endpoint"])
    (row,) = report.items
    assert (row.by, row.quantities["requests"]) == ({"project": "default", "endpoint": "digits"}, 3)
    events = list(client.meter.events(project="default"))
    assert len(events) == 6
    assert {event.request_id for event in client.meter.events(request_id="req_default_1")} == {"req_default_1"}
    start = now_us() // HOUR * HOUR
    invoice = client.bill.create_invoice(start=start, end=start + HOUR)
    assert str(invoice.total) == "0.0015 EUR"
    assert client.bill.get_invoice(invoice.id) == invoice
    assert client.bill.list_invoices(tenant="default") == [invoice]
    assert client.bill.verify_invoice(invoice.id).matches


def test_a_unix_socket_does_as_well(home: House) -> None:
    with tempfile.TemporaryDirectory() as folder:  # short: such a path has at most 107 characters
        app = create_app(home.platform)
        with serving(app, Path(folder) / "s") as url, Client(url, home.admin_key) as client:
            assert client.operate.status().version == "0.1.0"


def test_status_and_description(client: Client) -> None:
    status = client.operate.status()
    assert (status.version, status.processes[0].name) == ("0.1.0", "controller")
    assert "/api/v1/models" in client.operate.openapi()["paths"]
