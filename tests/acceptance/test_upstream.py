"""A model of another server behind an endpoint of ours: pushed, deployed, asked, metered; its key is nowhere."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from servers import Server, starting, wait_until

TALK = {"model": "mini", "messages": [{"role": "user", "content": "«hello you»"}]}


@pytest.fixture(scope="module")
def other() -> Iterator[tuple[str, str]]:
    """The URL and the key of another server."""
    program, pipe = Path(__file__).parents[1] / "chat_server.py", subprocess.PIPE
    with subprocess.Popen([sys.executable, str(program)], stdin=pipe, stdout=pipe, text=True) as running:
        assert running.stdout is not None
        port, key = running.stdout.readline().split()
        yield f"http://127.0.0.1:{port}/v1", key
        running.communicate("", timeout=20)


def test_it_is_a_model_like_any_other(other: tuple[str, str], tmp_path: Path) -> None:
    url, key = other
    file, described = tmp_path / "upstreams.toml", tmp_path / "upstream.json"
    file.write_text(f'[other]\nbase_url = "{url}"\nkey_env = "OTHER_KEY"\n')
    described.write_text(json.dumps({"upstream": "other", "model": "smol"}))
    with starting(tmp_path) as start:
        server: Server = start(MOFANG_UPSTREAMS=str(file), OTHER_KEY=key)
        job = server.client.jobs.wait(server.client.register.push("mini", [described], engine="upstream").id)
        server.client.deploy.roll_out("mini", f"mini@{job.result['version']}")
        headers = {"authorization": f"Bearer {server.consumer()}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
            answer = client.post("/v1/chat/completions", json=TALK)
            assert answer.json()["choices"][0]["message"]["content"] == "hello you"
            streamed = client.post("/v1/chat/completions", json={**TALK, "stream": True}).text
            assert streamed.endswith("data: [DONE]\n\n")
            prompt = answer.json()["usage"]["prompt_tokens"]

        def metered() -> bool:
            rows = [row for row in server.client.meter.usage(["endpoint"]).items if row.by["endpoint"] == "mini"]
            wanted = {"requests": 2, "input_tokens": 2 * prompt, "output_tokens": 2 * 9}
            return any(wanted.items() <= row.quantities.items() for row in rows)

        wait_until(metered, 20, "the usage of both answers")
        server.terminate()
        written = [path for path in server.data.rglob("*") if path.is_file()]
        assert len(written) > 5
        assert not [path for path in written if key.encode() in path.read_bytes()]
