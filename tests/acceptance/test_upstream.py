"""A model of another server behind an endpoint of ours: pushed, deployed, asked, metered; its key is nowhere.

Where it tells how many tokens were used, its counts are billed; where it does not, estimates that say so.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from upstreams import another, serving

from servers import Server, wait_until

TALK = {"model": "mini", "messages": [{"role": "user", "content": "«hello you»"}]}


@contextmanager
def asking(server: Server) -> Iterator[httpx.Client]:
    """Give a client with a consumer's key."""
    headers = {"authorization": f"Bearer {server.consumer()}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
        yield client


def metered(server: Server, **by: str) -> dict[str, int]:
    """Return what the ledger has of ``mini``, for what agrees in ``by``."""
    rows = server.client.meter.usage(["endpoint", *by], endpoint="mini").items
    return next((dict(row.quantities) for row in rows if by.items() <= row.by.items()), {})


def test_it_is_a_model_like_any_other(tmp_path: Path) -> None:
    with another() as (url, key), serving(tmp_path, url, key) as server:
        with asking(server) as client:
            answer = client.post("/v1/chat/completions", json=TALK)
            assert answer.json()["choices"][0]["message"]["content"] == "hello you"
            streamed = client.post("/v1/chat/completions", json={**TALK, "stream": True}).text
            assert streamed.endswith("data: [DONE]\n\n")
            prompt = answer.json()["usage"]["prompt_tokens"]
        wanted = {"requests": 2, "input_tokens": 2 * prompt, "output_tokens": 2 * 9}
        wait_until(lambda: wanted.items() <= metered(server, source="engine").items(), 20, "the usage of both answers")
        assert not [each for each in server.client.meter.reconcile().items if each.difference]
        server.terminate()
        written = [path for path in server.data.rglob("*") if path.is_file()]
        assert len(written) > 5
        assert not [path for path in written if key.encode() in path.read_bytes()]


def test_what_it_does_not_count_is_estimated_and_billed_as_such(tmp_path: Path) -> None:
    with another(tells=False) as (url, key), serving(tmp_path, url, key) as server:
        with asking(server) as client:
            usage = client.post("/v1/chat/completions", json=TALK).json()["usage"]
            assert usage["completion_tokens"] == len("hello you")  # it says a character at a time
            assert usage["prompt_tokens"] == 1 + len("«hello you»") // 4
        wanted = {"requests": 1, "input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]}
        wait_until(lambda: wanted.items() <= metered(server, source="estimated").items(), 20, "the estimated usage")
        assert metered(server, source="engine") == {}
        assert not [each for each in server.client.meter.reconcile().items if each.difference]
        assert {event.source for event in server.client.meter.events(endpoint="mini")} == {"estimated"}
        listed = subprocess.run(
            [str(Path(sys.executable).with_name("mofang")), "--url", server.url, "--key", server.key,
             "usage", "events", "--format", "csv"], capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
        column = listed[0].split(",").index("source")
        assert {line.split(",")[column] for line in listed[1:]} == {"estimated"}
