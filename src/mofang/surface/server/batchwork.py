"""Batches as jobs: reads the file, asks the gateways on behalf of the key that made it, and keeps the answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import msgspec

from mofang.base.domain.errors import JobCancelled, ServerNotRunning
from mofang.base.domain.names import now_us
from mofang.base.domain.work import Progress
from mofang.base.identity.deputies import open_secret, word
from mofang.make.workshop import Workshop
from mofang.run.batch.lines import read_asked
from mofang.run.batch.store import FileStore
from mofang.run.batch.work import Batch, Reply
from mofang.surface.server.folders import DataDirectory

_WORD_SECONDS = 900
_TIMEOUT = httpx.Timeout(600.0, connect=5.0)
_WAIT_SECONDS = 30.0

Result = dict[str, Any]


def batch_work(folders: DataDirectory, files: FileStore) -> Callable[[Mapping[str, Any], Workshop, Progress], Result]:
    """Return what does jobs of kind ``batch``."""

    def work(spec: Mapping[str, Any], tools: Workshop, progress: Progress) -> Result:
        with tools.blobs.open(spec["sha256"]) as lines:
            asked = list(read_asked(lines, spec["endpoint"]))
        tools.scratch.mkdir(parents=True, exist_ok=True)
        secret = open_secret(folders.deputy_key)
        with httpx.Client(base_url=_url(folders), timeout=_TIMEOUT, trust_env=False) as client:
            batch = Batch(tools.job, tools.checkpoint, _asker(client, secret, spec["key"]), progress)
            try:
                batch.answer(asked)
            except JobCancelled:  # what was computed is paid for
                _write_files(batch, tools, files)
                raise
            _write_files(batch, tools, files)
        return {"completed": batch.completed, "failed": batch.failed}

    return work


def _asker(client: httpx.Client, secret: bytes, key_id: str) -> Callable[[str, dict[str, Any], str], Reply]:
    def ask(path: str, body: dict[str, Any], name: str) -> Reply:
        until = now_us() + _WORD_SECONDS * 1_000_000
        headers = {"authorization": f"Bearer {word(secret, key_id, until)}", "x-request-id": name}
        try:
            answer = client.post(path, json=body, headers=headers)
        except httpx.TransportError as error:
            raise OSError(f"no gateway answers: {error}") from error
        after = answer.headers.get("retry-after", "")
        return Reply(answer.status_code, _body(answer), float(after) if after.isdecimal() else 1.0)

    return ask


def _body(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return answer.text[:1000]


def _write_files(batch: Batch, tools: Workshop, files: FileStore) -> None:
    """Put good and bad answers into files of their own."""
    answers = list(batch.answers())
    for purpose, wanted in (("batch_output", True), ("batch_error", False)):
        lines = [msgspec.json.encode(each) + b"\n" for each in answers if each.well is wanted]
        if lines:
            blob = tools.blobs.put(lines)
            files.add(f"{tools.job}_{purpose.removeprefix('batch_')}.jsonl", purpose, blob.sha256, blob.size_bytes,  # type: ignore[arg-type]
                      tools.job)  # fmt: skip


def _url(folders: DataDirectory) -> str:
    """Return where the gateways answer; a server that just starts says so in a moment."""
    until = time.monotonic() + _WAIT_SECONDS
    while (about := folders.read_running()) is None:
        if time.monotonic() > until:
            raise ServerNotRunning("the server has not said where it answers")
        time.sleep(0.1)
    url: str = about["http"]
    return url
