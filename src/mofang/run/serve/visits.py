"""What is told of a request after its end: to the access log, and to whoever collects traces.

Where nobody looks, nothing of this is made. Who looks is handed in (``watch``); it chooses for each request whether it
wants to be told. Traces are those of W3C Trace Context: a client names the trace its request belongs to, and its span
in it; our span is a child of that one.

Source: https://www.w3.org/TR/trace-context/ (``traceparent``), and its level 3 draft (``traceresponse``).
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from functools import lru_cache

import msgspec

from mofang.base.domain.access import Principal
from mofang.base.domain.errors import MofangError

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1
_MOST_OF_NAME = 80  # characters, of an endpoint that is not there
TRACE_PARENT = "traceparent"
TRACE_RESPONSE = "traceresponse"


class Trace(msgspec.Struct, frozen=True, gc=False):
    """The trace a request belongs to, in lower-case hexadecimal, and our span in it."""

    trace_id: str
    parent_id: str  # the client's span; empty if the trace begins here
    span_id: str
    sampled: bool  # whether the client records its part; we do what it does

    @classmethod
    def begin(cls) -> Trace:
        """Return a new trace that is recorded."""
        return cls(secrets.token_hex(16), "", secrets.token_hex(8), True)

    @classmethod
    def of(cls, text: str | None) -> Trace | None:
        """Read a ``traceparent``; what is none is ignored, as the recommendation says."""
        match = _PARENT.fullmatch(text.strip()) if text else None
        if match is None:
            return None
        version, trace_id, parent_id, flags, rest = match.groups()
        if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(parent_id, 16):
            return None
        return cls(trace_id, parent_id, secrets.token_hex(8), bool(int(flags, 16) & _SAMPLED))

    @property
    def parent(self) -> str:
        """What the client named: ``traceparent``."""
        return f"00-{self.trace_id}-{self.parent_id}-{int(self.sampled):02x}"

    def __str__(self) -> str:
        """Return what goes back to the client: ``traceresponse``."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"


class Timing(msgspec.Struct, frozen=True, gc=False):
    """Where the time of a computed request went, in microseconds: in the queue, and while its batch was computed."""

    queue_us: int = 0
    compute_us: int = 0
    batch_rows: int = 0

    def __str__(self) -> str:
        """Return the value of ``Server-Timing``: what a client can see of it, in milliseconds."""
        return f"queue;dur={_milliseconds(self.queue_us)}, compute;dur={_milliseconds(self.compute_us)}"


@lru_cache(maxsize=1024)  # short times come again and again
def _milliseconds(us: int) -> str:
    return f"{us / 1000:.3f}"


UNTIMED = Timing()


class Visit(msgspec.Struct, frozen=True, gc=False):
    """A request that has ended. No payload, and no name of a person: ids only."""

    request_id: str
    tenant: str
    project: str
    key_id: str
    endpoint: str
    revision: int
    version: int
    digest: str
    outcome: str  # "ok", or the error's code
    rows: int
    input_bytes: int
    ended_ns: int  # since the epoch
    seconds: float
    timing: Timing = UNTIMED
    trace: Trace | None = None
    input_tokens: int = 0  # of a language model
    output_tokens: int = 0


Watch = Callable[[Trace | None], Callable[[Visit], None] | None]
"""Choose whether to look at a request that belongs to this trace, if to any: return whom to tell of it, or None."""


def look(watch: Watch | None, trace: Trace | None, visit: Callable[[], Visit]) -> None:
    """Tell whoever looks of a request that has ended; the visit is made only if somebody does."""
    told = watch(trace) if watch is not None else None
    if told is not None:
        told(visit())


def refused(
    request_id: str,
    endpoint: str,
    error: MofangError,
    principal: Principal | None,
    input_bytes: int,
    seconds: float,
    trace: Trace | None,
) -> Visit:
    """Return the visit of a request that never came to a revision; without ``principal``, of somebody unknown."""
    tenant, project, key = (principal.tenant, principal.project, principal.key_id) if principal else ("", "", "")
    return Visit(
        request_id, tenant, project, key, endpoint[:_MOST_OF_NAME], 0, 0, "", error.code, 0, input_bytes,
        time.time_ns(), seconds, trace=trace,
    )  # fmt: skip
