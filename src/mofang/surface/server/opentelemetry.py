"""Spans of requests, sent to an OpenTelemetry collector (OTLP over HTTP). Imported only if traces are on.

A span is made when its request has ended, from times that are known then, so that being traced costs a request nothing
on its way. What the SDK does with spans (batches, a bounded queue, a thread of its own) is its business.
"""

from __future__ import annotations

import threading

from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from mofang import __version__
from mofang.run.serve.visits import Trace, Visit


class Spans:
    """Makes a span of each visit it is told of, with one for the queue and one for the engine below it."""

    def __init__(self, url: str, service: str) -> None:
        self._ids = _Ids()
        resource = Resource.create({"service.name": service, "service.version": __version__})
        self._provider = TracerProvider(id_generator=self._ids, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url)))
        self._tracer = self._provider.get_tracer("mofang", __version__)

    def tell(self, visit: Visit) -> None:
        """Make the spans of a request that has ended."""
        own = visit.trace or Trace.begin()
        ended = visit.ended_ns
        started = ended - round(visit.seconds * 1e9)
        self._ids.next(own)
        span = self._tracer.start_span(
            f"infer {visit.endpoint}", _parent(own), SpanKind.SERVER, _attributes(visit), start_time=started
        )
        if visit.outcome != "ok":
            span.set_status(Status(StatusCode.ERROR, visit.outcome))
        if visit.timing.batch_rows:
            inside = otel.set_span_in_context(span)
            queue, compute = visit.timing.queue_us * 1000, visit.timing.compute_us * 1000
            computed = ended - (ended - started - queue - compute) // 2  # as much of the rest before as after it
            begun = computed - compute
            queued = begun - queue
            self._tracer.start_span("queue", inside, start_time=queued).end(begun)
            self._tracer.start_span("compute", inside, start_time=begun).end(computed)
        span.end(ended)

    def close(self) -> None:
        """Send what is left; blocks a few seconds at most."""
        self._provider.shutdown()


class _Ids(IdGenerator):
    """Gives the next span the ids that were told to the client already, and any others theirs by chance."""

    def __init__(self) -> None:
        self._chance = RandomIdGenerator()
        self._next = threading.local()

    def next(self, trace: Trace) -> None:
        self._next.trace = trace

    def generate_trace_id(self) -> int:
        trace: Trace | None = getattr(self._next, "trace", None)
        return self._chance.generate_trace_id() if trace is None else int(trace.trace_id, 16)

    def generate_span_id(self) -> int:
        trace: Trace | None = getattr(self._next, "trace", None)
        self._next.trace = None
        return self._chance.generate_span_id() if trace is None else int(trace.span_id, 16)


def _parent(trace: Trace) -> Context | None:
    if not trace.parent_id:
        return None
    flags = TraceFlags(TraceFlags.SAMPLED)
    context = SpanContext(int(trace.trace_id, 16), int(trace.parent_id, 16), is_remote=True, trace_flags=flags)
    return otel.set_span_in_context(NonRecordingSpan(context))


def _attributes(visit: Visit) -> dict[str, str | int]:
    return {
        "mofang.request_id": visit.request_id,
        "mofang.tenant": visit.tenant,
        "mofang.project": visit.project,
        "mofang.key": visit.key_id,
        "mofang.endpoint": visit.endpoint,
        "mofang.version": visit.version,
        "mofang.revision": visit.revision,
        "mofang.digest": visit.digest,
        "mofang.outcome": visit.outcome,
        "mofang.rows": visit.rows,
        "mofang.batch_rows": visit.timing.batch_rows,
    }
