"""Exports: a version leaves the house as an archive of files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from mofang.base.domain.errors import ExportNotFound
from mofang.base.domain.names import VersionRef
from mofang.base.jobs.store import JobStore
from mofang.base.storage.blobs import Blobs
from mofang.make.export.forms import FormName
from mofang.make.register.store import Registry
from mofang.surface.api.access import Caller, Route, table
from mofang.surface.api.changes import Changes
from mofang.surface.api.fields import Body, Id, Reference, Submitted, Text

_PIECE_BYTES = 1 << 18
_ZIP = {"response_class": Response, "responses": {200: {"content": {"application/zip": {}}}}}


class ExportBody(Body):
    """Which version leaves, in which form; ``licence`` is put on its card, e.g. an SPDX id."""

    version: Reference
    to: FormName = "onnx"
    licence: Text = Field("", max_length=200, pattern=r"^[^\r\n]*$")


class Export:
    """The routes of `export`."""

    def __init__(self, registry: Registry, jobs: JobStore, blobs: Blobs, changes: Changes) -> None:
        self._registry = registry
        self._jobs = jobs
        self._blobs = blobs
        self._changes = changes

    def start_export(self, body: ExportBody, who: Caller) -> Submitted:
        """Export a version, as a job."""
        version = self._registry.get(VersionRef.parse(body.version))
        owner = self._registry.owner(version.model)
        with self._changes.record(who, "export.start", str(version), of=owner, before=None, to=body.to) as entry:
            spec = {**body.model_dump(), "version": str(version)}
            job = self._jobs.submit("export", spec, who.key_id, owner)
            entry.after = {"job": job.id}
        return Submitted(job=job.id)

    def get_archive(self, job: Id) -> Response:
        """Return the files of an export as a zip."""
        found = self._jobs.get(job)
        if found.kind != "export" or found.state != "succeeded":
            raise ExportNotFound(f"job {job!r} exported nothing")
        file = self._blobs.open(found.result["archive"])
        name = f"{found.result['version'].replace('@', '-')}-{found.result['to']}.zip"
        headers = {
            "content-length": str(found.result["size_bytes"]),
            "content-disposition": f'attachment; filename="{name}"',
        }
        return StreamingResponse(_pieces(file), media_type="application/zip", headers=headers)


def router(registry: Registry, jobs: JobStore, blobs: Blobs, changes: Changes) -> APIRouter:
    """Make the router of `export`."""
    api = Export(registry, jobs, blobs, changes)
    return table(
        "export",
        Route("POST", "/exports", "make", api.start_export, 202),
        Route("GET", "/exports/{job}/archive", "make", api.get_archive, options=_ZIP),
    )


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
