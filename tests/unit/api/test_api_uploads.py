"""Uploads: streamed, bounded, whole or not at all; and long polls that end when the client leaves."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from mofang.base.domain.errors import StorageFull
from mofang.base.storage.blobs import BlobRef
from mofang.surface.api.app import create_app
from platforms import House, open_house, serving

Message = dict[str, Any]


def call(app: FastAPI, house: House, method: str, path: str, messages: Iterable[Message]) -> list[Message]:
    """Run one request whose client sends exactly ``messages``, then nothing more; return what was answered."""
    coming, sent = iter(messages), []

    async def receive() -> Message:
        return next(coming, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        sent.append(message)

    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": f"/api/v1{path}",
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"authorization", f"Bearer {house.admin_key}".encode())],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("mofang", 80),
        "client": None,
    }
    asyncio.run(app(scope, receive, send))
    return sent


def unfinished(house: House) -> list[Path]:
    return [path for path in house.platform.uploads.rglob("*") if path.is_file()]


def test_an_upload_is_stored_under_its_digest(house: House, remote: httpx.Client) -> None:
    for content in (b"", b"x", bytes(range(256)) * 20_000):
        answer = remote.post("/uploads", content=content)
        assert answer.status_code == 201
        digest = hashlib.sha256(content).hexdigest()
        assert answer.json() == {"sha256": digest, "size_bytes": len(content)}
        assert house.platform.blobs.read(digest) == content
    assert unfinished(house) == []


def test_a_streamed_upload_needs_no_length(house: House, remote: httpx.Client) -> None:
    answer = remote.post("/uploads", content=iter([b"a" * 100_000] * 30))
    assert answer.json()["size_bytes"] == 3_000_000


@pytest.mark.parametrize("streamed", [False, True])
def test_an_upload_over_the_limit_leaves_nothing(tmp_path: Path, streamed: bool) -> None:
    with open_house(tmp_path, upload_limit_bytes=1000) as house, serving(create_app(house.platform)) as url:
        headers = {"authorization": f"Bearer {house.admin_key}"}
        body: bytes | Iterator[bytes] = iter([b"x" * 600] * 2) if streamed else b"x" * 1001
        answer = httpx.post(f"{url}/api/v1/uploads", content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "request.too_large")
        assert unfinished(house) == []
        assert httpx.post(f"{url}/api/v1/uploads", content=b"x" * 1000, headers=headers).status_code == 201


def test_a_client_that_leaves_in_the_middle_leaves_nothing(house: House) -> None:
    app = create_app(house.platform)
    part = {"type": "http.request", "body": b"half", "more_body": True}
    start, _ = call(app, house, "POST", "/uploads", [part, part])
    assert start["status"] == 499
    assert unfinished(house) == []
    assert not list((house.platform.uploads.parent / "blobs").rglob("*"))


def test_a_full_disk_is_said_and_leaves_nothing(house: House) -> None:
    class FullBlobs(type(house.platform.blobs)):  # type: ignore[misc]
        def put_file(self, path: Path) -> BlobRef:
            assert path.read_bytes() == b"all of it"
            raise StorageFull("the disk with the objects is full")

    platform = dataclasses.replace(house.platform, blobs=FullBlobs(house.platform.uploads))
    whole = {"type": "http.request", "body": b"all of it", "more_body": False}
    start, body = call(create_app(platform), house, "POST", "/uploads", [whole])
    assert (start["status"], json.loads(body["body"])["code"]) == (503, "storage.full")
    assert unfinished(house) == []


def test_a_folder_that_cannot_be_written_is_said(house: House) -> None:
    house.platform.uploads.write_text("a file where the folder should be")
    whole = {"type": "http.request", "body": b"x", "more_body": False}
    start, body = call(create_app(house.platform), house, "POST", "/uploads", [whole])
    assert start["status"] in (500, 503)
    assert json.loads(body["body"])["code"]


@pytest.mark.parametrize("path", ["/jobs/{}?wait=30", "/jobs/{}/events?wait=30"])
def test_a_long_poll_ends_when_the_client_leaves(house: House, path: str) -> None:
    job = house.platform.jobs.submit("train", {}, "key")
    begun = time.monotonic()
    empty = {"type": "http.request", "body": b"", "more_body": False}
    call(create_app(house.platform), house, "GET", path.format(job.id), [empty])
    assert time.monotonic() - begun < 25


def test_a_long_poll_answers_as_soon_as_there_is_news(house: House, remote: httpx.Client) -> None:
    jobs = house.platform.jobs
    job = jobs.submit("train", {}, "key")
    lease = jobs.claim(job.id, "worker", 60)
    assert lease
    seen = jobs.events(job.id)
    after = seen[-1].seq if seen else 0
    telling = threading.Timer(0.3, lambda: jobs.report(lease, "train", 0.5, "epoch 1", {"loss": 0.1}))
    telling.start()
    begun = time.monotonic()
    news = remote.get(f"/jobs/{job.id}/events?after={after}&wait=20").json()
    assert 0.2 < time.monotonic() - begun < 18
    assert (news["items"][0]["message"], news["state"]) == ("epoch 1", "running")
    begun = time.monotonic()
    assert remote.get(f"/jobs/{job.id}?wait=0.3").json()["state"] == "running"
    assert time.monotonic() - begun >= 0.3
    telling.join()


def test_many_long_polls_leave_room_for_others(house: House, remote: httpx.Client) -> None:
    job = house.platform.jobs.submit("train", {}, "key")
    base, headers = str(remote.base_url), dict(remote.headers)

    async def poll_and_ask() -> list[str]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=30, limits=limits) as client:
            polls = [asyncio.ensure_future(client.get(f"jobs/{job.id}?wait=20")) for _ in range(60)]
            assert (await client.get("projects")).status_code == 200
            assert not any(poll.done() for poll in polls)
            await client.post(f"jobs/{job.id}/cancel")
            return [(await poll).json()["state"] for poll in polls]

    assert set(asyncio.run(poll_and_ask())) == {"cancelled"}
