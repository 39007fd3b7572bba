"""The access log: one line of JSON for a request to infer, with ids and times, and no payload.

Lines are collected and written a few times a second, so that a request never waits for a disk; a log that cannot be
written loses lines, and says so once. A file that has grown to its limit becomes ``.1``, and so on.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise
from pathlib import Path

import msgspec

from mofang.run.serve.visits import Visit

_WRITE_SECONDS = 0.25
_FILE_BYTES = 64 << 20
_FILES_KEPT = 4
_log = logging.getLogger(__name__)


class AccessLog:
    """Appends to ``path``. Used from one event loop; :meth:`close` writes what is left."""

    def __init__(self, path: Path, file_bytes: int = _FILE_BYTES) -> None:
        self._path = path
        self._file_bytes = file_bytes
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._failed = False

    def tell(self, visit: Visit) -> None:
        """Take a line in."""
        self._lines.append(_line(visit))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WRITE_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what was collected."""
        self._timer = None
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            with self._path.open("ab") as file:
                file.write(b"".join(lines))
                size = file.tell()
            if size >= self._file_bytes:
                self._turn_over()
            self._failed = False
        except OSError as error:
            if not self._failed:
                _log.error("the access log loses lines: %s", error)
            self._failed = True

    def close(self) -> None:
        """Write what is left."""
        if self._timer is not None:
            self._timer.cancel()
        self.flush()

    def _turn_over(self) -> None:
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, _FILES_KEPT))]
        for newer, older in reversed(list(pairwise(names))):
            if newer.exists():
                newer.replace(older)


def _line(visit: Visit) -> bytes:
    trace, timing = visit.trace, visit.timing
    said: dict[str, object] = {
        "at": visit.ended_ns // 1000,
        "request_id": visit.request_id,
        "tenant": visit.tenant,
        "project": visit.project,
        "key": visit.key_id,
        "endpoint": visit.endpoint,
        "version": visit.version,
        "revision": visit.revision,
        "digest": visit.digest,
        "outcome": visit.outcome,
        "rows": visit.rows,
        "input_bytes": visit.input_bytes,
        "total_us": round(visit.seconds * 1e6),
        "queue_us": timing.queue_us,
        "compute_us": timing.compute_us,
        "batch_rows": timing.batch_rows,
    }
    if visit.input_tokens or visit.output_tokens:
        said |= {"input_tokens": visit.input_tokens, "output_tokens": visit.output_tokens}
    if trace is not None:
        said |= {"trace_id": trace.trace_id, "span_id": trace.span_id}
    return msgspec.json.encode(said) + b"\n"
