"""Files and batches over the control API: stored, checked line by line, listed, cancelled; each project its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx

from platforms import House

if TYPE_CHECKING:
    from conftest import Ask

ASKED = {"method": "POST", "url": "/v1/completions", "body": {"model": "m"}}
LINES = b"".join(json.dumps({"custom_id": f"{number}", **ASKED}).encode() + b"\n" for number in range(3))


def put(client: httpx.Client, content: bytes = LINES, **fields: Any) -> httpx.Response:
    return client.post("/files", files={"file": ("in.jsonl", content)}, data={"purpose": "batch", **fields})


def test_a_file_becomes_a_batch_of_the_key_that_asks(house: House, ask: Ask) -> None:
    client = ask(house.key("consumer"))
    file = put(client).json()
    assert (file["object"], file["bytes"], file["filename"], file["purpose"]) == (
        "file", len(LINES), "in.jsonl", "batch")  # fmt: skip
    assert client.get(f"/files/{file['id']}").json() == file
    assert client.get(f"/files/{file['id']}/content").content == LINES
    wanted = {"input_file_id": file["id"], "endpoint": "/v1/completions", "completion_window": "24h"}
    batch = client.post("/batches", json={**wanted, "metadata": {"a": "b"}}).json()
    assert wanted.items() <= batch.items()
    assert (batch["object"], batch["status"], batch["metadata"]) == ("batch", "validating", {"a": "b"})
    assert batch["request_counts"] == {"total": 3, "completed": 0, "failed": 0}
    [job] = house.platform.jobs.list("batch")
    assert (job.id, job.spec["key"]) == (batch["id"], client.get("/whoami").json()["key_id"])
    assert [each["id"] for each in client.get("/batches").json()["data"]] == [batch["id"]]
    assert client.post(f"/batches/{batch['id']}/cancel").json()["status"] == "cancelled"
    assert client.get(f"/batches/{batch['id']}").json()["status"] == "cancelled"
    assert client.delete(f"/files/{file['id']}").json() == {"id": file["id"], "object": "file", "deleted": True}
    assert client.get(f"/files/{file['id']}").status_code == 404


def test_what_a_batch_wrote_is_found_with_it(house: House, ask: Ask) -> None:
    client = ask(house.key("consumer"))
    asked = {"input_file_id": put(client).json()["id"], "endpoint": "/v1/completions"}
    batch = client.post("/batches", json=asked).json()["id"]
    jobs = house.platform.jobs
    lease = jobs.claim(batch, "w", 60)
    assert lease is not None
    jobs.report(lease, "batch", 1.0, "", {"total": 3, "completed": 2, "failed": 1})
    with house.platform.acting(jobs.owner(batch)):
        blob = house.platform.blobs.put([b"{}\n"])
        file = house.platform.files.add("out", "batch_output", blob.sha256, 3, batch)
        assert house.platform.files.add("out", "batch_output", blob.sha256, 3, batch) == file  # once, however often
    jobs.succeed(lease, {})
    found = client.get(f"/batches/{batch}").json()
    assert (found["status"], found["output_file_id"], found["error_file_id"]) == ("completed", file.id, None)
    assert found["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    assert client.get(f"/files/{file.id}/content").content == b"{}\n"


def test_files_are_listed_page_by_page(house: House, ask: Ask) -> None:
    client = ask(house.key("consumer"))
    made = [put(client).json()["id"] for _ in range(3)]
    first = client.get("/files", params={"limit": 2}).json()
    assert ([each["id"] for each in first["data"]], first["has_more"]) == (made[:0:-1], True)
    rest = client.get("/files", params={"limit": 2, "after": first["last_id"]}).json()
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == (made[:1], False)


def test_what_is_wrong_is_told_and_another_project_sees_nothing(house: House, ask: Ask) -> None:
    admin = ask(house.admin_key)
    admin.post("/projects", json={"name": "other"})
    mine, theirs = ask(house.key("consumer")), ask(house.key("consumer", "other"))
    file = put(mine).json()["id"]
    batch = mine.post("/batches", json={"input_file_id": file, "endpoint": "/v1/completions"}).json()["id"]
    for method, path in (("GET", f"/files/{file}"), ("GET", f"/files/{file}/content"), ("DELETE", f"/files/{file}"),
                         ("GET", f"/batches/{batch}"), ("POST", f"/batches/{batch}/cancel")):  # fmt: skip
        assert theirs.request(method, path).status_code == 404, path
    assert theirs.get("/files").json()["data"] == theirs.get("/batches").json()["data"] == []
    assert theirs.post("/batches", json={"input_file_id": file, "endpoint": "/v1/completions"}).status_code == 404
    assert put(mine, purpose="assistants").status_code == 400
    assert mine.post("/files", data={"purpose": "batch"}).status_code == 400
    for endpoint in ("/v1/embeddings", "/v1/nothing", "/v2/models/x/infer"):
        answer = mine.post("/batches", json={"input_file_id": file, "endpoint": endpoint})
        assert (answer.status_code, answer.json()["code"]) == (400, "batch.invalid"), endpoint
    bad = put(mine, LINES + b"{broken").json()["id"]
    answer = mine.post("/batches", json={"input_file_id": bad, "endpoint": "/v1/completions"})
    assert "line 4" in answer.json()["detail"]
    assert ask(house.key("viewer")).get("/files").status_code == 403
