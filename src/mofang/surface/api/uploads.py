"""Uploads: raw bytes into the object store, streamed, bounded, whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from mofang.base.domain.errors import RequestTooLarge
from mofang.base.storage.blobs import BlobRef, Blobs
from mofang.base.storage.files import writing
from mofang.base.storage.owners import Owners
from mofang.surface.api.access import Route, table

WRITE_BYTES = 1 << 20  # collected before a thread writes them
_RAW = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class Uploads:
    """The route of uploads."""

    def __init__(self, blobs: Blobs, owners: Owners, folder: Path, limit_bytes: int) -> None:
        self._blobs = blobs
        self._owners = owners
        self._folder = folder
        self._limit_bytes = limit_bytes

    async def upload(self, request: Request) -> BlobRef:
        """Store the body; the answer names it by its SHA-256, for a version to be made of it."""
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self._limit_bytes:
            raise self._too_large()
        async with self._unfinished() as file:
            size, waiting = 0, bytearray()
            async for chunk in request.stream():
                size += len(chunk)
                if size > self._limit_bytes:
                    raise self._too_large()
                waiting += chunk
                if len(waiting) >= WRITE_BYTES:
                    await run_in_threadpool(_write, file, bytes(waiting))
                    waiting.clear()
            await run_in_threadpool(_write, file, bytes(waiting))
            return await run_in_threadpool(self._keep, Path(file.name))

    def _keep(self, file: Path) -> BlobRef:
        blob = self._blobs.put_file(file)
        self._owners.claim("upload", blob.sha256)  # whoever only knows a digest has not uploaded it
        return blob

    @asynccontextmanager
    async def _unfinished(self) -> AsyncIterator[BinaryIO]:
        """Open a file that is gone afterwards, whatever happens."""
        with writing("an upload"):
            self._folder.mkdir(parents=True, exist_ok=True)
            file = tempfile.NamedTemporaryFile(dir=self._folder, prefix="upload-", buffering=0)  # noqa: SIM115
        with file:
            yield file  # type: ignore[misc]

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"the file is over {self._limit_bytes} bytes, the limit of this server")


def router(blobs: Blobs, owners: Owners, folder: Path, limit_bytes: int) -> APIRouter:
    """Make the router of uploads."""
    api = Uploads(blobs, owners, folder, limit_bytes)
    return table("register", Route("POST", "/uploads", "make", api.upload, 201, {"openapi_extra": _RAW}))


def _write(file: BinaryIO, data: bytes) -> None:
    with writing("an upload"):
        while data:
            data = data[file.write(data) :]
