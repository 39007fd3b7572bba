"""Files and batches, as OpenAI's clients know them; the gateways forward ``/v1/files`` and ``/v1/batches`` here.

https://platform.openai.com/docs/api-reference/files and /batch. A batch is a job: it is told by the same events, and
goes on after any death.
"""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, File, Form, Query, UploadFile
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from mofang.base.domain.errors import InvalidBatch, JobNotFound, RequestTooLarge
from mofang.base.domain.work import Job
from mofang.base.jobs.store import JobStore
from mofang.base.storage.blobs import Blobs
from mofang.run.batch.lines import PATHS, read_asked
from mofang.run.batch.store import FileStore, StoredFile
from mofang.surface.api.access import Caller, Route, table
from mofang.surface.api.changes import Changes, Owned
from mofang.surface.api.fields import Body, Id, Text

_PIECE_BYTES = 1 << 20
_STATES = {"queued": "validating", "running": "in_progress", "succeeded": "completed", "failed": "failed",
           "cancelled": "cancelled"}  # fmt: skip
_LINES = {"responses": {"200": {"content": {"application/jsonl": {"schema": {"type": "string", "format": "binary"}}}}}}
After = Annotated[str, Query(pattern=r"^[a-z0-9_]{0,40}$", description="cursor: the last id of the page before")]
Most = Annotated[int, Query(ge=1, le=1000)]


class FileObject(BaseModel):
    """A file of lines of JSON."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"


class FileList(BaseModel):
    """Files, newest first."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(BaseModel):
    """A file that is forgotten."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class BatchBody(Body):
    """Which file is to be answered, and by which path. ``completion_window`` is taken and changes nothing."""

    input_file_id: Text = Field(max_length=40)
    endpoint: Text = Field(max_length=100)
    completion_window: Text = Field("24h", max_length=10)
    metadata: dict[str, str] | None = Field(None, max_length=16)


class Counts(BaseModel):
    """How far it is."""

    total: int
    completed: int
    failed: int


class BatchObject(BaseModel):
    """A batch; ``id`` is that of its job."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    input_file_id: str
    completion_window: str
    status: str
    created_at: int
    in_progress_at: int | None
    completed_at: int | None
    output_file_id: str | None
    error_file_id: str | None
    request_counts: Counts
    metadata: dict[str, str] | None
    errors: dict[str, Any] | None


