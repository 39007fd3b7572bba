"""A question to a model and its answer, free of any protocol."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mofang.base.domain.tensors import Array


class InferRequest(msgspec.Struct, frozen=True, eq=False):
    """What a client asks. ``client_id`` is echoed; ``request_id`` is ours, new for every request, and billed."""

    endpoint: str
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...] = ()  # names wanted; empty means all
    version: str = ""  # "" any; else the version number the client insists on
    client_id: str = ""
    traceparent: str | None = None  # the trace it belongs to, as the client wrote it
    priority: int = 0  # among the requests of one tenant; higher goes first
    received: float = 0.0  # on time.monotonic(), seconds; when it began to be read, if the protocol says so


class InferResponse(msgspec.Struct, frozen=True, eq=False):
    """What a model answered, and which one it was. ``outputs`` keeps the order asked for."""

    request_id: str
    endpoint: str
    version: int
    revision: int
    digest: str
    outputs: Mapping[str, Array]
    client_id: str = ""
    timing: str = ""  # for ``Server-Timing``
    trace: str = ""  # for ``traceresponse``, if the request belongs to a trace


class Call(msgspec.Struct, frozen=True, eq=False):
    """One request on its way through a replica: checked inputs, who waits for it, and until when."""

    request_id: str
    tenant: str
    inputs: Mapping[str, Array]
    rows: int
    deadline: float  # on time.monotonic(), seconds; the same clock in every process of a machine
    priority: int = 0  # higher goes first
    weight: float = 1.0  # the tenant's share of an engine that several tenants want


class Answer(msgspec.Struct, frozen=True, eq=False):
    """What a replica gives back for a Call."""

    outputs: Mapping[str, Array]
    compute_us: int  # this call's share of its batch's compute time, by rows
    queue_us: int
    batch_rows: int
    extras: Mapping[str, int] = {}  # further meters an engine reports, e.g. tokens
    is_cached: bool = False  # it was computed for somebody else, of the same tenant
