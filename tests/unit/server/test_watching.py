"""The access log as a file, and spans at a collector that speaks OTLP."""

import asyncio
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from mofang.base.domain.errors import InvalidSettings
from mofang.run.serve.visits import Timing, Trace, Visit
from mofang.surface.server.accesslog import AccessLog
from mofang.surface.server.settings import Settings
from mofang.surface.server.watching import Watching

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
VISIT = Visit(
    "req_1", "acme", "shop", "key_1", "digits", 2, 3, "sha256:ab", "ok", 4, 100, 1_700_000_000_000_000_000, 0.01,
    Timing(1000, 5000, 32), Trace.of(PARENT),
)  # fmt: skip


class Collector:
    """What an OpenTelemetry collector is told."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans += scope.spans
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, daemon=True)
    thread.start()
    yield collector
    collector.server.shutdown()
    thread.join()
    collector.server.server_close()


def test_nobody_looks_unless_told_to(tmp_path: Path) -> None:
    assert Watching(Settings(), "g", tmp_path).watch is None


async def _see(watching: Watching, visit: Visit) -> None:
    assert watching.watch is not None
    told = watching.watch(visit.trace)
    if told is not None:
        told(visit)


def test_spans_are_children_of_the_clients_span_and_carry_the_times(collector: Collector, tmp_path: Path) -> None:
    watching = Watching(Settings(traces=collector.url), "g", tmp_path)
    asyncio.run(_see(watching, VISIT))
    watching.close()
    spans = {span.name: span for span in collector.spans}
    whole, queue, compute = spans["infer digits"], spans["queue"], spans["compute"]
    assert VISIT.trace is not None
    assert whole.trace_id.hex() == VISIT.trace.trace_id
    assert whole.span_id.hex() == VISIT.trace.span_id  # which the client was told
    assert whole.parent_span_id.hex() == VISIT.trace.parent_id
    assert queue.parent_span_id == compute.parent_span_id == whole.span_id
    assert whole.end_time_unix_nano - whole.start_time_unix_nano == 10_000_000
    assert queue.end_time_unix_nano - queue.start_time_unix_nano == 1_000_000
    assert compute.end_time_unix_nano - compute.start_time_unix_nano == 5_000_000
    assert whole.start_time_unix_nano <= queue.start_time_unix_nano
    assert queue.end_time_unix_nano == compute.start_time_unix_nano
    assert compute.end_time_unix_nano <= whole.end_time_unix_nano
    said = {pair.key: pair.value.string_value for pair in whole.attributes}
    assert (said["mofang.key"], said["mofang.digest"]) == ("key_1", "sha256:ab")


def test_a_trace_that_its_client_does_not_record_is_not_recorded(collector: Collector, tmp_path: Path) -> None:
    watching = Watching(Settings(traces=collector.url, traces_share=1.0), "g", tmp_path)
    unsampled = msgspec.structs.replace(VISIT, trace=Trace.of(PARENT[:-2] + "00"))
    begun = msgspec.structs.replace(VISIT, trace=None, outcome="replica.overloaded", timing=Timing())
    asyncio.run(_see(watching, unsampled))
    asyncio.run(_see(watching, begun))
    watching.close()
    (span,) = collector.spans
    assert not span.parent_span_id
    assert (span.status.code, span.status.message) == (2, "replica.overloaded")


def test_a_line_of_the_access_log_has_ids_and_times(tmp_path: Path) -> None:
    watching = Watching(Settings(access_share=1.0), "g", tmp_path)
    asyncio.run(_see(watching, VISIT))
    watching.close()
    (line,) = (tmp_path / "access-g.jsonl").read_text().splitlines()
    said = json.loads(line)
    assert said["trace_id"] == PARENT[3:35]
    assert said["total_us"] == 10_000
    assert (said["request_id"], said["key"], said["endpoint"], said["digest"]) == (
        "req_1",
        "key_1",
        "digits",
        "sha256:ab",
    )


def test_an_access_log_keeps_a_few_files_of_bounded_size(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "a.jsonl", file_bytes=1000)

    async def write() -> None:
        for number in range(40):
            log.tell(msgspec.structs.replace(VISIT, rows=number))
            log.flush()
        log.close()

    asyncio.run(write())
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["a.jsonl", "a.jsonl.1", "a.jsonl.2", "a.jsonl.3"]
    assert all(file.stat().st_size < 2000 for file in files)
    newest = files[0].read_text() + files[1].read_text()
    assert json.loads(newest.splitlines()[-1])["rows"] <= 39
    assert '"rows":39' in newest


def test_a_log_that_cannot_be_written_fails_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog(tmp_path / "missing" / "a.jsonl")

    async def write() -> None:
        for _ in range(3):
            log.tell(VISIT)
            log.flush()

    asyncio.run(write())
    assert [record.message.split(":")[0] for record in caplog.records] == ["the access log loses lines"]


@pytest.mark.parametrize(
    "wrong", [{"traces": "ftp://x"}, {"traces_share": 0.5}, {"access_share": 1.5}, {"traces_share": -1.0}]
)
def test_settings_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidSettings):
        Settings(**wrong).check()  # type: ignore[arg-type]