class BatchList(BaseModel):
    """Batches, newest first."""

    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Batches:
    """The routes of files and batches."""

    def __init__(self, files: FileStore, jobs: JobStore, blobs: Blobs, changes: Changes, limit_bytes: int) -> None:
        self._files = files
        self._jobs = jobs
        self._blobs = blobs
        self._changes = changes
        self._limit_bytes = limit_bytes

    def create_file(
        self, who: Caller, file: Annotated[UploadFile, File()], purpose: Annotated[Literal["batch"], Form()]
    ) -> FileObject:
        """Store a file of requests."""
        if (file.size or 0) > self._limit_bytes:
            raise RequestTooLarge(f"the file is over {self._limit_bytes} bytes, the limit of this server")
        blob = self._blobs.put(_pieces(file.file))
        name = (file.filename or "batch.jsonl")[:255]
        with self._changes.record(who, "file.create", of=(), before=None) as entry:
            stored = self._files.add(name, purpose, blob.sha256, blob.size_bytes)
            entry.target, entry.of, entry.after = stored.id, Owned("file", stored.id), _told(stored)
        return _shown(stored)

    def list_files(self, after: After = "", limit: Most = 100) -> FileList:
        """List files, newest first."""
        found = [_shown(file) for file in self._files.list(after, limit + 1)]
        data = found[:limit]
        first, last = _ends(data)
        return FileList(data=data, first_id=first, last_id=last, has_more=len(found) > limit)

    def get_file(self, file: Id) -> FileObject:
        """Return what is known of a file."""
        return _shown(self._files.get(file))

    def get_file_content(self, file: Id) -> StreamingResponse:
        """Return the lines of a file."""
        stored = self._files.get(file)
        headers = {"content-length": str(stored.size_bytes)}
        return StreamingResponse(_closing(self._blobs.open(stored.sha256)), media_type="application/jsonl",
                                 headers=headers)  # fmt: skip

    def delete_file(self, file: Id, who: Caller) -> Deleted:
        """Forget a file."""
        of = Owned("file", file)
        with self._changes.record(who, "file.delete", file, of=of, before=None, after=None) as entry:
            entry.before = _told(self._files.delete(file))
        return Deleted(id=file)

    def create_batch(self, body: BatchBody, who: Caller) -> BatchObject:
        """Have a file of requests answered, as a job, on behalf of the key that asks. Its lines are checked first."""
        if body.endpoint not in PATHS:
            raise InvalidBatch(f"a batch asks one of {', '.join(PATHS)}, not {body.endpoint!r}")
        file = self._files.get(body.input_file_id)
        with self._blobs.open(file.sha256) as lines:
            total = sum(1 for _ in read_asked(lines, body.endpoint))
        spec = {
            "input": file.id, "sha256": file.sha256, "endpoint": body.endpoint, "key": who.key_id, "total": total,
            "window": body.completion_window, "metadata": body.metadata,
        }  # fmt: skip
        with self._changes.record(who, "batch.create", of=(), before=None, file=file.id) as entry:
            job = self._jobs.submit("batch", spec, who.key_id)
            entry.target, entry.of, entry.after = job.id, Owned("job", job.id), {"endpoint": body.endpoint}
        return self._batch(job)

    def list_batches(self, after: After = "", limit: Most = 20) -> BatchList:
        """List batches, newest first."""
        jobs = [job for job in self._jobs.list("batch", None, 1000) if not after or job.id < after]
        data = [self._batch(job) for job in jobs[:limit]]
        first, last = _ends(data)
        return BatchList(data=data, first_id=first, last_id=last, has_more=len(jobs) > limit)

    def get_batch(self, batch: Id) -> BatchObject:
        """Return a batch, and how far it is."""
        return self._batch(self._found(batch))

    def cancel_batch(self, batch: Id, who: Caller) -> BatchObject:
        """Ask a batch to stop; what was answered until then is in its files."""
        self._found(batch)
        with self._changes.record(who, "batch.cancel", batch, of=Owned("job", batch), before=None) as entry:
            job = self._jobs.request_cancel(batch)
            entry.after = {"state": job.state, "cancel_requested": job.cancel_requested}
        return self._batch(job)

    def _found(self, batch: str) -> Job:
        job = self._jobs.get(batch)
        if job.kind != "batch":
            raise JobNotFound(f"there is no batch {batch[:80]!r}")
        return job

    def _batch(self, job: Job) -> BatchObject:
        written = {file.purpose: file.id for file in self._files.of_job(job.id)}
        status = "cancelling" if job.cancel_requested and job.state == "running" else _STATES[job.state]
        return BatchObject(
            id=job.id,
            endpoint=job.spec["endpoint"],
            input_file_id=job.spec["input"],
            completion_window=job.spec["window"],
            status=status,
            created_at=job.created_at // 1_000_000,
            in_progress_at=job.started_at // 1_000_000 or None,
            completed_at=job.ended_at // 1_000_000 or None,
            output_file_id=written.get("batch_output"),
            error_file_id=written.get("batch_error"),
            request_counts=self._counts(job),
            metadata=job.spec["metadata"],
            errors={"object": "list", "data": [job.error]} if job.error else None,
        )

    def _counts(self, job: Job) -> Counts:
        events = self._jobs.events(job.id)
        last = next((event.data for event in reversed(events) if "completed" in event.data), {})
        return Counts(total=job.spec["total"], completed=last.get("completed", 0), failed=last.get("failed", 0))


def router(files: FileStore, jobs: JobStore, blobs: Blobs, changes: Changes, limit_bytes: int) -> APIRouter:
    """Make the router of files and batches."""
    api = Batches(files, jobs, blobs, changes, limit_bytes)
    return table(
        "batch",
        Route("POST", "/files", "infer", api.create_file),
        Route("GET", "/files", "infer", api.list_files),
        Route("GET", "/files/{file}", "infer", api.get_file),
        Route("GET", "/files/{file}/content", "infer", api.get_file_content, options=_LINES),
        Route("DELETE", "/files/{file}", "infer", api.delete_file),
        Route("POST", "/batches", "infer", api.create_batch),
        Route("GET", "/batches", "infer", api.list_batches),
        Route("GET", "/batches/{batch}", "infer", api.get_batch),
        Route("POST", "/batches/{batch}/cancel", "infer", api.cancel_batch),
    )


def _shown(file: StoredFile) -> FileObject:
    return FileObject(
        id=file.id, bytes=file.size_bytes, created_at=file.created_at // 1_000_000, filename=file.name,
        purpose=file.purpose,
    )  # fmt: skip


def _told(file: StoredFile) -> dict[str, Any]:
    return {"sha256": file.sha256, "size_bytes": file.size_bytes, "purpose": file.purpose}


def _ends(data: list[Any]) -> tuple[str | None, str | None]:
    return (data[0].id, data[-1].id) if data else (None, None)


def _pieces(file: BinaryIO | SpooledTemporaryFile[bytes]) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece


def _closing(file: BinaryIO) -> Iterator[bytes]:
    with file:
        yield from _pieces(file)
