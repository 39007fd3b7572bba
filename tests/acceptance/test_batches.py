"""A batch on a real server: answered line by line, billed exactly, and not again when its job is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from servers import Server, starting, wait_until

LINES = 60
TEXT = "«" + "x" * 40 + "»"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose endpoint ``mini`` is another server's model, scripted."""
    program, pipe = Path(__file__).parents[1] / "chat_server.py", subprocess.PIPE
    folder = tmp_path_factory.mktemp("batches")
    with subprocess.Popen([sys.executable, str(program)], stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        port, key = other.stdout.readline().split()
        file, described = folder / "upstreams.toml", folder / "upstream.json"
        file.write_text(f'[other]\nbase_url = "http://127.0.0.1:{port}/v1"\nkey_env = "OTHER_KEY"\n')
        described.write_text(json.dumps({"upstream": "other", "model": "smol"}))
        with starting(folder) as start:
            server: Server = start(MOFANG_UPSTREAMS=str(file), OTHER_KEY=key)
            job = server.client.jobs.wait(server.client.register.push("mini", [described], engine="upstream").id)
            server.client.deploy.roll_out("mini", f"mini@{job.result['version']}")
            yield server
        other.communicate("", timeout=20)


def submit(client: httpx.Client, lines: list[dict[str, Any]]) -> str:
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    sent = client.post("/v1/files", files={"file": ("in.jsonl", content)}, data={"purpose": "batch"})
    assert sent.status_code == 200, sent.text
    made = client.post("/v1/batches", json={"input_file_id": sent.json()["id"], "endpoint": "/v1/chat/completions",
                                            "completion_window": "24h"})  # fmt: skip
    assert made.status_code == 200, made.text
    batch: str = made.json()["id"]
    return batch


def ended(client: httpx.Client, batch: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def done() -> bool:
        found.update(client.get(f"/v1/batches/{batch}").json())
        return found["status"] in ("completed", "failed", "cancelled")

    wait_until(done, 90, f"the end of batch {batch}")
    return found


def line(number: int, **body: Any) -> dict[str, Any]:
    asked = {"model": "mini", "messages": [{"role": "user", "content": TEXT}], **body}
    return {"custom_id": f"line {number}", "method": "POST", "url": "/v1/chat/completions", "body": asked}


def usage(server: Server, key: str) -> dict[str, int]:
    rows = server.client.meter.usage(["key_id"]).items
    return next((row.quantities for row in rows if row.by["key_id"] == key), {})


def test_a_batch_is_answered_and_billed_to_its_key_though_its_job_is_killed(served: Server) -> None:
    made = served.client.identity.create_key("default")
    with httpx.Client(base_url=served.url, headers={"authorization": f"Bearer {made.key}"}, timeout=30) as client:
        batch = submit(client, [line(number) for number in range(LINES)] + [line(LINES, temperature=9)])

        def under_way() -> bool:
            return 0 < client.get(f"/v1/batches/{batch}").json()["request_counts"]["completed"] < LINES

        wait_until(under_way, 60, "some answers")
        pid = served.process(f"job/{batch}").pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        found = ended(client, batch)
        assert found["status"] == "completed", found
        assert found["request_counts"] == {"total": LINES + 1, "completed": LINES, "failed": 1}
        output = client.get(f"/v1/files/{found['output_file_id']}/content").text.splitlines()
        answers = {each["custom_id"]: each for each in map(json.loads, output)}
        assert answers.keys() == {f"line {number}" for number in range(LINES)}
        bodies = [each["response"]["body"] for each in answers.values()]
        assert {body["choices"][0]["message"]["content"] for body in bodies} == {"x" * 40}
        [wrong] = client.get(f"/v1/files/{found['error_file_id']}/content").text.splitlines()
        assert json.loads(wrong)["response"]["body"]["error"]["param"] == "temperature"
        tokens = {"batch_requests": LINES, "batch_output_tokens": 40 * LINES,
                  "batch_input_tokens": sum(body["usage"]["prompt_tokens"] for body in bodies)}  # fmt: skip
        wait_until(lambda: usage(served, made.id).get("batch_requests", 0) >= LINES, 30, "the usage of the batch")
        used = usage(served, made.id)
        assert tokens.items() <= used.items()
        assert not {"requests", "input_tokens", "output_tokens"} & used.keys()  # they may have another price
        # What the job that was killed had asked was computed twice and is billed once.
        assert all(row.difference >= 0 for row in served.client.meter.reconcile().items)


def test_a_revoked_key_asks_no_more(served: Server) -> None:
    made = served.client.identity.create_key("default")
    admin = {"authorization": f"Bearer {served.key}"}
    with httpx.Client(base_url=served.url, headers={"authorization": f"Bearer {made.key}"}, timeout=30) as client:
        content = json.dumps(line(1)).encode()
        file = client.post("/v1/files", files={"file": ("in.jsonl", content)}, data={"purpose": "batch"}).json()["id"]
        batch = submit(client, [line(number) for number in range(LINES)])
        served.client.identity.revoke_key(made.id)
    with httpx.Client(base_url=served.url, headers=admin, timeout=30) as client:
        found = ended(client, batch)
        counts = found["request_counts"]
        assert counts["completed"] + counts["failed"] == counts["total"] == LINES
        errors = client.get(f"/v1/files/{found['error_file_id']}/content").text if found["error_file_id"] else ""
        assert counts["failed"] == errors.count('"status_code":401')
        assert client.get(f"/v1/files/{file}").status_code == 200


def test_no_word_of_a_deputy_is_taken_from_outside(served: Server) -> None:
    for said in ("mfd_abc_9999999999999999_" + "0" * 64, "mfd_", "mfd_x_1_y"):
        headers = {"authorization": f"Bearer {said}"}
        for path in ("/v1/models", "/v2", "/api/v1/whoami"):
            assert httpx.get(served.url + path, headers=headers).status_code == 401, (path, said)


def test_what_is_wrong_with_a_file_is_said_as_openai_says_it(served: Server) -> None:
    def refused(answer: httpx.Response) -> tuple[int, str, str, str]:
        said = answer.json()["error"]
        assert set(said) == {"message", "type", "param", "code"}
        return answer.status_code, said["type"], said["code"], said["message"]

    made = served.client.identity.create_key("default")
    with httpx.Client(base_url=served.url, headers={"authorization": f"Bearer {made.key}"}, timeout=30) as client:
        assert refused(client.get("/v1/files/file_none"))[:3] == (404, "invalid_request_error", "file.not_found")
        sent = client.post("/v1/files", files={"file": ("in.jsonl", b"no json\n")}, data={"purpose": "batch"}).json()
        asked = {"input_file_id": sent["id"], "endpoint": "/v1/completions", "completion_window": "24h"}
        status, kind, _, message = refused(client.post("/v1/batches", json=asked))
        assert (status, kind) == (400, "invalid_request_error")
        assert "line 1" in message
        stranger = client.get("/v1/files", headers={"authorization": "Bearer mf_stranger"})
        assert refused(stranger)[:2] == (401, "authentication_error")
        assert "www-authenticate" in stranger.headers
